// Package uplink leads out of a network namespace by pasta, slirp4netns or the
// embedded stack.
package uplink

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"moss/slirp"
)

// The kinds of uplink.
const (
	Pasta       = "pasta"
	Slirp4netns = "slirp4netns"
	Embedded    = "embedded"
)

// kinds are tried in this order. The embedded one carries two to three times what
// slirp4netns does, and needs no program and no translation of addresses.
var kinds = []string{Embedded, Pasta, Slirp4netns}

// The addresses that an uplink's own link has; as in slirp4netns(1).
var (
	linkAddrs = []netip.Prefix{netip.MustParsePrefix("10.0.2.100/24"), netip.MustParsePrefix("fd6d:6f73:7300::64/64")}
	gateways  = []netip.Addr{netip.MustParseAddr("10.0.2.2"), netip.MustParseAddr("fd6d:6f73:7300::2")}
	resolver  = netip.MustParseAddr("10.0.2.3")
)

// Options say which namespace needs an uplink, and which one.
type Options struct {
	// Netns is the namespace; Do runs in it and Handle speaks to it.
	Netns  *os.File
	Do     func(func() error) error
	Handle *netlink.Handle

	Interface string // name of the new interface in it
	// Prepare is called with its name before it gets addresses; may be nil.
	Prepare func(name string) error
	MTU     int
	// Kind forces one; "" takes the best that works.
	Kind string
	// Private has more for the uplink of one container.
	Private slirp.Private
	// Routed is set for a namespace that forwards other addresses than its own.
	Routed bool
	Way    Way
	// Dir is where Netns can have a name, for a program that closes what it inherits.
	Dir string
	Log *log.Logger
}

// Link is an uplink that works.
type Link struct {
	Kind string
	Why  string // why it is not a better one
	// Addrs are the addresses of its interface; none when it needs none.
	Addrs []netip.Prefix
	// Gateways are where its routes lead; none for an interface without neighbours.
	Gateways []netip.Addr
	// Host is where it reaches the host: addresses that stand for it; nil: HostGateways.
	Host []netip.Addr
	// DNS is a resolver that it brings along.
	DNS []netip.Addr
	// Stack is set for the embedded kind.
	Stack *Stack

	done  <-chan struct{}
	close func() error
}

// Done is closed when the uplink has ended, by itself or by Close.
func (l *Link) Done() <-chan struct{} { return l.done }

// Close ends the uplink; its interface goes.
func (l *Link) Close() error { return l.close() }

// Start starts the best uplink that works here. Whether one works is seen from
// its interface being up, not guessed.
func Start(ctx context.Context, o Options) (*Link, error) {
	wanted := kinds
	if o.Kind != "" {
		wanted = []string{o.Kind}
	}
	var why []string
	for _, kind := range wanted {
		link, err := o.start(ctx, kind)
		if err == nil {
			err = o.configure(link)
			if err != nil {
				link.Close()
			}
		}
		if err == nil {
			link.Kind, link.Why = kind, strings.Join(why, "; ")
			return link, nil
		}
		o.Log.Printf("uplink %s: %v", kind, err)
		why = append(why, fmt.Sprintf("%s: %v", kind, err))
	}
	return nil, fmt.Errorf("cannot start an uplink: %s", strings.Join(why, "; "))
}

func (o *Options) start(ctx context.Context, kind string) (*Link, error) {
	switch kind {
	case Pasta:
		return o.startPasta(ctx)
	case Slirp4netns:
		return o.startSlirp4netns(ctx)
	case Embedded:
		return o.startEmbedded()
	}
	return nil, fmt.Errorf("uplink %q is not known: pasta, slirp4netns and embedded are", kind)
}

func (o *Options) startEmbedded() (*Link, error) {
	var file *os.File
	err := o.Do(func() (err error) {
		file, err = OpenTUN(o.Interface)
		return err
	})
	if err != nil {
		return nil, err
	}
	stack, err := NewStack(file, o.MTU, o.Way)
	if err != nil {
		return nil, err
	}
	link := &Link{Stack: stack, done: stack.Done(), close: stack.Close}
	if !o.Routed {
		link.Addrs = linkAddrs
		link.DNS = []netip.Addr{resolver}
	}
	return link, nil
}

// Resolver is the address at which the embedded uplink of a private namespace
// answers names, by Way.ServeTCP and Way.ServeUDP.
func Resolver() netip.AddrPort { return netip.AddrPortFrom(resolver, 53) }

// Gateways are the addresses that speak for the embedded uplink of a private
// namespace.
func Gateways() []netip.Addr { return gateways }

// configure brings the link up, and gives it its addresses.
func (o *Options) configure(link *Link) error {
	iface, err := o.Handle.LinkByName(o.Interface)
	if err != nil {
		return fmt.Errorf("cannot find interface %q: %w", o.Interface, err)
	}
	if err := o.Handle.LinkSetMTU(iface, o.MTU); err != nil {
		return fmt.Errorf("cannot set the MTU of %q: %w", o.Interface, err)
	}
	if o.Prepare != nil {
		if err := o.Prepare(o.Interface); err != nil {
			return err
		}
	}
	for _, p := range link.Addrs {
		a := &netlink.Addr{LinkIndex: iface.Attrs().Index, IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD
		}
		// A host may be without IPv6; without IPv4 nothing works.
		err := o.Handle.AddrAdd(nil, a)
		if err != nil && !errors.Is(err, unix.EEXIST) && p.Addr().Is4() {
			return fmt.Errorf("cannot add address %s: %w", p, err)
		}
	}
	if err := o.Handle.LinkSetUp(iface); err != nil {
		return fmt.Errorf("cannot bring up %q: %w", o.Interface, err)
	}
	iface, err = o.Handle.LinkByName(o.Interface)
	if err != nil {
		return err
	}
	if iface.Attrs().Flags&net.FlagUp == 0 || iface.Attrs().RawFlags&unix.IFF_LOWER_UP == 0 {
		return fmt.Errorf("interface %q does not come up", o.Interface)
	}
	return nil
}

// DefaultRoutes leads everything in a private namespace to its uplink.
func (o *Options) DefaultRoutes(link *Link) error {
	iface, err := o.Handle.LinkByName(o.Interface)
	if err != nil {
		return err
	}
	for i, all := range []netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)} {
		r := &netlink.Route{LinkIndex: iface.Attrs().Index, Dst: ipNet(all)}
		if len(link.Gateways) > 0 {
			g := slices.IndexFunc(link.Gateways, func(a netip.Addr) bool { return a.Is4() == all.Addr().Is4() })
			if g < 0 {
				continue
			}
			r.Gw = link.Gateways[g].AsSlice()
		}
		if err := o.Handle.RouteReplace(r); err != nil && i == 0 {
			return fmt.Errorf("cannot add default route: %w", err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
