package monitor

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A monitor that has nothing to do executes itself again, with the little that
// it still has to know in one environment variable, and with its descriptors.
// What the start has left in memory goes with the old image: the JSON decoder's
// tables, the threads, the heap. It stays the same process, with the same PID,
// the same start time and the same children; see execve(2).

// stateVariable holds the state of a settled monitor.
const stateVariable = "_MOSS_MONITOR"

const (
	settleAfter = time.Second      // idle for so long
	settleAgain = 30 * time.Second // at least between two times
)

// settling says when.
type settling struct {
	settleAt time.Time
	settled  time.Time // the last time
	active   time.Time // when something last happened
	forget   bool      // before the next wait: see forgetProgram
}

// settleSoon asks for it again, after something that took memory.
func (m *monitor) settleSoon() {
	if !m.settleAt.IsZero() || m.ended || m.pid == 0 || m.held {
		return
	}
	m.settleAt = time.Now().Add(settleAfter)
	if again := m.settled.Add(settleAgain); again.After(m.settleAt) {
		m.settleAt = again
	}
}

// settle does it, if the monitor is idle now; else it looks again later.
func (m *monitor) settle(now time.Time) {
	m.settleAt = time.Time{}
	if m.ended {
		return
	}
	if idle := now.Sub(m.active); idle < settleAfter {
		m.settleAt = m.active.Add(settleAfter)
		return
	}
	if !m.quiet() {
		m.settleAt = now.Add(settleAgain)
		return
	}
	state, fds := m.save()
	for _, fd := range fds {
		unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
	}
	env := append(clean(os.Environ()), stateVariable+"="+state)
	ended, resume := releaseSignals()
	if ended {
		m.endSession()
	} else {
		syscall.Exec("/proc/self/exe", os.Args, env)
	}
	// It could not, or must not: everything is as it was, only larger.
	m.loop.close(int(told))
	m.catchSignals()
	resume()
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
}

// quiet says whether everything that the monitor knows is in save.
func (m *monitor) quiet() bool {
	for _, c := range m.clients {
		if len(c.queue) > 0 || c.parked {
			return false
		}
	}
	return len(m.stdin.pending) == 0 && m.notify.patient(time.Now()) && m.adoption.conn == nil && m.adoption.next.IsZero() && !m.health.busy() && !m.lease.busy() && m.lease.retryAt().IsZero() && m.loop.only(m.descriptors())
}

// clean is the environment without the state of an earlier time. A second
// processor is for the start, where the network is connected beside the rest.
func clean(env []string) []string {
	out := []string{"GOMAXPROCS=1"}
	for _, e := range env {
		if !strings.HasPrefix(e, stateVariable+"=") && !strings.HasPrefix(e, "GOMAXPROCS=") {
			out = append(out, e)
		}
	}
	return out
}

// descriptors are the ones in the loop that save knows of.
func (m *monitor) descriptors() int {
	n := len(m.clients) + 3 // attach, ctl, pidfd
	if told >= 0 {
		n++
	}
	for _, o := range m.out {
		if o != nil && o.fd >= 0 {
			n++
		}
	}
	if m.lease != nil && m.lease.fd >= 0 {
		n++
	}
	if m.oom.fd >= 0 {
		n++
	}
	if m.notify != nil && m.notify.fd >= 0 {
		n++
	}
	for _, e := range m.executed {
		if n++; e.master >= 0 {
			n++
		}
	}
	return n
}

// only says whether the loop watches n descriptors and no more: no request of a
// control client is half read.
func (l *loop) only(n int) bool { return len(l.sources) == n }

// save writes the state, and says which descriptors belong to it. Its reader is
// restore: the same fields in the same order.
func (m *monitor) save() (string, []int) {
	var w stateWriter
	w.flag(m.terminal)
	w.text(m.runDir)
	m.log.save(&w)
	w.text(m.policy.name)
	w.number(int64(m.policy.max))
	m.saveStreams(&w)
	m.saveRun(&w)
	m.saveNotify(&w)
	m.health.save(&w)
	w.flag(m.subreaper)
	w.flag(m.external)
	w.number(int64(m.preserved))
	for i := range m.preserved {
		w.fds = append(w.fds, extraFD+i)
	}
	m.saveExecutions(&w)
	w.number(int64(len(m.clients)))
	for _, c := range m.clients {
		w.descriptor(c.fd)
		w.flag(c.streams)
		w.flag(c.joined)
	}
	return string(w.out), w.fds
}

// restore takes the state over, and goes on.
func (m *monitor) restore(state string) error {
	r := stateReader{rest: state}
	m.early = false // whatever the arguments still say
	m.terminal = r.flag()
	m.runDir = r.text()
	m.log = restoreLog(&r)
	m.policy = policy{name: r.text(), max: int(r.number())}
	m.restoreStreams(&r)
	m.restoreRun(&r)
	m.restoreNotify(&r)
	m.health = m.restoreHealth(&r)
	m.subreaper = r.flag()
	m.external = r.flag()
	m.preserved = int(r.number())
	for i := range m.preserved {
		unix.CloseOnExec(extraFD + i)
	}
	m.restoreExecutions(&r)
	clients := make([]*conn, r.number())
	for i := range clients {
		clients[i] = &conn{m: m, fd: r.descriptor(), streams: r.flag(), joined: r.flag()}
	}
	if r.err != nil {
		return r.err
	}
	m.clients = clients
	m.goOn()
	return nil
}

// saveStreams is what comes and goes: sockets, the program's streams.
func (m *monitor) saveStreams(w *stateWriter) {
	w.descriptor(m.attach.fd)
	w.descriptor(m.ctl.fd)
	w.descriptor(m.stdin.fd)
	w.flag(m.stdin.eof)
	for _, o := range m.out {
		if o == nil {
			o = &output{fd: -1}
		}
		w.descriptor(o.fd)
	}
	w.descriptor(m.peer)
}

func (m *monitor) restoreStreams(r *stateReader) {
	m.attach = &listener{m: m, fd: r.descriptor()}
	m.ctl = &listener{m: m, fd: r.descriptor(), control: true}
	m.stdin = input{m: m, fd: r.descriptor(), eof: r.flag()}
	for i, kind := range []byte{Stdout, Stderr} {
		if fd := r.descriptor(); fd >= 0 {
			m.out[i] = &output{m: m, fd: fd, kind: kind}
		}
	}
	m.peer = r.descriptor()
}

// saveRun is what is known of this run, and of those before it.
func (m *monitor) saveRun(w *stateWriter) {
	w.number(int64(m.pid))
	w.descriptor(m.pidfd)
	w.flag(m.lease != nil)
	if m.lease != nil {
		w.descriptor(m.lease.fd)
	}
	w.text(string(m.group))
	w.number(m.started.UnixNano())
	w.number(int64(m.restarts))
	w.number(int64(m.pause))
	for _, f := range m.flags() {
		w.flag(*f)
	}
	w.moment(m.killAt)
	w.moment(m.timeoutAt)
	w.descriptor(m.oom.fd)
	w.number(int64(m.oom.told))
	w.number(int64(m.oom.around))
	w.descriptor(int(told))
}

func (m *monitor) restoreRun(r *stateReader) {
	m.pid = int(r.number())
	m.pidfd = r.descriptor()
	if r.flag() {
		m.lease = &lease{m: m, fd: r.descriptor(), event: -1}
	}
	m.group = group(r.text())
	m.started = time.Unix(0, r.number())
	m.restarts = int(r.number())
	m.pause = time.Duration(r.number())
	for _, f := range m.flags() {
		*f = r.flag()
	}
	m.killAt = r.moment()
	m.timeoutAt = r.moment()
	m.oom = oomWatch{m: m, fd: r.descriptor(), told: int(r.number()), around: int(r.number())}
	if fd := r.descriptor(); fd >= 0 {
		heirOf(fd)
	}
}

// flags are those that outlive a settling.
func (m *monitor) flags() [11]*bool {
	a := &m.adoption
	return [11]*bool{&m.stopped, &m.session, &m.wanted, &a.own, &a.left, &a.stale, &a.adopted, &m.wakes, &m.idle, &m.renew, &m.timedOut}
}

// goOn has the loop watch again what it watched.
func (m *monitor) goOn() {
	for _, c := range m.clients {
		c.listen()
	}
	m.loop.watch(m.attach.fd, unix.EPOLLIN, m.attach)
	m.loop.watch(m.ctl.fd, unix.EPOLLIN, m.ctl)
	m.loop.watch(m.pidfd, unix.EPOLLIN, (*process)(m))
	if m.oom.fd >= 0 {
		m.loop.watch(m.oom.fd, unix.EPOLLPRI, &m.oom)
	}
	restored := m.executed
	m.executed = nil
	for _, e := range restored {
		m.keepExecution(e)
	}
	m.lease.watch()
	m.throttle()
	if m.stdin.fd >= 0 && m.stdin.eof { // all of it was written: it is closed by now
		m.stdin.close()
	}
	m.settled, m.forget = time.Now(), true
	if m.lease != nil && m.lease.fd < 0 {
		m.relink()
	}
}

// forgetProgram takes the program's own pages out of the process: they stay in
// the page cache, and come back from there as they are needed. What a start needs
// is most of the program, what a resting monitor needs very little.
func forgetProgram() {
	fd, err := unix.Open("/proc/self/maps", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var data [1024]byte // the program's mappings come first, see proc_pid_maps(5)
	n, _ := unix.Read(fd, data[:])
	for line := range strings.Lines(string(data[:max(n, 0)])) {
		var bounds, mode string
		bounds, line, _ = strings.Cut(line, " ")
		mode, line, _ = strings.Cut(line, " ")
		if strings.Contains(mode, "w") || !strings.Contains(line, "/") {
			continue // its data, or no file at all
		}
		from, to, _ := strings.Cut(bounds, "-")
		start, err1 := strconv.ParseUint(from, 16, 64)
		end, err2 := strconv.ParseUint(to, 16, 64)
		if err1 == nil && err2 == nil {
			unix.RawSyscall(unix.SYS_MADVISE, uintptr(start), uintptr(end-start), unix.MADV_DONTNEED)
		}
	}
}

// stateWriter writes fields, one a line.
type stateWriter struct {
	out []byte
	fds []int
}

func (w *stateWriter) number(n int64) {
	w.out = append(strconv.AppendInt(w.out, n, 10), '\n')
}

func (w *stateWriter) text(s string) {
	w.out = append(strconv.AppendQuote(w.out, s), '\n')
}

func (w *stateWriter) flag(b bool) {
	if b {
		w.number(1)
		return
	}
	w.number(0)
}

// descriptor writes an open descriptor, or -1.
func (w *stateWriter) descriptor(fd int) {
	w.number(int64(fd))
	if fd >= 0 {
		w.fds = append(w.fds, fd)
	}
}

// moment writes how far away a moment is: zero stays zero. The clock may be set
// between now and the reading.
func (w *stateWriter) moment(t time.Time) {
	w.flag(!t.IsZero())
	if !t.IsZero() {
		w.number(int64(time.Until(t)))
	}
}

// stateReader reads them. After an error everything is zero.
type stateReader struct {
	rest string
	err  error
}

func (r *stateReader) field() string {
	f, rest, ok := strings.Cut(r.rest, "\n")
	if !ok && r.err == nil {
		r.err = errors.New("the state is cut off")
	}
	r.rest = rest
	return f
}

func (r *stateReader) number() int64 {
	n, err := strconv.ParseInt(r.field(), 10, 64)
	if err != nil && r.err == nil {
		r.err = err
	}
	return n
}

func (r *stateReader) text() string {
	s, err := strconv.Unquote(r.field())
	if err != nil && r.err == nil {
		r.err = err
	}
	return s
}

func (r *stateReader) flag() bool { return r.number() != 0 }

func (r *stateReader) moment() time.Time {
	if !r.flag() {
		return time.Time{}
	}
	return time.Now().Add(time.Duration(r.number()))
}

func (r *stateReader) descriptor() int {
	fd := int(r.number())
	if r.err != nil {
		return -1
	}
	if fd >= 0 {
		unix.CloseOnExec(fd)
	}
	return fd
}
