package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
)

// follow prints what comes, across rotations and restarts.
func (s *files) follow(ctx context.Context, yield func(Entry) error) error {
	for {
		w, err := newWatch(ctx, s.log.Container, filepath.Dir(s.log.Path))
		if err != nil {
			return err
		}
		err = s.until(w, yield)
		w.close()
		if err != nil {
			return err
		}
		if again, err := restarted(ctx, s.log.Container); err != nil || !again {
			return err
		}
	}
}

// until yields what there is and what comes until the monitor has ended.
func (s *files) until(w *watch, yield func(Entry) error) error {
	for {
		ended, err := w.wait()
		if err != nil {
			return err
		}
		for {
			e, ok, err := s.next()
			if !ok && ended && err == nil {
				e, ok = s.rest()
			}
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if err := yield(e); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

// restarted says whether a container whose monitor has ended runs again, with another: it
// waits for a moss restart under way. One that runs on without a monitor has no log.
func restarted(ctx context.Context, c *container.Container) (bool, error) {
	if err := c.AwaitRestart(ctx); err != nil {
		return false, err
	}
	live := c.Look().Live
	return live != nil && container.Alive(live.Monitor, live.MonitorStart), nil
}

// watch wakes who reads a log: when a file of the log's directory changes, when
// the monitor ends, and when ctx is done.
type watch struct {
	ctx     context.Context
	inotify int // -1: no files are watched
	monitor int // pidfd; -1: it has ended
	wake    *os.File
	stop    func()
	fresh   bool // nothing has been waited for yet
}

func newWatch(ctx context.Context, c *container.Container, dir string) (_ *watch, err error) {
	w := &watch{ctx: ctx, inotify: -1, monitor: -1, fresh: true}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	if dir != "" {
		if w.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
			return nil, fmt.Errorf("cannot watch files: %w (see fs.inotify.max_user_instances)", err)
		}
		const events = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO
		if _, err = unix.InotifyAddWatch(w.inotify, dir, events); err != nil {
			return nil, fmt.Errorf("cannot watch %q: %w (see fs.inotify.max_user_watches)", dir, err)
		}
	}
	if live := c.Look().Live; live != nil {
		w.monitor, err = container.Hold(live.Monitor, live.MonitorStart)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, err
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	w.wake = read
	done := context.AfterFunc(ctx, func() { write.Close() })
	w.stop = func() {
		if done() {
			write.Close()
		}
	}
	return w, nil
}

func (w *watch) close() {
	for _, fd := range []int{w.inotify, w.monitor} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	if w.wake != nil {
		w.stop()
		w.wake.Close()
	}
}

// wait returns when there may be more to read, the first time at once: something may
// have been written before the files were watched. ended says that it is the last.
func (w *watch) wait() (ended bool, err error) {
	if w.monitor < 0 {
		return true, nil
	}
	timeout := -1
	if w.fresh {
		w.fresh, timeout = false, 0
	}
	for {
		fds := []unix.PollFd{
			{Fd: int32(w.inotify), Events: unix.POLLIN},
			{Fd: int32(w.monitor), Events: unix.POLLIN},
			{Fd: int32(w.wake.Fd()), Events: unix.POLLIN},
		}
		if _, err := unix.Poll(fds, timeout); err != nil {
			if err == unix.EINTR {
				continue
			}
			return false, err
		}
		if fds[2].Revents != 0 {
			return false, w.ctx.Err()
		}
		var events [4096]byte // what they say does not matter
		for w.inotify >= 0 {
			if n, err := unix.Read(w.inotify, events[:]); n <= 0 || err != nil {
				break
			}
		}
		return fds[1].Revents != 0, nil
	}
}
