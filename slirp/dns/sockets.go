package dns

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"
)

// sockets are those for questions by UDP that have just been used: making one takes
// longer than asking by it. Each has one question under way at a time.
type sockets struct {
	mu    sync.Mutex
	idle  map[netip.AddrPort][]*socket
	sweep *time.Timer
}

// socket is one that is connected to a server.
type socket struct {
	net.Conn
	server netip.AddrPort
	made   time.Time
	uses   int
}

const (
	// A socket is kept for a short while only: its port is a secret, and the host's
	// network may be another one soon.
	socketLife = time.Second
	socketUses = 64
	maxSockets = 64 // of each server
)

// take returns a socket that is connected to a server.
func (p *sockets) take(network string, server netip.AddrPort, deadline time.Time) (*socket, error) {
	if network == "udp" {
		p.mu.Lock()
		for list := p.idle[server]; len(list) > 0; list = p.idle[server] {
			last := list[len(list)-1]
			p.idle[server] = list[:len(list)-1]
			if time.Since(last.made) < socketLife {
				p.mu.Unlock()
				return last, nil
			}
			last.Close()
		}
		p.mu.Unlock()
	}
	return dial(network, server, deadline)
}

func dial(network string, server netip.AddrPort, deadline time.Time) (*socket, error) {
	c := &socket{server: server, made: time.Now()}
	var err error
	if network == "udp" {
		c.Conn, err = net.DialUDP(network, nil, net.UDPAddrFromAddrPort(server))
		return c, err
	}
	dialer := net.Dialer{Deadline: deadline}
	dialer.SetMultipathTCP(false)
	c.Conn, err = dialer.DialContext(context.Background(), network, server.String())
	return c, err
}

// give takes back a socket that has brought its answer.
func (p *sockets) give(c *socket) {
	c.uses++
	if _, udp := c.Conn.(*net.UDPConn); !udp || c.uses >= socketUses {
		c.Close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.idle == nil {
		p.idle = map[netip.AddrPort][]*socket{}
	}
	if len(p.idle[c.server]) >= maxSockets {
		c.Close()
		return
	}
	p.idle[c.server] = append(p.idle[c.server], c)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(socketLife, p.clear)
	}
}

// clear closes those that are not wanted any more.
func (p *sockets) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep = nil
	for server, list := range p.idle {
		var kept []*socket
		for _, c := range list {
			if time.Since(c.made) < socketLife {
				kept = append(kept, c)
			} else {
				c.Close()
			}
		}
		if p.idle[server] = kept; len(kept) == 0 {
			delete(p.idle, server)
		}
	}
	if len(p.idle) > 0 {
		p.sweep = time.AfterFunc(socketLife, p.clear)
	}
}
