package hub_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"moss/slirp"
)

// TestTogether connects many containers while nothing runs: one moss-net serves
// them all.
func TestTogether(t *testing.T) {
	endNet()
	const many = 12
	var all []*box
	for range many {
		all = append(all, newBox(t, nil))
	}
	var done sync.WaitGroup
	for _, b := range all {
		done.Go(func() {
			var err error
			b.lease, b.status, err = slirp.Connect(context.Background(), dirs, b.req, b.file)
			if err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if t.Failed() {
		t.FailNow()
	}
	info, err := slirp.Info(context.Background(), dirs)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[netip.Addr]bool{}
	for _, b := range all {
		defer b.lease.Close()
		if seen[b.addr(0)] || seen[b.addr(1)] {
			t.Errorf("%s is given twice", b.addr(0))
		}
		seen[b.addr(0)], seen[b.addr(1)] = true, true
	}
	if len(info.Connected) < many {
		t.Errorf("%d containers are connected", len(info.Connected))
	}
}

// TestIdle sees moss-net end by itself and leave nothing, and start again while
// it is about to end.
func TestIdle(t *testing.T) {
	endNet()
	t.Setenv("MOSS_NET_IDLE", "20ms")
	b := connectedBox(t, nil)
	b.lease.Close()
	info, err := slirp.Info(context.Background(), dirs)
	if err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, info.PID)
	for _, path := range []string{dirs.Socket(), dirs.PIDFile()} {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	// Connections arrive at the moment of the end, one after the other.
	t.Setenv("MOSS_NET_IDLE", "1ms")
	for range 30 {
		b := newBox(t, nil)
		lease, _, err := slirp.Connect(context.Background(), dirs, b.req, b.file)
		if err != nil {
			t.Fatal(err)
		}
		lease.Close()
	}
	endNet()
}

// awaitEnd waits for the end of a process that is nobody's child here.
func awaitEnd(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 5000); n != 1 {
		t.Fatalf("moss-net does not end: %v", err)
	}
}

// TestPing pings the test host from a container, through its user's ping sockets.
func TestPing(t *testing.T) {
	endNet()
	t.Setenv("MOSS_UPLINK", "embedded")
	b := connectedBox(t, nil)
	defer endNet()
	for _, to := range []netip.Addr{hostV4, hostV6} {
		reply, err := b.ping(to)
		if errors.Is(err, unix.EACCES) {
			t.Skip("this container may not ping")
		}
		if err != nil {
			t.Errorf("ping %s: %v", to, err)
			continue
		}
		if want := byte(0); to.Is4() && reply[0] != want || to.Is6() && reply[0] != 129 {
			t.Errorf("ping %s: type %d", to, reply[0])
		}
		if string(reply[8:]) != "payload" {
			t.Errorf("ping %s: %q", to, reply[8:])
		}
	}
}

// ping sends one echo request from inside the box by a raw socket.
func (b *box) ping(to netip.Addr) (reply []byte, err error) {
	network, message := "ip4:icmp", []byte{8, 0, 0, 0, 0x12, 0x34, 0, 1}
	if to.Is6() {
		network, message = "ip6:ipv6-icmp", []byte{128, 0, 0, 0, 0x12, 0x34, 0, 1}
	}
	message = append(message, "payload"...)
	sum := uint32(0)
	for i := 0; i < len(message); i += 2 {
		pair := []byte{message[i], 0}
		if i+1 < len(message) {
			pair[1] = message[i+1]
		}
		sum += uint32(binary.BigEndian.Uint16(pair))
	}
	binary.BigEndian.PutUint16(message[2:], ^uint16(sum+sum>>16)) // IPv6's is the kernel's to compute
	c, err := b.dial(network, to.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if _, err := c.Write(message); err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(3 * time.Second))
	for reply = make([]byte, 1500); ; {
		n, _, err := c.(*net.IPConn).ReadFrom(reply) // unlike Read, without the IP header
		if err != nil {
			return nil, err
		}
		if reply[0] == 0 || reply[0] == 129 {
			return reply[:n], nil
		}
	}
}

// TestRefusedDatagram sends to a port where nobody listens: the sender is told.
func TestRefusedDatagram(t *testing.T) {
	endNet()
	t.Setenv("MOSS_UPLINK", "embedded")
	b := connectedBox(t, nil)
	defer endNet()
	for _, to := range []netip.Addr{hostV4, hostV6} {
		c, err := b.dial("udp", netip.AddrPortFrom(to, 9).String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Write([]byte("anybody?"))
		c.SetReadDeadline(time.Now().Add(3 * time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v", to, err)
		}
	}
}

// TestIsolated has two networks: no packet passes from one to the other, and
// none out of an internal one.
func TestIsolated(t *testing.T) {
	for name, n := range map[string]slirp.Network{
		"other": {Bridge: "moss7", Subnets: []slirp.Subnet{subnet("10.77.0.0/24"), subnet("fd77::/64")}},
		"inner": {Bridge: "moss8", Subnets: []slirp.Subnet{subnet("10.78.0.0/24")}, Internal: true},
	} {
		n.Name, n.Driver, n.DNS = name, "bridge", true
		if err := slirp.Save(dirs, &n); err != nil {
			t.Fatal(err)
		}
	}
	on := func(network string) *box {
		b := connectedBox(t, func(r *slirp.ConnectRequest) { r.Attachments[0].Network = network })
		b.listen("tcp", ":80")
		return b
	}
	one, other, inner := on("moss"), on("other"), on("inner")
	both := connectedBox(t, func(r *slirp.ConnectRequest) {
		r.Attachments = append(r.Attachments, slirp.Attachment{Network: "inner", Interface: "eth1"})
	})
	for _, c := range []struct {
		from, to *box
		reached  bool
	}{{one, other, false}, {other, one, false}, {one, inner, false}, {inner, one, false}, {both, one, true}, {both, inner, true}} {
		conn, err := c.from.dial("tcp", netip.AddrPortFrom(c.to.addr(0), 80).String())
		if (err == nil) != c.reached {
			t.Errorf("from %v to %v: %v", c.from.addr(0), c.to.addr(0), err)
		}
		if err == nil {
			conn.Close()
		}
	}
	outside := hostServer(t, "tcp", "192.0.2.2:0")
	if conn, err := inner.dial("tcp", outside); err == nil {
		conn.Close()
		t.Error("an internal network reaches the outside")
	}
	if conn, err := other.dial("tcp", outside); err != nil {
		t.Error(err)
	} else {
		told(t, conn)
	}
	if _, err := net.DialTimeout("tcp", netip.AddrPortFrom(one.addr(0), 80).String(), 300*time.Millisecond); err == nil {
		t.Error("the host reaches a container without a published port")
	}
}

func subnet(prefix string) slirp.Subnet {
	p := netip.MustParsePrefix(prefix)
	return slirp.Subnet{Prefix: p, Gateway: p.Addr().Next()}
}

// TestBadRequests asks for what cannot be.
func TestBadRequests(t *testing.T) {
	for name, change := range map[string]func(*slirp.ConnectRequest){
		"network": func(r *slirp.ConnectRequest) { r.Attachments[0].Network = "nowhere" },
		"address": func(r *slirp.ConnectRequest) {
			r.Attachments[0].IPs = []netip.Addr{netip.MustParseAddr("192.168.200.1")}
		},
		"mac":    func(r *slirp.ConnectRequest) { r.Attachments[0].MAC = "zz" },
		"mode":   func(r *slirp.ConnectRequest) { r.Mode = "bogus" },
		"driver": func(r *slirp.ConnectRequest) { r.Mode, r.Attachments = "private:bogus", nil },
		"proto":  func(r *slirp.ConnectRequest) { r.Ports = []slirp.Port{{Proto: "sctp", ContainerPort: 80}} },
		"range": func(r *slirp.ConnectRequest) {
			r.Ports = []slirp.Port{{Proto: "tcp", HostPort: 65530, ContainerPort: 80, Count: 10}}
		},
		"id": func(r *slirp.ConnectRequest) { r.Container = "../x" },
	} {
		b := newBox(t, change)
		lease, _, err := slirp.Connect(context.Background(), dirs, b.req, b.file)
		if err == nil {
			lease.Close()
			t.Errorf("%s: accepted", name)
			continue
		}
		t.Log(err)
	}
}
