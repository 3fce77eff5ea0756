package monitor

import (
	"time"

	"golang.org/x/sys/unix"
)

// source is what the loop calls when a descriptor is ready.
type source interface{ ready(events uint32) }

// loop waits for descriptors and for a moment. Everything happens on one
// goroutine, so nothing here needs a lock, and on one thread, so that the
// monitor stays small.
type loop struct {
	fd      int
	sources map[int32]watched
}

type watched struct {
	source source
	events uint32
}

func newLoop() (*loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	return &loop{fd: fd, sources: map[int32]watched{}}, nil
}

// watch sets the events of fd that s is called for; none takes it out of the
// loop altogether: epoll(7) would report EPOLLHUP even when nobody asks for it.
func (l *loop) watch(fd int, events uint32, s source) {
	was, known := l.sources[int32(fd)]
	if was.events == events && (known || events == 0) {
		return
	}
	op := unix.EPOLL_CTL_MOD
	switch {
	case events == 0:
		op = unix.EPOLL_CTL_DEL
		delete(l.sources, int32(fd))
	case !known:
		op = unix.EPOLL_CTL_ADD
	}
	if events != 0 {
		l.sources[int32(fd)] = watched{s, events}
	}
	// Nothing that is handed in here can be refused, memory aside: they are
	// pipes, sockets, terminals and pidfds.
	unix.EpollCtl(l.fd, op, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)})
}

// close takes fd out of the loop and closes it.
func (l *loop) close(fd int) {
	if fd < 0 {
		return
	}
	l.watch(fd, 0, nil)
	unix.Close(fd)
}

// turn waits for one event, or until the moment (zero: for ever), and handles
// it: then it returns true. One event at a time, because handling one may close
// what another is about.
func (l *loop) turn(until time.Time) bool {
	var events [1]unix.EpollEvent
	n, err := unix.EpollWait(l.fd, events[:], timeout(until))
	if err != nil || n == 0 {
		return false // EINTR: a child of the container's may have been left to us
	}
	if w, ok := l.sources[events[0].Fd]; ok {
		w.source.ready(events[0].Events)
	}
	return true
}

// timeout is in milliseconds, rounded up: waking early would mean waking twice.
func timeout(until time.Time) int {
	if until.IsZero() {
		return -1
	}
	left := time.Until(until)
	if left <= 0 {
		return 0
	}
	return int((left + time.Millisecond - 1) / time.Millisecond)
}

// sooner is the earlier moment of two, of which zero is never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// retry calls f again for as long as a signal interrupts it.
func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}
