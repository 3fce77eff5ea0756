package uplink

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"moss/slirp/relay"
)

// nic is the number of the stack's only interface.
const nic = 1

// Stack is the embedded uplink: it ends containers' connections in this process
// and makes them anew with the host's own sockets.
//
//	container ── bridge ── TUN ── Stack ── socket of the host ──▶ the world
//
// It answers for every address of the world, so it refuses what the host cannot
// reach: TCP by a reset, the rest by ICMP. That is what the container would
// have got without it.
type Stack struct {
	link      *tun
	stack     *stack.Stack
	way       Way
	flows     flows
	pings     pings
	crossings crossings

	ctx    context.Context
	cancel context.CancelFunc
}

// NewStack starts a stack on a TUN interface that OpenTUN made; the file
// becomes the stack's.
func NewStack(file *os.File, mtu int, way Way) (*Stack, error) {
	s := &Stack{way: way}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	link, err := newTUN(file, uint32(mtu), s.intercept)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot start the embedded stack: %w", err)
	}
	s.link = link
	s.flows.init(s)
	s.pings.init(s)
	s.crossings.init(s.ctx)
	s.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := s.setUp(); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot start the embedded stack: %s", err)
	}
	return s, nil
}

// maxConnecting bounds how many connections are being made at a time.
const maxConnecting = 1024

func (s *Stack) setUp() tcpip.Error {
	s.tune()
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber,
		tcp.NewForwarder(s.stack, 0, maxConnecting, s.forwardTCP).HandlePacket)
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, s.flows.handle)
	if err := s.stack.CreateNIC(nic, s.link); err != nil {
		return err
	}
	// Every address is ours: to receive for, and to send from.
	if err := s.stack.SetPromiscuousMode(nic, true); err != nil {
		return err
	}
	if err := s.stack.SetSpoofing(nic, true); err != nil {
		return err
	}
	s.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	return nil
}

// tune sets what the link is: fast, close and without loss.
func (s *Stack) tune() {
	set := func(o tcpip.SettableTransportProtocolOption) {
		s.stack.SetTransportProtocolOption(tcp.ProtocolNumber, o)
	}
	set(&tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 512 << 10, Max: 4 << 20})
	set(&tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 512 << 10, Max: 4 << 20})
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	set(&moderate)
	sack := tcpip.TCPSACKEnabled(true)
	set(&sack)
	recovery := tcpip.TCPRecovery(0) // without loss, RACK is only its timers
	set(&recovery)
}

// Close ends the stack, its connections and the interface.
func (s *Stack) Close() error {
	s.cancel()
	s.flows.close()
	s.pings.close()
	s.link.Close()
	s.stack.Close()
	s.stack.Wait()
	return nil
}

// Done is closed when the interface has gone.
func (s *Stack) Done() <-chan struct{} { return s.link.done }

// intercept deals with pings; the stack would answer them for the whole world.
func (s *Stack) intercept(packet []byte) bool { return s.pings.intercept(packet) }

// dialTimeout is how long the host has to reach a server.
const dialTimeout = 60 * time.Second

// forwardTCP connects to where a container wants to go, and only then accepts
// the container's connection. The forwarder runs it in a goroutine of its own.
func (s *Stack) forwardTCP(r *tcp.ForwarderRequest) {
	id := r.ID()
	to := addrPort(id.LocalAddress, id.LocalPort)
	if s.way.Serve != nil && s.way.Serve(to) {
		if conn := accept(r); conn != nil {
			s.way.ServeTCP(conn)
		}
		return
	}
	outside, err := s.dial(to)
	if err != nil {
		r.Complete(true)
		return
	}
	inside := accept(r)
	if inside == nil {
		outside.Close()
		return
	}
	ctx, reset := context.WithCancel(s.ctx)
	defer reset()
	local := outside.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	defer s.crossings.add(&crossing{local.WithZone(""), reset})()
	relay.Both(ctx, inside, outside)
}

// dial connects to where a container wants to go. When the host's network changes
// meanwhile, it begins anew: an attempt stays with the address that it began with.
func (s *Stack) dial(to netip.AddrPort) (net.Conn, error) {
	until := time.Now().Add(dialTimeout)
	for {
		network := s.crossings.now()
		target, err := s.way.Target(to)
		if err != nil {
			return nil, err
		}
		ctx, cancel := context.WithDeadline(network, until)
		var dialer net.Dialer
		dialer.SetMultipathTCP(false)
		conn, err := dialer.DialContext(ctx, "tcp", target.String())
		cancel()
		if err == nil || network.Err() == nil || s.ctx.Err() != nil || time.Now().After(until) {
			return conn, err
		}
	}
}

// accept finishes the handshake with the container; nil when it has gone.
func accept(r *tcp.ForwarderRequest) *stream {
	var queue waiter.Queue
	endpoint, err := r.CreateEndpoint(&queue)
	if err != nil {
		r.Complete(true)
		return nil
	}
	r.Complete(false)
	endpoint.SocketOptions().SetDelayOption(false)
	return newStream(gonet.NewTCPConn(&queue, endpoint), endpoint, &queue)
}

// Dial connects to a container from src, any address; network is tcp or udp.
func (s *Stack) Dial(ctx context.Context, network string, src, dst netip.AddrPort) (net.Conn, error) {
	if network == "udp" {
		return s.flows.dial(src, dst)
	}
	number := tcpip.NetworkProtocolNumber(header.IPv4ProtocolNumber)
	if dst.Addr().Is6() {
		number = header.IPv6ProtocolNumber
	}
	conn, err := gonet.DialTCPWithBind(ctx, s.stack, fullAddress(src), fullAddress(dst), number)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s/tcp: %w", dst, err)
	}
	return conn, nil
}

func fullAddress(a netip.AddrPort) tcpip.FullAddress {
	if !a.IsValid() {
		return tcpip.FullAddress{NIC: nic}
	}
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(addr, port)
}
