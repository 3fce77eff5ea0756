package bridge

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"moss/slirp"
	"moss/slirp/namespace"
)

// Bridge is a network as it stands in the shared namespace.
type Bridge struct {
	Network *slirp.Network
	Pool    *Pool
	space   *Space
	index   int
}

// Bridge makes the bridge of a network, or takes over the one that is there.
func (s *Space) Bridge(n *slirp.Network) (*Bridge, error) {
	b := &Bridge{Network: n, Pool: NewPool(n), space: s}
	if err := b.make(); err != nil {
		return nil, fmt.Errorf("cannot make bridge %q of network %q: %w", n.Bridge, n.Name, err)
	}
	return b, nil
}

func (b *Bridge) make() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = b.Network.Bridge, mtu(b.Network)
	if len(b.Network.Subnets) > 0 {
		// A bridge without an address of its own takes its ports' lowest one, and
		// another when that port goes: every container would lose its gateway.
		mac, err := net.ParseMAC(MAC(b.Network.Subnets[0].Gateway))
		if err != nil {
			return err
		}
		attrs.HardwareAddr = mac
	}
	h := b.space.Handle
	if err := h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	link, err := h.LinkByName(b.Network.Bridge)
	if err != nil {
		return err
	}
	b.index = link.Attrs().Index
	if err := b.space.WithIPv6(b.Network.Bridge); err != nil {
		return err
	}
	for _, subnet := range b.Network.Subnets {
		if err := b.space.addAddress(b.index, netip.PrefixFrom(subnet.Gateway, subnet.Prefix.Bits())); err != nil {
			return err
		}
	}
	if err := h.LinkSetUp(link); err != nil {
		return err
	}
	if err := b.keep(); err != nil {
		return err
	}
	return b.limit()
}

// keeper begins the names of the interfaces that keep a bridge up.
const keeper = "keep"

// keep gives the bridge a port that stays. A bridge goes down with its last port,
// and the kernel takes its time to believe that it is up again: the container
// after the last one would wait for that.
func (b *Bridge) keep() error {
	name := keeper + strconv.Itoa(b.index)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MasterIndex, attrs.Flags, attrs.MTU = name, b.index, net.FlagUp, mtu(b.Network)
	attrs.NumTxQueues, attrs.NumRxQueues = 1, 1
	h := b.space.Handle
	err := h.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name + "p"})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("cannot add port: %w", err)
	}
	for _, end := range []string{name, name + "p"} {
		link, err := h.LinkByName(end)
		if err == nil && link.Attrs().MTU != attrs.MTU { // a bridge has that of its least port
			err = h.LinkSetMTU(link, attrs.MTU)
		}
		if err == nil {
			err = h.LinkSetUp(link)
		}
		if err != nil {
			return fmt.Errorf("cannot bring up port %q: %w", end, err)
		}
	}
	return nil
}

// limit lets containers of this network reach the uplink, and no other network:
// what is neither local nor an answer of a published port is looked up in a
// table that knows only the way out. An internal network has none. The networks
// themselves are not out there, so nobody need wait until the host finds out.
func (b *Bridge) limit() error {
	for _, subnet := range b.Network.Subnets {
		r := &netlink.Route{Table: outTable, Type: unix.RTN_UNREACHABLE, Dst: &net.IPNet{
			IP: subnet.Prefix.Masked().Addr().AsSlice(), Mask: net.CIDRMask(subnet.Prefix.Bits(), subnet.Prefix.Addr().BitLen())}}
		if err := b.space.Handle.RouteReplace(r); err != nil && subnet.Prefix.Addr().Is4() {
			return fmt.Errorf("cannot add route: %w", err)
		}
	}
	for _, family := range Families {
		r := netlink.NewRule()
		r.Priority, r.IifName, r.Family, r.Table = bridgeRules, b.Network.Bridge, family, outTable
		if b.Network.Internal {
			r.Type, r.Table = unix.FR_ACT_UNREACHABLE, unix.RT_TABLE_UNSPEC
		}
		err := b.space.Handle.RuleAdd(r)
		if err != nil && !errors.Is(err, unix.EEXIST) && family == unix.AF_INET {
			return fmt.Errorf("cannot add routing rule: %w", err)
		}
	}
	return nil
}

// whole asks again for a list that changed while the kernel told it: NLM_F_DUMP_INTR of
// netlink(7). Interfaces come and go with every container.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 100 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// Bridges are the names of the bridges in the shared namespace.
func (s *Space) Bridges() ([]string, error) {
	links, err := whole(s.Handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list interfaces: %w", err)
	}
	var names []string
	for _, l := range links {
		if l.Type() == "bridge" {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

// RemoveBridge takes away the bridge of a network, its addresses, rules and routes: for
// one that nobody is connected to.
func (s *Space) RemoveBridge(name string) error {
	link, err := s.Handle.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot remove bridge %q: %w", name, err)
	}
	var errs []error
	for _, family := range Families {
		addrs, err := whole(func() ([]netlink.Addr, error) { return s.Handle.AddrList(link, family) })
		errs = append(errs, err)
		for _, a := range addrs {
			dst := &net.IPNet{IP: a.IP.Mask(a.Mask), Mask: a.Mask}
			err := s.Handle.RouteDel(&netlink.Route{Table: outTable, Type: unix.RTN_UNREACHABLE, Dst: dst})
			if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, err)
			}
		}
		errs = append(errs, s.dropRulesOf(family, func(r *netlink.Rule) bool { return r.IifName == name }))
	}
	if port, err := s.Handle.LinkByName(keeper + strconv.Itoa(link.Attrs().Index)); err == nil {
		errs = append(errs, s.Handle.LinkDel(port))
	}
	errs = append(errs, s.Handle.LinkDel(link))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cannot remove bridge %q: %w", name, err)
	}
	return nil
}

// WithIPv6 gives an interface of the shared namespace IPv6.
func (s *Space) WithIPv6(link string) error {
	return s.Thread.Do(func() error {
		err := namespace.Sysctl(filepath.Join("ipv6/conf", link, "disable_ipv6"), "0")
		if errors.Is(err, unix.ENOENT) {
			return nil // a host without IPv6
		}
		return err
	})
}

// addAddress adds an address that is usable at once, if it is not there.
func (s *Space) addAddress(index int, p netip.Prefix) error {
	err := addAddress(s.Handle, index, p)
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// addAddress adds an address without waiting for duplicates to speak up
// (RFC 4862 §5.4): moss gave it out itself.
func addAddress(h *netlink.Handle, index int, p netip.Prefix) error {
	a := &netlink.Addr{LinkIndex: index,
		IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
	if p.Addr().Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := h.AddrAdd(nil, a); err != nil {
		return fmt.Errorf("cannot add address %s: %w", p, err)
	}
	return nil
}
