// Package gate holds a container to what it may reach outside: the addresses that the
// allowed names have had in the answers that it was given, and literal ones. What it was
// refused is recorded.
package gate

import (
	"errors"
	"log"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"github.com/miekg/dns"

	"moss/slirp"
)

// Guard is the firewall of one shared namespace: its Gates are held there, also while
// there is no moss-net.
type Guard struct {
	do     func(func() error) error // runs in the namespace
	uplink string                   // the interface behind which outside is
	log    *log.Logger

	mu   sync.Mutex // guards what follows; a Gate's is taken before it
	conn *nftables.Conn
	// socket is that of conn.
	socket *netlink.Conn
	closed bool
	gates  map[string]*Gate
	// stale are those that a former moss-net has left, of which nobody has asked yet.
	stale map[string]bool
	news  *os.File // of the kernel, about what was refused
}

// Rules are what a container is held to.
type Rules struct {
	Container string // full ID
	List      []slirp.Allowed
	// Addrs and MACs are the container's own: it sends from no others.
	Addrs  []netip.Addr
	MACs   []net.HardwareAddr
	Denied string // file of what it was refused; "": none
}

// Gate is one container's.
type Gate struct {
	guard *Guard
	id    string
	// Denied is what was refused.
	Denied *Record
	gone   bool // another one has taken its place, or nobody; the guard's mu guards it

	mu      sync.Mutex // guards what follows
	rules   Rules
	learned map[opening]*lesson
	aliases map[string]alias // where allowed names have led
	names   map[netip.Addr]string
	timer   *time.Timer
	closed  bool
}

// service is what an entry of the list opens at a name's addresses.
type service struct {
	proto       string
	first, last uint16
}

// opening is a service at one address.
type opening struct {
	service
	addr netip.Addr
}

type lesson struct {
	names []string // none: learned by a former moss-net
	until time.Time
}

type alias struct {
	from  string // the name of the list's that has led here
	until time.Time
}

const (
	// maxLifetime bounds how long an address stays open without being asked for again.
	maxLifetime = 24 * time.Hour
	// grace is for a client that connects at the very end of an answer's life.
	grace = 10 * time.Second
	// maxOpenings bounds what one container's names may open.
	maxOpenings = 8192
	// maxAnswer bounds how many addresses of one answer are opened: no honest one has so many.
	maxAnswer = 512
	maxNames  = 4096
)

// floorVariable is the environment variable for the least time that an address stays
// open, which is a minute, with the grace.
const floorVariable = "MOSS_ALLOW_FLOOR"

func lifetime(ttl uint32) time.Duration {
	floor, late := time.Minute, grace
	if d, err := time.ParseDuration(os.Getenv(floorVariable)); err == nil {
		floor, late = d, 0
	}
	return min(max(time.Duration(ttl)*time.Second, floor), maxLifetime) + late
}

// services are those that the list opens for a name. mu is held.
func (g *Gate) services(name string) (out []service) {
	for _, a := range g.rules.List {
		s := service{a.Proto, a.First, a.Last}
		if a.Name != "" && matches(a.Name, name) && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func matches(pattern, name string) bool {
	if pattern == "*" || pattern == name {
		return true
	}
	above, ok := strings.CutPrefix(pattern, "*.")
	return ok && dns.IsSubDomain(above, name) && name != above // by labels: a dot may be in one
}

// origin is the name of the list's for which name may be asked: itself, or one that it
// was an alias of. mu is held.
func (g *Gate) origin(name string) (string, bool) {
	if len(g.services(name)) > 0 {
		return name, true
	}
	a, ok := g.aliases[name]
	return a.from, ok && time.Now().Before(a.until)
}

// Asks says whether a question about the world may be passed on, and records one that
// may not. address is what a reverse question is about, else invalid.
func (g *Gate) Asks(name string, address netip.Addr) bool {
	g.mu.Lock()
	_, ok := g.origin(name)
	if !ok && address.IsValid() {
		ok = g.open(address)
	}
	g.mu.Unlock()
	if !ok {
		g.Denied.Add(slirp.Refusal{Protocol: "dns", Name: name, Port: 53})
	}
	return ok
}

// open says whether anything is open at an address. mu is held.
func (g *Gate) open(a netip.Addr) bool {
	for o := range g.learned {
		if o.addr == a {
			return true
		}
	}
	return slices.ContainsFunc(g.rules.List, func(r slirp.Allowed) bool { return r.Name == "" && r.Prefix.Contains(a) })
}

// Answered opens the addresses in an answer to a question about name; the container may
// have the answer when it returns. An error means that it must not have it.
func (g *Gate) Answered(name string, answer *dns.Msg) error {
	own := ownAddresses()
	g.mu.Lock()
	defer g.mu.Unlock()
	from, ok := g.origin(name)
	if !ok || g.closed {
		return nil // a reverse question
	}
	services := g.services(from)
	fresh := map[opening]*lesson{}
	found, ttl := g.follow(name, from, answer)
	for _, a := range found[:min(len(found), maxAnswer)] {
		g.call(a, from)
		if !public(a, own) {
			continue
		}
		for _, s := range services {
			o := opening{s, a}
			l := g.learned[o]
			if l == nil {
				l = &lesson{}
				fresh[o] = l
			}
			if !slices.Contains(l.names, from) {
				l.names = append(l.names, from)
			}
			if until := time.Now().Add(lifetime(ttl)); until.After(l.until) {
				l.until = until
			}
		}
	}
	if len(g.learned)+len(fresh) > maxOpenings {
		return errors.New("too many addresses are open already")
	}
	if err := g.guard.add(g, fresh); err != nil {
		if !errors.Is(err, errGone) {
			err = errors.Join(err, g.guard.write(g)) // as it was
		}
		return err
	}
	for o, l := range fresh {
		g.learned[o] = l
	}
	g.schedule()
	return nil
}

// follow goes from a name along its aliases, and collects the addresses at the end and
// how long the shortest-lived record lives, in seconds.
func (g *Gate) follow(name, from string, answer *dns.Msg) (found []netip.Addr, ttl uint32) {
	chain := map[string]bool{name: true}
	ttl = uint32(maxLifetime / time.Second)
	for grown := true; grown; {
		grown = false
		for _, record := range answer.Answer {
			target := ""
			switch r := record.(type) {
			case *dns.CNAME:
				target = canonical(r.Target)
			case *dns.HTTPS:
				target = canonical(r.Target)
			case *dns.SVCB:
				target = canonical(r.Target)
			}
			if target == "" || chain[target] || !chain[canonical(record.Header().Name)] || len(g.aliases) >= maxNames {
				continue
			}
			chain[target], grown = true, true
			g.aliases[target] = alias{from, time.Now().Add(lifetime(record.Header().Ttl))}
		}
	}
	for _, record := range answer.Answer {
		if !chain[canonical(record.Header().Name)] {
			continue
		}
		before := len(found)
		switch r := record.(type) {
		case *dns.A:
			found = appendIP(found, r.A)
		case *dns.AAAA:
			found = appendIP(found, r.AAAA)
		case *dns.HTTPS:
			found = hints(found, &r.SVCB)
		case *dns.SVCB:
			found = hints(found, r)
		}
		if len(found) > before {
			ttl = min(ttl, record.Header().Ttl)
		}
	}
	return found, ttl
}

// hints are the addresses in an SVCB record (RFC 9460 §7.3), which clients use at once.
func hints(found []netip.Addr, r *dns.SVCB) []netip.Addr {
	for _, pair := range r.Value {
		switch v := pair.(type) {
		case *dns.SVCBIPv4Hint:
			for _, ip := range v.Hint {
				found = appendIP(found, ip)
			}
		case *dns.SVCBIPv6Hint:
			for _, ip := range v.Hint {
				found = appendIP(found, ip)
			}
		}
	}
	return found
}

func appendIP(list []netip.Addr, ip net.IP) []netip.Addr {
	if a, ok := netip.AddrFromSlice(ip); ok {
		return append(list, a.Unmap())
	}
	return list
}

func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// call remembers which name had an address. mu is held.
func (g *Gate) call(a netip.Addr, name string) {
	if len(g.names) >= maxNames {
		clear(g.names)
	}
	g.names[a] = name
}

// schedule has what is over closed when it is. mu is held.
func (g *Gate) schedule() {
	var next time.Time
	for _, l := range g.learned {
		if next.IsZero() || l.until.Before(next) {
			next = l.until
		}
	}
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
	if !next.IsZero() && !g.closed {
		g.timer = time.AfterFunc(max(time.Until(next), 100*time.Millisecond), g.expire)
	}
}

// expire closes what is over. Connections go on.
func (g *Gate) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	now := time.Now()
	var over []opening
	for o, l := range g.learned {
		if !l.until.After(now) {
			over = append(over, o)
		}
	}
	for _, o := range over {
		delete(g.learned, o)
	}
	if err := g.guard.remove(g, over); err != nil {
		g.guard.log.Printf("container %s: cannot close addresses: %v", g.id, err)
		if err := g.guard.write(g); err != nil {
			g.guard.log.Printf("container %s: %v", g.id, err)
		}
	}
	for name, a := range g.aliases {
		if !a.until.After(now) {
			delete(g.aliases, name)
		}
	}
	g.schedule()
}

// Set holds the container to other rules. Connections to what is not allowed any more
// end. After an error the container is held to those of before.
func (g *Gate) Set(r Rules) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, learned, aliases := g.rules, g.learned, maps.Clone(g.aliases)
	changed := !slices.Equal(was.List, r.List)
	g.rules, g.learned = r, map[opening]*lesson{}
	for o, l := range learned {
		names := slices.DeleteFunc(slices.Clone(l.names), func(n string) bool { return !slices.Contains(g.services(n), o.service) })
		if !changed || len(names) > 0 {
			g.learned[o] = l
		}
	}
	if changed {
		clear(g.aliases)
	}
	err := g.guard.write(g)
	if err == nil && changed {
		err = g.guard.cut(r.Addrs)
	}
	if err != nil {
		g.rules, g.learned, g.aliases = was, learned, aliases
		if !errors.Is(err, errGone) {
			err = errors.Join(err, g.guard.write(g))
		}
	}
	g.schedule()
	return err
}

// refused takes a packet that was not let out.
func (g *Gate) refused(r slirp.Refusal) {
	g.mu.Lock()
	r.Name = g.names[r.Address]
	g.mu.Unlock()
	g.Denied.Add(r)
}

// stop ends what goes on in the background; the rules stay.
func (g *Gate) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.schedule()
}
