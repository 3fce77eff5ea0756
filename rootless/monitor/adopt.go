package monitor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"moss/systemd/scope"
)

// Scope is the unit as which the user's service manager is to know a container: see
// package scope. The cgroup is there before the manager knows of it.
type Scope struct {
	Socket string // the manager's
	UID    int    // the user outside of namespaces
	Slice  string
	// Description is for people.
	Description string
	// Own: the monitor gets a scope too, which is stopped before the container's:
	// so a stop of either is one of the container, by its own signal.
	Own bool `json:",omitempty"`
	// Known: it is waited for that the manager knows the name; nobody else could stop it by
	// that before. Without, most containers have ended before they are worth a unit.
	Known bool `json:",omitempty"`
	// Settled: it is waited for that the manager has done everything: it puts the
	// first process into the cgroup again, which is refused when the program has made
	// cgroups below it.
	Settled bool `json:",omitempty"`
}

const (
	adoptAfter    = 100 * time.Millisecond // after the start of one that nobody has to know by its unit
	adoptPatience = 10 * time.Second       // with the manager, which may be reading all units again
	knownPatience = 2 * time.Second        // of a start, which needs no unit
	adoptPause    = 50 * time.Millisecond  // while the scope of the run before is there
	adoptTimes    = 20
	// What a stop of the units may take beyond the stop time-out of the container.
	stopMargin  = 10 * time.Second
	longestStop = 24 * time.Hour
)

// adoption is what is known of the units.
type adoption struct {
	conn    *scope.Conn // the conversation, while there is one
	unit    unitRequest // for the container's unit
	monitor unitRequest // for the monitor's
	known   bool        // the manager knows the container's
	// adopted: the manager has taken over, and watches for the end: it removes the cgroup.
	adopted bool
	tried   int
	next    time.Time // when to try again
	until   time.Time // the end of patience
	own     bool      // the monitor has its unit, or will
	// left: the monitor has left its unit, which the manager stops. It has looked who is
	// there before, maybe: its SIGTERM is still to come then.
	left bool
	// asked: SIGTERM came when a run ended. The manager sends it with the end of the
	// container's unit, and with that of the session.
	asked bool
	// stale: the unit is one of an earlier run, and the manager has missed its end. It does
	// not see the end of this one either, and must be told.
	stale bool
}

// unitRequest is for one unit. The manager tells of the jobs of everybody, and of the end of
// the unit that had the name before.
type unitRequest struct {
	call uint32 // the question; 0: none is open
	job  string // the answer: what makes it
}

// request is the open one that the manager speaks of; nil: of none.
func (a *adoption) request(said *scope.Message) *unitRequest {
	for _, r := range []*unitRequest{&a.unit, &a.monitor} {
		if r.call != 0 && (said.To == r.call || said.To == 0 && r.job != "" && said.Job == r.job) {
			return r
		}
	}
	return nil
}

// busy says whether units are being made.
func (a *adoption) busy() bool { return a.unit.call != 0 || a.monitor.call != 0 }

// adopt asks the manager to take over. That it does not is no reason to end anything.
func (m *monitor) adopt() {
	a := &m.adoption
	a.next = time.Time{}
	c, err := m.config()
	if err != nil || c.Scope == nil || m.group == "" || m.ended {
		return
	}
	if a.conn != nil { // about the run before
		a.next = time.Now().Add(adoptPause)
		return
	}
	s := c.Scope
	conn, err := scope.Dial(s.Socket, s.UID)
	if err != nil {
		return
	}
	a.unit, a.monitor, a.until = unitRequest{}, unitRequest{}, time.Now().Add(adoptPatience)
	own := scope.OfMonitor(c.ID)
	if !a.adopted {
		u := scope.Unit{
			Name: scope.Of(c.ID), Description: s.Description, Slice: s.Slice, PID: m.pid, Delegate: true,
			Limits: c.Limits, Patience: stopMargin,
		}
		if s.Own {
			u.StopsFirst = own // which must not name this one: it could not be made anew while that is there
		}
		a.unit.call, a.known = conn.Start(u), false
	}
	if s.Own && !a.own {
		a.monitor.call = conn.Start(scope.Unit{
			Name: own, Description: scope.DescriptionOfMonitor(s.Description), Slice: scope.Slice, PID: os.Getpid(),
			StopSignal: int(endSignal), Patience: min(c.StopTimeout, longestStop) + stopMargin,
		})
		a.own = true
	}
	a.tried++
	if err := conn.Flush(); err != nil {
		conn.Close()
		return
	}
	a.conn = conn
	m.loop.watch(conn.FD, unix.EPOLLIN, (*adopting)(m))
}

// adopting is the source of what the manager says.
type adopting monitor

func (s *adopting) ready(uint32) {
	m := (*monitor)(s)
	for m.adoption.conn != nil {
		said, err := m.adoption.conn.Next()
		if err != nil {
			m.endAdoption()
		}
		if said == nil {
			return
		}
		m.hearAdoption(said)
	}
}

// hearAdoption takes one thing that the manager says.
func (m *monitor) hearAdoption(said *scope.Message) {
	a := &m.adoption
	r := a.request(said)
	switch {
	case r == nil:
		return
	case said.To != 0 && said.Err == nil:
		r.job = said.Job
		a.known = a.known || r == &a.unit
		return
	case said.To != 0 && said.Err.Exists():
		a.stale = a.stale || r == &a.unit
		m.adoptAgain()
	}
	switch r {
	case &a.monitor:
		a.own = said.To == 0 && said.Result == "done"
		a.left = a.left && (!a.own || readable(int(told))) // the one that was left has ended
		if said.Result == scope.Canceled {                 // by the end of the run before, whose unit stops this one
			m.adoptAgain()
		}
	case &a.unit:
		if said.To == 0 {
			m.adoptedAs(said.Result)
		}
	}
	if *r = (unitRequest{}); !a.busy() {
		m.endAdoption()
	}
}

// adoptAgain has another try made.
func (m *monitor) adoptAgain() {
	if a := &m.adoption; !m.ended && a.tried < adoptTimes {
		a.next = time.Now().Add(time.Duration(a.tried) * adoptPause)
	}
}

// adoptedAs is the end of the job that makes the container's unit.
func (m *monitor) adoptedAs(result string) {
	a := &m.adoption
	a.stale = false
	ended := m.ended || hasEnded(m.pidfd) // of which the monitor may not have heard yet
	switch {
	case result == scope.Canceled && !ended && m.group.populated():
		endLater() // somebody has stopped the unit before it was there
	case result != "done": // it has no unit
	case ended: // the manager has missed that, if nobody was left when it began to watch
		a.adopted, a.stale = true, true
		m.leaveUnit()
	default:
		a.adopted = true
		m.group.limit(m.cfg.Limits) // those that the manager does not know, and has changed
	}
}

// endAdoption is the end of the conversation, however it comes. What has ended meanwhile, and
// has waited for it, is removed here, unless the manager does it.
func (m *monitor) endAdoption() {
	a := &m.adoption
	a.until = time.Time{}
	if a.conn == nil {
		return
	}
	m.loop.watch(a.conn.FD, 0, nil)
	a.conn.Close()
	a.conn = nil
	if !m.ended || a.adopted {
		return
	}
	removeTree(string(m.group)) // nobody is left there, or somebody of another run, who stays
	// It has agreed, and not said what came of it.
	a.stale = a.stale || a.unit.job != ""
	if m.finished || m.stopped { // another run would take the unit's name now
		m.leaveUnit()
	}
}

// awaitUnits waits for the end of the units of the run before: while they are there, their
// names cannot be had. The manager looks at a cgroup once more when it has removed it, and keeps
// a unit for good if somebody is there again by then; and it may have other things to do for
// seconds. It is done with both when it answers.
func (m *monitor) awaitUnits(ahead bool) {
	c := m.cfg
	if c.Scope == nil {
		return
	}
	var dirs []string
	if !ahead { // else this run's process is there already
		dirs = append(dirs, string(m.group))
	}
	if c.Scope.Own && !m.adoption.own && c.Home != "" {
		dirs = append(dirs, c.ownGroup())
	}
	until, there := time.Now().Add(time.Second), false
	for _, dir := range dirs {
		there = scope.AwaitRemoval(dir, time.Until(until)) || there
	}
	if !there {
		return
	}
	tell(c.Scope, (*scope.Conn).State)
	for _, dir := range dirs {
		scope.AwaitRemoval(dir, adoptPause)
	}
}

// ownGroup is the cgroup of the monitor's unit; Home is <slice>/moss.scope/monitors, see package cgroup.
func (c *Config) ownGroup() string { return filepath.Join(c.Home, "../..", scope.OfMonitor(c.ID)) }

// awaitAdoption waits for as much of it as the start has to.
func (m *monitor) awaitAdoption() {
	a, s := &m.adoption, m.cfg.Scope
	if s.Settled {
		m.awaitUnit()
	}
	for until := time.Now().Add(knownPatience); a.conn != nil && s.Known && !a.known; {
		said, err := a.conn.Await(until)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return // it goes on beside the program
		}
		if err != nil {
			m.endAdoption()
			return
		}
		m.hearAdoption(said)
	}
}

// beginAdoption is adopt at the time that is right for a run that begins.
func (m *monitor) beginAdoption() {
	m.adoption.tried, m.adoption.known = 0, false
	switch s := m.cfg.Scope; {
	case s == nil:
	case (s.Known || s.Settled) && m.restarts == 0:
		m.adopt()
	default:
		m.adoption.next = time.Now().Add(adoptAfter)
	}
}

// nextAdoption is when something is to be done about it.
func (m *monitor) nextAdoption() time.Time { return sooner(m.adoption.next, m.adoption.until) }

// lookAfterAdoption does it.
func (m *monitor) lookAfterAdoption(now time.Time) {
	if a := &m.adoption; !a.until.IsZero() && !now.Before(a.until) {
		m.endAdoption()
	}
	if a := &m.adoption; !a.next.IsZero() && !now.Before(a.next) {
		m.adopt()
	}
}

// leaveCgroup is the end of a run for its cgroup. One that the manager has adopted is its to
// remove, when it sees that nobody is left there: it would not see it if that were
// gone already.
func (m *monitor) leaveCgroup() error {
	if a := &m.adoption; !a.adopted && a.conn == nil {
		return m.group.remove()
	}
	if m.group.populated() {
		m.group.kill()
		m.group.waitEmpty(2 * time.Second)
	}
	return nil
}

// leaveOwn is the end of a run after which there will be another: the manager stops the
// monitor's unit when the container's has ended, whether it was stopped or not. So
// the monitor leaves it, and gets a new one with the next run's. A SIGTERM that has come of
// that, or is on its way, means nothing, if there is still a session.
func (m *monitor) leaveOwn() {
	c, err := m.config()
	a := &m.adoption
	if err != nil || !a.own || c.Home == "" {
		return
	}
	m.awaitUnit() // or the manager would put it there after it has left
	if group(c.Home).write("cgroup.procs", "0") == nil {
		a.own, a.left = false, !a.asked
	}
}

// awaitOwn waits for the end of the unit that was left, and so for the SIGTERM that comes of it.
func (m *monitor) awaitOwn() {
	c, err := m.config()
	if err != nil || !m.adoption.left {
		return
	}
	scope.AwaitRemoval(c.ownGroup(), time.Second)
	if a := &m.adoption; unix.Access(c.ownGroup(), unix.F_OK) == unix.ENOENT {
		a.left, a.asked = false, asked() || a.asked
	}
}

// sessionOver says whether the SIGTERM of a run's end was for the end of the session. The
// manager knows: it, too, has got one if everybody has, and heeds it before any question that
// comes after. One that cannot be asked has ended.
func (m *monitor) sessionOver() bool {
	if !m.adoption.asked {
		return false
	}
	m.adoption.asked = false
	c, err := m.config()
	if err != nil || c.Scope == nil {
		return false
	}
	said, err := tell(c.Scope, (*scope.Conn).State)
	return err != nil || said.Err != nil || said.Text == scope.Stopping
}

// leaveUnit is the end of all for the manager, which sees it by itself as a rule. A
// conversation that is under way goes on: awaitUnit waits for its end.
func (m *monitor) leaveUnit() {
	a := &m.adoption
	a.next = time.Time{}
	c, err := m.config()
	if !a.stale || err != nil || c.Scope == nil {
		return
	}
	_, err = tell(c.Scope, func(conn *scope.Conn) uint32 { return conn.StopUnit(scope.Of(c.ID)) })
	a.stale = err != nil
}

// tell asks the manager one thing and waits for its answer: it hears nothing of who hangs up.
func tell(s *Scope, what func(*scope.Conn) uint32) (*scope.Message, error) {
	conn, err := scope.Dial(s.Socket, s.UID)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	question := what(conn)
	if err := conn.Flush(); err != nil {
		return nil, err
	}
	for until := time.Now().Add(adoptPatience); ; {
		said, err := conn.Await(until)
		if err != nil || said.To == question {
			return said, err
		}
	}
}

// awaitUnit waits for the end of the conversation.
func (m *monitor) awaitUnit() {
	for a := &m.adoption; a.conn != nil; {
		said, err := a.conn.Await(a.until)
		if err != nil {
			m.endAdoption()
			return
		}
		m.hearAdoption(said)
	}
}

// killedByOOMD says whether systemd-oomd has killed the container: it writes how
// many processes of a cgroup it has killed into an attribute of the cgroup; see systemd-oomd.service(8).
func (g group) killedByOOMD() bool {
	if g == "" {
		return false
	}
	var value [16]byte
	n, err := unix.Getxattr(string(g), "user.oomd_kill", value[:])
	return err == nil && n > 0 && !slices.Equal(value[:n], []byte("0"))
}
