package monitor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
)

// monitor is the state of the one container. The fields of the second group are
// all that a settled monitor (see settle.go) still knows.
type monitor struct {
	configPath string
	cfg        *Config // read again after settling, when it is needed: see config
	loop       *loop
	buf        []byte // see buffer
	packet     []byte // what a client sends
	large      bool   // the container says much at a time
	clients    []*conn
	program    program // how the process was made

	runDir    string
	terminal  bool
	log       sink
	policy    policy
	attach    *listener
	ctl       *listener
	stdin     input
	out       [2]*output // stdout or the terminal, and stderr
	peer      int        // our own end of the terminal: see openTerminal
	pid       int
	pidfd     int
	lease     *lease
	group     group
	started   time.Time
	restarts  int
	pause     time.Duration // before the last restart
	stopped   bool          // a stop was asked for
	session   bool          // the session has ended: see endSession
	wanted    bool          // by somebody: its end is no failure
	held      bool          // the program is not to run before it is asked for
	wakes     bool          // it waits for clients: see wake.go
	idle      bool          // it was asked to end for want of clients
	renew     bool          // to be started again whatever the policy: see health.act
	killAt    time.Time     // when to kill a container that was asked to end
	timeoutAt time.Time     // the end of --timeout
	timedOut  bool          // it has come
	health    *health       // nil: there is nothing to check
	oom       oomWatch
	adoption  adoption
	notify    *notifier    // nil: no service manager wants to hear anything
	subreaper bool         // processes of the container's may become our children
	external  bool         // another OCI runtime made the process
	early     bool         // moss has not written the whole configuration yet
	born      *native      // a first process that was made ahead
	bornIn    unix.Stat_t  // its cgroup
	executed  []*execution // programs that nobody stays with
	still     holds
	preserved int // descriptors from extraFD on: what the container inherits, and its ports

	// The end of a run.
	ended     bool // the process has been reaped
	status    unix.WaitStatus
	drainAt   time.Time // when to stop waiting for the end of the streams
	restartAt time.Time // when to start again
	last      Exit      // how the run before that ended
	finished  bool      // everything is done: only clients may still be reading
	code      int       // our own exit code then
	settling
}

// Early is the second argument of a monitor whose configuration says no more than
// what the birth needs: the rest comes with Prepared.
const Early = "early"

// Standby is the argument of a monitor that is started ahead: Configure tells it
// what the arguments would have. ConfigFile is the name of its configuration.
const (
	Standby    = "standby"
	ConfigFile = "monitor.json"
)

// standBy waits for Configure; false when the starter has left. guess may be the
// document and the cgroup of the container that will be wanted.
func (m *monitor) standBy(guess []string) bool {
	unix.CloseOnExec(startFD)
	closeInherited(0) // nor shall the process have it
	if len(guess) == 2 {
		m.bearAhead(guess[0], guess[1])
	}
	// There is a moment left: the codec looks at the types now, not when moss waits.
	record.Decode([]byte(everyType), new(ConfigureMessage))
	var told ConfigureMessage
	if !receive(Configure, &told) {
		m.dropBorn()
		return false
	}
	os.Args = []string{os.Args[0], told.Path, Early} // what settle executes again
	m.configPath, m.cfg, m.early = told.Path, &told.Config, true
	return true
}

// everyType has something of each type that is in most configurations.
const everyType = `{"Path":"","Config":{"ID":"","Birth":{"Flags":1,"Join":[],"UIDMap":[]},"Log":{"MaxSize":0},"Limits":{"":""},
"Network":{"Dirs":{},"Request":{"Ports":[{}],"Attachments":[{"IPs":[]}]}},"AutoRemove":true,"Names":[""]}}`

// receive reads one packet of the start conversation before there is a container;
// false when it is another one, or the starter has left.
func receive(kind byte, message any) bool {
	packet := make([]byte, 1+MaxConfiguration)
	n, err := retry(func() (int, error) { return unix.Read(startFD, packet) })
	return err == nil && n > 1 && packet[0] == kind && record.Decode(packet[1:n], message) == nil
}

// descriptors that the monitor is started with.
const (
	startFD = 3 // the start socket
	extraFD = 4 // what the container inherits from 3 on
)

// Main is the program moss-monitor; it returns its exit code.
func Main(args []string) int {
	standby := len(args) >= 2 && args[1] == Standby
	early := len(args) == 3 && args[2] == Early
	if len(args) != 2 && !early && !standby {
		os.Stderr.WriteString("usage: moss-monitor MONITOR.JSON [early] (moss starts it, with a socket as descriptor 3)\n")
		return 125
	}
	if err := detach(); err != nil {
		os.Stderr.WriteString("moss-monitor: " + err.Error() + "\n")
		return 125
	}
	m := &monitor{configPath: args[1], early: early, log: noLog{}, peer: -1, pidfd: -1, oom: oomWatch{fd: -1}}
	m.oom.m = m
	m.stdin = input{m: m, fd: -1}
	var err error
	if m.loop, err = newLoop(); err != nil {
		return 125
	}
	m.catchSignals()
	if standby && !m.standBy(args[2:]) {
		return 0 // nobody wanted it
	}
	if state, ok := syscall.Getenv(stateVariable); ok {
		if err := m.restore(state); err != nil {
			return 125 // it wrote the state itself; the container goes on without it
		}
		return m.serve()
	}
	if !m.begin() {
		return 125
	}
	return m.serve()
}

// detach makes the process independent of who started it.
func detach() error {
	unix.Setsid() // EPERM: it has its own session already
	name := []byte("moss-monitor\x00")
	if err := unix.Prctl(unix.PR_SET_NAME, uintptr(pointer(name)), 0, 0, 0); err != nil {
		return fmt.Errorf("cannot set name: %w", err)
	}
	// Whatever a container leaves behind becomes our child, and is reaped here.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("cannot become subreaper: %w", err)
	}
	return nil
}

// tty says whether the container has a terminal.
func (m *monitor) tty() bool { return m.terminal }

// config is the configuration, read when it is needed for the first time.
func (m *monitor) config() (*Config, error) {
	if m.cfg != nil {
		return m.cfg, nil
	}
	data, err := os.ReadFile(m.configPath)
	if err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", m.configPath, err)
	}
	var c Config
	if err := record.Decode(data, &c); err != nil {
		return nil, fmt.Errorf("cannot read %q: %w", m.configPath, err)
	}
	m.cfg = &c
	return m.cfg, nil
}

// begin has the start conversation; see protocol.go. It returns false when the
// container could not be started: then nothing is left of it.
func (m *monitor) begin() bool {
	unix.CloseOnExec(startFD)
	err := m.load()
	if err == nil {
		err = m.prepare(m.setUp)
	}
	if err == nil {
		err = m.converse()
	}
	if err != nil {
		m.undo()
		unix.Sendto(startFD, encode(Failed, failure(err)), unix.MSG_NOSIGNAL, nil)
		unix.Close(startFD)
		m.awaitUnit()
		return false
	}
	if m.held {
		m.hold()
		return true
	}
	m.started = time.Now()
	m.hooks("start") // that it runs does not depend on them: OCI runtime.md, "Lifecycle"
	m.note(nil, event.Init, event.Start)
	starter := m.addClient(startFD, nil)
	starter.send([]byte{Started})
	m.sweepClients()
	m.running()
	return true
}

// closeInherited closes what moss has inherited from whoever started it: a lock
// or a pipe of a script's would else be held for as long as the container runs,
// and be the container's too. All that Go opens is closed on execve, so what is
// not has come with ours.
func closeInherited(preserve int) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < extraFD+preserve {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

// converse sends Created, waits for Start, and lets the program run.
func (m *monitor) converse() error {
	if err := unix.Sendto(startFD, encode(Created, CreatedMessage{PID: m.pid}), unix.MSG_NOSIGNAL, nil); err != nil {
		return errLeft
	}
	for {
		var packet [256]byte
		n, err := retry(func() (int, error) { return unix.Read(startFD, packet[:]) })
		switch {
		case err == nil && n > 0 && packet[0] == Start && m.wakes:
			m.held = true
			return nil
		case err == nil && n > 0 && packet[0] == Start:
			return m.program.start()
		case err == nil && n > 0 && packet[0] == Hold:
			m.held = true
			return nil
		case err == nil && n > 0 && packet[0] == Resize: // the program finds its window right
			m.resizeBy(packet[1:n])
		default:
			return errLeft
		}
	}
}

// errLeft ends a start whose moss has gone: nobody reads it.
var errLeft = errors.New("moss has left before the start")

// failure says an error in the protocol's words.
func failure(err error) FailedMessage {
	var coded interface{ exitCode() int }
	code := 125
	if errors.As(err, &coded) {
		code = coded.exitCode()
	}
	return FailedMessage{Message: err.Error(), Code: code}
}

// load takes over the configuration.
func (m *monitor) load() error {
	stoodBy := m.cfg != nil // and has closed what it inherited
	c, err := m.config()
	if err != nil {
		return err
	}
	if !stoodBy {
		closeInherited(c.Birth.PreserveFDs + c.Sockets)
	}
	m.runDir, m.terminal = c.RunDir, c.TTY
	m.group = group(c.Cgroup)
	m.wakes = c.Network != nil && c.Network.Request.Wake != nil
	m.external, m.preserved = c.Runtime != nil, c.Birth.PreserveFDs+c.Sockets
	for _, fd := range c.sockets() {
		unix.CloseOnExec(fd)
	}
	m.policy = policy{name: c.Restart, max: c.RestartMax}
	return m.policy.check()
}

// setUp makes what lasts for all runs of the container: log and sockets.
func (m *monitor) setUp() (err error) {
	log, err := openLog(m.cfg)
	if err != nil {
		return err
	}
	m.log = log
	if m.attach, err = m.listenAt(AttachSocket, false); err != nil {
		return err
	}
	if m.ctl, err = m.listenAt(ControlSocket, true); err != nil {
		return err
	}
	if err := m.listenNotify(); err != nil {
		return err
	}
	m.loop.watch(m.attach.fd, unix.EPOLLIN, m.attach)
	m.loop.watch(m.ctl.fd, unix.EPOLLIN, m.ctl)
	return record.Write(filepath.Join(m.runDir, "monitor.pid"), os.Getpid(), false)
}

// serve is the life of the monitor after the start.
func (m *monitor) serve() int {
	for {
		m.reap()
		m.look(time.Now())
		if m.finished && len(m.clients) == 0 && m.adoption.conn == nil {
			return m.code
		}
		if m.forget {
			m.forget = false
			if m.held {
				debug.FreeOSMemory() // what a settled one leaves with its old image
			}
			forgetProgram()
		}
		if m.loop.turn(m.next()) {
			m.active = time.Now()
		}
	}
}

// next is when something is to be done without an event.
func (m *monitor) next() time.Time {
	next := sooner(sooner(m.drainAt, m.restartAt), sooner(m.settleAt, m.lease.retryAt()))
	next = sooner(next, sooner(m.health.next(), m.notify.next()))
	next = sooner(next, m.nextAdoption())
	return sooner(m.giveUpAt(), sooner(next, sooner(m.killAt, m.timeoutAt)))
}

// look does what time has come for.
func (m *monitor) look(now time.Time) {
	due := func(t time.Time) bool { return !t.IsZero() && !now.Before(t) }
	if due(m.drainAt) {
		m.closeStreams()
	}
	if m.ended && !m.finished && m.restartAt.IsZero() && !m.streaming() {
		m.endRun()
	}
	if due(m.restartAt) {
		m.restart()
	}
	if due(m.timeoutAt) {
		m.timeoutAt, m.timedOut = time.Time{}, true
		m.killNow()
	}
	if due(m.killAt) {
		m.killNow()
	}
	if due(m.health.next()) {
		m.health.tick()
	}
	if due(m.notify.next()) {
		m.tickWatchdog(now)
	}
	if due(m.lease.retryAt()) {
		m.relink()
	}
	if due(m.giveUpAt()) {
		m.giveUp(now)
	}
	if due(m.nextAdoption()) {
		m.lookAfterAdoption(now)
	}
	if due(m.settleAt) {
		m.settle(now)
	}
}

// reap takes leave of processes that the container has left to us. It is asked
// at every turn: epoll_wait(2) is interrupted by SIGCHLD.
func (m *monitor) reap() {
	if !m.subreaper || m.lease.busy() || m.health.busy() {
		return
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if pid <= 0 || err != nil {
			return
		}
		if pid == m.pid && !m.ended {
			m.died(status)
		}
		for _, e := range m.executed {
			if e.child && e.pid == pid {
				e.end(status)
				break
			}
		}
	}
}

// running watches a program that has just been started.
func (m *monitor) running() {
	m.loop.watch(m.pidfd, unix.EPOLLIN, (*process)(m))
	m.lease.watch()
	m.throttle()
	if !m.cfg.AutoRemove { // of which nothing stays
		last := container.Last{Boot: container.BootID(), Started: m.started, Restarts: m.restarts}
		container.WriteLast(m.cfg.Dir, &last, false) // a full disk does not end the container
	}
	if m.cfg.Timeout > 0 {
		m.timeoutAt = m.started.Add(m.cfg.Timeout)
	}
	m.watchOOM()
	m.watchHealth()
	m.settleAt = m.started.Add(settleAfter)
}

// process is the source of the container's pidfd.
type process monitor

func (p *process) ready(uint32) {
	m := (*monitor)(p)
	var status unix.WaitStatus
	pid, err := retry(func() (int, error) { return unix.Wait4(m.pid, &status, unix.WNOHANG, nil) })
	if err == nil && pid == m.pid {
		m.died(status)
	}
}

// writePIDFile writes --pidfile.
func writePIDFile(path string, pid int) error {
	if path == "" {
		return nil
	}
	if err := record.Replace(path, []byte(strconv.Itoa(pid)), 0o644, false); err != nil {
		return fmt.Errorf("cannot write PID file: %w", err)
	}
	return nil
}
