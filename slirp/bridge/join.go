package bridge

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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
	handle *netlink.Handle
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
		g.handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot enter the container's network namespace: %w", err)
	}
	return g, nil
}

// Close ends the work; the interfaces stay until the namespace goes.
func (g *Guest) Close() { g.handle.Close() }

// Loopback brings "lo" up.
func (g *Guest) Loopback() error {
	// Interface 1 of every network namespace is its loopback.
	lo := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}}
	if err := g.handle.LinkSetUp(lo); err != nil {
		return fmt.Errorf("cannot bring up the container's loopback interface: %w", err)
	}
	return nil
}

// Join makes the container an interface on b with the addresses given; the
// first one brings the default routes. One that is there already, from before
// moss-net was started again, is taken over as it is.
func (g *Guest) Join(b *Bridge, want slirp.Interface, first bool) error {
	if err := g.join(b, want, first); err != nil {
		return fmt.Errorf("cannot make interface %q on network %q: %w", want.Name, b.Network.Name, err)
	}
	return nil
}

func (g *Guest) join(b *Bridge, want slirp.Interface, first bool) error {
	mac, err := net.ParseMAC(want.MAC)
	if err != nil {
		return err
	}
	err = g.addVeth(b, want.Name, mac)
	if errors.Is(err, unix.EEXIST) {
		return g.adopt(b, want)
	}
	if err != nil {
		return err
	}
	link, err := g.handle.LinkByName(want.Name)
	if err != nil {
		return err
	}
	index := link.Attrs().Index
	if err := g.handle.LinkSetUp(link); err != nil {
		return err
	}
	for _, one := range []int{link.Attrs().ParentIndex, b.index} {
		if err := g.space.settle(one); err != nil {
			return err
		}
	}
	if err := g.space.teach(link.Attrs().ParentIndex, mac); err != nil {
		return err
	}
	for _, p := range want.IPs {
		if err := addAddress(g.handle, index, p); err != nil {
			return err
		}
	}
	if !first || b.Network.Internal {
		return nil
	}
	for _, gateway := range want.Gateway {
		family := unix.AF_INET
		if gateway.Is6() {
			family = unix.AF_INET6
		}
		r := &netlink.Route{LinkIndex: index, Gw: gateway.AsSlice(), Dst: everything(family)}
		if err := g.handle.RouteAdd(r); err != nil {
			return fmt.Errorf("cannot add default route through %s: %w", gateway, err)
		}
	}
	return nil
}

// vethPrefix is how the shared namespace's end of a container's interfaces is
// called. A few random characters follow: a container that is started again
// meets its old interface while the kernel still takes the old namespace down,
// and nobody waits for that.
func vethPrefix(id string) string { return "m" + id[:min(len(id), 10)] }

// addVeth makes a pair of interfaces by one netlink message: this end a port of
// the bridge and up, that end in the container's namespace. That one cannot come
// up before it is half of a pair. See veth(4).
func (g *Guest) addVeth(b *Bridge, name string, mac net.HardwareAddr) error {
	up := nl.NewIfInfomsg(unix.AF_UNSPEC)
	up.Flags, up.Change = unix.IFF_UP, unix.IFF_UP
	size := nl.Uint32Attr(uint32(mtu(b.Network)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(nl.NewIfInfomsg(unix.AF_UNSPEC))
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name))
	peer.AddRtAttr(unix.IFLA_MTU, size)
	peer.AddRtAttr(unix.IFLA_ADDRESS, mac)
	// Else there is a pair of queues, each with its files in sysfs, for each processor.
	one := nl.Uint32Attr(1)
	peer.AddRtAttr(unix.IFLA_NUM_TX_QUEUES, one)
	peer.AddRtAttr(unix.IFLA_NUM_RX_QUEUES, one)
	peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(g.netns.Fd())))

	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.Sockets = g.space.sockets
	req.AddData(up)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(vethPrefix(g.ID)+strings.ToLower(rand.Text()[:4]))))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, size))
	req.AddData(nl.NewRtAttr(unix.IFLA_MASTER, nl.Uint32Attr(uint32(b.index))))
	req.AddData(nl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, one))
	req.AddData(nl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, one))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// teach tells the bridge behind which of its ports a hardware address is, and to
// believe nobody else. Else frames go on to a namespace that had the address
// before and still goes down, and a container could take its neighbours' away.
func (s *Space) teach(port int, mac net.HardwareAddr) error {
	err := s.Handle.NeighSet(&netlink.Neigh{Family: unix.AF_BRIDGE, LinkIndex: port, HardwareAddr: mac,
		State: netlink.NUD_NOARP, Flags: netlink.NTF_MASTER | netlink.NTF_STICKY})
	if errors.Is(err, unix.EINVAL) { // before Linux 4.20
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot tell the bridge about %s: %w", mac, err)
	}
	return nil
}

// adopt takes over an interface that is there: its other end must be ours.
func (g *Guest) adopt(b *Bridge, want slirp.Interface) error {
	inside, err := g.handle.LinkByName(want.Name)
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

// Guests are the names of the containers' interfaces in the shared namespace;
// each goes with its container's namespace.
func (s *Space) Guests() ([]string, error) {
	links, err := s.Handle.LinkList()
	if err != nil {
		return nil, fmt.Errorf("cannot list interfaces: %w", err)
	}
	var names []string
	for _, l := range links {
		if l.Type() == "veth" {
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
