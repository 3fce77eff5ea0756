package rootless

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/monitor"
)

// fileID tells a file from another of the same name.
type fileID struct{ device, inode uint64 }

func identify(f *os.File) fileID {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return fileID{}
	}
	return fileID{uint64(st.Dev), st.Ino}
}

func sameFile(path string, f *os.File) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && fileID{uint64(st.Dev), st.Ino} == identify(f)
}

// follower wakes who reads a log: when a file of the log's directory changes,
// when the monitor ends, and when ctx is done.
type follower struct {
	ctx     context.Context
	log     monitor.Log
	inotify int
	monitor int // pidfd; -1: it has ended
	wake    *os.File
	stop    func()
}

func newFollower(ctx context.Context, c *container.Container, log monitor.Log) (_ *follower, err error) {
	f := &follower{ctx: ctx, log: log, inotify: -1, monitor: -1}
	defer func() {
		if err != nil {
			f.close()
		}
	}()
	if f.inotify, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		return nil, fmt.Errorf("cannot watch files: %w (see fs.inotify.max_user_instances)", err)
	}
	dir := filepath.Dir(log.Path)
	const events = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO
	if _, err = unix.InotifyAddWatch(f.inotify, dir, events); err != nil {
		return nil, fmt.Errorf("cannot watch %q: %w (see fs.inotify.max_user_watches)", dir, err)
	}
	if live := c.Look().Live; live != nil {
		f.monitor, err = pidFD(live.Monitor, live.MonitorStart)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, err
		}
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	f.wake = read
	done := context.AfterFunc(ctx, func() { write.Close() })
	f.stop = func() {
		if done() {
			write.Close()
		}
	}
	return f, nil
}

func (f *follower) close() {
	for _, fd := range []int{f.inotify, f.monitor} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
	if f.wake != nil {
		f.stop()
		f.wake.Close()
	}
}

// wait returns when there may be more to read; ended says that it is the last.
func (f *follower) wait() (ended bool, err error) {
	if f.monitor < 0 {
		return true, nil
	}
	for {
		fds := []unix.PollFd{
			{Fd: int32(f.inotify), Events: unix.POLLIN},
			{Fd: int32(f.monitor), Events: unix.POLLIN},
			{Fd: int32(f.wake.Fd()), Events: unix.POLLIN},
		}
		if _, err := unix.Poll(fds, -1); err != nil {
			if err == unix.EINTR {
				continue
			}
			return false, err
		}
		if fds[2].Revents != 0 {
			return false, f.ctx.Err()
		}
		var events [4096]byte // what they say does not matter
		for {
			if n, err := unix.Read(f.inotify, events[:]); n <= 0 || err != nil {
				break
			}
		}
		return fds[1].Revents != 0, nil
	}
}

// follow prints what there is and what comes, across rotations.
func (p *logPrinter) follow(f *follower) error {
	files, err := openLogs(f.log)
	if err != nil {
		return err
	}
	defer func() { closeAll(files) }()
	if err := p.printTail(files); err != nil {
		return err
	}
	for !p.done {
		ended, err := f.wait()
		if err != nil {
			return err
		}
		files, err = p.printNew(f.log, files)
		if err != nil {
			return err
		}
		if ended {
			return p.flush()
		}
	}
	return nil
}

// printNew prints what was added since files were read, the last of which is
// the current one, and returns the one to go on with.
func (p *logPrinter) printNew(log monitor.Log, files []*os.File) ([]*os.File, error) {
	if len(files) > 0 {
		current := files[len(files)-1]
		if err := rewindCut(current); err != nil {
			return files, err
		}
		if err := p.drain(current); err != nil || sameFile(log.Path, current) {
			return files, err
		}
	}
	now, err := openLogs(log)
	if err != nil {
		return files, err
	}
	if len(files) == 0 {
		return now, p.printEach(now)
	}
	current := files[len(files)-1]
	newer := now
	for i, f := range now {
		if identify(f) == identify(current) {
			f.Close()
			closeAll(now[:i])
			newer = now[i+1:]
		}
	}
	// The monitor has opened the newer file after its last write to this one.
	if err := p.drain(current); err != nil || len(newer) == 0 {
		closeAll(newer)
		return files, err
	}
	closeAll(files)
	if err := p.flush(); err != nil {
		return newer, err
	}
	return newer, p.printEach(newer)
}

func (p *logPrinter) printEach(files []*os.File) error {
	for i, f := range files {
		if err := p.drain(f); err != nil {
			return err
		}
		if i < len(files)-1 {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// rewindCut goes back to the end of a file that has been cut shorter, by the
// monitor on a full disk or by its user.
func rewindCut(f *os.File) error {
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < at {
		_, err = f.Seek(info.Size(), io.SeekStart)
	}
	return err
}
