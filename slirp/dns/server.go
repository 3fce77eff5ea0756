package dns

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Server answers on the gateway addresses of the networks.
type Server struct {
	Names *Names
	Host  *Conf

	port uint16 // of other resolvers: 53, but in tests
	// forwards bounds how many questions are under way to other resolvers.
	forwards chan struct{}
	sockets  sockets
	late     sync.Map      // when to trust a server again that has not answered
	turn     atomic.Uint32 // whose it is, where they take turns
}

// maxForwards is the bound of Server.forwards.
const maxForwards = 1000

// NewServer makes a server over a table of names and the host's resolv.conf.
func NewServer(names *Names, host *Conf) *Server {
	return &Server{Names: names, Host: host, port: 53, forwards: make(chan struct{}, maxForwards)}
}

// ServeUDP answers on a socket until it is closed.
func (s *Server) ServeUDP(socket *net.UDPConn) {
	buffer := make([]byte, dns.MaxMsgSize)
	for {
		n, client, err := socket.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP error about an earlier answer
		}
		s.Answer(buffer[:n], s.Names.client(client.Addr()),
			func(answer []byte) { socket.WriteToUDPAddrPort(answer, client) })
	}
}

// Answer answers a question that came by UDP from member; nil is a stranger.
// It calls reply at most once, now or later, and does not keep query.
func (s *Server) Answer(query []byte, member *Member, reply func([]byte)) {
	request := newRequest(query, member, "udp")
	if request == nil {
		return // not a question
	}
	if answer := s.local(request); answer != nil {
		reply(answer)
		return
	}
	request.keep()
	s.goForward(request, reply)
}

// goForward forwards a request in a goroutine, which ends with its answer; when
// too many are under way, the client is told to try again.
func (s *Server) goForward(r *request, reply func([]byte)) {
	select {
	case s.forwards <- struct{}{}:
		go func() {
			defer func() { <-s.forwards }()
			reply(s.world(r))
		}()
	default:
		reply(r.failure(dns.RcodeServerFailure))
	}
}

// tcpIdle is how long a client's connection may be silent (RFC 7766 §6.2.3).
const tcpIdle = 20 * time.Second

// ServeTCP answers on a listener until it is closed.
func (s *Server) ServeTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors: the others' connections end within tcpIdle.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		client := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr()
		go s.ServeConn(conn, func() *Member { return s.Names.client(client) })
	}
}

// ServeConn answers the questions of one connection, one after the other, until
// the client closes it. member is who asks now.
func (s *Server) ServeConn(conn net.Conn, member func() *Member) {
	defer conn.Close()
	for {
		conn.SetDeadline(time.Now().Add(tcpIdle))
		message, err := readTCP(conn)
		if err != nil {
			return
		}
		request := newRequest(message, member(), "tcp")
		if request == nil {
			return
		}
		answer := s.local(request)
		if answer == nil {
			answer = s.world(request)
		}
		if writeTCP(conn, answer) != nil {
			return
		}
	}
}

func readTCP(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	message := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, message)
	return message, err
}

func writeTCP(w io.Writer, message []byte) error {
	framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(message)), uint16(len(message)))
	_, err := w.Write(append(framed, message...))
	return err
}

// request is one question and who asked.
type request struct {
	raw     []byte
	msg     dns.Msg
	member  *Member
	network string // udp, tcp
	// trace is told of each server that was asked; nil is nobody.
	trace func(server netip.Addr, answer []byte, err error, took time.Duration)
}

// newRequest reads a question; nil is for what is none.
func newRequest(raw []byte, member *Member, network string) *request {
	r := &request{raw: raw, member: member, network: network}
	if err := r.msg.Unpack(raw); err != nil || r.msg.Response || len(r.msg.Question) != 1 {
		return nil
	}
	return r
}

// keep makes the request independent of the buffer it was read into.
func (r *request) keep() { r.raw = append([]byte(nil), r.raw...) }

// local answers what concerns the client's networks; nil is for the rest.
// Strangers get no answers from here: only containers have a way to this
// address, and all of them are known.
func (s *Server) local(r *request) []byte {
	if r.member == nil {
		return r.failure(dns.RcodeRefused)
	}
	if opt := r.msg.IsEdns0(); opt != nil && opt.Version() != 0 {
		return r.failure(dns.RcodeBadVers) // RFC 6891 §6.1.3
	}
	if r.msg.Opcode == dns.OpcodeQuery {
		records, rcode, known := s.Names.answer(r.member, r.msg.Question[0])
		if known {
			return r.reply(rcode, records)
		}
	}
	if !r.member.Forward {
		return r.failure(dns.RcodeNameError)
	}
	return s.gated(r)
}

// failure is an answer without records.
func (r *request) failure(rcode int) []byte { return r.reply(rcode, nil) }

// reply packs an answer of our own.
func (r *request) reply(rcode int, records []dns.RR, options ...dns.EDNS0) []byte {
	var m dns.Msg
	m.SetRcode(&r.msg, rcode)
	m.RecursionAvailable = true
	m.Authoritative = records != nil
	m.Answer = records
	size := dns.MinMsgSize
	if opt := r.msg.IsEdns0(); opt != nil {
		size = int(max(opt.UDPSize(), dns.MinMsgSize))
		m.SetEdns0(maxUDP, false)
		m.IsEdns0().Option = options
	}
	if r.network == "udp" {
		m.Truncate(size)
	}
	packed, err := m.Pack()
	if err != nil {
		return nil // a name that can be unpacked but not packed; silence is what it gets
	}
	return packed
}

// maxUDP is the largest answer over UDP that is asked for and announced; larger
// ones are cut and asked for again over TCP. See RFC 9715.
const maxUDP = 1232
