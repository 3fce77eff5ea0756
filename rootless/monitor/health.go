package monitor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
)

// Health is the plan of the health checks: container.Health, completed. What is
// executed is in CheckFile and StartupFile, documents in the run directory.
type Health struct {
	Interval, Timeout, StartPeriod time.Duration `json:",omitempty"` // Interval 0: by hand only
	Retries                        int

	// The check of the start; none where StartupTimeout is 0.
	StartupInterval, StartupTimeout  time.Duration `json:",omitempty"`
	StartupRetries, StartupSuccesses int           `json:",omitempty"`

	// Silent leaves changes out of the events.
	Silent bool `json:",omitempty"`

	OnFailure               string `json:",omitempty"`
	Destination             string `json:",omitempty"`
	MaxLogCount, MaxLogSize int
}

// CheckFile and StartupFile are runtime.ExecDocuments without a PID.
const (
	CheckFile   = "check.json"
	StartupFile = "startup.json"
)

// health runs the checks of one run of the container. It is the loop's: every
// moment has a time, and nothing waits. Containers without a check have none.
type health struct {
	Health
	m         *monitor
	status    string
	streak    int  // failures in a row
	awake     bool // the startup check is done with
	successes int  // of the startup check, in a row
	failures  int
	due       time.Time // of the next check; zero: none
	check     *check    // under way
}

// check is one check: a `moss-runtime health-check`, which prints the result.
type check struct {
	h       *health
	pid     int
	out, in int
	data    []byte
	begun   time.Time
	startup bool
	waiting []*request // who has asked for it
}

// watchHealth begins with the checks, if there are any, for a run that has just begun.
func (m *monitor) watchHealth() {
	m.health = nil
	c, err := m.config()
	if err != nil || c.Health == nil {
		return
	}
	h := &health{Health: *c.Health, m: m, status: container.HealthStarting, awake: c.Health.StartupTimeout == 0}
	m.health = h
	h.plan(0)
	state, err := container.ReadHealth(m.runDir)
	if err != nil || len(state.Log) == 0 {
		return // what is not written is starting
	}
	state.Status, state.FailingStreak = h.status, 0
	h.write(state)
}

// changeHealth goes on with another plan, from the check that comes at once. What is
// known of the container stays known.
func (m *monitor) changeHealth(plan *Health) {
	switch {
	case m.pidfd < 0 || m.held:
	case plan == nil:
		m.forgetHealth()
		m.welcome()
		unix.Unlink(filepath.Join(m.runDir, container.HealthFile))
	case m.health == nil:
		m.watchHealth()
	case m.health.Health != *plan:
		h := m.health
		h.Health = *plan
		h.awake = h.awake || plan.StartupTimeout == 0
		h.plan(0)
	}
}

// plan sets the time of the next check.
func (h *health) plan(wait time.Duration) {
	h.due = time.Time{}
	if h.interval() > 0 {
		h.due = time.Now().Add(wait)
	}
}

func (h *health) interval() time.Duration {
	if h.awake {
		return h.Interval
	}
	return h.StartupInterval
}

// pause is the time until the next check.
func (h *health) pause() time.Duration {
	if h.m.gettingReady() {
		return min(h.interval(), readyCheck)
	}
	return h.interval()
}

// next is when there is something to do; zero is never.
func (h *health) next() time.Time {
	if h == nil || h.check != nil {
		return time.Time{}
	}
	return h.due
}

// busy says whether a check is under way: its process is a child of ours.
func (h *health) busy() bool { return h != nil && h.check != nil }

// tick begins the check that is due.
func (h *health) tick() {
	if h.m.group.frozen() { // nobody there could answer
		h.plan(h.pause())
		return
	}
	if err := h.begin(nil); err != nil {
		h.result(-1, err.Error(), time.Now(), !h.awake)
	}
}

// begin starts a check, for a client or for nobody. One that is under way is joined.
func (h *health) begin(r *request) error {
	if h.check == nil {
		c, err := h.spawn()
		if err != nil {
			return err
		}
		h.check = c
		h.m.loop.watch(c.out, unix.EPOLLIN, c)
	}
	if r != nil {
		h.check.waiting = append(h.check.waiting, r)
	}
	return nil
}

// spawn starts moss-runtime, which lies beside us.
func (h *health) spawn() (*check, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var in, out [2]int
	if err := unix.Pipe2(in[:], unix.O_CLOEXEC); err != nil {
		return nil, err
	}
	defer unix.Close(in[0])
	if err := unix.Pipe2(out[:], unix.O_CLOEXEC); err != nil {
		unix.Close(in[1])
		return nil, err
	}
	defer unix.Close(out[1])
	unix.SetNonblock(out[0], true)
	document, timeout := CheckFile, h.Timeout
	if !h.awake {
		document, timeout = StartupFile, h.StartupTimeout
	}
	argv := []string{"moss-runtime", "health-check", strconv.Itoa(h.m.pid), filepath.Join(h.m.runDir, document),
		strconv.FormatInt(int64(timeout), 10), strconv.Itoa(h.MaxLogSize)}
	c := &check{h: h, out: out[0], in: in[1], begun: time.Now(), startup: !h.awake}
	c.pid, err = syscall.ForkExec(filepath.Join(filepath.Dir(self), "moss-runtime"), argv, &syscall.ProcAttr{
		Env:   append(clean(os.Environ()), "_MOSS_HOST=1"), // stay in these namespaces
		Files: []uintptr{uintptr(in[0]), uintptr(out[1]), uintptr(out[1])},
	})
	if err != nil {
		unix.Close(out[0])
		unix.Close(in[1])
		return nil, err
	}
	return c, nil
}

// ready reads what the check prints, to its end.
func (c *check) ready(uint32) {
	var data [4096]byte
	n, err := retry(func() (int, error) { return unix.Read(c.out, data[:]) })
	if err == unix.EAGAIN {
		return
	}
	if n > 0 {
		c.data = append(c.data, data[:n]...)
		return
	}
	h := c.h
	h.m.loop.close(c.out)
	c.leave()
	// What has printed all it had to say has ended, or is about to.
	retry(func() (int, error) { return unix.Wait4(c.pid, nil, 0, nil) })
	if h.check != c || h.m.health != h {
		return // the container has ended meanwhile
	}
	h.check = nil
	first, output, _ := strings.Cut(string(c.data), "\n")
	code, err := strconv.Atoi(first)
	if err != nil {
		code, output = -1, "the check ended without a result: "+string(c.data)
	}
	if h.m.group.frozen() { // by now: that it took too long is no failure
		h.plan(h.pause())
		c.answer(ControlReply{Error: "it is paused"})
		return
	}
	h.result(code, output, c.begun, c.startup)
	c.answer(ControlReply{Health: h.status, Failed: code != 0})
}

// leave lets moss-runtime kill the check, if it is still under way.
func (c *check) leave() {
	if c.in >= 0 {
		unix.Close(c.in)
		c.in = -1
	}
}

// answer tells those who have asked for the check.
func (c *check) answer(reply ControlReply) {
	for _, r := range c.waiting {
		r.answer(reply)
	}
	c.waiting = nil
}

// forgetHealth ends the checks, with the run of the container.
func (m *monitor) forgetHealth() {
	h := m.health
	m.health = nil
	if h.busy() {
		h.check.leave()
		h.check.answer(ControlReply{Error: "it has ended"})
	}
}

// result draws the conclusions.
func (h *health) result(code int, output string, begun time.Time, startup bool) {
	before, again := h.status, false
	switch {
	case startup && code == 0:
		h.successes++
		if h.successes >= h.StartupSuccesses {
			h.awake, again = true, true
		}
	case startup:
		h.successes = 0
		if !h.m.gettingReady() {
			h.failures++
		}
	case code == 0:
		h.status, h.streak = container.Healthy, 0
	case before == container.HealthStarting && (time.Since(h.m.started) < h.StartPeriod || h.m.gettingReady()):
	default:
		h.streak++
		if h.streak >= h.Retries {
			h.status = container.HealthUnhealthy
		}
	}
	if again {
		h.plan(0)
	} else {
		h.plan(h.pause())
	}
	if before == container.HealthStarting {
		h.m.welcome()
	}
	h.keep(container.HealthResult{
		Start: begun.Format(time.RFC3339Nano), End: time.Now().Format(time.RFC3339Nano), ExitCode: code, Output: output,
	})
	if !h.Silent && (h.status != before || h.Destination == "events_logger") {
		h.m.note(func(e *event.Event) {
			e.Health = h.status
			if h.Destination == "events_logger" {
				e.HealthLog = output
			}
		}, event.HealthStatus)
	}
	if h.status != before {
		h.m.notify.turned(h.status)
	}
	if h.status != before && h.status == container.HealthUnhealthy {
		h.act(h.OnFailure)
	}
	if startup && h.StartupRetries > 0 && h.failures >= h.StartupRetries {
		h.act("restart")
	}
}

// keep adds a result to the state that others read.
func (h *health) keep(r container.HealthResult) {
	state, err := container.ReadHealth(h.m.runDir)
	if err != nil {
		state = &container.HealthState{}
	}
	state.Status, state.FailingStreak = h.status, h.streak
	state.Log = append(state.Log, r)
	if h.MaxLogCount > 0 && len(state.Log) > h.MaxLogCount {
		state.Log = state.Log[len(state.Log)-h.MaxLogCount:]
	}
	h.write(state)
}

// write replaces the state. A full disk does not end the checks.
func (h *health) write(state *container.HealthState) {
	record.Write(filepath.Join(h.m.runDir, container.HealthFile), state, false)
	if strings.HasPrefix(h.Destination, "/") {
		if c, err := h.m.config(); err == nil {
			record.Write(filepath.Join(h.Destination, c.ID+"-healthcheck.log"), state, false)
		}
	}
}

// act does what --health-on-failure asks for.
func (h *health) act(what string) {
	m := h.m
	switch what {
	case "kill":
		m.killNow()
		return
	case "restart":
		m.renew = true
	case "stop":
		m.stopped = true
	default:
		return
	}
	m.askToEnd()
}

// askToEnd sends the stop signal, and sets the time of SIGKILL.
func (m *monitor) askToEnd() {
	c, err := m.config()
	if err != nil || m.pidfd < 0 {
		return
	}
	unix.PidfdSendSignal(m.pidfd, unix.Signal(c.StopSignal), nil, 0)
	m.killAt = sooner(m.killAt, time.Now().Add(c.StopTimeout))
}

// killNow kills every process of the container.
func (m *monitor) killNow() {
	m.killAt = time.Time{}
	m.group.kill()
	if m.pidfd >= 0 {
		unix.PidfdSendSignal(m.pidfd, unix.SIGKILL, nil, 0)
	}
}

// numbers and texts are what has to be known after settling, in their order.
func (h *health) numbers() []*int64 {
	return []*int64{
		(*int64)(&h.Interval), (*int64)(&h.Timeout), (*int64)(&h.StartPeriod), (*int64)(&h.StartupInterval), (*int64)(&h.StartupTimeout),
	}
}

func (h *health) counts() []*int {
	return []*int{&h.Retries, &h.StartupRetries, &h.StartupSuccesses, &h.MaxLogCount, &h.MaxLogSize, &h.streak, &h.successes, &h.failures}
}

func (h *health) texts() []*string { return []*string{&h.OnFailure, &h.Destination, &h.status} }

// save writes the state of a monitor that settles; nil is one without checks.
func (h *health) save(w *stateWriter) {
	w.flag(h != nil)
	if h == nil {
		return
	}
	for _, n := range h.numbers() {
		w.number(*n)
	}
	for _, n := range h.counts() {
		w.number(int64(*n))
	}
	for _, s := range h.texts() {
		w.text(*s)
	}
	w.flag(h.awake)
	w.moment(h.due)
}

// restoreHealth is its reader.
func (m *monitor) restoreHealth(r *stateReader) *health {
	if !r.flag() {
		return nil
	}
	h := &health{m: m}
	for _, n := range h.numbers() {
		*n = r.number()
	}
	for _, n := range h.counts() {
		*n = int(r.number())
	}
	for _, s := range h.texts() {
		*s = r.text()
	}
	h.awake = r.flag()
	h.due = r.moment()
	return h
}
