package port

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"moss/slirp"
)

// TestLeadEndsTCP: a connection to a place that is no more when it is made ends, too.
func TestLeadEndsTCP(t *testing.T) {
	dialed, moved := make(chan struct{}), make(chan struct{})
	ours, theirs := net.Pipe()
	defer theirs.Close()
	slow := Target{Addrs: addrs("10.1.0.5"), Dial: func(context.Context, string, netip.AddrPort, netip.AddrPort) (net.Conn, error) {
		close(dialed)
		<-moved
		return ours, nil
	}}
	p, at := published(t, "tcp", slow)
	client, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	<-dialed
	p.Lead(Target{Addrs: addrs("10.1.0.6")})
	close(moved)
	client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := client.Read(make([]byte, 1)); timedOut(err) {
		t.Error("a connection to the place before goes on")
	}
}

// TestLeadEndsUDP: a client's datagrams go to the new place, and its session with the place
// before ends.
func TestLeadEndsUDP(t *testing.T) {
	place := func() (Target, net.PacketConn) {
		server, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { server.Close() })
		server.SetReadDeadline(time.Now().Add(10 * time.Second))
		return Target{Addrs: addrs("10.1.0.5"), Dial: func(context.Context, string, netip.AddrPort, netip.AddrPort) (net.Conn, error) {
			return net.Dial("udp4", server.LocalAddr().String())
		}}, server
	}
	first, server := place()
	second, next := place()
	dial, sessions := first.Dial, make(chan net.Conn, 1)
	first.Dial = func(ctx context.Context, network string, src, dst netip.AddrPort) (net.Conn, error) {
		c, err := dial(ctx, network, src, dst)
		sessions <- c
		return c, err
	}
	p, at := published(t, "udp", first)
	client, err := net.Dial("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, s := range []net.PacketConn{server, next} {
		io.WriteString(client, "ping")
		if _, _, err := s.ReadFrom(make([]byte, 8)); err != nil {
			t.Fatalf("a datagram has not come to its place: %v", err)
		}
		p.Lead(second)
	}
	old := <-sessions
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := old.Write(nil); err != nil {
			break // closed
		}
		if time.Now().After(end) {
			t.Fatal("the session with the place before goes on")
		}
	}
}

func published(t *testing.T, proto string, to Target) (*Published, string) {
	host := netip.MustParseAddr("127.0.0.1")
	p, err := Publish([]slirp.Port{{Proto: proto, HostIP: host, ContainerPort: 80}}, to, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p, netip.AddrPortFrom(host, p.Ports[0].HostPort).String()
}

func timedOut(err error) bool {
	e, ok := err.(net.Error)
	return ok && e.Timeout()
}
