package slirp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// startTimeout bounds how long a start of moss-net may take; it takes 15 ms.
const startTimeout = 10 * time.Second

// Ensure makes sure that moss-net runs and listens. The caller must be in the
// user's kept user and mount namespaces and in the host's network namespace:
// moss-net inherits them. Concurrent callers start one moss-net.
func Ensure(ctx context.Context, d Dirs) error {
	if err := os.MkdirAll(d.Run, 0o700); err != nil {
		return fmt.Errorf("cannot start moss-net: %w", err)
	}
	lock, err := os.OpenFile(d.Lock(), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fmt.Errorf("cannot start moss-net: %w", err)
	}
	defer lock.Close()
	if err := flock(ctx, lock); err != nil {
		return fmt.Errorf("cannot start moss-net: cannot lock %q: %w", d.Lock(), err)
	}

	// Somebody else may have started it while this one waited for the lock.
	if sock, err := dial(d); err == nil {
		return unix.Close(sock)
	} else if !errors.Is(err, errGone) {
		return fmt.Errorf("cannot reach moss-net: %w", err)
	}
	if err := launch(ctx, d); err != nil {
		return fmt.Errorf("cannot start moss-net: %w", err)
	}
	return nil
}

// flock takes an exclusive lock; ctx ends the wait for it.
func flock(ctx context.Context, f *os.File) error {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		return err
	}
	got := make(chan error, 1)
	go func() { // ends with the wait; the lock goes when the descriptor is closed
		for {
			if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != unix.EINTR {
				got <- err
				return
			}
		}
	}()
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CgroupVariable holds Dirs.Cgroup for moss-net, which moves there itself: clone(2) refuses
// to put a process into a cgroup that is to be a child of its caller's parent.
const CgroupVariable = "_MOSS_CGROUP"

// launch starts moss-net and waits until it listens. The new process is made
// a child of the caller's parent (CLONE_PARENT): a monitor lives long, and must
// neither wait for it nor keep its corpse.
func launch(ctx context.Context, d Dirs) error {
	log, err := os.OpenFile(d.LogFile(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	var ready [2]int
	if err := unix.Pipe2(ready[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(ready[0])

	pid, err := syscall.ForkExec(d.Program, []string{"moss-net", d.Run, d.Networks}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   append(environment(), CgroupVariable+"="+d.Cgroup),
		Files: []uintptr{null.Fd(), log.Fd(), log.Fd(), uintptr(ready[1])},
		Sys:   &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_PARENT},
	})
	unix.Close(ready[1])
	if err != nil {
		return fmt.Errorf("cannot execute %q: %w", d.Program, err)
	}
	if err := awaitReady(ctx, ready[0]); err != nil {
		syscall.Kill(pid, syscall.SIGKILL)
		return fmt.Errorf("%w (log: %s)", err, d.LogFile())
	}
	return nil
}

// awaitReady reads the readiness pipe: "ok", an error's text, or EOF when
// moss-net died.
func awaitReady(ctx context.Context, pipe int) error {
	end := time.Now().Add(startTimeout)
	if t, ok := ctx.Deadline(); ok && t.Before(end) {
		end = t
	}
	fds := []unix.PollFd{{Fd: int32(pipe), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, max(0, int(time.Until(end).Milliseconds())))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return errors.New("it did not become ready in time")
		}
		break
	}
	var said [4096]byte
	n, err := unix.Read(pipe, said[:])
	if err != nil {
		return err
	}
	switch text := string(bytes.TrimSpace(said[:n])); text {
	case "ok":
		return nil
	case "":
		return fmt.Errorf("it ended at once: %w", io.ErrUnexpectedEOF)
	default:
		return errors.New(text)
	}
}

// environment is what moss-net needs of the caller's: the search path of the
// uplinks' programs, and moss's own switches. The rest would live on in a
// process that serves other containers.
func environment() []string {
	var keep []string
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		switch {
		case name == "PATH", name == "HOME", name == "TMPDIR", name == "XDG_RUNTIME_DIR",
			strings.HasPrefix(name, "MOSS_"):
			keep = append(keep, entry)
		}
	}
	return keep
}
