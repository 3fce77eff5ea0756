package gate

import (
	"errors"
	"fmt"
	"log"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"moss/slirp"
)

// tablePrefix begins the names of a Gate's two tables, of the families inet and bridge;
// the beginning of the container's ID follows. A table is replaced in one transaction,
// so that nothing slips through meanwhile.
const tablePrefix = "moss-allow-"

// short is what a container is called in names of the kernel's.
func short(id string) string { return id[:min(len(id), 12)] }

// NewGuard makes the guard of a namespace: do runs in it. What a former moss-net left
// stands until its container is connected again, or forgotten.
func NewGuard(do func(func() error) error, uplink string, made bool, logger *log.Logger) (*Guard, error) {
	g := &Guard{do: do, uplink: uplink, log: logger, gates: map[string]*Gate{}, stale: map[string]bool{}}
	if made {
		return g, nil // no netfilter is needed yet: do not even ask for it
	}
	if err := g.begin(); err != nil {
		g.log.Print(err)
		return g, nil // a kernel without nftables: nothing was left in it
	}
	var tables []*nftables.Table
	err := g.talk(func(c *nftables.Conn) (err error) {
		tables, err = c.ListTablesOfFamily(nftables.TableFamilyINet)
		return err
	})
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("cannot list firewall tables: %w", err)
	}
	for _, t := range tables {
		if id, ok := strings.CutPrefix(t.Name, tablePrefix); ok {
			g.stale[id] = true
		}
	}
	return g, nil
}

// begin opens the conversation with the kernel.
func (g *Guard) begin() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.dial()
}

// Close ends the work; the rules stay.
func (g *Guard) Close() {
	g.mu.Lock()
	gates := g.gates
	g.gates = map[string]*Gate{}
	conn, news := g.conn, g.news
	g.conn, g.closed = nil, true
	g.mu.Unlock()
	for _, gate := range gates {
		gate.stop()
		gate.Denied.Flush()
	}
	if news != nil {
		news.Close()
	}
	if conn != nil {
		conn.CloseLasting()
	}
}

// Open holds a container to rules, before it has its interfaces. What a former moss-net
// had opened for it stays open for a while.
func (g *Guard) Open(r Rules) (*Gate, error) {
	if err := g.begin(); err != nil {
		return nil, err
	}
	if err := g.listen(); err != nil {
		return nil, err
	}
	gate := &Gate{guard: g, id: short(r.Container), rules: r, Denied: openRecord(r.Denied, g.log),
		learned: map[opening]*lesson{}, aliases: map[string]alias{}, names: map[netip.Addr]string{}}
	g.mu.Lock()
	former, stale := g.gates[gate.id], g.stale[gate.id]
	if former != nil {
		former.gone = true
		go former.stop()
	}
	g.mu.Unlock()
	gate.mu.Lock()
	defer gate.mu.Unlock()
	if stale {
		gate.adopt()
	}
	if err := g.write(gate); err != nil {
		g.mu.Lock()
		g.stale[gate.id] = true // some of it may be there: Forget has to look
		g.mu.Unlock()
		return nil, err
	}
	g.mu.Lock()
	g.gates[gate.id] = gate
	delete(g.stale, gate.id)
	g.mu.Unlock()
	gate.schedule()
	if !stale {
		if err := g.cut(r.Addrs); err != nil {
			return nil, errors.Join(err, g.Forget(r.Container))
		}
	}
	return gate, nil
}

// Forget takes a container's rules away, if there are any: it has no interface any more,
// or is let do what it likes.
func (g *Guard) Forget(id string) error {
	id = short(id)
	g.mu.Lock()
	defer g.mu.Unlock()
	gate := g.gates[id]
	if gate == nil && !g.stale[id] {
		return nil
	}
	err := g.talk(func(c *nftables.Conn) error {
		for _, t := range tablesOf(id) {
			c.AddTable(t) // removing one that is missing is an error
			c.DelTable(t)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot remove the firewall of container %s: %w", id, err)
	}
	delete(g.gates, id)
	delete(g.stale, id)
	if gate != nil {
		gate.gone = true
		go gate.stop() // it may be waiting for g.mu
		gate.Denied.Flush()
	}
	return nil
}

func tablesOf(id string) []*nftables.Table {
	return []*nftables.Table{{Family: nftables.TableFamilyINet, Name: tablePrefix + id}, {Family: nftables.TableFamilyBridge, Name: tablePrefix + id}}
}

// set is the one with the addresses of a family at which a service is open.
func (s service) set(id string, v6 bool) *nftables.Set {
	proto := s.proto
	if proto == "" {
		proto = "all"
	}
	set := &nftables.Set{Table: tablesOf(id)[0], KeyType: nftables.TypeIPAddr, Name: fmt.Sprintf("4-%s-%d-%d", proto, s.first, s.last)}
	if v6 {
		set.KeyType, set.Name = nftables.TypeIP6Addr, "6"+set.Name[1:]
	}
	return set
}

// fixed is the one with the ranges of a family at which the list itself opens it.
func (s service) fixed(id string, v6 bool) *nftables.Set {
	set := s.set(id, v6)
	set.Name += "-fixed"
	set.Interval = true
	return set
}

var errGone = errors.New("the container has gone, or has been connected again")

// adopt takes over what is open in the kernel. mu is held.
func (g *Gate) adopt() {
	g.guard.mu.Lock()
	defer g.guard.mu.Unlock()
	asked := map[service]bool{}
	for _, a := range g.rules.List {
		s := service{a.Proto, a.First, a.Last}
		if a.Name == "" || asked[s] {
			continue
		}
		asked[s] = true
		for _, v6 := range []bool{false, true} {
			var elements []nftables.SetElement
			err := g.guard.talk(func(c *nftables.Conn) (err error) {
				elements, err = c.GetSetElements(s.set(g.id, v6))
				return err
			})
			if err != nil {
				continue // the list is another one now
			}
			for _, e := range elements {
				if a, ok := netip.AddrFromSlice(e.Key); ok {
					g.learned[opening{s, a}] = &lesson{until: time.Now().Add(lifetime(0))}
				}
			}
		}
	}
}

// write writes a Gate's tables anew. Its mu is held. What is allowed may come in several
// transactions, the first of which refuses all else already. After an error the kernel
// may have some of it.
func (g *Guard) write(gate *Gate) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gate.gone {
		return errGone
	}
	tables := tablesOf(gate.id)
	begin := step{do: func(c *nftables.Conn) error {
		for _, t := range tables {
			c.AddTable(t)
			c.DelTable(t)
			c.AddTable(t)
		}
		g.writeOut(c, tables[0], gate)
		g.writePort(c, tables[1], gate)
		return nil
	}}
	if err := g.run(append([]step{begin}, gate.allowed(tables[0])...)); err != nil {
		return fmt.Errorf("cannot set up the firewall: %w", err)
	}
	return nil
}

// logGroup is nfnetlink_log's, in a namespace of moss's own.
const logGroup = 7053

// allowedChain has what a container may begin.
const allowedChain = "allowed"

// writeOut is the table of what leaves by the uplink: for a packet of a connection that
// the container began, an allowed one to begin, or an error about one; else refused.
func (g *Guard) writeOut(c *nftables.Conn, t *nftables.Table, gate *Gate) {
	forward := c.AddChain(&nftables.Chain{Name: "forward", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter})
	held := c.AddChain(&nftables.Chain{Name: "held", Table: t})
	c.AddChain(&nftables.Chain{Name: allowedChain, Table: t})
	for _, a := range gate.rules.Addrs {
		c.AddRule(&nftables.Rule{Table: t, Chain: forward, Exprs: slices.Concat(
			[]expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, equal(ifname(g.uplink))},
			family(a), sourceIs(expr.CmpOpEq, a), []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: held.Name}})})
	}
	add := func(exprs ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: held, Exprs: slices.Concat(exprs...)})
	}
	accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	add(state(expr.CtStateBitESTABLISHED), []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: 1}, equal([]byte{0})}, accept)
	add(state(expr.CtStateBitRELATED), accept)
	add([]expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: allowedChain}})
	add([]expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: 200, Unit: expr.LimitTimeSecond, Burst: 100},
		&expr.Log{Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_QTHRESHOLD,
			Group: logGroup, Snaplen: 128, QThreshold: 1, Data: []byte(gate.id)}})
	add(protocol(unix.IPPROTO_TCP), []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	add([]expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}})
}

// allowed are the steps that fill the chain of what a container may begin: for each
// service and family a set of ranges, and one of the names' addresses. mu is held.
func (g *Gate) allowed(t *nftables.Table) (steps []step) {
	ranges, open := map[service][]netip.Prefix{}, map[service][]netip.Addr{}
	for o := range g.learned {
		open[o.service] = append(open[o.service], o.addr)
	}
	named, order := map[service]bool{}, []service{}
	for _, a := range g.rules.List {
		s := service{a.Proto, a.First, a.Last}
		if !named[s] && ranges[s] == nil {
			order = append(order, s)
		}
		if a.Name == "" {
			ranges[s] = append(ranges[s], a.Prefix)
		} else {
			named[s] = true
		}
	}
	accept := func(s service, v6 bool, set *nftables.Set, elements []nftables.SetElement) {
		steps = append(steps, step{messages: 2, do: func(c *nftables.Conn) error {
			if err := c.AddSet(set, nil); err != nil {
				return err
			}
			c.AddRule(&nftables.Rule{Table: t, Chain: &nftables.Chain{Name: allowedChain, Table: t}, Exprs: slices.Concat(
				family(example(v6)), destination(v6), []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set.Name, SetID: set.ID}},
				s.match(), []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}})})
			return nil
		}})
		steps = append(steps, adding(set, elements)...)
	}
	for _, s := range order {
		for _, v6 := range []bool{false, true} {
			fixed := intervals(slices.DeleteFunc(slices.Clone(ranges[s]), func(p netip.Prefix) bool { return p.Addr().Is6() != v6 }))
			if len(fixed) > 0 {
				accept(s, v6, s.fixed(g.id, v6), fixed)
			}
			if !named[s] {
				continue
			}
			var elements []nftables.SetElement
			for _, a := range open[s] {
				if a.Is6() == v6 {
					elements = append(elements, nftables.SetElement{Key: a.AsSlice()})
				}
			}
			accept(s, v6, s.set(g.id, v6), elements)
		}
	}
	return steps
}

func example(v6 bool) netip.Addr {
	if v6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

// writePort is the table of what the container's interfaces send: from its own addresses
// only, so that those say who it is. It may be the owner of its namespace, and have raw
// sockets. ARP and neighbour discovery must not claim others' addresses either.
func (g *Guard) writePort(c *nftables.Conn, t *nftables.Table, gate *Gate) {
	r := gate.rules
	hook := c.AddChain(&nftables.Chain{Name: "port", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(-300)}) // before everybody else's
	own := c.AddChain(&nftables.Chain{Name: "own", Table: t})
	c.AddRule(&nftables.Rule{Table: t, Chain: hook, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, equal([]byte(slirp.PortPrefix(r.Container))),
		&expr.Verdict{Kind: expr.VerdictJump, Chain: own.Name}}})
	add := func(exprs ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: t, Chain: own, Exprs: slices.Concat(exprs...)})
	}
	drop, accept := []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}}, []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}
	var notMAC, notHardware, not4, not6, notSender, notTarget []expr.Any
	for _, m := range r.MACs {
		notMAC = append(notMAC, payload(expr.PayloadBaseLLHeader, 6, 6), unequal(m))
		notHardware = append(notHardware, payload(expr.PayloadBaseNetworkHeader, 8, 6), unequal(m))
	}
	for _, a := range r.Addrs {
		if a.Is4() {
			not4 = append(not4, sourceIs(expr.CmpOpNeq, a)...)
			notSender = append(notSender, payload(expr.PayloadBaseNetworkHeader, 14, 4), unequal(a.AsSlice()))
			continue
		}
		not6 = append(not6, sourceIs(expr.CmpOpNeq, a)...)
		notTarget = append(notTarget, payload(expr.PayloadBaseTransportHeader, 8, 16), unequal(a.AsSlice()))
	}
	// Link-local addresses are used on the link only; "::" is duplicate detection's.
	notSender = append(notSender, payload(expr.PayloadBaseNetworkHeader, 14, 4), unequal(make([]byte, 4))) // a probe: RFC 5227
	not6 = append(not6, payload(expr.PayloadBaseNetworkHeader, 8, 2), mask([]byte{0xff, 0xc0}), unequal([]byte{0xfe, 0x80}),
		payload(expr.PayloadBaseNetworkHeader, 8, 16), unequal(make([]byte, 16)))
	notTarget = append(notTarget, payload(expr.PayloadBaseTransportHeader, 8, 2), mask([]byte{0xff, 0xc0}), unequal([]byte{0xfe, 0x80}))
	icmp6 := func(kind byte) []expr.Any {
		return slices.Concat(protocol(unix.IPPROTO_ICMPV6), []expr.Any{payload(expr.PayloadBaseTransportHeader, 0, 1), equal([]byte{kind})})
	}
	const arp, ip4, ip6 = 0x0806, 0x0800, 0x86dd
	const routerAdvertisement, neighborAdvertisement, redirect = 134, 136, 137
	add(notMAC, drop)
	add(ethertype(arp), notSender, drop)
	add(ethertype(arp), notHardware, drop)
	add(ethertype(arp), accept)
	add(ethertype(ip4), not4, drop)
	add(ethertype(ip4), accept)
	add(ethertype(ip6), not6, drop)
	add(ethertype(ip6), icmp6(routerAdvertisement), drop)
	add(ethertype(ip6), icmp6(redirect), drop)
	add(ethertype(ip6), icmp6(neighborAdvertisement), notTarget, drop)
	add(ethertype(ip6), accept)
	add(drop) // with a VLAN tag, or of another kind
}

// cut ends what the connection tracking knows of the containers' connections: what is
// not allowed is refused from now on, and what is, goes on.
func (g *Guard) cut(addrs []netip.Addr) error {
	return g.do(func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
		if err != nil {
			return fmt.Errorf("cannot end connections: %w", err)
		}
		defer handle.Close()
		for _, a := range addrs {
			filter := new(netlink.ConntrackFilter)
			if err := filter.AddIP(netlink.ConntrackOrigSrcIP, net.IP(a.AsSlice())); err != nil {
				return err
			}
			kind := netlink.InetFamily(unix.AF_INET)
			if a.Is6() {
				kind = unix.AF_INET6
			}
			if _, err := handle.ConntrackDeleteFilters(netlink.ConntrackTable, kind, filter); err != nil {
				return fmt.Errorf("cannot end connections: %w", err)
			}
		}
		return nil
	})
}

// Stale are the short IDs of containers that a former moss-net left held, and that have
// not been opened since.
func (g *Guard) Stale() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.stale))
}
