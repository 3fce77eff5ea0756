package hub_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"moss/slirp"
)

// eachUplink runs a test with every uplink that this machine has.
func eachUplink(t *testing.T, test func(t *testing.T, kind string)) {
	for _, kind := range []string{"embedded", "slirp4netns", "pasta"} {
		t.Run(kind, func(t *testing.T) {
			if kind == "pasta" {
				t.Skip("pasta of this machine is not recent enough")
			}
			if _, err := exec.LookPath(kind); kind != "embedded" && err != nil {
				t.Skip(err)
			}
			endNet()
			t.Setenv("MOSS_UPLINK", kind)
			test(t, kind)
			endNet()
		})
	}
}

func TestOutside(t *testing.T) {
	eachUplink(t, func(t *testing.T, kind string) {
		b := connectedBox(t, nil)
		if b.status.Uplink != kind {
			t.Fatalf("uplink is %q", b.status.Uplink)
		}
		for _, host := range []netip.Addr{hostV4, hostV6} {
			at := netip.AddrPortFrom(host, 0).String()
			for _, network := range []string{"tcp", "udp"} {
				c, err := b.dial(network, hostServer(t, network, at))
				if err != nil {
					t.Errorf("%s %s: %v", network, host, err)
					continue
				}
				if from := told(t, c); from.Addr() != host {
					t.Errorf("%s %s: the server saw %s", network, host, from)
				}
			}
			if _, err := b.dial("tcp", netip.AddrPortFrom(host, 9).String()); err == nil || !strings.Contains(err.Error(), "refused") {
				t.Errorf("closed port of %s: %v", host, err)
			}
		}
	})
}

func TestHostGateway(t *testing.T) {
	eachUplink(t, func(t *testing.T, kind string) {
		b := connectedBox(t, nil)
		for i, host := range []netip.Addr{hostV4, hostV6} {
			_, port, _ := net.SplitHostPort(hostServer(t, "tcp", netip.AddrPortFrom(host, 0).String()))
			c, err := b.dial("tcp", net.JoinHostPort(b.status.HostGateway[i].String(), port))
			if err != nil {
				t.Errorf("%s: %v", host, err)
				continue
			}
			told(t, c)
		}
		_, port, _ := net.SplitHostPort(hostServer(t, "tcp", "127.0.0.1:0"))
		gates := []string{b.status.HostGateway[0].String(), b.status.Interfaces[0].Gateway[0].String()}
		if kind == "slirp4netns" {
			gates = append(gates, "10.0.2.2") // its own name for the host
		}
		for _, to := range gates {
			if c, err := b.dial("tcp", net.JoinHostPort(to, port)); err == nil {
				c.Close()
				t.Errorf("the host's loopback is reached at %s", to)
			}
		}
	})
}

func TestPublished(t *testing.T) {
	eachUplink(t, func(t *testing.T, kind string) {
		b := connectedBox(t, func(r *slirp.ConnectRequest) {
			r.Ports = []slirp.Port{{Proto: "tcp", ContainerPort: 80}, {Proto: "udp", ContainerPort: 80}}
		})
		b.listen("tcp", ":80")
		b.listenUDP("udp", ":80")
		for i, p := range b.status.Ports {
			for _, host := range []netip.Addr{hostV4, hostV6, netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()} {
				c, err := net.Dial(p.Proto, netip.AddrPortFrom(host, p.HostPort).String())
				if err != nil {
					t.Fatal(err)
				}
				own, _ := netip.ParseAddrPort(c.LocalAddr().String())
				seen := told(t, c)
				want := own
				if host.IsLoopback() {
					want = netip.AddrPortFrom(b.status.Interfaces[0].Gateway[boolInt(host.Is6())], seen.Port())
				}
				if seen != want {
					t.Errorf("port %d of %s/%s: the container saw %s, not %s", i, host, p.Proto, seen, want)
				}
			}
		}
	})
}

// TestHairpin reaches a container's published port from the container itself and
// from its neighbour, by the host's address.
func TestHairpin(t *testing.T) {
	eachUplink(t, func(t *testing.T, kind string) {
		b := connectedBox(t, func(r *slirp.ConnectRequest) { r.Ports = []slirp.Port{{Proto: "tcp", ContainerPort: 80}} })
		b.listen("tcp", ":80")
		for _, from := range []*box{b, connectedBox(t, nil)} {
			for _, host := range []netip.Addr{hostV4, hostV6, b.status.HostGateway[0]} {
				c, err := from.dial("tcp", netip.AddrPortFrom(host, b.status.Ports[0].HostPort).String())
				if err != nil {
					t.Errorf("%s: %v", host, err)
					continue
				}
				told(t, c)
			}
		}
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestPortConflict(t *testing.T) {
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := uint16(l.Addr().(*net.TCPAddr).Port)
	for _, c := range []struct {
		port uint16
		want string
	}{
		{taken, fmt.Sprintf("cannot publish port %d/tcp: address already in use", taken)},
		{52, "net.ipv4.ip_unprivileged_port_start=52"},
	} {
		b := newBox(t, func(r *slirp.ConnectRequest) {
			r.Ports = []slirp.Port{{Proto: "tcp", ContainerPort: 81}, {Proto: "tcp", HostPort: c.port, ContainerPort: 80}}
		})
		_, _, err := slirp.Connect(context.Background(), dirs, b.req, b.file)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func TestNeighbours(t *testing.T) {
	a, b := connectedBox(t, nil), connectedBox(t, nil)
	a.listen("tcp", ":8080")
	for i := range 2 {
		c, err := b.dial("tcp", netip.AddrPortFrom(a.addr(i), 8080).String())
		if err != nil {
			t.Fatal(err)
		}
		if from := told(t, c); from.Addr() != b.addr(i) {
			t.Errorf("saw %s, not %s", from, b.addr(i))
		}
	}
	if slices.Equal(a.status.Interfaces[0].IPs, b.status.Interfaces[0].IPs) {
		t.Error("one address for two")
	}
}

// TestKilled kills moss-net under a container: connected again, it has its
// addresses, its ports and its way out back.
func TestKilled(t *testing.T) {
	b := connectedBox(t, func(r *slirp.ConnectRequest) {
		r.Ports = []slirp.Port{{Proto: "tcp", ContainerPort: 80}}
	})
	b.listen("tcp", ":80")
	before := b.status
	b.req.Ports[0].HostPort = before.Ports[0].HostPort
	endNet()
	fds := []unix.PollFd{{Fd: int32(b.lease.Fd()), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 5000); n != 1 || err != nil {
		t.Fatalf("the lease does not tell: %d, %v", n, err)
	}
	other := connectedBox(t, nil) // starts moss-net again, and gets another address
	b.lease.Close()
	b.connect()
	if !slices.Equal(before.Interfaces[0].IPs, b.status.Interfaces[0].IPs) {
		t.Errorf("addresses were %v and are %v", before.Interfaces[0].IPs, b.status.Interfaces[0].IPs)
	}
	if other.addr(0) == b.addr(0) {
		t.Error("the address was given away")
	}
	c, err := net.Dial("tcp", netip.AddrPortFrom(hostV4, b.status.Ports[0].HostPort).String())
	if err != nil {
		t.Fatal(err)
	}
	told(t, c)
	if c, err = b.dial("tcp", hostServer(t, "tcp", "192.0.2.2:0")); err != nil {
		t.Fatal(err)
	}
	told(t, c)
}

func TestPrivate(t *testing.T) {
	for _, kind := range []string{"embedded", "slirp4netns"} {
		t.Run(kind, func(t *testing.T) {
			if _, err := exec.LookPath(kind); kind != "embedded" && err != nil {
				t.Skip(err)
			}
			b := connectedBox(t, func(r *slirp.ConnectRequest) {
				r.Mode, r.Attachments = "private:"+kind, nil
				r.Ports = []slirp.Port{{Proto: "tcp", ContainerPort: 80}, {Proto: "udp", ContainerPort: 80}}
			})
			c, err := b.dial("tcp", hostServer(t, "tcp", "192.0.2.2:0"))
			if err != nil {
				t.Fatal(err)
			}
			told(t, c)
			b.listen("tcp", ":80")
			b.listenUDP("udp", ":80")
			for _, p := range b.status.Ports {
				c, err := net.Dial(p.Proto, netip.AddrPortFrom(hostV4, p.HostPort).String())
				if err != nil {
					t.Fatal(err)
				}
				own := c.LocalAddr().String()
				if seen := told(t, c); kind == "embedded" && seen.String() != own {
					t.Errorf("the container saw %s, not %s", seen, own)
				}
			}
		})
	}
}

// TestOutlived ends a lease under a living container, as a killed monitor does:
// nobody else gets its address.
func TestOutlived(t *testing.T) {
	// One address: 10.79.0.2.
	n := &slirp.Network{Name: "small", Driver: "bridge", Bridge: "moss9", Subnets: []slirp.Subnet{subnet("10.79.0.0/30")}}
	if err := slirp.Save(dirs, n); err != nil {
		t.Fatal(err)
	}
	onSmall := func(r *slirp.ConnectRequest) { r.Attachments[0].Network = "small" }
	b := connectedBox(t, onSmall)
	b.end()
	for range 2 {
		other := newBox(t, onSmall)
		lease, status, err := slirp.Connect(context.Background(), dirs, other.req, other.file)
		if err == nil {
			lease.Close()
			t.Fatalf("%v is given to another", status.Interfaces[0].IPs)
		}
		endNet() // the next one has to remember
	}
	b.connect()
	if b.addr(0) != netip.MustParseAddr("10.79.0.2") {
		t.Errorf("it came back as %v", b.addr(0))
	}
}

// TestAgain starts a container again while its old namespace still goes down.
func TestAgain(t *testing.T) {
	b := connectedBox(t, func(r *slirp.ConnectRequest) { r.Ports = []slirp.Port{{Proto: "tcp", ContainerPort: 80}} })
	b.req.Ports[0].HostPort = b.status.Ports[0].HostPort
	for range 5 {
		b.lease.Close()
		b.unshare()
		b.connect()
		b.listen("tcp", ":80")
		c, err := net.Dial("tcp", netip.AddrPortFrom(hostV4, b.req.Ports[0].HostPort).String())
		if err != nil {
			t.Fatal(err)
		}
		told(t, c)
	}
}

// TestLatency measures what the start of a container waits for.
func TestLatency(t *testing.T) {
	connectedBox(t, nil)
	var took []time.Duration
	for range 30 {
		b := newBox(t, nil)
		begin := time.Now()
		b.connect()
		took = append(took, time.Since(begin))
		b.lease.Close()
	}
	slices.Sort(took)
	t.Logf("connect: median %v, least %v, most %v", took[15], took[0], took[29])
}
