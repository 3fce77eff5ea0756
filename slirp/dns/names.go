// Package dns answers container names on moss's networks, and forwards every
// other question to the host's resolvers as they are at that moment.
package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"
)

// Member is a container, as its networks know it.
type Member struct {
	Container string // its ID
	Networks  []Membership
	// Upstream are the container's own resolvers; none: the host's.
	Upstream []netip.Addr
	// Forward says that questions about the rest of the world are passed on.
	Forward bool
	// Gate holds it to the names that it may ask about; nil: all.
	Gate Gate
}

// Gate says which names of the world a container may ask about, and what they open.
type Gate interface {
	// Asks says whether a question may be passed on. address is what a reverse question
	// is about, else invalid.
	Asks(name string, address netip.Addr) bool
	// Answered is told of each answer before the container gets it. An error means that
	// the container must not have it.
	Answered(name string, answer *dns.Msg) error
}

// Membership is a container's place in one network.
type Membership struct {
	Network string
	Subnets []netip.Prefix
	Addrs   []netip.Addr
	// Names are what it is called there; the first is what reverse questions
	// are answered with.
	Names []string
}

// Names knows the members of all networks. A name is known only to those who
// are on a network with its bearer.
type Names struct {
	// Host are the names of the machine itself and its addresses.
	Host      []string
	HostAddrs []netip.Addr

	mu      sync.RWMutex
	byAddr  map[netip.Addr]*Member
	members map[string]*Member
	// names are those of each network: network, name, addresses.
	names map[string]map[string][]netip.Addr
}

// SetHostAddrs changes the addresses of the machine itself.
func (n *Names) SetHostAddrs(addrs []netip.Addr) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.HostAddrs = addrs
}

// NewNames makes an empty table in which the machine has the names given.
func NewNames(host []string, addrs []netip.Addr) *Names {
	return &Names{Host: host, HostAddrs: addrs, byAddr: map[netip.Addr]*Member{},
		members: map[string]*Member{}, names: map[string]map[string][]netip.Addr{}}
}

// Add makes a member known, instead of an older one of the same container.
func (n *Names) Add(m Member) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(m.Container)
	n.members[m.Container] = &m
	for i := range m.Networks {
		in := &m.Networks[i]
		known := n.names[in.Network]
		if known == nil {
			known = map[string][]netip.Addr{}
			n.names[in.Network] = known
		}
		for j, name := range in.Names {
			in.Names[j] = canonical(name)
		}
		for _, name := range distinct(in.Names) {
			known[name] = append(known[name], in.Addrs...)
		}
		for _, a := range in.Addrs {
			n.byAddr[a] = &m
		}
	}
}

// Remove forgets a container.
func (n *Names) Remove(container string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.remove(container)
}

func (n *Names) remove(container string) {
	m := n.members[container]
	if m == nil {
		return
	}
	delete(n.members, container)
	for _, in := range m.Networks {
		mine := func(a netip.Addr) bool { return slices.Contains(in.Addrs, a) }
		for _, name := range distinct(in.Names) {
			left := slices.DeleteFunc(slices.Clone(n.names[in.Network][name]), mine)
			if len(left) == 0 {
				delete(n.names[in.Network], name)
				continue
			}
			n.names[in.Network][name] = left
		}
		for _, a := range in.Addrs {
			if n.byAddr[a] == m {
				delete(n.byAddr, a)
			}
		}
	}
}

// bearers are the containers that have a name on each network of the member.
func (n *Names) bearers(m *Member, name string) map[string][]string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	found := map[string][]string{}
	for _, in := range m.Networks {
		short, _ := in.scoped(name)
		for _, other := range n.members {
			for _, there := range other.Networks {
				if there.Network == in.Network && (slices.Contains(there.Names, name) || slices.Contains(there.Names, short)) {
					found[in.Network] = append(found[in.Network], there.Names[0])
				}
			}
		}
		slices.Sort(found[in.Network])
	}
	return found
}

// Of is the member that is a container, or nil.
func (n *Names) Of(container string) *Member {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.members[container]
}

// At is the container that has an address, or "".
func (n *Names) At(a netip.Addr) string {
	if m := n.client(a); m != nil {
		return m.Container
	}
	return ""
}

// client is the member that asks, or nil for a stranger.
func (n *Names) client(a netip.Addr) *Member {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.byAddr[a.Unmap()]
}

// answer answers a question that concerns the networks of m: known is false for
// all others.
func (n *Names) answer(m *Member, q dns.Question) (records []dns.RR, rcode int, known bool) {
	if q.Qclass != dns.ClassINET {
		return nil, 0, false
	}
	name := canonical(q.Name)
	if strings.HasSuffix(name, ".arpa") {
		return n.reverse(m, q, name)
	}
	addrs := n.lookup(m, name)
	if len(addrs) == 0 {
		return nil, 0, false
	}
	for _, a := range addrs {
		head := dns.RR_Header{Name: q.Name, Class: dns.ClassINET}
		switch {
		case q.Qtype == dns.TypeA && a.Is4():
			head.Rrtype = dns.TypeA
			records = append(records, &dns.A{Hdr: head, A: a.AsSlice()})
		case q.Qtype == dns.TypeAAAA && a.Is6():
			head.Rrtype = dns.TypeAAAA
			records = append(records, &dns.AAAA{Hdr: head, AAAA: a.AsSlice()})
		}
	}
	rand.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
	return records, dns.RcodeSuccess, true
}

// lookup collects the addresses of a name on the member's networks.
func (n *Names) lookup(m *Member, name string) []netip.Addr {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if slices.Contains(n.Host, name) {
		return n.HostAddrs
	}
	var addrs []netip.Addr
	for _, in := range m.Networks {
		addrs = append(addrs, n.names[in.Network][name]...)
		if short, ok := in.scoped(name); ok {
			addrs = append(addrs, n.names[in.Network][short]...)
		}
	}
	return addrs
}

// scoped is what NAME.NETWORK is called on that network.
func (in *Membership) scoped(name string) (string, bool) {
	return strings.CutSuffix(name, "."+strings.ToLower(in.Network))
}

// reverse answers PTR questions about addresses of the member's networks.
func (n *Names) reverse(m *Member, q dns.Question, name string) ([]dns.RR, int, bool) {
	addr, ok := reversed(name)
	if !ok {
		return nil, 0, false
	}
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, in := range m.Networks {
		if !slices.ContainsFunc(in.Subnets, func(s netip.Prefix) bool { return s.Contains(addr) }) {
			continue
		}
		bearer := n.byAddr[addr]
		if bearer == nil {
			return nil, dns.RcodeNameError, true
		}
		for _, there := range bearer.Networks {
			if q.Qtype != dns.TypePTR || len(there.Names) == 0 || !slices.Contains(there.Addrs, addr) {
				continue
			}
			return []dns.RR{&dns.PTR{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET},
				Ptr: dns.Fqdn(there.Names[0]),
			}}, dns.RcodeSuccess, true
		}
		return nil, dns.RcodeSuccess, true
	}
	return nil, 0, false
}

// reversed is the address in a name below in-addr.arpa or ip6.arpa.
func reversed(name string) (netip.Addr, bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		parts := strings.Split(rest, ".")
		slices.Reverse(parts)
		a, err := netip.ParseAddr(strings.Join(parts, "."))
		return a, err == nil && a.Is4()
	}
	rest, ok := strings.CutSuffix(name, ".ip6.arpa")
	nibbles := strings.Split(rest, ".")
	if !ok || len(nibbles) != 32 {
		return netip.Addr{}, false
	}
	slices.Reverse(nibbles)
	var text strings.Builder
	for i, nibble := range nibbles {
		if i > 0 && i%4 == 0 {
			text.WriteByte(':')
		}
		text.WriteString(nibble)
	}
	a, err := netip.ParseAddr(text.String())
	return a, err == nil
}

// canonical is the form in which names are compared (RFC 4343).
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func distinct(names []string) []string {
	sorted := slices.Clone(names)
	slices.Sort(sorted)
	return slices.Compact(slices.DeleteFunc(sorted, func(n string) bool { return n == "" }))
}
