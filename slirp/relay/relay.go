// Package relay carries the bytes of one connection into another.
package relay

import (
	"context"
	"io"
	"net"
	"sync"
)

// halfCloser is a connection that can end one direction.
type halfCloser interface{ CloseWrite() error }

// Both copies between two connections until both directions have ended or ctx
// has, and closes them. Between two TCP sockets io.Copy is splice(2): the bytes
// never enter this process.
func Both(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { Abort(a); Abort(b) })
	defer stop()
	defer a.Close()
	defer b.Close()
	var ways sync.WaitGroup
	ways.Go(func() { oneWay(a, b) })
	oneWay(b, a)
	ways.Wait()
}

// oneWay copies until the end of from. An end is passed on as an end; an error
// ends both connections.
func oneWay(from, to net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		Abort(from)
		Abort(to)
		return
	}
	if half, ok := to.(halfCloser); ok {
		half.CloseWrite()
	}
}

// Abort ends a connection as a broken one: with a reset, where it can.
func Abort(c net.Conn) {
	if tcp, ok := c.(interface{ SetLinger(seconds int) error }); ok {
		tcp.SetLinger(0)
	}
	c.Close()
}
