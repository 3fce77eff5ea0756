package bridge

import (
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"moss/slirp"
	"moss/slirp/namespace"
)

// Guest is a container's namespace, to be joined to networks.
type Guest struct {
	ID     string // the container's
	space  *Space
	netns  *os.File
	socket *socket
	lo     bool // its loopback interface is up
	joined int
}

// Guest prepares the namespace netns, which stays the caller's.
func (s *Space) Guest(id string, netns *os.File) (*Guest, error) {
	g := &Guest{ID: id, space: s, netns: netns}
	err := s.guest.In(int(netns.Fd()), func() (err error) {
		for _, name := range []string{"accept_dad", "accept_ra"} {
			// A neighbour on the bridge must not become this one's router.
			err := namespace.Sysctl("ipv6/conf/default/"+name, "0")
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		g.socket, err = openSocket()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot enter the container's network namespace: %w", err)
	}
	return g, nil
}

// Close ends the work; the interfaces stay until the namespace goes.
func (g *Guest) Close() { g.socket.close() }

// Join makes the container an interface on b with the addresses given; the
// first one brings the default routes. One that is there already, from before
// moss-net was started again, is taken over as it is. With the first the
// container's loopback interface comes up.
func (g *Guest) Join(b *Bridge, want slirp.Interface, first bool) error {
	if err := g.join(b, want, first); err != nil {
		return fmt.Errorf("cannot make interface %q on network %q: %w", want.Name, b.Network.Name, err)
	}
	return nil
}

// The ends of a pair are given numbers by us, so that what follows can be said
// without asking. A number that is taken is EBUSY: another one then.
const indexTries = 20

func (g *Guest) join(b *Bridge, want slirp.Interface, first bool) error {
	mac, err := net.ParseMAC(want.MAC)
	if err != nil {
		return err
	}
	g.joined++
	inside := 1 + g.joined // 1 is the loopback
	for try := 0; ; try++ {
		outside := randomIndex()
		if try > 0 {
			inside = randomIndex()
		}
		_, errs, err := g.space.socket.do(g.veth(b, want.Name, mac, outside, inside), teach(outside, mac))
		switch {
		case err != nil:
			return err
		case errors.Is(errs[0], unix.EEXIST):
			return g.adopt(b, want)
		case errors.Is(errs[0], unix.EBUSY) && try < indexTries:
			continue
		case errs[0] != nil:
			return errs[0]
		case errs[1] != nil && !errors.Is(errs[1], unix.EINVAL): // before Linux 4.20
			return fmt.Errorf("cannot tell the bridge about %s: %w", mac, errs[1])
		}
		return g.equip(b, want, first, outside, inside)
	}
}

// randomIndex is far from the numbers that the kernel gives out.
func randomIndex() int { return 1<<20 + mathrand.IntN(1<<30) }

// equip gives the inner end its addresses and routes, and waits until packets pass.
func (g *Guest) equip(b *Bridge, want slirp.Interface, first bool, outside, inside int) error {
	var requests []*nl.NetlinkRequest
	if !g.lo {
		requests = append(requests, linkUp(1)) // 1 is the loopback of every namespace
	}
	requests = append(requests, linkUp(inside))
	for _, p := range want.IPs {
		requests = append(requests, newAddress(inside, p))
	}
	if first {
		for _, gateway := range firsts(want.Gateway) {
			requests = append(requests, newRoute(inside, netip.Prefix{}, gateway, b.Network.Metric))
		}
	}
	for _, r := range b.Network.Routes {
		requests = append(requests, newRoute(inside, r.Prefix, r.Gateway, r.Metric))
	}
	_, errs, err := g.socket.do(requests...)
	if err == nil {
		err = firstError(errs)
	}
	if err != nil {
		return err
	}
	g.lo = true
	ends := []int{outside, b.index}
	answers, _, err := g.space.socket.do(linkState(ends[0]), linkState(ends[1]))
	for i, end := range ends {
		if err == nil && !isUp(answers[i]) {
			err = g.space.settle(end)
		}
	}
	return err
}

// vethPrefix is how the shared namespace's end of a container's interfaces is
// called. A few random characters follow: a container that is started again
// meets its old interface while the kernel still takes the old namespace down,
// and nobody waits for that.
func vethPrefix(id string) string { return slirp.PortPrefix(id) }

// veth makes a pair of interfaces by one netlink message: this end a port of
// the bridge and up, that end in the container's namespace. That one cannot come
// up before it is half of a pair. See veth(4).
func (g *Guest) veth(b *Bridge, name string, mac net.HardwareAddr, outside, inside int) *nl.NetlinkRequest {
	up := nl.NewIfInfomsg(unix.AF_UNSPEC)
	up.Index, up.Flags, up.Change = int32(outside), unix.IFF_UP, unix.IFF_UP
	other := nl.NewIfInfomsg(unix.AF_UNSPEC)
	other.Index = int32(inside)
	size := nl.Uint32Attr(uint32(mtu(b.Network)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(other)
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name))
	peer.AddRtAttr(unix.IFLA_MTU, size)
	peer.AddRtAttr(unix.IFLA_ADDRESS, mac)
	// Else there is a pair of queues, each with its files in sysfs, for each processor.
	one := nl.Uint32Attr(1)
	peer.AddRtAttr(unix.IFLA_NUM_TX_QUEUES, one)
	peer.AddRtAttr(unix.IFLA_NUM_RX_QUEUES, one)
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(g.netns.Fd())))

	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	req.AddData(up)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(vethPrefix(g.ID)+strings.ToLower(rand.Text()[:4]))))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, size))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(b.index))))
	req.AddData(nl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, one))
	req.AddData(nl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, one))
	req.AddData(info)
	return req
}

// adopt takes over an interface that is there: its other end must be ours.
func (g *Guest) adopt(b *Bridge, want slirp.Interface) error {
	var inside netlink.Link
	err := g.inside(func(h *netlink.Handle) (err error) {
		inside, err = h.LinkByName(want.Name)
		return err
	})
	if err != nil {
		return err
	}
	outside, err := g.space.Handle.LinkByIndex(inside.Attrs().ParentIndex)
	if err != nil || inside.Type() != "veth" || !strings.HasPrefix(outside.Attrs().Name, vethPrefix(g.ID)) {
		return errors.New("the container has another interface of that name")
	}
	if err := g.space.Handle.LinkSetMasterByIndex(outside, b.index); err != nil {
		return err
	}
	return g.space.Handle.LinkSetUp(outside)
}

// Loopback brings up the loopback interface of a container without networks.
func (g *Guest) Loopback() error {
	_, errs, err := g.socket.do(linkUp(1))
	return errors.Join(append(errs, err)...)
}

// inside runs f with a handle of the container's namespace.
func (g *Guest) inside(f func(*netlink.Handle) error) error {
	return g.space.guest.In(int(g.netns.Fd()), func() error {
		handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		defer handle.Close()
		return f(handle)
	})
}

// Leave takes the container's interface of that name away, if it is there.
func (g *Guest) Leave(name string) error {
	err := g.inside(func(h *netlink.Handle) error {
		link, err := h.LinkByName(name)
		if errors.As(err, new(netlink.LinkNotFoundError)) {
			return nil
		}
		if err != nil {
			return err
		}
		return h.LinkDel(link)
	})
	if err != nil {
		return fmt.Errorf("cannot remove interface %q: %w", name, err)
	}
	return nil
}

// Default leads the container's default routes through an interface: those to the old
// gateways go. Without gateways there are none.
func (g *Guest) Default(old []netip.Addr, name string, gateways []netip.Addr, metric int) error {
	err := g.inside(func(h *netlink.Handle) error {
		for _, family := range Families {
			routes, err := whole(func() ([]netlink.Route, error) { return h.RouteList(nil, family) })
			if err != nil {
				return err
			}
			for _, r := range routes {
				ours := slices.ContainsFunc(old, func(a netip.Addr) bool { return r.Gw.Equal(a.AsSlice()) })
				if isDefault := r.Dst == nil || r.Dst.IP.IsUnspecified(); isDefault && ours {
					if err := h.RouteDel(&r); err != nil {
						return err
					}
				}
			}
		}
		if len(gateways) == 0 {
			return nil
		}
		link, err := h.LinkByName(name)
		if err != nil {
			return err
		}
		for _, gateway := range firsts(gateways) {
			family := unix.AF_INET
			if gateway.Is6() {
				family = unix.AF_INET6
			}
			err := h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Family: family, Dst: everything(family), Gw: gateway.AsSlice(), Priority: metric})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("cannot change the default routes: %w", err)
	}
	return nil
}

// firsts are the first address of each family: there is one default route of each, also
// where a network has several ranges.
func firsts(addrs []netip.Addr) (out []netip.Addr) {
	for _, a := range addrs {
		if !slices.ContainsFunc(out, func(b netip.Addr) bool { return a.Is4() == b.Is4() }) {
			out = append(out, a)
		}
	}
	return out
}

// Guests are the names of the containers' interfaces in the shared namespace;
// each goes with its container's namespace.
func (s *Space) Guests() ([]string, error) {
	links, err := whole(s.Handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("cannot list interfaces: %w", err)
	}
	var names []string
	for _, l := range links {
		if l.Type() == "veth" && !strings.HasPrefix(l.Attrs().Name, keeper) {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

// IsOf says whether an interface of Guests is the container's.
func IsOf(name, id string) bool { return strings.HasPrefix(name, vethPrefix(id)) }

// MAC derives a hardware address from an IP address, so that neighbours'
// memories of the address stay right when it passes to another container.
func MAC(a netip.Addr) string {
	b := a.AsSlice()
	mac := append(net.HardwareAddr{0x02, 0x6d}, b[len(b)-4:]...) // 02: locally administered
	return mac.String()
}
