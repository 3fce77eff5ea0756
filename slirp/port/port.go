// Package port publishes container ports on the host.
//
//	client ──▶ listener (host's namespace) ──▶ socket in the shared namespace,
//	                                           bound to the client's address
//	                                           ──▶ container
//
// The container sees the client's own address. Its answers are addressed to the
// client; a routing rule brings them to that socket (see bridge.Answers).
package port

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"moss/slirp"
)

// Target is a container, as its published ports see it.
type Target struct {
	// Addrs are its addresses, at most one of each family.
	Addrs []netip.Addr
	// Gateways speak for clients whose own address means nothing to it.
	Gateways []netip.Addr
	// Subnets are the networks it is in: no address of theirs is a stranger's.
	Subnets []netip.Prefix
	// Dial connects to the container from src; see namespace.Thread.Dial.
	Dial func(ctx context.Context, network string, src, dst netip.AddrPort) (net.Conn, error)
}

// Published are the open ports of one container.
type Published struct {
	// Ports are the ports as asked for, with the host ports chosen.
	Ports   []slirp.Port
	place   atomic.Pointer[place]
	gate    Gate       // nil: the container is there
	given   []*os.File // Options.Sockets, while ports are opened
	ctx     context.Context
	cancel  context.CancelFunc
	sockets []io.Closer
}

// Publish opens ports. All are open afterwards, or none.
func Publish(ports []slirp.Port, target Target, o Options) (_ *Published, err error) {
	p := &Published{gate: o.Gate, given: o.Sockets}
	defer func() { p.given = nil }()
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.Lead(target)
	defer func() {
		if err != nil {
			p.Close()
		}
	}()
	for _, one := range ports {
		chosen, err := p.open(one)
		if err != nil {
			return nil, err
		}
		p.Ports = append(p.Ports, chosen)
	}
	return p, nil
}

// Close closes the ports and the connections through them.
func (p *Published) Close() error {
	p.cancel()
	var errs []error
	for _, s := range p.sockets {
		errs = append(errs, s.Close())
	}
	p.sockets = nil
	return errors.Join(errs...)
}

// open opens one port or range.
func (p *Published) open(port slirp.Port) (slirp.Port, error) {
	count := max(port.Count, 1)
	if int(port.HostPort)+int(count) > 1<<16 || int(port.ContainerPort)+int(count) > 1<<16 || port.ContainerPort == 0 {
		return port, fmt.Errorf("cannot publish port %s: no such port", describe(port, port.HostPort))
	}
	// A free port of IPv4 may be taken in IPv6, and the next ones of a range.
	const attempts = 32
	for attempt := 0; ; attempt++ {
		sockets, first, err := p.listenRange(port, count)
		if err == nil {
			port.HostPort = first
			p.serve(sockets, port.ContainerPort)
			return port, nil
		}
		if port.HostPort != 0 || attempt == attempts || !errors.Is(err, syscall.EADDRINUSE) {
			return port, err
		}
	}
}

// socket is one listening socket and the place of its port in the range.
type socket struct {
	offset uint16
	tcp    *net.TCPListener
	udp    *net.UDPConn
}

func (s socket) Close() error {
	if s.tcp != nil {
		return s.tcp.Close()
	}
	return s.udp.Close()
}

// listenRange opens every port of a range, or none. It tells the first port.
func (p *Published) listenRange(port slirp.Port, count uint16) (all []socket, first uint16, err error) {
	defer func() {
		if err != nil {
			for _, s := range all {
				s.Close()
			}
		}
	}()
	first = port.HostPort
	for offset := range count {
		number := first
		if number != 0 {
			number += offset
			if number < first {
				return all, 0, fmt.Errorf("cannot publish port %s: %w", describe(port, 0), syscall.EADDRINUSE)
			}
		}
		opened, number, err := p.listen(port, number)
		all = append(all, opened...)
		if err != nil {
			return all, 0, err
		}
		for i := range opened {
			all[len(all)-1-i].offset = offset
		}
		if offset == 0 {
			first = number
		}
	}
	return all, first, nil
}

// listen opens one port on the host addresses wished for: on every address of
// both families when there is no wish.
func (p *Published) listen(port slirp.Port, number uint16) ([]socket, uint16, error) {
	if taken, err := inherited(p.given, port, number); len(taken) > 0 || err != nil {
		return taken, number, err
	}
	hosts := []netip.Addr{port.HostIP.Unmap()}
	if !port.HostIP.IsValid() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	var opened []socket
	for i, host := range hosts {
		s, err := listenOne(port.Proto, netip.AddrPortFrom(host, number))
		if err != nil && i > 0 && (errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)) {
			continue // a host without IPv6
		}
		if err != nil {
			return opened, 0, explain(port, number, err)
		}
		opened = append(opened, s)
		number = s.number()
	}
	return opened, number, nil
}

func (s socket) number() uint16 {
	if s.tcp != nil {
		return uint16(s.tcp.Addr().(*net.TCPAddr).Port)
	}
	return uint16(s.udp.LocalAddr().(*net.UDPAddr).Port)
}

func listenOne(proto string, at netip.AddrPort) (socket, error) {
	family := "4"
	if at.Addr().Is6() {
		family = "6"
	}
	var config net.ListenConfig
	config.SetMultipathTCP(false) // splice(2) does not know it
	switch proto {
	case "tcp":
		l, err := config.Listen(context.Background(), "tcp"+family, at.String())
		if err != nil {
			return socket{}, err
		}
		return socket{tcp: l.(*net.TCPListener)}, nil
	case "udp":
		config.Control = withDestination
		c, err := config.ListenPacket(context.Background(), "udp"+family, at.String())
		if err != nil {
			return socket{}, err
		}
		return socket{udp: c.(*net.UDPConn)}, nil
	}
	return socket{}, fmt.Errorf("protocol %q is not one that can be: tcp and udp are", proto)
}

// describe names a port as the user writes it.
func describe(port slirp.Port, number uint16) string {
	text := strconv.Itoa(int(number))
	if port.HostIP.IsValid() {
		text = netip.AddrPortFrom(port.HostIP, number).String()
	}
	return text + "/" + port.Proto
}

// unprivilegedStart holds the first port that needs no privilege; see ip(7).
const unprivilegedStart = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// explain turns what the kernel says about a port into what the user needs.
func explain(port slirp.Port, number uint16, err error) error {
	cause := err
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		cause = errno // without the "listen tcp4 0.0.0.0:80: bind:" before it
	}
	name := describe(port, number)
	if errors.Is(err, syscall.EADDRINUSE) {
		return &InUseError{name: name, Port: port, Number: number}
	}
	if errors.Is(err, syscall.EADDRNOTAVAIL) {
		cause = fmt.Errorf("the host has no such address: %w", cause)
	}
	if !errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("cannot publish port %s: %w", name, cause)
	}
	start, readErr := os.ReadFile(unprivilegedStart)
	if readErr != nil {
		start = []byte("1024")
	}
	return fmt.Errorf("cannot publish port %s: %w: ports below %s are the administrator's; "+
		"publish a higher one (--low-ports shift does), or have them run: sysctl net.ipv4.ip_unprivileged_port_start=%d",
		name, cause, strings.TrimSpace(string(start)), number)
}

// serve starts the goroutines of open sockets; each ends when its socket closes.
func (p *Published) serve(sockets []socket, first uint16) {
	for _, s := range sockets {
		p.sockets = append(p.sockets, s)
		if s.tcp != nil {
			go p.serveTCP(s.tcp, first+s.offset)
		} else {
			go p.serveUDP(s.udp, first+s.offset)
		}
	}
}

// Destination returns the container's address for a client, and the address
// under which the client appears there: its own one, unless that cannot be told
// apart from somebody near the container; then a gateway's.
func (t Target) Destination(client netip.AddrPort, number uint16) (src, dst netip.AddrPort, err error) {
	addr := client.Addr().Unmap()
	to := t.sameFamily(t.Addrs, addr)
	own := to.IsValid() && !addr.IsLoopback() && !addr.IsLinkLocalUnicast() && !addr.IsUnspecified() &&
		!slices.ContainsFunc(t.Subnets, func(s netip.Prefix) bool { return s.Contains(addr) })
	if !to.IsValid() {
		if len(t.Addrs) == 0 {
			return src, dst, errors.New("the container has no address")
		}
		to = t.Addrs[0]
	}
	dst = netip.AddrPortFrom(to, number)
	if own {
		return netip.AddrPortFrom(addr, client.Port()), dst, nil
	}
	if gateway := t.sameFamily(t.Gateways, to); gateway.IsValid() {
		src = netip.AddrPortFrom(gateway, 0)
	}
	return src, dst, nil
}

func (Target) sameFamily(of []netip.Addr, as netip.Addr) netip.Addr {
	for _, a := range of {
		if a.Is4() == as.Is4() {
			return a
		}
	}
	return netip.Addr{}
}

// dial connects a client to the container's port number, under its own address
// if that can be had, and tells where the container was.
func (p *Published) dial(network string, client netip.AddrPort, number uint16) (net.Conn, *place, error) {
	to := p.place.Load()
	src, dst, err := to.Destination(client, number)
	if err != nil {
		return nil, to, err
	}
	conn, err := to.Dial(to.ctx, network, src, dst)
	if errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL) {
		gateway := netip.AddrPortFrom(to.sameFamily(to.Gateways, dst.Addr()), 0)
		conn, err = to.Dial(to.ctx, network, gateway, dst)
	}
	return conn, to, err
}
