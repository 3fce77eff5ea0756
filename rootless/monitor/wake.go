package monitor

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/slirp"
)

// A container that waits for clients is held, as after init, when it is started: the
// network is there and its ports are open, but the program does not run. moss-net tells of
// the first client, and when there has been none for a while. After its end the container
// is made and held anew. Only a stop is the end.

// maxWakePause bounds the pause after a run that has failed: the ports wait in moss-net so
// long, and some more.
const maxWakePause = 5 * time.Second

// say tells moss-net about the container; to one that is dying it does not matter.
func (l *lease) say(what byte) {
	if l != nil && l.fd >= 0 && l.m.wakes {
		unix.Sendto(l.fd, []byte{what}, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, nil)
	}
}

// hear takes what moss-net says about the clients; false: it has died.
func (l *lease) hear() bool {
	var said [1]byte
	n, err := retry(func() (int, error) {
		n, _, err := unix.Recvfrom(l.fd, said[:], unix.MSG_DONTWAIT)
		return n, err
	})
	if err == unix.EAGAIN {
		return true
	}
	if err != nil || n == 0 {
		return false
	}
	m := l.m
	switch {
	case said[0] == slirp.WakeClient && m.held:
		m.letGo() // what goes wrong is in the log
	case said[0] == slirp.WakeClient && !m.ended:
		m.welcome()
	case said[0] == slirp.WakeIdle && m.occupied():
		l.say(slirp.WakeStay)
	case said[0] == slirp.WakeIdle && !m.ended:
		m.idle = true
		m.askToEnd()
	}
	m.settleSoon()
	return true
}

// closeParked closes the ports that wait in moss-net for the next run, at the end of all.
func (m *monitor) closeParked() {
	if !m.wakes {
		return
	}
	if c, err := m.config(); err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), releaseLimit)
		defer cancel()
		slirp.Unpark(ctx, c.Network.Dirs, c.ID)
	}
}

// A program may listen before it can serve, and refuse whoever comes. Where there is a
// health check, clients wait until it has succeeded; it is tried often for them, and what
// it says meanwhile counts as in the start period.
const (
	readyCheck    = 100 * time.Millisecond
	readyPatience = 45 * time.Second // then they are led there all the same: moss-net resets them after a minute
)

// gettingReady says whether clients are to wait although the program runs.
func (m *monitor) gettingReady() bool {
	return m.wakes && m.health != nil && m.health.status == container.HealthStarting && m.health.interval() > 0 &&
		time.Since(m.started) < readyPatience
}

// welcome has moss-net lead the clients to the program, when they can be served.
func (m *monitor) welcome() {
	if !m.gettingReady() {
		m.lease.say(slirp.WakeRunning)
	}
}

// occupied says whether somebody is with the container who is no client: attached, or by exec.
func (m *monitor) occupied() bool {
	if len(m.executed) > 0 || m.group.frozen() || m.held {
		return true
	}
	for _, c := range m.clients {
		if c.streams {
			return true
		}
	}
	sessions, err := os.ReadDir(filepath.Join(m.runDir, ExecDir))
	if err != nil {
		return false
	}
	for _, s := range sessions {
		var r struct {
			PID   int
			Start uint64
		}
		found, err := record.Read(filepath.Join(m.runDir, ExecDir, s.Name()), &r)
		if found && err == nil && container.Alive(r.PID, r.Start) {
			return true
		}
	}
	return false
}

// notStopped takes back that a user has stopped the container, which has been started: a
// boot is to start it again, although it has not run since.
func (m *monitor) notStopped() {
	c, err := m.config()
	if err != nil {
		return
	}
	if last, err := container.ReadLast(c.Dir); err == nil && last != nil && last.StoppedByUser {
		last.StoppedByUser = false
		container.WriteLast(c.Dir, last, false)
	}
}

// goesOn says whether the container is to wait for clients again when this run has ended.
func (m *monitor) goesOn() bool { return m.wakes && !m.stopped && !m.session && !m.finished }

// wakePause is the pause before the container waits for clients again.
func (m *monitor) wakePause(ran time.Duration) time.Duration {
	if m.idle {
		m.idle = false
		return 0
	}
	return min(backOff(m.pause, ran), maxWakePause)
}

// notWoken is the end of a run whose program could not be executed.
func (m *monitor) notWoken(err error) {
	m.stopped = false
	m.lease.say(slirp.WakeFailed)
	m.logFailure(err)
	m.discardRun()
	m.ended = true
	exit := Exit{Code: failure(err).Code, At: time.Now(), Error: err.Error()}
	m.noteEnd(exit)
	m.waitToRestart(exit)
}

// logFailure writes into the container's log why it could not be started: nobody is there
// to be told.
func (m *monitor) logFailure(err error) {
	now := time.Now()
	m.log.write(Stderr, fmt.Appendf(nil, "moss: cannot start container: %v\n", err), now)
}
