// Package client is moss's side of the conversation with a monitor: it starts
// one, attaches to it, waits for it and asks things of it.
package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/monitor"
)

// ErrMonitorGone says that there is no monitor, or that it has ended without a
// word, as one does that is killed. The container may still be running.
var ErrMonitorGone = errors.New("the container's monitor is gone")

// Failed is why a container could not be started; the monitor has undone
// everything. Code is moss's exit code for it: 125, 126 or 127.
type Failed struct {
	Message string
	Code    int
}

func (f *Failed) Error() string { return f.Message }

// ExitCode is the exit code of moss.
func (f *Failed) ExitCode() int { return f.Code }

// Conn is a connection to a monitor. Recv is for one goroutine, Send for another.
type Conn struct {
	fd  int
	pid int // the monitor, when this process started it
	end int // a pidfd of one that is not our child, else -1
	tty bool
	buf []byte
	// started: the program has been let run
	started bool
}

// Spawn writes cfg to <RunDir>/monitor.json and starts the monitor on it,
// detached, with the program at path; early, cfg need only say what the birth
// needs, and Prepared must follow. stdio are its standard streams for the log
// driver passthrough (nil: /dev/null), and after the third what the container
// inherits from descriptor 3 on. Start goes on with the conversation; closing
// the connection before ends it, and leaves nothing.
func Spawn(ctx context.Context, program string, cfg monitor.Config, early bool, stdio []*os.File) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path := filepath.Join(cfg.RunDir, monitor.ConfigFile)
	if err := record.Write(path, cfg, false); err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make start socket: %w", err)
	}
	defer unix.Close(pair[1])
	args := []string{"moss-monitor", path}
	if early {
		args = append(args, monitor.Early)
	}
	pid, end, err := start(program, args, pair[1], stdio, &cfg)
	if err != nil {
		unix.Close(pair[0])
		return nil, fmt.Errorf("cannot start monitor %q: %w", program, err)
	}
	return &Conn{fd: pair[0], pid: pid, end: end, tty: cfg.TTY}, nil
}

// Prepared writes the whole configuration for a monitor that was started early,
// and tells it.
func (c *Conn) Prepared(cfg monitor.Config) error {
	if err := record.Write(filepath.Join(cfg.RunDir, monitor.ConfigFile), cfg, false); err != nil {
		return err
	}
	rest, err := record.Encode(monitor.PreparedMessage{
		HostsFile: cfg.HostsFile, HostsText: cfg.HostsText, HostNames: cfg.HostNames,
		ResolvFile: cfg.ResolvFile, ResolvText: cfg.ResolvText,
		Unmount: cfg.Unmount, Volumes: cfg.Volumes, Leases: cfg.Leases, Scratch: cfg.Scratch,
	})
	if err != nil {
		return err
	}
	if err := c.Send(monitor.Prepared, rest); err != nil && !errors.Is(err, ErrMonitorGone) {
		return err
	}
	return nil // what a monitor that has given up has to say is still to be received
}

// PID is the monitor's, of a start; 0 when it is not known.
func (c *Conn) PID() int { return c.pid }

// Abort ends a start whose program has not been let run, and returns when the
// monitor has undone what it did. Of a program that may run it takes leave only.
func (c *Conn) Abort() {
	if c.fd >= 0 && c.pid > 0 && !c.started {
		unix.Shutdown(c.fd, unix.SHUT_RDWR)
		if c.end >= 0 {
			pollEnd(c.end)
		} else {
			retryWait(c.pid)
		}
	}
	c.Close()
}

func retryWait(pid int) {
	for {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != syscall.EINTR {
			return
		}
	}
}

// pollEnd waits for the end of a process by its pidfd.
func pollEnd(pidfd int) {
	for {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1); err != unix.EINTR {
			return
		}
	}
}

// start executes the monitor in a session of its own. One that a service manager is to
// follow is our parent's child, where it can be: if the manager has started us, it
// gets the exit code at once. end is then its pidfd, else -1.
func start(program string, args []string, sock int, stdio []*os.File, cfg *monitor.Config) (pid, end int, err error) {
	end = -1
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, -1, err
	}
	defer unix.Close(null)
	files := []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(sock)}
	for i, f := range stdio {
		switch {
		case i >= 3 && f == nil: // a number that is left out
			files = append(files, uintptr(null))
		case i >= 3:
			files = append(files, f.Fd())
		case f != nil:
			files[i] = f.Fd()
		}
	}
	sys := &syscall.SysProcAttr{Setsid: true}
	if cfg.Home != "" {
		dir, err := unix.Open(cfg.Home, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, -1, fmt.Errorf("cannot open cgroup %q: %w", cfg.Home, err)
		}
		defer unix.Close(dir)
		sys.UseCgroupFD, sys.CgroupFD = true, dir
	} else if cfg.Notify != nil && managed() {
		sys.Cloneflags, sys.PidFD = unix.CLONE_PARENT, &end
	}
	pid, _, err = syscall.StartProcess(program, args, &syscall.ProcAttr{
		Dir: "/", Env: environment(), Files: files, Sys: sys,
	})
	return pid, end, err
}

// managed says whether a service manager has started us: who else would not know what to do
// with a child that it has not made. See systemd.exec(5).
func managed() bool {
	parent := os.Getppid()
	return parent == 1 && os.Getpid() != 1 || strconv.Itoa(parent) == os.Getenv("MANAGERPID")
}

// environment is what the monitor gets of ours: what moss-net and other OCI
// runtimes look for; and there is no goroutine in it that would have to interrupt
// another. The constructor of userns/enter makes the same.
func environment() []string {
	env := []string{"GOMAXPROCS=2", "GODEBUG=asyncpreemptoff=1"}
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		switch name {
		case "PATH", "HOME", "TMPDIR", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "DBUS_SESSION_BUS_ADDRESS":
			env = append(env, e)
		default:
			if strings.HasPrefix(name, "MOSS_") {
				env = append(env, e)
			}
		}
	}
	return env
}

// Start waits until the container is made, and lets its program run. It returns
// when the program has been executed. The error is a *Failed when the monitor
// has told it.
func (c *Conn) Start(ctx context.Context) error {
	if err := c.expect(ctx, monitor.Created); err != nil {
		return err
	}
	if c.tty {
		c.sendSize(os.Stdin)
	}
	c.started = true
	if err := c.Send(monitor.Start, nil); err != nil {
		return err
	}
	return c.expect(ctx, monitor.Started)
}

// Hold waits until the container is made, and leaves its program to be started
// later, by StartHeld.
func (c *Conn) Hold(ctx context.Context) error {
	if err := c.expect(ctx, monitor.Created); err != nil {
		return err
	}
	c.started = true
	if err := c.Send(monitor.Hold, nil); err != nil {
		return err
	}
	return c.expect(ctx, monitor.Started)
}

// StartHeld lets the program of a container that is held be executed. The error is
// a *Failed when that has failed.
func StartHeld(ctx context.Context, runDir string) error {
	return Control(ctx, runDir, monitor.ControlRequest{Op: "start"})
}

// expect receives one packet of the start conversation.
func (c *Conn) expect(ctx context.Context, want byte) error {
	stop := endWith(ctx, c.fd)
	kind, data, err := c.Recv()
	if stop() {
		return ctx.Err()
	}
	switch {
	case errors.Is(err, ErrMonitorGone):
		return fmt.Errorf("cannot start container: %w", err)
	case err != nil:
		return err
	case kind == monitor.Failed:
		var m monitor.FailedMessage
		if err := record.Decode(data, &m); err != nil {
			return fmt.Errorf("cannot read the monitor's answer: %w", err)
		}
		return &Failed{Message: m.Message, Code: m.Code}
	case kind != want:
		return fmt.Errorf("cannot start container: unexpected packet %q from its monitor", kind)
	}
	return nil
}

// Attach joins the streams of a running container.
func Attach(ctx context.Context, runDir string) (*Conn, error) {
	fd, err := dial(ctx, runDir, monitor.AttachSocket)
	if err != nil {
		return nil, err
	}
	c := &Conn{fd: fd, end: -1}
	stop := endWith(ctx, fd)
	kind, data, err := c.Recv()
	if stop() {
		err = ctx.Err()
	}
	var hello monitor.HelloMessage
	if err == nil && kind == monitor.Hello {
		err = record.Decode(data, &hello)
	} else if err == nil {
		err = fmt.Errorf("unexpected packet %q from its monitor", kind)
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("cannot attach: %w", err)
	}
	c.tty = hello.TTY
	return c, nil
}

// endWith ends a conversation with ctx. What it returns says whether it has; after
// that the descriptor is left alone, and may be closed.
func endWith(ctx context.Context, fd int) (stop func() (ended bool)) {
	done := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(done)
		unix.Shutdown(fd, unix.SHUT_RDWR)
	})
	return func() bool {
		if cancel() {
			return false
		}
		<-done
		return true
	}
}

// TTY says whether the container has a terminal.
func (c *Conn) TTY() bool { return c.tty }

// Wait waits until the container has ended and has been cleaned up. A container
// that is going to be started again has ended, too: Exit.Restarting is then set.
func Wait(ctx context.Context, runDir string) (monitor.Exit, error) {
	c, err := Attach(ctx, runDir)
	if err != nil {
		return monitor.Exit{}, err
	}
	defer c.Close()
	if err := c.Send(monitor.WaitOnly, nil); err != nil && !errors.Is(err, ErrMonitorGone) {
		return monitor.Exit{}, err
	}
	return c.wait(ctx)
}

// wait receives until the last packet.
func (c *Conn) wait(ctx context.Context) (monitor.Exit, error) {
	stop := endWith(ctx, c.fd)
	defer stop()
	for {
		kind, data, err := c.Recv()
		if ctx.Err() != nil {
			return monitor.Exit{}, ctx.Err()
		}
		if err != nil {
			return monitor.Exit{}, err
		}
		if kind == monitor.Exited {
			return exit(data)
		}
	}
}

func exit(data []byte) (e monitor.Exit, err error) {
	if err := record.Decode(data, &e); err != nil {
		return e, fmt.Errorf("cannot read how the container ended: %w", err)
	}
	return e, nil
}

// Control asks something of the monitor. Its refusal is the error.
func Control(ctx context.Context, runDir string, r monitor.ControlRequest) error {
	_, err := Ask(ctx, runDir, r)
	return err
}

// Ask is Control for what has an answer. Files are handed over with the request.
func Ask(ctx context.Context, runDir string, r monitor.ControlRequest, files ...*os.File) (reply monitor.ControlReply, err error) {
	fd, err := dial(ctx, runDir, monitor.ControlSocket)
	if err != nil {
		return reply, err
	}
	defer unix.Close(fd)
	return ask(ctx, fd, r, files...)
}

// Freeze has the container frozen until thaw is called, or this process ends: the
// monitor lets go of it then. It may return before every process has stopped.
func Freeze(ctx context.Context, runDir string) (thaw func(), err error) {
	fd, err := dial(ctx, runDir, monitor.ControlSocket)
	if err != nil {
		return nil, err
	}
	if _, err := ask(ctx, fd, monitor.ControlRequest{Op: "freeze"}); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return func() { unix.Close(fd) }, nil
}

// ask sends a request on a connection and takes the answer.
func ask(ctx context.Context, fd int, r monitor.ControlRequest, files ...*os.File) (reply monitor.ControlReply, err error) {
	stop := endWith(ctx, fd)
	defer stop()
	request, err := record.Encode(r)
	if err != nil {
		return reply, err
	}
	var rights []byte
	if len(files) > 0 {
		var fds []int
		for _, f := range files {
			fds = append(fds, int(f.Fd()))
		}
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(fd, request, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return reply, gone(err)
	}
	var data [4096]byte
	n, err := read(fd, data[:])
	if ctx.Err() != nil {
		return reply, ctx.Err()
	}
	if err != nil {
		return reply, err
	}
	if err := record.Decode(data[:n], &reply); err != nil {
		return reply, fmt.Errorf("cannot read the monitor's answer: %w", err)
	}
	if reply.Error != "" {
		return reply, &Failed{Message: reply.Error, Code: reply.Code}
	}
	return reply, nil
}

// dial connects to a socket of a monitor.
func dial(ctx context.Context, runDir, name string) (int, error) {
	if err := ctx.Err(); err != nil {
		return -1, err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	address, done, err := monitor.Address(runDir, name)
	if err == nil {
		for err = unix.EINTR; err == unix.EINTR; {
			err = unix.Connect(fd, address)
		}
		done()
	}
	if err != nil {
		unix.Close(fd)
		return -1, gone(err)
	}
	return fd, nil
}

// Send sends a packet. It waits while the monitor does not take any.
func (c *Conn) Send(kind byte, data []byte) error {
	packet := append([]byte{kind}, data...)
	for {
		err := unix.Sendto(c.fd, packet, unix.MSG_NOSIGNAL, nil)
		if err != unix.EINTR {
			return gone(err)
		}
	}
}

// Recv receives a packet; data is good until the next call.
func (c *Conn) Recv() (kind byte, data []byte, err error) {
	if c.buf == nil {
		c.buf = make([]byte, 1+monitor.MaxData)
	}
	n, err := read(c.fd, c.buf)
	if err != nil {
		return 0, nil, err
	}
	return c.buf[0], c.buf[1:n], nil
}

// read reads one packet; the end is ErrMonitorGone.
func read(fd int, buf []byte) (int, error) {
	reset := false
	for {
		n, err := unix.Read(fd, buf)
		switch {
		case err == unix.EINTR:
		case err == unix.ECONNRESET && !reset:
			// It closed with a packet of ours unread; what it sent before is still
			// there, see unix(7).
			reset = true
		case err == nil && n == 0:
			return 0, ErrMonitorGone
		default:
			return n, gone(err)
		}
	}
}

// gone maps what a dead monitor looks like to ErrMonitorGone.
func gone(err error) error {
	switch err {
	case unix.EPIPE, unix.ECONNRESET, unix.ECONNREFUSED, unix.ENOENT, unix.ENOTCONN:
		return fmt.Errorf("%w (%w)", ErrMonitorGone, err)
	}
	return err
}

// Close leaves. The container goes on, unless it has not been started yet.
func (c *Conn) Close() error {
	if c.fd < 0 {
		return nil
	}
	fd := c.fd
	c.fd = -1
	if c.end >= 0 {
		unix.Close(c.end)
		c.end = -1
	}
	if c.pid > 0 {
		syscall.Wait4(c.pid, nil, syscall.WNOHANG, nil) // no zombie of one that failed
	}
	return unix.Close(fd)
}
