package dns

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// upstream answers questions at an address of the loopback interface, if handle says
// what; port 0 is any.
func upstream(tb testing.TB, ip string, port uint16, handle func(*dns.Msg) *dns.Msg) uint16 {
	tb.Helper()
	socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(ip), port)))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { socket.Close() })
	go func() {
		buffer := make([]byte, 4096)
		for {
			n, client, err := socket.ReadFromUDPAddrPort(buffer)
			if err != nil {
				return
			}
			m := new(dns.Msg)
			if m.Unpack(buffer[:n]) != nil {
				continue
			}
			if m = handle(m); m == nil {
				continue
			}
			if packed, err := m.Pack(); err == nil {
				socket.WriteToUDPAddrPort(packed, client)
			}
		}
	}()
	return socket.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

// one answers with an address.
func one(m *dns.Msg) *dns.Msg {
	m.Response = true
	m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(192, 0, 2, 1)}}
	return m
}

// served is a server on a socket of the loopback interface, of which 127.0.0.1 is a
// member; port is that of the servers in conf.
func served(tb testing.TB, conf string, port uint16) (*Server, string) {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "resolv.conf")
	if err := os.WriteFile(path, []byte(conf), 0o600); err != nil {
		tb.Fatal(err)
	}
	names := NewNames(nil, nil)
	names.Add(Member{Container: "c", Forward: true, Networks: []Membership{{Network: "web",
		Subnets: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Names: []string{"web"}}}})
	s := NewServer(names, &Conf{Path: path})
	s.port = port
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { socket.Close() })
	go s.ServeUDP(socket)
	return s, socket.LocalAddr().String()
}

func benchmark(b *testing.B, name string) {
	_, at := served(b, "nameserver 127.0.0.1\n", upstream(b, "127.0.0.1", 0, one))
	var m dns.Msg
	m.SetQuestion(name, dns.TypeA)
	query, err := m.Pack()
	if err != nil {
		b.Fatal(err)
	}
	var lost atomic.Int64
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("udp", at)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		query, answer := append([]byte(nil), query...), make([]byte, 4096)
		for id := uint16(0); pb.Next(); id++ {
			binary.BigEndian.PutUint16(query, id)
			conn.Write(query)
			conn.SetReadDeadline(time.Now().Add(time.Second))
			if n, err := conn.Read(answer); err != nil || n < 12 || binary.BigEndian.Uint16(answer) != id || binary.BigEndian.Uint16(answer[6:]) != 1 {
				lost.Add(1)
			}
		}
	})
	if lost.Load() > 0 {
		b.Errorf("%d of %d got no answer, or a wrong one", lost.Load(), b.N)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "queries/s")
}

func BenchmarkLocal(b *testing.B)   { benchmark(b, "web.") }
func BenchmarkForward(b *testing.B) { benchmark(b, "www.example.") }
