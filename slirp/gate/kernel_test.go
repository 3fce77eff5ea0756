package gate

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"moss/slirp"
)

// The tests run in a user and network namespace of their own.
const stageVariable = "MOSS_TEST_STAGE"

// refused is why there is none.
var refused error

func TestMain(m *testing.M) {
	if os.Getenv(stageVariable) != "" {
		if err := netlink.LinkSetUp(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Index: 1}}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), stageVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}}
	if refused = cmd.Run(); cmd.ProcessState == nil {
		os.Exit(m.Run()) // those that need none
	}
	os.Exit(cmd.ProcessState.ExitCode())
}

const container = "0123456789abcdef"

// kernel is a guard whose work in the namespace fails while broken is set.
type kernel struct {
	*testing.T
	*Guard
	broken error
}

func newKernel(t *testing.T) *kernel {
	t.Helper()
	if os.Getenv(stageVariable) == "" {
		t.Skipf("no namespaces here: %v", refused)
	}
	k := &kernel{T: t}
	do := func(f func() error) error {
		if k.broken != nil {
			return k.broken
		}
		return f()
	}
	var err error
	if k.Guard, err = NewGuard(do, "up0", false, log.New(io.Discard, "", 0)); err != nil {
		t.Fatal(err)
	}
	if err := k.begin(); err != nil {
		t.Skipf("no nftables here: %v", err)
	}
	t.Cleanup(func() {
		k.broken = nil
		if err := k.Forget(container); err != nil {
			t.Error(err)
		}
		k.Close()
	})
	return k
}

func rulesOf(t *testing.T, entries ...string) Rules {
	t.Helper()
	list, err := slirp.ParseAllowList(entries)
	if err != nil {
		t.Fatal(err)
	}
	return Rules{Container: container, List: list, Addrs: []netip.Addr{netip.MustParseAddr("10.0.3.100"), netip.MustParseAddr("fd00::64")}}
}

// within fails if f takes longer than any conversation with the kernel.
func (k *kernel) within(f func() error) error {
	k.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(15 * time.Second):
		k.Fatal("it hangs")
		return nil
	}
}

func (k *kernel) open(entries ...string) *Gate {
	k.Helper()
	var g *Gate
	err := k.within(func() (err error) { g, err = k.Open(rulesOf(k.T, entries...)); return err })
	if err != nil {
		k.Fatal(err)
	}
	return g
}

// has is the kernel's own count of a set's elements; -1 without the set.
func (k *kernel) has(set string) int {
	k.Helper()
	c, err := nftables.New()
	if err != nil {
		k.Fatal(err)
	}
	elements, err := c.GetSetElements(&nftables.Set{Table: tablesOf(short(container))[0], Name: set})
	if err != nil {
		return -1
	}
	return len(elements)
}

func (k *kernel) want(set string, n int) {
	k.Helper()
	if got := k.has(set); got != n {
		k.Errorf("set %s has %d elements, want %d", set, got, n)
	}
}

func (k *kernel) tables() int {
	k.Helper()
	c, err := nftables.New()
	if err != nil {
		k.Fatal(err)
	}
	list, err := c.ListTables()
	if err != nil {
		k.Fatal(err)
	}
	return len(list)
}

// manyRecords are address records of a name, of IPv6 ones when v6.
func manyRecords(n int, v6 bool) (records []string) {
	for i := range n {
		if v6 {
			records = append(records, fmt.Sprintf("good.example. 60 AAAA 2001:db8::%x", i+1))
		} else {
			records = append(records, fmt.Sprintf("good.example. 60 A 192.1.%d.%d", i/250, i%250+1))
		}
	}
	return records
}

// TestLongList has hundreds of entries, at one service and at as many.
func TestLongList(t *testing.T) {
	k := newKernel(t)
	var same, other []string
	for i := range 300 {
		same = append(same, fmt.Sprintf("10.%d.%d.2:443", i/250, i%250), fmt.Sprintf("[fd01::%x]:443", 2*i))
		other = append(other, fmt.Sprintf("n%d.example:%d", i, 1000+i), fmt.Sprintf("10.%d.%d.2:%d", i/250, i%250, 1000+i))
	}
	g := k.open(same...)
	k.want("4-tcp-443-443-fixed", 600)
	k.want("6-tcp-443-443-fixed", 600)
	for _, entries := range [][]string{other, same} {
		if err := k.within(func() error { return g.Set(rulesOf(t, entries...)) }); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.within(func() error { return g.Set(rulesOf(t, other...)) }); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		k.want(fmt.Sprintf("4-tcp-%d-%[1]d-fixed", 1000+i), 2)
		k.want(fmt.Sprintf("6-tcp-%d-%[1]d", 1000+i), 0)
	}
}

// TestLongAnswer is given hundreds of addresses in one answer, opens a bounded number,
// and closes them.
func TestLongAnswer(t *testing.T) {
	k := newKernel(t)
	g := k.open("good.example:443", "good.example:80", "good.example:1/udp")
	answered := func(n int, v6 bool) {
		t.Helper()
		if err := k.within(func() error { return g.Answered("good.example", answerOf(t, manyRecords(n, v6)...)) }); err != nil {
			t.Fatal(err)
		}
	}
	answered(300, false)
	k.want("4-tcp-443-443", 300)
	k.want("4-udp-1-1", 300)
	answered(3000, true)
	k.want("6-tcp-80-80", maxAnswer)
	for _, l := range g.learned {
		l.until = time.Time{}
	}
	k.within(func() error { g.expire(); return nil })
	k.want("4-tcp-443-443", 0)
	k.want("6-tcp-80-80", 0)
}

// TestManyOpen writes more addresses than one message or one transaction takes.
func TestManyOpen(t *testing.T) {
	k := newKernel(t)
	g := k.open("good.example:443")
	var a netip.Addr
	for a = netip.MustParseAddr("2001:db8::1"); len(g.learned) < maxOpenings; a = a.Next() {
		g.learned[opening{service{"tcp", 443, 443}, a}] = &lesson{names: []string{"good.example"}, until: time.Now().Add(time.Hour)}
	}
	if err := k.within(func() error { return g.Set(rulesOf(t, "good.example:443", "10.0.0.1")) }); err != nil {
		t.Fatal(err)
	}
	k.want("6-tcp-443-443", maxOpenings)
	for _, l := range g.learned {
		l.until = time.Time{}
	}
	k.within(func() error { g.expire(); return nil })
	k.want("6-tcp-443-443", 0)
}

// TestAfterAnError loses the kernel's answers: what was asked may have been done. The
// next call is not told of them, and nothing stays that nobody knows of.
func TestAfterAnError(t *testing.T) {
	k := newKernel(t)
	before := k.tables()
	if err := k.socket.SetReadBuffer(1); err != nil {
		t.Fatal(err)
	}
	if g, err := k.Open(rulesOf(t, "good.example:443")); !errors.Is(err, unix.ENOBUFS) {
		t.Fatalf("answers are lost: %v, %v", g, err)
	}
	if k.tables() == before {
		t.Fatal("it has not been committed: nothing is tried here")
	}
	if err := k.within(func() error { return k.Forget(container) }); err != nil {
		t.Fatal(err)
	}
	if n := k.tables(); n != before {
		t.Errorf("%d tables are left", n-before)
	}

	g := k.open("good.example:443")
	k.socket.SetReadBuffer(1)
	if err := g.Set(rulesOf(t, "good.example:444", "10.0.0.1")); !errors.Is(err, unix.ENOBUFS) {
		t.Fatalf("answers are lost: %v", err)
	}
	k.want("4-tcp-443-443", 0)
	k.want("4-tcp-444-444", -1)
	if err := k.within(func() error { return g.Answered("good.example", answerOf(t, manyRecords(3, false)...)) }); err != nil {
		t.Fatal(err)
	}
	k.want("4-tcp-443-443", 3)
}

// TestCutFails cannot end the container's connections: it is held as before, or not at all.
func TestCutFails(t *testing.T) {
	k := newKernel(t)
	g := k.open("good.example:443")
	if err := g.Answered("good.example", answerOf(t, manyRecords(3, false)...)); err != nil {
		t.Fatal(err)
	}
	k.broken = errors.New("broken")
	if err := g.Set(rulesOf(t, "other.example:443")); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("the error is %v", err)
	}
	k.want("4-tcp-443-443", 3)
	if !g.Asks("good.example", netip.Addr{}) || g.Asks("other.example", netip.Addr{}) {
		t.Error("the names are not those of before")
	}
	k.broken = nil
	if err := k.Forget(container); err != nil {
		t.Fatal(err)
	}

	before := k.tables()
	k.broken = errors.New("broken")
	if g, err := k.Open(rulesOf(t, "good.example:443")); err == nil || g != nil {
		t.Errorf("opened: %v, %v", g, err)
	}
	if n := k.tables(); n != before {
		t.Errorf("%d tables are left", n-before)
	}
}

// TestExpired finds an address gone already: those that are over are closed all the same.
func TestExpired(t *testing.T) {
	k := newKernel(t)
	g := k.open("good.example:443")
	if err := g.Answered("good.example", answerOf(t, manyRecords(3, false)...)); err != nil {
		t.Fatal(err)
	}
	for o, l := range g.learned {
		l.until = time.Time{}
		if o.addr == netip.MustParseAddr("192.1.0.1") {
			if err := k.remove(g, []opening{o}); err != nil {
				t.Fatal(err)
			}
		}
	}
	k.want("4-tcp-443-443", 2)
	k.within(func() error { g.expire(); return nil })
	k.want("4-tcp-443-443", 0)
}

// TestAdopt takes over what a former moss-net had opened.
func TestAdopt(t *testing.T) {
	k := newKernel(t)
	g := k.open("good.example:443", "10.0.0.0/8")
	if err := g.Answered("good.example", answerOf(t, manyRecords(3, false)...)); err != nil {
		t.Fatal(err)
	}
	k.Close()
	k = newKernel(t)
	k.open("gone.example:80", "good.example:443", "10.0.0.0/8")
	k.want("4-tcp-443-443", 3)
	k.want("4-all-0-0-fixed", 2)
}

func TestIntervals(t *testing.T) {
	for ranges, want := range map[string]string{
		"":                                       "",
		"10.0.0.0/8":                             "10.0.0.0 -11.0.0.0",
		"10.0.0.2/32 10.0.0.1/32":                "10.0.0.1 -10.0.0.3",
		"10.9.0.0/16 10.0.0.0/8 10.0.0.1/32":     "10.0.0.0 -11.0.0.0",
		"192.0.2.1/32 10.0.0.1/32":               "10.0.0.1 -10.0.0.2 192.0.2.1 -192.0.2.2",
		"0.0.0.0/0 10.0.0.1/32":                  "0.0.0.0",
		"255.255.255.255/32 255.255.255.0/24":    "255.255.255.0",
		"255.255.255.255/32 10.0.0.0/31":         "10.0.0.0 -10.0.0.2 255.255.255.255",
		"::/0":                                   "::",
		"2001:db8::/32 2001:db8::1/128 fd00::/8": "2001:db8:: -2001:db9:: fd00:: -fe00::",
	} {
		var list []netip.Prefix
		for _, r := range strings.Fields(ranges) {
			list = append(list, netip.MustParsePrefix(r))
		}
		var got []string
		for _, e := range intervals(list) {
			a, _ := netip.AddrFromSlice(e.Key)
			got = append(got, strings.Repeat("-", map[bool]int{true: 1}[e.IntervalEnd])+a.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", ranges, got, want)
		}
	}
}
