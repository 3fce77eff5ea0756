package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/runtime/birth"
)

// program is how the container's first process is made: by moss-runtime's own
// init, or by another OCI runtime.
type program interface {
	// create makes the process, and returns its PID.
	create(stdio [3]*os.File, extra []*os.File) (pid int, err error)
	// proceed lets a process that was made early go on.
	proceed() error
	// ready waits until everything but the execution is done, and returns the
	// master of the terminal, if there is one; else -1.
	ready() (console int, err error)
	// start executes the program.
	start() error
	// discard kills and reaps a process that has not been started.
	discard()
}

// impatience is how long a start may take before the monitor begins to look
// whether anybody is still waiting for it.
const impatience = time.Second

// prepare makes the container's process, up to the execution of its program,
// and does meanwhile, and connects its network, beside it: the init stage takes
// longer than both. On an error, undo takes it all back.
func (m *monitor) prepare(meanwhile func() error) error {
	c := m.cfg
	ahead := m.takeBorn()
	if err := m.newGroup(ahead); err != nil {
		return err
	}
	pid, err := m.bear(ahead)
	if err != nil {
		return err
	}
	m.pid, m.ended = pid, false
	m.beginAdoption()
	if m.pidfd, err = unix.PidfdOpen(pid, 0); err != nil {
		return fmt.Errorf("cannot open process %d: %w", pid, err)
	}
	// Orphans come to us when the container has no PID namespace of its own, and
	// the helpers of another OCI runtime do.
	m.subreaper = c.Runtime != nil || c.Birth.Flags&unix.CLONE_NEWPID == 0 || c.Network != nil

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	impatient := time.AfterFunc(impatience, func() { m.watchStarter(ctx, cancel, pid) })
	defer impatient.Stop()
	whole := make(chan struct{})
	connected := m.connect(ctx, whole)
	if m.early {
		if err = m.awaitPrepared(); err == nil {
			c = m.cfg
			err = m.program.proceed()
		}
	}
	if err == nil {
		close(whole)
		err = meanwhile()
	}
	if err == nil {
		err = writePIDFile(c.PIDFile, m.pid)
	}
	if err == nil {
		err = writePIDFile(c.MonitorPIDFile, os.Getpid())
	}
	if err == nil && c.Network == nil {
		err = m.announce()
	}

	if err == nil {
		err = m.becomeReady()
	}
	if err != nil {
		cancel() // a connection still under way is of no use any more
	}
	if failed := <-connected; err == nil {
		err = failed
	}
	if err == nil && c.Scope != nil {
		m.awaitAdoption()
	}
	return err
}

// newGroup makes the cgroup of a run. One that has seen a cgroup.kill is of no more use:
// clone(2) into it from a cgroup that has not makes a process that is killed at once (seen
// with kernel 6.18: the two cgroups' counts of kills are compared). So each run has a new
// one, or that in which its process was made ahead.
func (m *monitor) newGroup(ahead bool) error {
	m.awaitUnits(ahead)
	if !ahead {
		if err := m.group.remove(); err != nil {
			return err
		}
	}
	if err := m.group.make(m.cfg.Limits); err != nil {
		return err
	}
	m.adoption.adopted = false // what the manager knows is the one of the run before
	m.oom.lookAround()
	return nil
}

// bear makes the process, or takes the one that was made ahead.
func (m *monitor) bear(ahead bool) (pid int, err error) {
	if ahead {
		m.program, pid = m.born, m.born.p.PID
		m.born = nil
		return pid, nil
	}
	stdio, err := m.openStreams()
	if err != nil {
		return 0, err
	}
	defer closeFiles(stdio)
	for again := 3; ; again-- {
		m.program = m.newProgram()
		pid, err = m.program.create(stdio, extraFiles(m.cfg.Birth))
		if err == nil || again == 0 || m.group == "" || unix.Access(string(m.group), unix.F_OK) != unix.ENOENT {
			return pid, err
		}
		// The manager, or the monitor of the run before, was late to remove that run's: as
		// soon as somebody is in it, it stays.
		if err := m.group.make(m.cfg.Limits); err != nil {
			return 0, err
		}
	}
}

// awaitPrepared waits until moss has written the whole configuration, and takes
// over what was missing.
func (m *monitor) awaitPrepared() error {
	var p PreparedMessage
	if !receive(Prepared, &p) {
		return errLeft
	}
	m.early = false
	whole := *m.cfg // connect's goroutine reads the other one
	whole.HostsFile, whole.HostsText, whole.HostNames = p.HostsFile, p.HostsText, p.HostNames
	whole.ResolvFile, whole.ResolvText = p.ResolvFile, p.ResolvText
	whole.Unmount, whole.Volumes, whole.Leases, whole.Scratch = p.Unmount, p.Volumes, p.Leases, p.Scratch
	m.cfg = &whole
	return nil
}

func (m *monitor) becomeReady() error {
	if n, ok := m.program.(*native); ok && m.cfg.Hooks != "" {
		n.p.Hooks = func() error {
			n.hooked = true
			return m.hooks("create")
		}
	}
	console, err := m.program.ready()
	if err != nil {
		return err
	}
	return m.openTerminal(console)
}

// announce makes the container visible.
func (m *monitor) announce() error {
	live, err := m.describe()
	if err != nil {
		return err
	}
	live.Initialized, live.Waiting = m.wakes, m.wakes // it is going to be held
	return container.WriteLive(m.runDir, live)
}

// describe is what is true while the container runs.
func (m *monitor) describe() (*container.Live, error) {
	start, err := container.StartTime(m.pid)
	if err != nil {
		return nil, err
	}
	own, err := container.StartTime(os.Getpid())
	if err != nil {
		return nil, err
	}
	return &container.Live{
		PID: m.pid, PIDStart: start, Monitor: os.Getpid(), MonitorStart: own,
		Started: time.Now(), Restarts: m.restarts, Network: m.lease.status(), Cgroup: string(m.group),
	}, nil
}

// watchStarter ends a start that hangs when moss has gone meanwhile.
func (m *monitor) watchStarter(ctx context.Context, cancel func(), pid int) {
	if m.restarts > 0 || !m.last.At.IsZero() {
		return // a restart has nobody who waits
	}
	for ctx.Err() == nil {
		fds := []unix.PollFd{{Fd: startFD, Events: unix.POLLRDHUP}}
		if n, _ := unix.Poll(fds, int(impatience/time.Millisecond)); n > 0 && ctx.Err() == nil {
			cancel()
			unix.Kill(pid, unix.SIGKILL) // ours, and not reaped yet: ctx is still open
			return
		}
	}
}

// undo takes back what setUp and prepare did, for a start that failed.
func (m *monitor) undo() {
	m.stopped = true // there is no next run
	m.dropBorn()
	m.discardRun()
	m.ended = true
	if m.cfg == nil {
		return
	}
	m.leaveCgroup()
	m.removeRunFiles() // before who waits for the end hears of it: a monitor that lives answers for live.json
	for _, l := range []*listener{m.attach, m.ctl} {
		if l != nil {
			m.loop.close(l.fd)
		}
	}
	if m.notify != nil && m.notify.fd >= 0 {
		m.loop.close(m.notify.fd)
	}
	m.log.close()
	m.unmount()
}

// discardRun takes back one prepare.
func (m *monitor) discardRun() {
	if m.program != nil {
		m.program.discard()
		if n, ok := m.program.(*native); ok && n.hooked {
			m.hooks("stop")
		}
		m.program = nil
	}
	m.loop.close(m.pidfd)
	m.pidfd = -1
	m.adoption.next = time.Time{}
	m.lease.release()
	m.lease = nil
	m.closeStreams()
}

// newProgram chooses how the process is made.
func (m *monitor) newProgram() program {
	if m.cfg.Runtime != nil {
		return &external{m: m, console: -1}
	}
	request := m.cfg.Birth
	request.Later = m.early
	return &native{request: request}
}

// native is a process made by moss-runtime's init.
type native struct {
	request birth.Request
	p       *birth.Process
	hooked  bool // hooks have been run for it
}

func (n *native) create(stdio [3]*os.File, extra []*os.File) (int, error) {
	p, err := birth.Start(n.request, stdio, extra)
	if err != nil {
		return 0, coded(err)
	}
	n.p = p
	return p.PID, nil
}

func (n *native) proceed() error { return coded(n.p.Proceed()) }

func (n *native) ready() (int, error) {
	f, err := n.p.Ready()
	if err != nil {
		return -1, coded(err)
	}
	if f == nil {
		return -1, nil
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot keep terminal: %w", err)
	}
	return fd, nil
}

func (n *native) start() error {
	if err := n.p.Go(); err != nil {
		return coded(err)
	}
	n.p.Close()
	return nil
}

func (n *native) discard() {
	if n.p != nil {
		n.p.Kill()
		n.p.Wait()
		n.p.Close()
		n.p = nil
	}
}

// startError is an error with moss's exit code for it.
type startError struct {
	error
	code int
}

func (e startError) exitCode() int { return e.code }
func (e startError) Unwrap() error { return e.error }

// coded gives an error of the init stage its exit code.
func coded(err error) error {
	var said *birth.InitError
	if errors.As(err, &said) {
		return startError{err, said.Code}
	}
	return err
}

// openStreams makes the container's standard streams: its ends are returned.
func (m *monitor) openStreams() (stdio [3]*os.File, err error) {
	c := m.cfg
	m.stdin = input{m: m, fd: -1}
	m.out = [2]*output{}
	if c.Log.passthrough() {
		return [3]*os.File{os.Stdin, os.Stdout, os.Stderr}, nil
	}
	if c.TTY {
		return stdio, nil // openTerminal, when it is there
	}
	return m.openPipes(c.Stdin)
}

// openPipes makes pipes for the output and, if it is wanted, the input.
func (m *monitor) openPipes(stdin bool) (stdio [3]*os.File, err error) {
	defer func() {
		if err != nil {
			closeFiles(stdio)
			m.closeStreams()
		}
	}()
	if stdin {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return stdio, fmt.Errorf("cannot make pipe: %w", err)
		}
		stdio[0], m.stdin.fd = os.NewFile(uintptr(p[0]), "stdin"), p[1]
		unix.SetNonblock(p[1], true)
	}
	for i, kind := range []byte{Stdout, Stderr} {
		var p [2]int
		if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
			return stdio, fmt.Errorf("cannot make pipe: %w", err)
		}
		m.out[i] = &output{m: m, fd: p[0], kind: kind}
		stdio[i+1] = os.NewFile(uintptr(p[1]), "output")
		unix.SetNonblock(p[0], true)
	}
	return stdio, nil
}

// openTerminal takes over the master of the container's terminal. The slave is
// kept open here too: reading the master would give EIO, again and again, while
// the container's own processes happen to have none of it open.
func (m *monitor) openTerminal(master int) error {
	if master < 0 {
		if m.terminal {
			return errors.New("cannot attach terminal: the container made none")
		}
		return nil
	}
	if !m.terminal {
		unix.Close(master)
		return errors.New("cannot attach terminal: the container made one that nobody asked for")
	}
	unix.SetNonblock(master, true)
	m.out[0] = &output{m: m, fd: master, kind: Stdout}
	m.stdin.fd = master
	peer, err := ioctlPeer(master)
	if err != nil {
		return fmt.Errorf("cannot open terminal: %w", err)
	}
	m.peer = peer
	return nil
}

// ioctlPeer opens the slave of a terminal, wherever it is mounted; see
// ioctl_tty(2). The monitor must not get it as its controlling terminal.
func ioctlPeer(master int) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// closeFiles closes the container's ends in the monitor; its own streams stay.
func closeFiles(files [3]*os.File) {
	for _, f := range files {
		if f != nil && f != os.Stdin && f != os.Stdout && f != os.Stderr {
			f.Close()
		}
	}
}

// extraFiles are the descriptors that the container inherits from 3 on; nil is one
// that it does not have.
func extraFiles(b birth.Request) []*os.File {
	var files []*os.File
	for i := range b.PreserveFDs {
		unix.CloseOnExec(extraFD + i)
		var f *os.File
		if !slices.Contains(b.Holes, i) {
			f = os.NewFile(uintptr(extraFD+i), "extra "+strconv.Itoa(i))
		}
		files = append(files, f)
	}
	return files
}
