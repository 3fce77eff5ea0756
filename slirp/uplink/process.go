package uplink

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moss/slirp"
	"moss/userns/slack"
)

// process is an uplink program.
type process struct {
	cmd  *exec.Cmd
	said bytes.Buffer // what it said on stderr; read after done
	exit error
	done chan struct{}
	stop context.CancelFunc
}

// startTimeout bounds how long a program may take until it is ready.
const startTimeout = 5 * time.Second

// run starts a program that dies with this process: the death signal of
// prctl(2) comes when the thread that forked ends, so that thread waits.
func run(path string, args []string, files ...*os.File) (*process, error) {
	ctx, stop := context.WithCancel(context.Background())
	p := &process{done: make(chan struct{}), stop: stop}
	p.cmd = exec.CommandContext(ctx, path, args...)
	p.cmd.ExtraFiles = files
	p.cmd.Stderr = &limited{to: &p.said, left: 4 << 10}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() { // ends with the program
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := slack.Exactly(p.cmd.Start)
		started <- err
		if err == nil {
			p.exit = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		stop()
		return nil, err
	}
	return p, nil
}

// close ends the program and waits for its end.
func (p *process) close() error {
	p.stop()
	<-p.done
	return nil
}

// await waits until ready says that the program is, or it ends.
func (p *process) await(ctx context.Context, ready <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var err error
	select {
	case err = <-ready:
		if err == nil {
			return nil
		}
	case <-p.done:
		err = errors.New("it ended at once")
	case <-ctx.Done():
		err = fmt.Errorf("it did not become ready: %w", ctx.Err())
	}
	p.close()
	if said := strings.TrimSpace(p.said.String()); said != "" {
		err = fmt.Errorf("%w: %s", err, strings.ReplaceAll(said, "\n", "; "))
	}
	return err
}

// limited keeps the beginning of what is written to it.
type limited struct {
	to   *bytes.Buffer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.left)
	l.left -= n
	l.to.Write(b[:n])
	return len(b), nil
}

// netnsFD is the path of the namespace in a program that run starts with it as
// the first file.
const netnsFD = "/proc/self/fd/3"

// startSlirp4netns starts slirp4netns(1), without its access to the host's
// loopback and without its resolver, which are ours to give.
func (o *Options) startSlirp4netns(ctx context.Context) (*Link, error) {
	path, err := exec.LookPath("slirp4netns")
	if err != nil {
		return nil, errors.New("not installed")
	}
	ready, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	args, link := o.slirp4netns()
	p, err := run(path, append(args, netnsFD, o.Interface), o.Netns, write)
	write.Close()
	if err != nil {
		return nil, err
	}
	isReady := make(chan error, 1)
	go func() { // ends when the program has written, or has ended
		var one [1]byte
		_, err := ready.Read(one[:])
		isReady <- err
	}()
	if err := p.await(ctx, isReady); err != nil {
		return nil, err
	}
	link.done, link.close = p.done, p.close
	return link, nil
}

// slirp4netns has its arguments but the last two, and what it then gives.
func (o *Options) slirp4netns() (args []string, link *Link) {
	args = []string{"--netns-type=path", "--ready-fd=4", fmt.Sprintf("--mtu=%d", o.MTU)}
	link = &Link{Addrs: slirpAddrs, Gateways: slirpGateways, DNS: []netip.Addr{resolver}, Host: []netip.Addr{}}
	p := o.Private
	if p.CIDR.IsValid() { // where they are in it is slirp4netns's
		args = append(args, "--cidr="+p.CIDR.String())
		at := func(n byte) netip.Addr {
			bytes := p.CIDR.Addr().As4()
			bytes[3] += n
			return netip.AddrFrom4(bytes)
		}
		link.Addrs = []netip.Prefix{netip.PrefixFrom(at(100), p.CIDR.Bits()), slirpAddrs[1]}
		link.Gateways, link.DNS = []netip.Addr{at(2), slirpGateways[1]}, []netip.Addr{at(3)}
	}
	if p.NoIPv6 {
		link.Addrs, link.Gateways = link.Addrs[:1], link.Gateways[:1]
	} else {
		args = append(args, "--enable-ipv6")
	}
	if p.HostLoopback {
		link.Host = link.Gateways
	} else { // and there is no other way to the host
		args = append(args, "--disable-host-loopback")
	}
	if p.Outbound != "" {
		args = append(args, "--outbound-addr="+p.Outbound)
	}
	if p.Outbound6 != "" {
		args = append(args, "--outbound-addr6="+p.Outbound6)
	}
	return args, link
}

// pastaSince is the first version with everything that is asked of it here:
// --map-guest-addr, and the fixes of its first year under load.
const pastaSince = "2024_08_21"

var pastaDate = regexp.MustCompile(`\b(20\d\d)[_-]?(\d\d)[_-]?(\d\d)\b`)

// startPasta starts pasta(1) if it is recent enough.
func (o *Options) startPasta(ctx context.Context) (*Link, error) {
	path, err := exec.LookPath("pasta")
	if err != nil {
		return nil, errors.New("not installed")
	}
	if err := checkPasta(ctx, path); err != nil {
		return nil, err
	}
	netns, unname, err := o.nameNetns()
	if err != nil {
		return nil, err
	}
	defer unname()
	args, link := o.pasta(netns)
	p, err := run(path, args)
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, o.appears(p)); err != nil {
		return nil, err
	}
	link.done, link.close = p.done, p.close
	return link, nil
}

// pastaDefaults are what pasta is told unless a container's own options say another thing
// of the same, by one of the names. A mapping of the host's loopback for one family leaves
// the other's gateway to moss, which maps it to nothing.
var pastaDefaults = []struct{ names, args []string }{
	{[]string{"quiet", "debug", "trace"}, []string{"--quiet"}},
	{[]string{"map-gw", "no-map-gw"}, []string{"--no-map-gw"}},
	{[]string{"tcp-ports"}, []string{"--tcp-ports=none"}},
	{[]string{"udp-ports"}, []string{"--udp-ports=none"}},
	{[]string{"tcp-ns"}, []string{"--tcp-ns=none"}},
	{[]string{"udp-ns"}, []string{"--udp-ns=none"}},
}

// pasta has its arguments for that namespace, and what it then gives. Those that moss gives
// come first: nothing that a container has brought can change their meaning.
func (o *Options) pasta(netns string) (args []string, link *Link) {
	link = &Link{}
	own := o.pastaHas("map-guest-addr", "ipv4-only", "ipv6-only")
	if own {
		link.Host = []netip.Addr{}
	}
	args = []string{"--foreground", "--ns-ifname=" + o.Interface, fmt.Sprintf("--mtu=%d", o.MTU), "--no-dhcp", "--no-dhcpv6", "--no-ra",
		"--netns-only", "--no-netns-quit", "--netns=" + netns}
	without := [2]bool{o.pastaHas("ipv6-only"), o.pastaHas("ipv4-only")}
	for i, bits := range []string{"--netmask=24", ""} {
		if without[i] {
			continue
		}
		args = append(args, "--address="+linkAddrs[i].Addr().String(), "--gateway="+gateways[i].String())
		if bits != "" {
			args = append(args, bits)
		}
		link.Addrs, link.Gateways = append(link.Addrs, linkAddrs[i]), append(link.Gateways, gateways[i])
		host, given := o.pastaAddr("map-guest-addr", i == 0)
		if !given {
			host = HostGateway[i]
			args = append(args, "--map-guest-addr="+host.String())
		}
		dns, given := o.pastaAddr("dns-forward", i == 0)
		if !given && i == 0 {
			dns = resolver
			args = append(args, "--dns-forward="+dns.String())
		}
		if own && host.IsValid() {
			link.Host = append(link.Host, host)
		}
		if dns.IsValid() {
			link.DNS = append(link.DNS, dns)
		}
	}
	for _, d := range pastaDefaults {
		if !o.pastaHas(d.names...) {
			args = append(args, d.args...)
		}
	}
	for _, p := range o.Private.Options {
		switch {
		case p.Name == "map-gw": // which only takes back --no-map-gw
		case p.Value != "":
			args = append(args, "--"+p.Name+"="+p.Value)
		default:
			args = append(args, "--"+p.Name)
		}
	}
	return args, link
}

// pastaHas says whether the container brings one of these options.
func (o *Options) pastaHas(names ...string) bool {
	return slices.ContainsFunc(o.Private.Options, func(p slirp.PastaOption) bool { return slices.Contains(names, p.Name) })
}

// pastaAddr is the last address of a family that the container gives for an option;
// "none" gives an invalid one.
func (o *Options) pastaAddr(name string, v4 bool) (addr netip.Addr, given bool) {
	for _, p := range o.Private.Options {
		if a, err := netip.ParseAddr(p.Value); p.Name == name && (err != nil || a.Is4() == v4) {
			addr, given = a, true
		}
	}
	return addr, given
}

// nameNetns gives the namespace a name among the files, until it is told otherwise:
// pasta closes every descriptor that it does not know.
func (o *Options) nameNetns() (path string, unname func(), err error) {
	f, err := os.CreateTemp(o.Dir, ".netns")
	if err != nil {
		return "", nil, err
	}
	f.Close()
	if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", o.Netns.Fd()), f.Name(), "", unix.MS_BIND, ""); err != nil {
		os.Remove(f.Name())
		return "", nil, fmt.Errorf("cannot name the network namespace: %w", err)
	}
	return f.Name(), func() {
		unix.Unmount(f.Name(), unix.MNT_DETACH)
		os.Remove(f.Name())
	}, nil
}

// checkPasta reads the date in pasta's version: "pasta 0.0~git20240326.4988e2b",
// "pasta 2024_09_06.6b38f07".
func checkPasta(ctx context.Context, path string) error {
	said, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return fmt.Errorf("its version cannot be told: %w", err)
	}
	if len(said) == 0 {
		// Since 2025 it ends without writing what is still in its buffer, which is
		// all of it when it prints into a pipe.
		return nil
	}
	first, _, _ := strings.Cut(string(said), "\n")
	date := pastaDate.FindStringSubmatch(strings.ReplaceAll(first, "git", " "))
	if date == nil {
		return fmt.Errorf("it is of an unknown version (%q)", first)
	}
	if version := strings.Join(date[1:], "_"); version < pastaSince {
		return fmt.Errorf("version %s is too old: %s is needed", version, pastaSince)
	}
	return nil
}
