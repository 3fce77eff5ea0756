package uplink

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// pingIdle is how long the answer to an echo request is waited for.
const pingIdle = 10 * time.Second

// pings are the echo requests of containers, sent on by the host's ping sockets
// (icmp(7)). A host that does not let the user have those
// (net.ipv4.ping_group_range) makes them "prohibited": better than silence.
type pings struct {
	s  *Stack
	mu sync.Mutex
	by map[pingKey]*net.UDPConn
}

type pingKey struct {
	inside, outside netip.Addr
	id              uint16
}

func (p *pings) init(s *Stack) { p.s, p.by = s, map[pingKey]*net.UDPConn{} }

// intercept takes echo requests out of what containers send.
func (p *pings) intercept(packet []byte) bool {
	message := echoRequest(packet)
	if message == nil {
		return false
	}
	src, dst := addresses(packet)
	if slices.Contains(HostGateway, dst) || p.s.way.Serve != nil && p.s.way.Serve(netip.AddrPortFrom(dst, 53)) {
		p.reply(pingKey{src, dst, binary.BigEndian.Uint16(message[4:])}, slices.Clone(message))
		return true
	}
	target, err := p.s.way.Target(netip.AddrPortFrom(dst, 0))
	if err != nil {
		p.s.link.refuse(src, dst, prohibited, packet)
		return true
	}
	key := pingKey{src, dst, binary.BigEndian.Uint16(message[4:])}
	conn, err := p.socket(key, target.Addr())
	if err == nil {
		_, err = conn.Write(message)
	}
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		p.s.link.refuse(src, dst, prohibited, packet)
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EAFNOSUPPORT):
		p.s.link.refuse(src, dst, noRoute, packet)
	case err != nil:
		p.s.link.refuse(src, dst, noHost, packet)
	}
	return true
}

// echoRequest is the ICMP message in a packet, if it is a whole echo request.
func echoRequest(packet []byte) []byte {
	var message []byte
	switch header.IPVersion(packet) {
	case header.IPv4Version:
		h := header.IPv4(packet)
		if !h.IsValid(len(packet)) || h.Protocol() != uint8(header.ICMPv4ProtocolNumber) || h.More() || h.FragmentOffset() != 0 {
			return nil
		}
		message = packet[h.HeaderLength():h.TotalLength()]
		if len(message) < 8 || message[0] != byte(header.ICMPv4Echo) {
			return nil
		}
	case header.IPv6Version:
		h := header.IPv6(packet)
		if !h.IsValid(len(packet)) || h.NextHeader() != uint8(header.ICMPv6ProtocolNumber) {
			return nil
		}
		message = packet[header.IPv6MinimumSize:]
		if len(message) < 8 || message[0] != byte(header.ICMPv6EchoRequest) {
			return nil
		}
	}
	return message
}

// socket is the ping socket of a conversation, new or known. The kernel puts an
// identifier of its own into what goes out.
func (p *pings) socket(key pingKey, to netip.Addr) (*net.UDPConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn := p.by[key]; conn != nil {
		return conn, conn.SetReadDeadline(time.Now().Add(pingIdle))
	}
	conn, err := pingSocket(to)
	if err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Now().Add(pingIdle))
	p.by[key] = conn
	go p.answer(key, conn) // ends when no answer has come for a while
	return conn, nil
}

func pingSocket(to netip.Addr) (*net.UDPConn, error) {
	domain, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	var peer unix.Sockaddr
	if to.Is6() {
		domain, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
		peer = &unix.SockaddrInet6{Addr: to.As16()}
	} else {
		peer = &unix.SockaddrInet4{Addr: to.As4()}
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "ping")
	defer file.Close() // net.FileConn makes a copy
	if err := unix.Connect(fd, peer); err != nil {
		return nil, err
	}
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}

func (p *pings) answer(key pingKey, conn *net.UDPConn) {
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		conn.Close()
		if p.by[key] == conn {
			delete(p.by, key)
		}
	}()
	buffer := make([]byte, maxPacket)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if n >= 8 {
			p.reply(key, buffer[:n])
		}
	}
}

// reply sends an echo reply with what message carries.
func (p *pings) reply(key pingKey, message []byte) {
	message[0] = byte(header.ICMPv4EchoReply)
	if key.inside.Is6() {
		message[0] = byte(header.ICMPv6EchoReply)
	}
	message[1], message[2], message[3] = 0, 0, 0
	binary.BigEndian.PutUint16(message[4:], key.id)
	p.s.link.writeICMP(key.outside, key.inside, message)
}

// hostChanged is flows.hostChanged for pings.
func (p *pings) hostChanged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, conn := range p.by {
		if stale(conn) {
			conn.Close()
			delete(p.by, key)
		}
	}
}

func (p *pings) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.by {
		conn.Close()
	}
}
