package port

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"moss/slirp"
)

func addrs(texts ...string) (all []netip.Addr) {
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}

func TestDestination(t *testing.T) {
	target := Target{Addrs: addrs("10.1.0.5", "fd01::5"), Gateways: addrs("10.1.0.1", "fd01::1"),
		Subnets: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd01::/64")}}
	only4 := target
	only4.Addrs = addrs("10.1.0.5")
	for _, c := range []struct {
		target              Target
		client              string
		source, destination string
	}{
		{target, "203.0.113.9:4000", "203.0.113.9:4000", "10.1.0.5:80"},
		{target, "[2001:db8::9]:4000", "[2001:db8::9]:4000", "[fd01::5]:80"},
		{target, "[::ffff:203.0.113.9]:4000", "203.0.113.9:4000", "10.1.0.5:80"},
		{target, "127.0.0.1:4000", "10.1.0.1:0", "10.1.0.5:80"},
		{target, "[::1]:4000", "[fd01::1]:0", "[fd01::5]:80"},
		{target, "[fe80::9]:4000", "[fd01::1]:0", "[fd01::5]:80"},
		{target, "10.1.0.9:4000", "10.1.0.1:0", "10.1.0.5:80"}, // the host's own, not the container's neighbour
		{only4, "[2001:db8::9]:4000", "10.1.0.1:0", "10.1.0.5:80"},
	} {
		src, dst, err := c.target.Destination(netip.MustParseAddrPort(c.client), 80)
		if err != nil || src.String() != c.source || dst.String() != c.destination {
			t.Errorf("%s: from %s to %s, %v", c.client, src, dst, err)
		}
	}
}

// TestRange publishes a range on free ports: they follow each other, and each
// leads to its own container port.
func TestRange(t *testing.T) {
	asked := make(chan netip.AddrPort, 8)
	target := Target{Addrs: addrs("10.1.0.5"), Dial: func(_ context.Context, _ string, _, dst netip.AddrPort) (net.Conn, error) {
		asked <- dst
		return nil, net.ErrClosed
	}}
	p, err := Publish([]slirp.Port{{Proto: "tcp", HostIP: netip.MustParseAddr("127.0.0.1"), ContainerPort: 7000, Count: 4}}, target, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for i := range uint16(4) {
		c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), p.Ports[0].HostPort+i).String())
		if err == nil { // it may have been reset already
			c.Close()
		}
		if got := <-asked; got.Port() != 7000+i {
			t.Errorf("port %d of the range leads to %s", i, got)
		}
	}
}

// TestAllOrNothing leaves no port open when one of them cannot be.
func TestAllOrNothing(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	number := func(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }
	free.Close()
	host := netip.MustParseAddr("127.0.0.1")
	_, err = Publish([]slirp.Port{
		{Proto: "tcp", HostIP: host, HostPort: number(free), ContainerPort: 80},
		{Proto: "tcp", HostIP: host, HostPort: number(l), ContainerPort: 81},
	}, Target{}, Options{})
	if err == nil {
		t.Fatal("a port was published twice")
	}
	again, err := net.Listen("tcp4", free.Addr().String())
	if err != nil {
		t.Fatalf("the other port is still open: %v", err)
	}
	again.Close()
}
