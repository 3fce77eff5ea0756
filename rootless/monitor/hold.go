package monitor

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/event"
)

// hold keeps a container whose program has not been executed: everything else is
// done. The moss that has made it leaves, and another one may attach, let the
// program go, or end it all.
func (m *monitor) hold() {
	m.note(nil, event.Init)
	m.keepHeld()
	starter := m.addClient(startFD, nil)
	starter.send([]byte{Started})
	m.sweepClients()
}

// keepHeld is the rest of hold, also for one that waits for clients again.
func (m *monitor) keepHeld() {
	m.stopped = true // if it is killed now, that is the end
	m.updateLive(func(live *container.Live) { live.Initialized, live.Waiting = true, m.wakes })
	m.loop.watch(m.pidfd, unix.EPOLLIN, (*process)(m))
	m.lease.watch()
	m.throttle()
	if m.wakes {
		m.forget = true // it may be for long
		m.notify.says("waits for a connection")
		m.notStopped()
	}
}

// letGo executes the program of a container that was held. If it cannot be
// executed the container has ended.
func (m *monitor) letGo() error {
	switch {
	case m.ended:
		return errors.New("cannot start container: it has ended")
	case !m.held:
		return errors.New("cannot start container: it has been started")
	}
	m.held, m.stopped = false, false
	m.loop.watch(m.pidfd, 0, nil) // start waits for its end itself, should it fail
	m.started = time.Now()
	if err := m.program.start(); err != nil && m.wakes {
		m.notWoken(err)
		return err
	} else if err != nil {
		m.discardRun()
		m.ended = true
		m.finish(Exit{Code: failure(err).Code, At: time.Now(), Error: err.Error()}, nil)
		return err
	}
	m.hooks("start")
	m.note(nil, event.Start)
	m.updateLive(func(live *container.Live) { live.Initialized, live.Waiting, live.Started = false, false, m.started })
	m.running()
	m.welcome()
	m.notify.says("running")
	return nil
}
