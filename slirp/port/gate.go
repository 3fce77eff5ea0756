package port

import (
	"context"
	"net"
	"os"

	"moss/slirp"
)

// Gate leads clients to a container that may not be there yet.
type Gate interface {
	// Lead connects a client of a TCP port of the host by dial, when the container can be
	// connected to; the client waits. What it returns besides is called when the client has left.
	Lead(ctx context.Context, hostPort uint16, dial func() (net.Conn, error)) (net.Conn, func(), error)
	// Active is told of datagrams.
	Active()
}

// place is where clients are led to; their connections and UDP sessions end with ctx.
type place struct {
	Target
	ctx context.Context
	end context.CancelFunc
}

// Lead leads clients to another place, or to the same one anew. The connections and UDP
// sessions to the place before end, the listeners stay.
func (p *Published) Lead(t Target) {
	next := &place{Target: t}
	next.ctx, next.end = context.WithCancel(p.ctx)
	if was := p.place.Swap(next); was != nil {
		was.end()
	}
}

// Options of Publish.
type Options struct {
	Gate Gate // nil: clients are led to the container at once
	// Sockets are listening ones that a port takes if it can (slirp.Port.Takes). They stay the
	// caller's: copies are used.
	Sockets []*os.File
}

// inherited are the sockets that are taken for one number of a port.
func inherited(from []*os.File, port slirp.Port, number uint16) (list []socket, err error) {
	for _, f := range from {
		proto, at, ok := slirp.Listening(int(f.Fd()))
		if !ok || number == 0 || at.Port() != number || !port.Takes(proto, at) {
			continue
		}
		if proto == "tcp" {
			l, err := net.FileListener(f)
			if err != nil {
				return list, err
			}
			list = append(list, socket{tcp: l.(*net.TCPListener)})
			continue
		}
		c, err := net.FilePacketConn(f)
		if err != nil {
			return list, err
		}
		list = append(list, socket{udp: c.(*net.UDPConn)})
		raw, err := c.(*net.UDPConn).SyscallConn()
		if err != nil {
			return list, err
		}
		network := "udp4"
		if at.Addr().Is6() {
			network = "udp6"
		}
		if err := withDestination(network, "", raw); err != nil {
			return list, err
		}
	}
	return list, nil
}
