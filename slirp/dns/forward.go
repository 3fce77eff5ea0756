package dns

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

const (
	// attemptTimeout is how long one server has; resolv.conf(5) says 5 s, but
	// then the client's own patience is over when the second one is asked.
	attemptTimeout = 2 * time.Second
	// rounds is how often the list of servers is gone through.
	rounds = 2
	// avoided is how long a server that has not answered is asked last.
	avoided = 10 * time.Second
)

// way is whom to ask, in which order, and how patiently.
func (s *Server) way(m *Member) (servers []netip.Addr, o options) {
	servers, o = m.Upstream, options{attemptTimeout, rounds, false}
	if len(servers) == 0 {
		servers, o = s.Host.Asked()
	}
	if len(servers) == 1 {
		return servers, o
	}
	servers = slices.Clone(servers)
	if o.rotate {
		at := int(s.turn.Add(1)) % len(servers)
		servers = append(servers[at:], servers[:at]...)
	}
	now := time.Now()
	late := func(a netip.Addr) int {
		if t, ok := s.late.Load(a); ok && now.Before(t.(time.Time)) {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(servers, func(a, b netip.Addr) int { return late(a) - late(b) })
	return servers, o
}

// forward passes a request on, bytes as they are, and returns the answer. It
// asks from the host's network namespace, where a resolver on 127.0.0.53 and
// one behind a VPN are reached as they are by the host's own programs.
func (s *Server) forward(r *request) []byte {
	var refusal []byte // what to say when nobody says better
	for round, limit := 0, 1; round < limit; round++ {
		servers, o := s.way(r.member) // others than in the last round, maybe
		limit = o.attempts
		for _, server := range servers {
			asked := time.Now()
			answer, err := s.exchange(r, netip.AddrPortFrom(server, s.port), o.timeout)
			if r.trace != nil {
				r.trace(server, answer, err, time.Since(asked))
			}
			if err != nil {
				s.late.Store(server, time.Now().Add(avoided))
				continue
			}
			switch header(answer).Bits & 0xf {
			case dns.RcodeServerFailure, dns.RcodeNotImplemented, dns.RcodeRefused:
				refusal = answer // another server may know, as in resolver(3)
			default:
				s.late.Delete(server)
				return answer
			}
		}
		if refusal != nil {
			return refusal
		}
	}
	return r.failure(dns.RcodeServerFailure)
}

// header reads the first fields of a message that has at least 12 bytes.
func header(message []byte) dns.Header {
	return dns.Header{Id: binary.BigEndian.Uint16(message), Bits: binary.BigEndian.Uint16(message[2:])}
}

// exchange asks one server under an identity of our own: a random number and
// a port that is not ours for long, so that a stranger can hardly forge the answer
// (RFC 5452).
func (s *Server) exchange(r *request, server netip.AddrPort, patience time.Duration) ([]byte, error) {
	deadline := time.Now().Add(patience)
	socket, err := s.sockets.take(r.network, server, deadline)
	if err != nil {
		return nil, err
	}
	for again := true; ; again = false {
		answer, err := socket.ask(r, deadline)
		if err == nil {
			s.sockets.give(socket)
			return answer, nil
		}
		socket.Close()
		if !again || socket.uses == 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		// It is of a network that the host has left, perhaps.
		if socket, err = dial(r.network, server, deadline); err != nil {
			return nil, err
		}
	}
}

// ask sends the question and waits for its answer.
func (c *socket) ask(r *request, deadline time.Time) ([]byte, error) {
	c.SetDeadline(deadline)
	query := bytes.Clone(r.raw)
	binary.BigEndian.PutUint16(query, uint16(rand.Uint32()))
	answer, err := ask(c.Conn, r, query)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(answer, r.msg.Id)
	return answer, nil
}

func ask(conn net.Conn, r *request, query []byte) ([]byte, error) {
	if r.network == "tcp" {
		if err := writeTCP(conn, query); err != nil {
			return nil, err
		}
		answer, err := readTCP(conn)
		if err == nil && !answers(answer, query, r) {
			err = errors.New("the answer is to another question")
		}
		return answer, err
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buffer := make([]byte, 4096)
	if opt := r.msg.IsEdns0(); opt != nil && int(opt.UDPSize()) > len(buffer) {
		buffer = make([]byte, opt.UDPSize())
	}
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return nil, err
		}
		if answers(buffer[:n], query, r) {
			return buffer[:n], nil
		}
	}
}

// answers says whether a message is the answer to query: same number, same
// question, whatever the case of its letters.
func answers(message, query []byte, r *request) bool {
	const response = 1 << 15
	if len(message) < 12 || header(message).Id != header(query).Id || header(message).Bits&response == 0 {
		return false
	}
	if binary.BigEndian.Uint16(message[4:]) == 0 { // some servers leave it out of refusals
		return header(message).Bits&0xf != dns.RcodeSuccess
	}
	name, end, err := dns.UnpackDomainName(message, 12)
	if err != nil || len(message) < end+4 {
		return false
	}
	q := r.msg.Question[0]
	return canonical(name) == canonical(q.Name) && binary.BigEndian.Uint16(message[end:]) == q.Qtype &&
		binary.BigEndian.Uint16(message[end+2:]) == q.Qclass
}

func inode(info os.FileInfo) uint64 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Ino
	}
	return 0
}
