package port

import (
	"errors"
	"net"
	"syscall"
	"time"

	"moss/slirp/relay"
)

// serveTCP accepts clients until the listener is closed.
func (p *Published) serveTCP(l *net.TCPListener, number uint16) {
	for {
		client, err := l.AcceptTCP()
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			// The client waits in the backlog until a descriptor is free.
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-p.ctx.Done():
				return
			}
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			go p.serveClient(client, number)
		}
	}
}

// serveClient connects one client with the container until both have said all.
func (p *Published) serveClient(client *net.TCPConn, number uint16) {
	var at *place
	dial := func() (conn net.Conn, err error) {
		conn, at, err = p.dial("tcp", client.RemoteAddr().(*net.TCPAddr).AddrPort(), number)
		return conn, err
	}
	var container net.Conn
	var err error
	if p.gate == nil {
		container, err = dial()
	} else {
		var left func()
		container, left, err = p.gate.Lead(p.ctx, uint16(client.LocalAddr().(*net.TCPAddr).Port), dial)
		if err == nil {
			defer left()
		}
	}
	if err != nil {
		relay.Abort(client) // refused, as the container would have done
		return
	}
	relay.Both(at.ctx, client, container)
}
