package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"moss/slirp"
	"moss/slirp/dns"
	"moss/slirp/port"
	"moss/slirp/uplink"
)

// privateInterface is the interface in a namespace of the mode "private".
const privateInterface = "eth0"

// connectPrivate gives the namespace an uplink of its own.
func (l *lease) connectPrivate(ctx context.Context, options string, netns *os.File) error {
	private, err := slirp.ParsePrivate(options)
	if err != nil {
		return err
	}
	if len(l.request.Attachments) > 0 {
		return errors.New("a private network has no other networks")
	}
	if len(l.request.Allow) > 0 {
		if options != private.Kind {
			return fmt.Errorf("with an allow-list %s takes no options", cmp.Or(private.Kind, "the network"))
		}
		return l.connectOwn(ctx, private.Kind, netns)
	}
	// The namespace is kept by this descriptor until the lease ends.
	fd, err := unix.FcntlInt(netns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	own := os.NewFile(uintptr(fd), "netns")
	l.undo = append(l.undo, own.Close)
	link, err := l.startPrivate(ctx, private, own)
	if err != nil {
		return err
	}
	l.undo = append(l.undo, link.Close)
	l.private = link
	l.status.Uplink, l.status.DNS = link.Kind, link.DNS
	if link.Host != nil {
		l.status.HostGateway = link.Host
	}
	l.status.Interfaces = []slirp.Interface{{Name: privateInterface, IPs: link.Addrs, Gateway: link.Gateways}}
	if err := l.publishPrivate(link, own); err != nil {
		return err
	}
	l.hub.mu.Lock()
	l.done = true
	l.hub.mu.Unlock()
	return nil
}

// startPrivate starts the uplink and leads the namespace's routes there.
func (l *lease) startPrivate(ctx context.Context, private slirp.Private, netns *os.File) (*uplink.Link, error) {
	h := l.hub
	do := func(f func() error) error { return h.space.In(int(netns.Fd()), f) }
	var handle *netlink.Handle
	err := do(func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	if private.Kind == "" {
		// The embedded stack alone keeps source addresses here, knows the host's
		// names, and needs no process of its own.
		private.Kind = cmp.Or(os.Getenv(kindVariable), "embedded")
	}
	options := uplink.Options{Netns: netns, Do: do, Handle: handle, Interface: privateInterface,
		MTU: cmp.Or(private.MTU, slirp.DefaultMTU), Kind: private.Kind, Private: private, Way: l.privateWay(), Log: h.log, Dir: h.dirs.Run}
	if err := handle.LinkSetUp(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}}); err != nil {
		return nil, fmt.Errorf("cannot bring up the container's loopback interface: %w", err)
	}
	link, err := uplink.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	if err := options.DefaultRoutes(link); err != nil {
		link.Close()
		return nil, err
	}
	return link, nil
}

// privateWay makes the embedded stack answer names by moss's own resolver.
func (l *lease) privateWay() uplink.Way {
	me := &dns.Member{Container: l.request.Container, Upstream: l.request.DNS, Forward: true}
	resolver := l.hub.resolver
	return uplink.Way{
		Serve:    func(to netip.AddrPort) bool { return to == uplink.Resolver() },
		ServeTCP: func(c net.Conn) { resolver.ServeConn(c, func() *dns.Member { return me }) },
		ServeUDP: func(query []byte, reply func([]byte)) { resolver.Answer(query, me, reply) },
	}
}

// publishPrivate opens ports towards a private namespace: through the embedded
// stack under the clients' addresses, else from inside under its own.
func (l *lease) publishPrivate(link *uplink.Link, netns *os.File) error {
	target := port.Target{Gateways: uplink.Gateways()}
	for _, p := range link.Addrs {
		target.Addrs = append(target.Addrs, p.Addr())
		target.Subnets = append(target.Subnets, p.Masked())
	}
	l.outlet = &outlet{target: target}
	if link.Stack != nil {
		l.outlet.target.Dial = link.Stack.Dial
		return l.open()
	}
	l.outlet.target.Dial = func(ctx context.Context, network string, _, dst netip.AddrPort) (net.Conn, error) {
		return l.hub.space.DialIn(ctx, int(netns.Fd()), network, netip.AddrPort{}, dst)
	}
	return l.open()
}
