package port

import (
	"context"
	"net"
)

// Gate leads clients to a container that may not be there yet.
type Gate interface {
	// Lead connects a client of a TCP port of the host by dial, when the container can be
	// connected to; the client waits. What it returns besides is called when the client has left.
	Lead(ctx context.Context, hostPort uint16, dial func() (net.Conn, error)) (net.Conn, func(), error)
	// Active is told of datagrams.
	Active()
}

// place is where clients are led to now; the connections end with ctx.
type place struct {
	Target
	ctx context.Context
	end context.CancelFunc
}

// Lead leads clients to another place, or to the same one anew. The connections to the
// place before end, the listeners stay.
func (p *Published) Lead(t Target) {
	next := &place{Target: t}
	next.ctx, next.end = context.WithCancel(p.ctx)
	if was := p.place.Swap(next); was != nil {
		was.end()
	}
}
