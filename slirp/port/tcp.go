package port

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
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
			go p.relay(client, number)
		}
	}
}

// relay connects one client with the container until both have said all.
func (p *Published) relay(client *net.TCPConn, number uint16) {
	defer client.Close()
	container, err := p.dial("tcp", client.RemoteAddr().(*net.TCPAddr).AddrPort(), number)
	if err != nil {
		client.SetLinger(0) // refused, as the container would have done
		return
	}
	Relay(p.ctx, client, container)
}

// halfCloser is a connection that can end one direction.
type halfCloser interface{ CloseWrite() error }

// Relay copies between two connections until both directions have ended or ctx
// has, and closes them. Between two TCP sockets io.Copy is splice(2): the bytes
// never enter this process.
func Relay(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	defer a.Close()
	defer b.Close()
	var both sync.WaitGroup
	both.Add(2)
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		go func() {
			defer both.Done()
			from, to := way[0], way[1]
			if _, err := io.Copy(to, from); err != nil {
				abort(from)
				abort(to)
				return
			}
			if half, ok := to.(halfCloser); ok {
				half.CloseWrite()
			}
		}()
	}
	both.Wait()
}

// abort ends a connection as a broken one: with a reset.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}
