package uplink

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// flowIdle is how long a flow lives without a datagram (RFC 4787 §4.3).
const flowIdle = 2 * time.Minute

// flows are the UDP conversations of a stack. The stack's own UDP sockets would
// only be another copy between the link and the host's socket.
type flows struct {
	s  *Stack
	mu sync.Mutex
	// out are conversations that containers began: each has a socket of the host.
	out map[flowKey]*flow
	// in are those that a published port's client began, by the address under
	// which the client appears.
	in map[flowKey]*inflow
}

// flowKey names a conversation as the container sees it.
type flowKey struct{ inside, outside netip.AddrPort }

type flow struct {
	conn *net.UDPConn
	last atomic.Int64 // nanoseconds
	// start is the beginning of the first packet, for ICMP errors about it.
	start []byte
}

func (f *flows) init(s *Stack) {
	f.s, f.out, f.in = s, map[flowKey]*flow{}, map[flowKey]*inflow{}
}

// handle takes a datagram from a container. When it says false, the stack
// answers with "port unreachable".
func (f *flows) handle(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	key := flowKey{addrPort(id.RemoteAddress, id.RemotePort), addrPort(id.LocalAddress, id.LocalPort)}
	payload := pkt.Data().AsRange().ToSlice()
	if f.s.way.Serve != nil && f.s.way.Serve(key.outside) {
		f.s.way.ServeUDP(payload, func(answer []byte) { f.s.link.writeUDP(key.outside, key.inside, answer) })
		return true
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	if answered := f.in[key]; answered != nil {
		answered.deliver(payload)
		return true
	}
	known := f.out[key]
	if known == nil {
		target, err := f.s.way.Target(key.outside)
		if err != nil {
			return false
		}
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(target))
		if err != nil {
			return false
		}
		known = &flow{conn: conn, start: beginning(pkt)}
		f.out[key] = known
		known.last.Store(time.Now().UnixNano())
		go f.answer(key, known) // ends when the flow is idle or the stack closes
	}
	known.last.Store(time.Now().UnixNano())
	known.conn.Write(payload) // an error is one about an earlier datagram: the reader sees it too
	return true
}

// beginning copies what an ICMP error quotes of a packet.
func beginning(pkt *stack.PacketBuffer) []byte {
	var b []byte
	for _, piece := range [][]byte{pkt.NetworkHeader().Slice(), pkt.TransportHeader().Slice()} {
		b = append(b, piece...)
	}
	return b
}

// answer carries the world's datagrams to the container.
func (f *flows) answer(key flowKey, known *flow) {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		known.conn.Close()
		if f.out[key] == known {
			delete(f.out, key)
		}
	}()
	for {
		last := time.Unix(0, known.last.Load())
		known.conn.SetReadDeadline(last.Add(flowIdle))
		err := withDatagram(known.conn, func(payload []byte) {
			known.last.Store(time.Now().UnixNano())
			f.s.link.writeUDP(key.outside, key.inside, payload)
		})
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && known.last.Load() != last.UnixNano():
			continue
		case errors.Is(err, syscall.ECONNREFUSED):
			f.s.link.refuse(key.inside.Addr(), key.outside.Addr(), noPort, known.start)
		case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
			f.s.link.refuse(key.inside.Addr(), key.outside.Addr(), noHost, known.start)
		case err != nil:
			return
		}
	}
}

var datagrams = sync.Pool{New: func() any { return new([maxPacket]byte) }}

// withDatagram waits for a datagram and calls use with it. No buffer is held
// while it waits: thousands of flows may.
func withDatagram(c *net.UDPConn, use func([]byte)) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Read(func(fd uintptr) bool {
		buffer := datagrams.Get().(*[maxPacket]byte)
		defer datagrams.Put(buffer)
		n, err := unix.Read(int(fd), buffer[:])
		if err == unix.EAGAIN || err == unix.EINTR {
			return false
		}
		if result = err; err == nil {
			use(buffer[:n])
		}
		return true
	})
	return errors.Join(err, result)
}

// hostChanged ends the flows that would come from another address of the host's now.
// Their next datagrams begin new ones.
func (f *flows) hostChanged() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, known := range f.out {
		if stale(known.conn) {
			known.conn.Close()
			delete(f.out, key)
		}
	}
}

// stale says whether a socket would have another address of the host's if it were made now.
// While there is no way to its peer, it may get its old one back.
func stale(conn *net.UDPConn) bool {
	peer, ok := conn.RemoteAddr().(*net.UDPAddr)
	if !ok {
		return false
	}
	now := sourceTo(peer.AddrPort())
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
	return now.IsValid() && now != local.WithZone("")
}

func (f *flows) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, known := range f.out {
		known.conn.Close()
	}
	for _, known := range f.in {
		known.end()
	}
}

// dial begins a conversation with a container from src, any address; port 0 is
// any free one.
func (f *flows) dial(src, dst netip.AddrPort) (net.Conn, error) {
	if !src.IsValid() {
		return nil, &net.OpError{Op: "dial", Net: "udp", Err: syscall.EADDRNOTAVAIL}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := flowKey{inside: dst, outside: src}
	for tries := 0; src.Port() == 0 && tries < 64; tries++ {
		key.outside = netip.AddrPortFrom(src.Addr(), uint16(32768+rand.IntN(28000)))
		if f.in[key] == nil {
			break
		}
	}
	if f.in[key] != nil {
		return nil, &net.OpError{Op: "dial", Net: "udp", Err: syscall.EADDRINUSE}
	}
	known := &inflow{key: key, flows: f, queue: make(chan []byte, 64), ended: make(chan struct{})}
	f.in[key] = known
	return known, nil
}

// inflow is a conversation that came in by a published port.
type inflow struct {
	key      flowKey
	flows    *flows
	queue    chan []byte
	ended    chan struct{}
	once     sync.Once
	deadline atomic.Pointer[time.Time]
}

// LocalAddr is the address under which the client appears to the container.
func (i *inflow) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(i.key.outside) }

// RemoteAddr is the container's.
func (i *inflow) RemoteAddr() net.Addr { return net.UDPAddrFromAddrPort(i.key.inside) }

// SetWriteDeadline has nothing to bound: writes do not block.
func (i *inflow) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline bounds the next Read.
func (i *inflow) SetDeadline(t time.Time) error { return i.SetReadDeadline(t) }

func (i *inflow) deliver(payload []byte) {
	select {
	case i.queue <- payload:
	default: // the client is slower than the container: lost, as it would be
	}
}

func (i *inflow) end() { i.once.Do(func() { close(i.ended) }) }

// Read returns one datagram.
func (i *inflow) Read(b []byte) (int, error) {
	var late <-chan time.Time
	if t := i.deadline.Load(); t != nil && !t.IsZero() {
		timer := time.NewTimer(time.Until(*t))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case payload := <-i.queue:
		return copy(b, payload), nil
	case <-late:
		return 0, os.ErrDeadlineExceeded
	case <-i.ended:
		return 0, io.EOF
	}
}

// Write sends one datagram to the container.
func (i *inflow) Write(b []byte) (int, error) {
	return len(b), i.flows.s.link.writeUDP(i.key.outside, i.key.inside, b)
}

// SetReadDeadline bounds the next Read.
func (i *inflow) SetReadDeadline(t time.Time) error { i.deadline.Store(&t); return nil }

// Close ends the conversation.
func (i *inflow) Close() error {
	i.end()
	i.flows.mu.Lock()
	defer i.flows.mu.Unlock()
	if i.flows.in[i.key] == i {
		delete(i.flows.in, i.key)
	}
	return nil
}
