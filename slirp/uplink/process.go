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
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

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
	args := []string{"--netns-type=path", "--ready-fd=4", fmt.Sprintf("--mtu=%d", o.MTU), "--enable-ipv6",
		"--disable-host-loopback"}
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
	link := &Link{done: p.done, close: p.close, DNS: []netip.Addr{resolver}}
	link.Addrs, link.Gateways = slirpAddrs, slirpGateways
	return link, nil
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
	p, err := run(path, []string{"--foreground", "--quiet", "--ns-ifname", o.Interface, "--mtu", fmt.Sprint(o.MTU),
		"--address", linkAddrs[0].Addr().String(), "--netmask", "24", "--gateway", gateways[0].String(),
		"--address", linkAddrs[1].Addr().String(), "--gateway", gateways[1].String(),
		"--no-map-gw", "--map-guest-addr", HostGateway[0].String(), "--map-guest-addr", HostGateway[1].String(),
		"--dns-forward", resolver.String(), "--no-dhcp", "--no-dhcpv6", "--no-ra",
		"--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none",
		"--netns-only", "--no-netns-quit", "--netns", netns})
	if err != nil {
		return nil, err
	}
	if err := p.await(ctx, o.appears(p)); err != nil {
		return nil, err
	}
	return &Link{done: p.done, close: p.close, DNS: []netip.Addr{resolver}, Addrs: linkAddrs, Gateways: gateways}, nil
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
