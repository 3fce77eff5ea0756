package monitor

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/slirp"
)

// lease is the container's connection to its networks. It is held by a socket:
// when that closes, with the monitor too, moss-net takes everything back. A nil
// *lease is a container without a network of its own.
type lease struct {
	m  *monitor
	fd int // -1: moss-net has died
	st *slirp.Status

	// When moss-net has died, the container is connected again.
	retry time.Time
	pause time.Duration
	again chan relinked
	event int // becomes readable when again has an answer
}

type relinked struct {
	fd  int
	st  *slirp.Status
	err error
}

// connect connects the network of the container's process, on a goroutine that
// ends with its answer: the process mounts its root file system meanwhile. The
// files that it completes are there when whole is closed. Then it announces the
// container.
func (m *monitor) connect(ctx context.Context, whole <-chan struct{}) <-chan error {
	done := make(chan error, 1)
	if m.cfg.Network == nil {
		done <- nil
		return done
	}
	netns, err := openNetns(m.pid)
	if err != nil {
		done <- err
		return done
	}
	// Asked here, and waited for there: the goroutine's thread takes a while to come.
	asked := slirp.Begin(m.cfg.Network.Dirs, m.cfg.Network.Request, netns, m.cfg.sockets()...)
	go func() {
		defer unmasked()() // it may start moss-net
		l, st, err := asked.Wait(ctx)
		netns.Close()
		if err == nil {
			m.lease = &lease{m: m, fd: l.Fd(), st: st, event: -1}
			select {
			case <-whole:
				if err = m.cfg.completeFiles(st); err == nil {
					err = m.announce() // with the addresses
				}
			case <-ctx.Done():
				err = ctx.Err()
			}
		}
		done <- err
	}()
	return done
}

// sockets are those that listen at its ports already.
func (c *Config) sockets() (fds []int) {
	for i := range c.Sockets {
		fds = append(fds, extraFD+c.Birth.PreserveFDs+i)
	}
	return fds
}

func openNetns(pid int) (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, fmt.Errorf("cannot connect network: %w", err)
	}
	return f, nil
}

// status is what moss-net made of the request.
func (l *lease) status() *slirp.Status {
	if l == nil {
		return nil
	}
	return l.st
}

// watch notices the death of moss-net.
func (l *lease) watch() {
	if l != nil && l.fd >= 0 {
		events := uint32(unix.EPOLLRDHUP)
		if l.m.wakes {
			events |= unix.EPOLLIN
		}
		l.m.loop.watch(l.fd, events, l)
	}
}

// releaseLimit bounds the wait for moss-net's confirmation.
const releaseLimit = time.Second

// release gives the lease back, and waits until moss-net has closed its side too:
// then ports and addresses are free. The interfaces go with the namespace.
func (l *lease) release() {
	if l == nil || l.fd < 0 {
		return
	}
	l.m.loop.watch(l.fd, 0, nil)
	if !l.m.goesOn() {
		l.say(slirp.WakeEnd)
	}
	unix.Shutdown(l.fd, unix.SHUT_WR)
	until := time.Now().Add(releaseLimit)
	for time.Now().Before(until) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.fd), Events: unix.POLLIN}}, timeout(until))
		if n > 0 && l.m.wakes { // what it has said before that
			if n, _, err := unix.Recvfrom(l.fd, make([]byte, 1), unix.MSG_DONTWAIT); n > 0 && err == nil {
				continue
			}
		}
		if n > 0 || err != nil && err != unix.EINTR {
			break
		}
	}
	unix.Close(l.fd)
	l.fd, l.retry = -1, time.Time{}
}

// retryAt is when to connect again.
func (l *lease) retryAt() time.Time {
	if l == nil {
		return time.Time{}
	}
	return l.retry
}

// busy says whether a connection is being made again.
func (l *lease) busy() bool { return l != nil && l.again != nil }

// ready: moss-net has died, or the goroutine of relink has an answer.
func (l *lease) ready(uint32) {
	if l.again == nil {
		if l.m.wakes && l.hear() {
			return
		}
		l.m.loop.close(l.fd)
		l.fd = -1
		l.m.relink()
		return
	}
	got := <-l.again
	l.m.loop.close(l.event)
	l.again, l.event = nil, -1
	if got.err != nil {
		l.pause = min(max(2*l.pause, time.Second), time.Minute)
		l.retry = time.Now().Add(l.pause)
		return
	}
	l.fd, l.pause = got.fd, 0
	if l.m.ended || l.m.lease != l { // too late: the run is over
		l.release()
		return
	}
	l.watch()
	l.m.settleSoon()
	if got.st != nil {
		l.st = got.st
		l.m.cfg.completeFiles(got.st)
		l.m.updateLive(func(live *container.Live) { live.Network = got.st })
	}
}

// relink connects the container again after the death of moss-net, on a
// goroutine: it may have to start moss-net, and the streams go on.
func (m *monitor) relink() {
	l := m.lease
	l.retry = time.Time{}
	if m.ended || l.again != nil {
		return
	}
	c, err := m.config()
	if err != nil {
		return // without its configuration it cannot: the network stays as it is
	}
	netns, err := openNetns(m.pid)
	if err != nil {
		return // it has just ended
	}
	if l.event, err = unix.Eventfd(0, unix.EFD_CLOEXEC); err != nil {
		netns.Close()
		l.retry = time.Now().Add(time.Minute)
		return
	}
	l.again = make(chan relinked, 1)
	l.m.loop.watch(l.event, unix.EPOLLIN, l)
	event, again := l.event, l.again
	request := c.Network.Request
	if request.Wake != nil {
		now := *request.Wake
		now.Awake = !m.held && !m.gettingReady()
		request.Wake = &now
	}
	go func() { // ends with its answer, which ready takes
		defer unmasked()()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		defer netns.Close()
		lease, st, err := slirp.Connect(ctx, c.Network.Dirs, request, netns, c.sockets()...)
		got := relinked{fd: -1, st: st, err: err}
		if err == nil {
			got.fd = lease.Fd()
		}
		again <- got
		unix.Write(event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}()
}

// updateLive changes live.json.
func (m *monitor) updateLive(change func(*container.Live)) {
	if live, err := container.ReadLive(m.runDir); err == nil && live != nil {
		change(live)
		container.WriteLive(m.runDir, live)
	}
}

// completeFiles writes the hosts file and resolv.conf with the addresses. It
// writes in place: they are mounted in the container.
func (c *Config) completeFiles(st *slirp.Status) error {
	if c.HostsFile != "" {
		if err := rewrite(c.HostsFile, c.hosts(st)); err != nil {
			return err
		}
	}
	if c.ResolvFile == "" || len(st.DNS) == 0 {
		return nil
	}
	text := []byte(c.ResolvText)
	for _, server := range st.DNS {
		text = append(append(append(text, "nameserver "...), server.String()...), '\n')
	}
	return rewrite(c.ResolvFile, text)
}

// gatewayWord stands for the host's address in the hosts file of the engine.
const gatewayWord = "host-gateway"

// hosts replaces host-gateway by the host's addresses, and adds the container's.
func (c *Config) hosts(st *slirp.Status) []byte {
	var out []byte
	for line := range strings.Lines(c.HostsText) {
		names, ok := strings.CutPrefix(line, gatewayWord)
		if !ok {
			out = append(out, line...)
			continue
		}
		for _, a := range st.HostGateway {
			out = append(append(out, a.String()...), names...)
		}
	}
	if c.HostNames == "" {
		return out
	}
	for _, i := range st.Interfaces {
		for _, p := range i.IPs {
			out = appendHost(out, p.Addr(), c.HostNames)
		}
	}
	return out
}

func appendHost(out []byte, a netip.Addr, names string) []byte {
	return append(append(append(append(out, a.String()...), '\t'), names...), '\n')
}

// rewrite changes a file in place.
func rewrite(path string, text []byte) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_TRUNC|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, text)
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("cannot complete %q: %w", path, err)
	}
	return nil
}
