package monitor

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
)

// conn is one client: the moss that started the container, or one that attached.
type conn struct {
	m       *monitor
	fd      int // -1: gone
	streams bool
	queue   [][]byte
	queued  int
	last    bool // the last packet is queued: then it is closed
	parked  bool // out of the loop until stdin has room again

	// One that has joined later is waited for no longer than patience: then it loses
	// output, until it has read all that is queued. The starter's is never lost: a
	// pipeline with a slow end is slow.
	joined bool
	fullAt time.Time // since when its queue is full; zero: it is not
	given  bool      // it was given up on
	lost   int64     // bytes that it did not get since
}

// patience is how long a container may have to wait for somebody who has attached.
const patience = time.Second

// hopeless says that c is not waited for.
func (c *conn) hopeless() bool { return c.given && len(c.queue) > 0 }

// addClient takes over a connected socket.
func (m *monitor) addClient(fd int, hello []byte) *conn {
	unix.SetNonblock(fd, true)
	c := &conn{m: m, fd: fd, streams: true}
	m.clients = append(m.clients, c)
	if hello != nil {
		c.send(hello)
	}
	c.listen()
	return c
}

// listen asks for the events that c is waiting for.
func (c *conn) listen() {
	if c.fd < 0 || c.parked {
		return
	}
	var events uint32 = unix.EPOLLRDHUP
	if !c.m.stdin.full() {
		events |= unix.EPOLLIN
	}
	if len(c.queue) > 0 {
		events |= unix.EPOLLOUT
	}
	c.m.loop.watch(c.fd, events, c)
}

func (c *conn) ready(events uint32) {
	switch {
	case events&unix.EPOLLIN != 0:
		c.receive()
	case events&(unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0 && c.m.stdin.full():
		// It has left; what it still had to say is read when there is room.
		c.m.loop.watch(c.fd, 0, nil)
		c.parked = true
	case events&(unix.EPOLLHUP|unix.EPOLLERR|unix.EPOLLRDHUP) != 0:
		c.drop()
	case events&unix.EPOLLOUT != 0:
		c.flush()
	}
	c.m.sweepClients()
	c.m.throttle()
}

// receive reads one packet and does what it says.
func (c *conn) receive() {
	if c.m.packet == nil {
		c.m.packet = make([]byte, 1+MaxData)
	}
	packet := c.m.packet
	n, err := retry(func() (int, error) { return unix.Read(c.fd, packet) })
	if err == unix.EAGAIN {
		return
	}
	if n <= 0 {
		c.drop()
		return
	}
	data := packet[1:n]
	switch packet[0] {
	case Stdin:
		c.m.stdin.write(data)
	case StdinEOF:
		c.m.stdin.end()
	case Resize:
		c.m.resizeBy(data)
	case WaitOnly:
		c.streams = false
		c.queue, c.queued = nil, 0
	}
	c.listen()
}

// send sends a packet, or keeps it until the client has read what came before.
func (c *conn) send(packet []byte) {
	if c.fd < 0 {
		return
	}
	if len(c.queue) == 0 {
		_, err := retry(func() (int, error) { return len(packet), unix.Sendto(c.fd, packet, unix.MSG_NOSIGNAL, nil) })
		if err == nil {
			return
		}
		if err != unix.EAGAIN {
			c.drop()
			return
		}
	}
	if c.hopeless() && (packet[0] == Stdout || packet[0] == Stderr) {
		c.lost += int64(len(packet) - 1)
		return
	}
	if packet[0] == Exited && c.lost > 0 { // it is the last packet
		c.queue = append(c.queue, encode(Lost, LostMessage{Bytes: c.lost}))
		c.lost = 0
	}
	c.queue = append(c.queue, append([]byte(nil), packet...))
	if c.queued += len(packet); c.queued >= maxQueue && c.joined && c.fullAt.IsZero() {
		c.fullAt = time.Now()
	}
	c.listen()
}

func (c *conn) flush() {
	for len(c.queue) > 0 {
		packet := c.queue[0]
		_, err := retry(func() (int, error) { return len(packet), unix.Sendto(c.fd, packet, unix.MSG_NOSIGNAL, nil) })
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			c.drop()
			return
		}
		c.queue[0] = nil
		c.queue = c.queue[1:]
		c.queued -= len(packet)
	}
	if c.queued < maxQueue {
		c.fullAt = time.Time{}
	}
	if len(c.queue) == 0 {
		c.queue = nil
		c.given = false
		if lost := c.lost; lost > 0 {
			c.lost = 0
			c.send(encode(Lost, LostMessage{Bytes: lost}))
		}
		if c.last && len(c.queue) == 0 {
			c.drop()
		}
	}
	c.listen()
}

// drop closes a client. It stays in the list until sweepClients.
func (c *conn) drop() {
	if c.last { // unread packets would make a close a reset, see unix(7)
		for n := 1; n > 0; n, _ = unix.Read(c.fd, c.m.buffer()) {
		}
	}
	c.m.settleSoon()
	c.m.loop.close(c.fd)
	c.fd, c.queue, c.queued = -1, nil, 0
}

// sweepClients forgets the clients that have gone.
func (m *monitor) sweepClients() {
	m.clients = slices.DeleteFunc(m.clients, func(c *conn) bool { return c.fd < 0 })
	if len(m.clients) == 0 {
		m.clients, m.packet = nil, nil
	}
}

// resumeClients listens again, or no more, as stdin has room.
func (m *monitor) resumeClients() {
	for _, c := range m.clients {
		if c.parked && !m.stdin.full() {
			c.parked = false
		}
		c.listen()
	}
}

// broadcast sends a packet to every client, and takes leave of them: a client
// stays only until it has read what is queued for it.
func (m *monitor) broadcast(kind byte, message any) {
	packet := encode(kind, message)
	for _, c := range m.clients {
		c.send(packet)
	}
	m.sweepClients()
}

// encode makes a packet.
func encode(kind byte, message any) []byte {
	if message == nil {
		return []byte{kind}
	}
	data, err := record.Encode(message)
	if err != nil { // no message holds what JSON cannot
		data = []byte("{}")
	}
	return append([]byte{kind}, data...)
}

// giveUpAt is when the first client is given up on that does not read; zero: none.
func (m *monitor) giveUpAt() (at time.Time) {
	for _, c := range m.clients {
		if !c.fullAt.IsZero() {
			at = sooner(at, c.fullAt.Add(patience))
		}
	}
	return at
}

// giveUp goes on without the clients that have not read for too long.
func (m *monitor) giveUp(now time.Time) {
	for _, c := range m.clients {
		if !c.fullAt.IsZero() && !now.Before(c.fullAt.Add(patience)) {
			c.fullAt, c.given = time.Time{}, true
		}
	}
	m.throttle()
}
