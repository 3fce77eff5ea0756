package hub_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"moss/slirp"
	"moss/slirp/namespace"
)

// The tests run in three worlds, as moss does: the machine that runs them; a
// "host" made for them, a user and network namespace with two addresses; and a
// "user's namespace" in it, without any right over that host's network.
//
//	go test ── stage 1: user + network namespace, "wan" ── stage 2: user + mount namespace, the tests
const stageVariable = "MOSS_TEST_STAGE"

// The addresses of the test host.
var (
	hostV4 = netip.MustParseAddr("192.0.2.2")
	hostV6 = netip.MustParseAddr("2001:db8:1::2")
)

var dirs slirp.Dirs

func TestMain(m *testing.M) {
	code, err := stage(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test host:", err)
		code = 1
	}
	os.Exit(code)
}

func stage(m *testing.M) (int, error) {
	switch os.Getenv(stageVariable) {
	case "":
		dir, err := os.MkdirTemp("", "mn")
		if err != nil {
			return 1, err
		}
		defer os.RemoveAll(dir)
		if os.Getenv("MOSS_TEST_NET") == "" {
			os.Setenv("MOSS_TEST_NET", filepath.Join(dir, "moss-net"))
			if err := build(filepath.Join(dir, "moss-net")); err != nil {
				return 1, err
			}
		}
		os.Setenv("MOSS_TEST_DIR", dir)
		code := nextStage("1", unix.CLONE_NEWUSER|unix.CLONE_NEWNET|unix.CLONE_NEWNS)
		if log, err := os.ReadFile(filepath.Join(dir, "run", "moss-net.log")); err == nil && code != 0 {
			fmt.Printf("moss-net.log:\n%s", log)
		}
		return code, nil
	case "1":
		if err := makeHost(); err != nil {
			return 1, err
		}
		return nextStage("2", unix.CLONE_NEWUSER|unix.CLONE_NEWNS), nil
	}
	dir := os.Getenv("MOSS_TEST_DIR")
	dirs = slirp.Dirs{Run: filepath.Join(dir, "run"), Networks: filepath.Join(dir, "networks"),
		Program: os.Getenv("MOSS_TEST_NET")}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 1, err
	}
	if err := useResolvConf(dir); err != nil {
		return 1, err
	}
	code := m.Run()
	endNet()
	return code, nil
}

// build makes moss-net; MOSS_TEST_NET names one that is there already.
func build(path string) error {
	cmd := exec.Command("go", "build", "-o", path, "moss/cmd/moss-net")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// nextStage runs this program again in new namespaces, as root there.
func nextStage(name string, flags uintptr) int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVariable+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}}
	err := cmd.Run()
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "test host:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

// makeHost gives the test host its addresses and lets its user ping and have
// the resolver's port.
func makeHost() error {
	// A bridge without ports swallows what it is sent, like a dummy interface,
	// which some kernels lack.
	wan := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "wan"}}
	if err := netlink.LinkAdd(wan); err != nil {
		return err
	}
	for _, a := range []string{hostV4.String() + "/24", hostV6.String() + "/64"} {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD
		if strings.Contains(a, ".") {
			addr.Flags = 0
		}
		if err := netlink.AddrAdd(wan, addr); err != nil {
			return err
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	for _, l := range []netlink.Link{lo, wan} {
		if err := netlink.LinkSetUp(l); err != nil {
			return err
		}
	}
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		all := &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if family == unix.AF_INET6 {
			all = &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: wan.Attrs().Index, Dst: all}); err != nil {
			return err
		}
	}
	if err := namespace.Sysctl("ipv4/ping_group_range", "0 0"); err != nil {
		return err
	}
	return namespace.Sysctl("ipv4/ip_unprivileged_port_start", "53")
}

var resolvConf string

func useResolvConf(dir string) error {
	resolvConf = filepath.Join(dir, "resolv.conf")
	if err := os.WriteFile(resolvConf, []byte("nameserver 127.0.0.53\nsearch example.test\n"), 0o644); err != nil {
		return err
	}
	target, err := filepath.EvalSymlinks("/etc/resolv.conf")
	if err != nil {
		return err
	}
	return unix.Mount(resolvConf, target, "", unix.MS_BIND, "")
}

// endNet ends moss-net; the namespaces go with the tests.
func endNet() {
	if info, err := slirp.Info(context.Background(), dirs); err == nil {
		syscall.Kill(info.PID, syscall.SIGKILL)
	}
}

// box is a container: a network namespace with a thread in it.
type box struct {
	t      *testing.T
	thread *namespace.Thread
	file   *os.File
	lease  *slirp.Lease
	status *slirp.Status
	req    slirp.ConnectRequest
}

var boxes atomic.Uint64

// newBox makes a namespace; change completes the request.
func newBox(t *testing.T, change func(*slirp.ConnectRequest)) *box {
	t.Helper()
	n := boxes.Add(1)
	b := &box{t: t, req: slirp.ConnectRequest{
		Container: fmt.Sprintf("%012x%052x", n*7919, n), Name: fmt.Sprintf("box%d", n), Mode: "bridge",
		Attachments: []slirp.Attachment{{Network: "moss", Interface: "eth0"}}}}
	if change != nil {
		change(&b.req)
	}
	b.unshare()
	t.Cleanup(func() { b.file.Close(); b.thread.Close() })
	return b
}

// connectedBox makes a namespace and connects it.
func connectedBox(t *testing.T, change func(*slirp.ConnectRequest)) *box {
	t.Helper()
	b := newBox(t, change)
	b.connect()
	return b
}

func (b *box) unshare() {
	b.t.Helper()
	made := make(chan *os.File, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			b.t.Error(err)
		}
		f, _ := os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		made <- f
	}()
	b.file = <-made
	dup, err := unix.Dup(int(b.file.Fd()))
	if err != nil {
		b.t.Fatal(err)
	}
	if b.thread, err = namespace.Enter(os.NewFile(uintptr(dup), "netns")); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) connect() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var err error
	b.lease, b.status, err = slirp.Connect(ctx, dirs, b.req, b.file)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.lease.Close() })
}

// end closes the lease and waits until moss-net has undone it.
func (b *box) end() {
	b.t.Helper()
	b.lease.Close()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		info, err := slirp.Info(context.Background(), dirs)
		if err != nil {
			b.t.Fatal(err)
		}
		if !slices.ContainsFunc(info.Connected, func(c slirp.Connected) bool { return c.Container == b.req.Container }) {
			return
		}
	}
	b.t.Fatal("the lease does not end")
}

func (b *box) addr(i int) netip.Addr { return b.status.Interfaces[0].IPs[i].Addr() }

// dial connects from inside the box.
func (b *box) dial(network, to string) (c net.Conn, err error) {
	err = b.thread.Do(func() error {
		c, err = net.DialTimeout(network, to, 5*time.Second)
		return err
	})
	return c, err
}

// listen serves connections inside the box: each is told who it is.
func (b *box) listen(network, at string) {
	b.t.Helper()
	var l net.Listener
	err := b.thread.Do(func() (err error) { l, err = net.Listen(network, at); return err })
	if err != nil {
		b.t.Fatal(err)
	}
	tellPeers(b.t, l)
}

// listenUDP answers datagrams inside the box with their sender's address.
func (b *box) listenUDP(network, at string) {
	b.t.Helper()
	var c net.PacketConn
	err := b.thread.Do(func() (err error) { c, err = net.ListenPacket(network, at); return err })
	if err != nil {
		b.t.Fatal(err)
	}
	tellSenders(b.t, c)
}

// tellPeers sends each client a line with its address, then what it says back.
func tellPeers(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%s\n", c.RemoteAddr())
				io.Copy(c, c)
			}()
		}
	}()
}

func tellSenders(t *testing.T, c net.PacketConn) {
	t.Cleanup(func() { c.Close() })
	go func() {
		buffer := make([]byte, 65535)
		for {
			_, from, err := c.ReadFrom(buffer)
			if err != nil {
				return
			}
			c.WriteTo([]byte(from.String()+"\n"), from)
		}
	}()
}

// told reads the line of tellPeers or tellSenders, and checks the echo of TCP.
func told(t *testing.T, c net.Conn) netip.AddrPort {
	t.Helper()
	defer c.Close()
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
		if rest, err := io.ReadAll(r); err != nil || string(rest) != "hello" {
			t.Fatalf("echo: %q, %v", rest, err)
		}
	}
	a, err := netip.ParseAddrPort(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// hostServer listens on the test host.
func hostServer(t *testing.T, network, at string) string {
	t.Helper()
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, at)
		if err != nil {
			t.Fatal(err)
		}
		tellSenders(t, c)
		return c.LocalAddr().String()
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	tellPeers(t, l)
	return l.Addr().String()
}
