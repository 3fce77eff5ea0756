// Package namespace makes, keeps and enters network namespaces.
package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// Thread is an operating system thread that lives in one network namespace.
// Sockets and netlink handles belong to the namespace that they were made in,
// and can be used from anywhere; so little more than their making runs here.
//
// A process without rights over the host's network namespace cannot come back
// to it with setns(2). That is why the rest of the process never leaves it, and
// why this thread never returns to the Go scheduler.
type Thread struct {
	// File is the namespace.
	File *os.File
	jobs chan job
}

type job struct {
	do   func() error
	done chan error
}

// Open enters the namespace bound at path with a new thread. When there is
// none, a new one is made and bound there; made says so.
func Open(path string) (t *Thread, made bool, err error) {
	file, err := openBound(path)
	if err == nil {
		t, err = Enter(file)
		return t, false, err
	}
	if !errors.Is(err, os.ErrNotExist) {
		return nil, false, fmt.Errorf("cannot open network namespace %q: %w", path, err)
	}
	t, err = start(func() (*os.File, error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return nil, err
		}
		return bind(path)
	})
	if err != nil {
		return nil, false, fmt.Errorf("cannot make network namespace %q: %w", path, err)
	}
	return t, true, nil
}

// Enter makes a thread in the namespace file, which becomes the thread's.
func Enter(file *os.File) (*Thread, error) {
	t, err := start(func() (*os.File, error) {
		return file, unix.Setns(int(file.Fd()), unix.CLONE_NEWNET)
	})
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("cannot enter network namespace: %w", err)
	}
	return t, nil
}

// Do runs f on the thread.
func (t *Thread) Do(f func() error) error {
	done := make(chan error, 1)
	t.jobs <- job{f, done}
	return <-done
}

// In runs f on the thread while that is in the network namespace fd, and
// brings it back: a thread that stayed would keep fd's namespace alive.
func (t *Thread) In(fd int, f func() error) error {
	return t.Do(func() (err error) {
		if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter network namespace: %w", err)
		}
		defer func() {
			if back := unix.Setns(int(t.File.Fd()), unix.CLONE_NEWNET); back != nil {
				err = errors.Join(err, fmt.Errorf("cannot leave network namespace: %w", back))
			}
		}()
		return f()
	})
}

// Close ends the thread. The namespace stays where it is bound.
func (t *Thread) Close() error {
	close(t.jobs)
	return t.File.Close()
}

// start makes the thread; enter runs on it first.
func start(enter func() (*os.File, error)) (*Thread, error) {
	t := &Thread{jobs: make(chan job)}
	ready := make(chan error)
	go func() { // ends with Close; never unlocked, so that the thread ends too
		runtime.LockOSThread()
		var err error
		t.File, err = enter()
		ready <- err
		if err != nil {
			return
		}
		for j := range t.jobs {
			j.done <- j.do()
		}
	}()
	return t, <-ready
}

// openBound opens path if a namespace is bound there. A file that is only the
// place for one (left by a kill or by another mount namespace) is no namespace.
func openBound(path string) (*os.File, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(file.Fd()), &fs); err != nil {
		file.Close()
		return nil, err
	}
	if fs.Type != unix.NSFS_MAGIC {
		file.Close()
		return nil, os.ErrNotExist
	}
	return file, nil
}

// bind binds the calling thread's network namespace at path: it then lives
// without a process in it, as long as the mount namespace.
func bind(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	place, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		return nil, err
	}
	place.Close()
	self := fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid())
	if err := unix.Mount(self, path, "", unix.MS_BIND, ""); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// Sysctl sets a variable below /proc/sys/net of the calling thread's network
// namespace: proc(5) shows each thread its own there.
func Sysctl(name, value string) error {
	path := filepath.Join("/proc/sys/net", name)
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		_, err = unix.Write(fd, []byte(value))
		unix.Close(fd)
	}
	if err != nil {
		return fmt.Errorf("cannot set sysctl %q to %q: %w", name, value, err)
	}
	return nil
}
