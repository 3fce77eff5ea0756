package port

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// udpIdle is how long a client's session lives without a datagram. RFC 4787
// §4.3 asks for two minutes at least.
const udpIdle = 2 * time.Minute

// maxDatagram is the largest payload of UDP.
const maxDatagram = 65535

// withDestination asks the kernel for the address that each datagram was sent
// to, so that the answer comes from there; see ip(7), IP_PKTINFO.
func withDestination(network, _ string, raw syscall.RawConn) error {
	var err error
	errControl := raw.Control(func(fd uintptr) {
		if network == "udp6" {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_RECVPKTINFO, 1)
		} else {
			err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_PKTINFO, 1)
		}
	})
	return errors.Join(errControl, err)
}

// session is one client of a published UDP port.
type session struct {
	conn net.Conn
	at   *place
	last atomic.Int64 // when the last datagram passed, in nanoseconds
}

// sessions are the clients of one socket. A client that speaks to two addresses
// of the host has two sessions.
type sessions struct {
	sync.Mutex
	byClient map[sessionKey]*session
}

type sessionKey struct {
	client netip.AddrPort
	local  netip.Addr
}

// serveUDP passes datagrams on until the socket is closed.
func (p *Published) serveUDP(socket *net.UDPConn, number uint16) {
	all := &sessions{byClient: map[sessionKey]*session{}}
	buffer, control := make([]byte, maxDatagram), make([]byte, 128)
	for {
		n, controlled, _, client, err := socket.ReadMsgUDPAddrPort(buffer, control)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		if p.gate != nil {
			p.gate.Active()
		}
		key := sessionKey{client, destination(control[:controlled])}
		s := all.get(key)
		if s == nil || s.at != p.place.Load() {
			conn, at, err := p.dial("udp", client, number)
			if err != nil {
				continue // as lost on the way
			}
			s = &session{conn: conn, at: at}
			s.last.Store(time.Now().UnixNano())
			all.put(key, s)
			go p.answer(socket, all, key, s)
		}
		s.last.Store(time.Now().UnixNano())
		s.conn.Write(buffer[:n]) // an error here is one about an earlier datagram
	}
}

// answer carries a container's datagrams to one client until the session is idle, or its
// place is no more, as all are when the port is closed.
func (p *Published) answer(socket *net.UDPConn, all *sessions, key sessionKey, s *session) {
	defer s.conn.Close()
	defer context.AfterFunc(s.at.ctx, func() { s.conn.Close() })()
	defer all.drop(key, s)
	buffer, control := make([]byte, maxDatagram), source(key.local)
	for {
		idleAt := time.Unix(0, s.last.Load()).Add(udpIdle)
		s.conn.SetReadDeadline(idleAt)
		n, err := s.conn.Read(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) && time.Since(time.Unix(0, s.last.Load())) < udpIdle {
			continue
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			continue // nobody listens in the container; it may soon
		}
		if err != nil {
			return
		}
		s.last.Store(time.Now().UnixNano())
		if _, _, err := socket.WriteMsgUDPAddrPort(buffer[:n], control, key.client); errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

func (all *sessions) get(key sessionKey) *session {
	all.Lock()
	defer all.Unlock()
	return all.byClient[key]
}

func (all *sessions) put(key sessionKey, s *session) {
	all.Lock()
	defer all.Unlock()
	all.byClient[key] = s
}

func (all *sessions) drop(key sessionKey, s *session) {
	all.Lock()
	defer all.Unlock()
	if all.byClient[key] == s {
		delete(all.byClient, key)
	}
}

// destination reads the address a datagram was sent to.
func destination(control []byte) netip.Addr {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return netip.Addr{}
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.SOL_IP && m.Header.Type == unix.IP_PKTINFO && len(m.Data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(m.Data[8:12])) // ipi_addr, after ipi_ifindex and ipi_spec_dst
		case m.Header.Level == unix.SOL_IPV6 && m.Header.Type == unix.IPV6_PKTINFO && len(m.Data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(m.Data[:16]))
		}
	}
	return netip.Addr{}
}

// source is the control message that sends a datagram from an address.
func source(local netip.Addr) []byte {
	switch {
	case !local.IsValid(), local.IsMulticast(), local == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return nil
	case local.Is4():
		return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: local.As4()})
	default:
		return unix.PktInfo6(&unix.Inet6Pktinfo{Addr: local.As16()})
	}
}
