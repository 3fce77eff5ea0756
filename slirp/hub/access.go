package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/slirp/bridge"
	"moss/slirp/relay"
	"moss/slirp/uplink"
)

// The host's loopback is closed to containers. A port of it that one was given
// (ConnectRequest.HostAccess) is at the host gateway, for that container alone: a
// routing rule brings its packets to a listener of the shared namespace, which
// connects to 127.0.0.1, or ::1, of the host.

// loopback is a port of the host's loopback, with a listener for each family.
type loopback struct {
	listeners []net.Listener
	users     map[string]bool // containers
	ctx       context.Context
	cancel    context.CancelFunc
}

// openAccess opens what the container was given. l.mu is held, or nobody else knows l yet.
func (l *lease) openAccess() error {
	if len(l.request.HostAccess) == 0 {
		return nil
	}
	if err := l.giveAccess(); err != nil {
		return err
	}
	return l.hub.exempt()
}

// exempt keeps the uplink's translation off what containers were given.
func (h *Hub) exempt() error {
	h.mu.Lock()
	var all []uplink.Exempt
	for _, l := range h.leases {
		for _, a := range l.access {
			all = append(all, uplink.Exempt{Container: a.Container, Gateway: a.Gateway, Port: a.Port})
		}
	}
	h.mu.Unlock()
	slices.SortFunc(all, func(a, b uplink.Exempt) int {
		return cmp.Or(a.Container.Compare(b.Container), a.Gateway.Compare(b.Gateway), cmp.Compare(a.Port, b.Port))
	})
	return h.out.setExempt(all)
}

func (l *lease) giveAccess() error {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, port := range l.request.HostAccess {
		if err := h.loopback(port, l.request.Container, l.status.HostGateway); err != nil {
			return fmt.Errorf("cannot give access to port %d of the host: %w", port, err)
		}
		for i, n := range l.networks {
			for _, own := range l.status.Interfaces[i].IPs {
				for _, gateway := range l.status.HostGateway {
					if own.Addr().Is4() != gateway.Is4() {
						continue
					}
					a := bridge.Access{Bridge: n.Network.Bridge, Container: own.Addr(), Gateway: gateway, Port: port}
					if err := h.space.AddAccess(a); err != nil {
						return err
					}
					l.access = append(l.access, a)
				}
			}
		}
	}
	return nil
}

// closeAccess takes it away.
func (l *lease) closeAccess() error {
	if len(l.request.HostAccess) == 0 {
		return nil
	}
	return errors.Join(l.takeAccess(), l.hub.exempt())
}

func (l *lease) takeAccess() error {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, a := range l.access {
		errs = append(errs, h.space.RemoveAccess(a))
	}
	l.access = nil
	for _, port := range l.request.HostAccess {
		b := h.loopbacks[port]
		if b == nil {
			continue
		}
		if delete(b.users, l.request.Container); len(b.users) == 0 {
			delete(h.loopbacks, port)
			errs = append(errs, b.close())
		}
	}
	return errors.Join(errs...)
}

func (b *loopback) close() error {
	b.cancel()
	var errs []error
	for _, l := range b.listeners {
		errs = append(errs, l.Close())
	}
	return errors.Join(errs...)
}

// loopback gives a container one port. h.mu is held.
func (h *Hub) loopback(port uint16, container string, gateways []netip.Addr) error {
	if b := h.loopbacks[port]; b != nil {
		b.users[container] = true
		return nil
	}
	b := &loopback{users: map[string]bool{container: true}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	for _, gateway := range gateways {
		var listener net.Listener
		err := h.space.Thread.Do(func() (err error) {
			config := net.ListenConfig{Control: transparent}
			config.SetMultipathTCP(false)
			listener, err = config.Listen(b.ctx, "tcp", netip.AddrPortFrom(gateway, port).String())
			return err
		})
		if err != nil {
			return errors.Join(err, b.close())
		}
		b.listeners = append(b.listeners, listener)
	}
	h.loopbacks[port] = b
	for _, l := range b.listeners {
		go h.serveLoopback(b, l, port) // ends with the listener
	}
	return nil
}

// serveLoopback accepts until the listener is closed.
func (h *Hub) serveLoopback(b *loopback, l net.Listener, port uint16) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			client := h.names.At(conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr())
			h.mu.Lock()
			allowed := client != "" && b.users[client]
			h.mu.Unlock()
			host, err := dialLoopback(b.ctx, port)
			if !allowed || err != nil {
				if err == nil {
					host.Close()
				}
				relay.Abort(conn)
				return
			}
			relay.Both(b.ctx, conn, host)
		}()
	}
}

// dialLoopback connects from the host's namespace, in which moss-net's own threads are.
func dialLoopback(ctx context.Context, port uint16) (conn net.Conn, err error) {
	var dialer net.Dialer
	dialer.SetMultipathTCP(false)
	for _, host := range []string{"127.0.0.1", "::1"} {
		if conn, err = dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port)))); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

// transparent lets a socket listen at an address that is nobody's; see ip(7).
func transparent(network, _ string, raw syscall.RawConn) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if slices.Contains([]string{"tcp6", "udp6"}, network) {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	var err error
	if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), level, option, 1) }); e != nil {
		return e
	}
	return err
}
