// Package bridge makes user-defined networks: bridges and addresses inside the
// shared namespace, and the pairs of interfaces that join containers to them.
package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"moss/slirp"
	"moss/slirp/namespace"
)

// The tables and the order of the shared namespace's routing rules. The local
// table comes first (0), main last (32766).
const (
	// localTable delivers everything to sockets of the shared namespace.
	localTable = 100
	// outTable leads out through the uplink and nowhere else.
	outTable = 101

	portRules   = 100 // answers of published ports
	bridgeRules = 200 // what containers may reach
)

// Space is the shared namespace of a user's networks.
//
//	container eth0 ─── veth ─┐
//	                         ├ moss0 ── rules ── uplink ── the host's sockets
//	container eth0 ─── veth ─┘    └ names (port 53), published ports
type Space struct {
	Thread *namespace.Thread
	Handle *netlink.Handle
	// Made is false for a namespace that a former moss-net made.
	Made   bool
	guest  *namespace.Thread
	socket *socket
}

// Open makes the shared namespace bound at path, or takes over the one that is
// there. Rules of a former owner's published ports are removed.
func Open(path string) (*Space, error) {
	thread, made, err := namespace.Open(path)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	guest, err := namespace.Enter(file)
	if err != nil {
		return nil, err
	}
	s := &Space{Thread: thread, Made: made, guest: guest}
	if err := s.setUp(); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot set up network namespace %q: %w", path, err)
	}
	return s, nil
}

// Remove takes the shared namespace away; nothing is in it any more.
func Remove(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.ENOENT {
		return fmt.Errorf("cannot remove network namespace %q: %w", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cannot remove network namespace: %w", err)
	}
	return nil
}

// Close ends the threads and handles. The namespace stays.
func (s *Space) Close() {
	if s.Handle != nil {
		s.Handle.Close()
	}
	if s.socket != nil {
		s.socket.close()
	}
	s.Thread.Close()
	s.guest.Close()
}

// In runs f on a thread in the network namespace fd.
func (s *Space) In(fd int, f func() error) error { return s.guest.In(fd, f) }

// DialIn connects from inside the network namespace fd; see namespace.Thread.Dial.
func (s *Space) DialIn(ctx context.Context, fd int, network string, src, dst netip.AddrPort) (net.Conn, error) {
	return s.guest.DialIn(ctx, fd, network, src, dst)
}

// sysctls of the shared namespace, see ip-sysctl in the kernel's documentation.
// Interfaces made later get no IPv6 of their own (ports of a bridge need none);
// the bridges and the uplink get it back when they are made.
var sysctls = [][2]string{
	{"ipv4/ip_forward", "1"},
	{"ipv6/conf/all/forwarding", "1"},
	{"ipv4/conf/all/rp_filter", "0"},
	{"ipv4/conf/default/rp_filter", "0"},
	{"ipv4/conf/all/send_redirects", "0"},
	{"ipv4/conf/default/send_redirects", "0"},
	{"ipv6/conf/all/accept_dad", "0"},
	{"ipv6/conf/default/accept_dad", "0"},
	{"ipv6/conf/default/accept_ra", "0"},
	{"ipv6/conf/default/disable_ipv6", "1"},
	// What stays on a bridge is nobody's to filter: where br_netfilter is loaded, each of its
	// packets would go by the rules for what is routed, which cost a tenth of the throughput.
	{"bridge/bridge-nf-call-iptables", "0"},
	{"bridge/bridge-nf-call-ip6tables", "0"},
	{"bridge/bridge-nf-call-arptables", "0"},
}

func (s *Space) setUp() error {
	err := s.Thread.Do(func() (err error) {
		if s.Handle, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return err
		}
		if s.socket, err = openSocket(); err != nil {
			return err
		}
		if !s.Made {
			return nil
		}
		for _, set := range sysctls {
			// A host without IPv6, or br_netfilter, has none of its variables.
			if err := namespace.Sysctl(set[0], set[1]); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !s.Made {
		return s.dropRules(portRules)
	}
	lo, err := s.Handle.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := s.Handle.LinkSetUp(lo); err != nil {
		return err
	}
	return s.routeHome(lo.Attrs().Index)
}

// Families are the address families that moss uses.
var Families = []int{unix.AF_INET, unix.AF_INET6}

// routeHome fills the two tables: one that delivers locally whatever it is
// asked for, one that refuses until there is an uplink.
func (s *Space) routeHome(lo int) error {
	for _, family := range Families {
		local := &netlink.Route{LinkIndex: lo, Table: localTable, Type: unix.RTN_LOCAL,
			Scope: unix.RT_SCOPE_HOST, Family: family, Dst: everything(family)}
		refuse := &netlink.Route{Table: outTable, Type: unix.RTN_UNREACHABLE,
			Family: family, Dst: everything(family), Priority: 1 << 20}
		for _, r := range []*netlink.Route{local, refuse} {
			if err := s.Handle.RouteReplace(r); err != nil && family != unix.AF_INET6 {
				return fmt.Errorf("cannot add route: %w", err)
			}
		}
	}
	return nil
}

// RouteOut makes the interface named link the way out, for both families; via
// is its gateway there, or invalid for a link that needs none.
func (s *Space) RouteOut(link string, via ...netip.Addr) error {
	l, err := s.Handle.LinkByName(link)
	if err != nil {
		return fmt.Errorf("cannot route through %q: %w", link, err)
	}
	for _, family := range Families {
		gateway := slices.IndexFunc(via, func(a netip.Addr) bool { return a.Is4() == (family == unix.AF_INET) })
		if gateway < 0 && len(via) > 0 {
			continue // an uplink of one family: the other is refused
		}
		for _, table := range []int{outTable, unix.RT_TABLE_MAIN} {
			r := &netlink.Route{LinkIndex: l.Attrs().Index, Table: table, Family: family, Dst: everything(family)}
			if gateway >= 0 {
				r.Gw, r.Flags = via[gateway].AsSlice(), int(netlink.FLAG_ONLINK)
			}
			if err := s.Handle.RouteReplace(r); err != nil && family == unix.AF_INET {
				return fmt.Errorf("cannot route through %q: %w", link, err)
			}
		}
	}
	return nil
}

func everything(family int) *net.IPNet {
	if family == unix.AF_INET {
		return &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}

// dropRules removes the rules of one priority.
func (s *Space) dropRules(priority int) error {
	for _, family := range Families {
		if err := s.dropRulesOf(family, func(r *netlink.Rule) bool { return r.Priority == priority }); err != nil {
			return err
		}
	}
	return nil
}

// dropRulesOf removes the routing rules of a family that are chosen.
func (s *Space) dropRulesOf(family int, chosen func(*netlink.Rule) bool) error {
	rules, err := whole(func() ([]netlink.Rule, error) { return s.Handle.RuleList(family) })
	if err != nil {
		return fmt.Errorf("cannot list routing rules: %w", err)
	}
	for _, r := range rules {
		if !chosen(&r) {
			continue
		}
		r.Family = family
		if err := s.Handle.RuleDel(&r); err != nil {
			return fmt.Errorf("cannot remove routing rule: %w", err)
		}
	}
	return nil
}

// Answers is the rule by which the answers of a published port, addressed to
// clients out there, come to the sockets of the shared namespace that speak
// with the container under the clients' addresses.
type Answers struct {
	Bridge    string
	Container netip.Addr
	Proto     int // IPPROTO_TCP, IPPROTO_UDP
	Port      uint16
	Count     uint16
}

// Access is the rule by which what a container sends to one port of the host gateway
// comes to a socket of the shared namespace, and not to the uplink.
type Access struct {
	Bridge    string
	Container netip.Addr
	Gateway   netip.Addr
	Port      uint16 // TCP
}

func (a Access) rule() *netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Table = portRules, localTable
	r.IifName, r.IPProto = a.Bridge, unix.IPPROTO_TCP
	r.Src, r.Dst = single(a.Container), single(a.Gateway)
	r.Dport = netlink.NewRulePortRange(a.Port, a.Port)
	return r
}

// AddAccess adds the rule, if it is not there.
func (s *Space) AddAccess(a Access) error {
	if err := s.Handle.RuleAdd(a.rule()); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot add routing rule for port %d of the host: %w", a.Port, err)
	}
	return nil
}

// RemoveAccess removes the rule.
func (s *Space) RemoveAccess(a Access) error {
	if err := s.Handle.RuleDel(a.rule()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove routing rule for port %d of the host: %w", a.Port, err)
	}
	return nil
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func (a Answers) rule() *netlink.Rule {
	r := netlink.NewRule()
	r.Priority, r.Table = portRules, localTable
	r.IifName, r.IPProto = a.Bridge, a.Proto
	r.Src = single(a.Container)
	r.Sport = netlink.NewRulePortRange(a.Port, a.Port+max(a.Count, 1)-1)
	return r
}

// AddAnswers adds the rule. Added is false for one that is there already, as
// when one container port is published twice.
func (s *Space) AddAnswers(a Answers) (added bool, err error) {
	err = s.Handle.RuleAdd(a.rule())
	if errors.Is(err, unix.EEXIST) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("cannot add routing rule for port %d of %s: %w", a.Port, a.Container, err)
	}
	return true, nil
}

// RemoveAnswers removes the rule.
func (s *Space) RemoveAnswers(a Answers) error {
	if err := s.Handle.RuleDel(a.rule()); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("cannot remove routing rule for port %d of %s: %w", a.Port, a.Container, err)
	}
	return nil
}

// mtu of a network's links.
func mtu(n *slirp.Network) int {
	if n.MTU > 0 {
		return n.MTU
	}
	return slirp.DefaultMTU
}
