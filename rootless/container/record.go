package container

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/record"
)

// SpecFile is the name of the file that makes a directory a record.
const SpecFile = "spec.json"

// The other files of a record.
const (
	lastName = "last.json"
	liveName = "live.json"
	exitName = "exit.json"
	// controlName is the monitor's socket.
	controlName = "ctl.sock"
)

// Load reads the record in dir. runDir need not exist. The error is
// fs.ErrNotExist when there is no record.
func Load(dir, runDir string) (*Container, error) {
	c := &Container{Dir: dir, RunDir: runDir}
	found, err := record.Read(filepath.Join(dir, SpecFile), &c.Spec)
	if err != nil {
		return nil, fmt.Errorf("cannot load container: %w", err)
	}
	if !found {
		return nil, fmt.Errorf("cannot load container: %w", &fs.PathError{Op: "open", Path: filepath.Join(dir, SpecFile), Err: fs.ErrNotExist})
	}
	if c.Spec.Version > SpecVersion {
		return nil, fmt.Errorf("cannot load container %q: its record has version %d, made by a newer moss (this one knows %d)", c.Spec.Name, c.Spec.Version, SpecVersion)
	}
	if c.Spec.ID == "" {
		return nil, fmt.Errorf("cannot load container: %q has no ID", filepath.Join(dir, SpecFile))
	}
	return c, nil
}

// HasRun says whether a container has been started at least once.
func HasRun(dir, runDir string) bool {
	for _, path := range []string{filepath.Join(dir, lastName), filepath.Join(runDir, liveName)} {
		if unix.Access(path, unix.F_OK) == nil {
			return true
		}
	}
	return false
}

// Save writes the Spec. With sync it also survives a power failure. After create
// the caller holds the lock.
func (c *Container) Save(sync bool) error {
	return record.Write(filepath.Join(c.Dir, SpecFile), &c.Spec, sync)
}

// ReadLive reads live.json; nil when there is none. It says nothing about
// whether the processes are alive: see Look.
func ReadLive(runDir string) (*Live, error) {
	var live Live
	found, err := record.Read(filepath.Join(runDir, liveName), &live)
	if err != nil || !found {
		return nil, err
	}
	return &live, nil
}

// ReadLast reads last.json; nil when there is none.
func ReadLast(dir string) (*Last, error) {
	var last Last
	found, err := record.Read(filepath.Join(dir, lastName), &last)
	if err != nil || !found {
		return nil, err
	}
	return &last, nil
}

// WriteLive writes live.json. It dies with the boot: it is never synced.
func WriteLive(runDir string, live *Live) error {
	return record.Write(filepath.Join(runDir, liveName), live, false)
}

// RemoveLive removes live.json, if it is there.
func RemoveLive(runDir string) error {
	if err := unix.Unlink(filepath.Join(runDir, liveName)); err != nil && err != unix.ENOENT {
		return fmt.Errorf("cannot remove %q: %w", filepath.Join(runDir, liveName), err)
	}
	return nil
}

// WriteLast writes last.json.
func WriteLast(dir string, last *Last, sync bool) error {
	return record.Write(filepath.Join(dir, lastName), last, sync)
}

// Lock takes the container's lock, a flock(2) of its directory, which start, rename, update and remove hold,
// and returns what gives it back. ctx ends the wait. The error is
// fs.ErrNotExist when the container has been removed, also meanwhile.
func (c *Container) Lock(ctx context.Context) (unlock func(), err error) {
	path := c.Dir
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot lock container %q: %w", c.Spec.Name, err)
	}
	if err := Flock(ctx, f); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot lock container %q: %w", c.Spec.Name, err)
	}
	// A removal renames the directory while it holds the lock: what was waited
	// for may no longer be this container's lock.
	if !sameFile(f, path) {
		f.Close()
		return nil, fmt.Errorf("cannot lock container %q: it has been removed: %w", c.Spec.Name, fs.ErrNotExist)
	}
	return func() { f.Close() }, nil
}

// restartName is a file in the container's directory that a moss which stops the
// container in order to start it again holds locked meanwhile.
const restartName = "restart.lock"

// LockRestart says, until unlock, that the container will be started again when it
// has been stopped.
func (c *Container) LockRestart(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.Dir, restartName), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = Flock(ctx, f)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot restart container %q: %w", c.Spec.Name, err)
	}
	return func() { f.Close() }, nil
}

// AwaitRestart waits while somebody has LockRestart.
func (c *Container) AwaitRestart(ctx context.Context) error {
	f, err := os.OpenFile(filepath.Join(c.Dir, restartName), os.O_RDWR, 0)
	if err != nil {
		return nil // nobody ever had, or the container has been removed
	}
	defer f.Close()
	return Flock(ctx, f)
}

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// Flock waits for an exclusive lock on f. A wait that ctx has ended leaves a
// goroutine until the lock is free: it then lets it go by closing its duplicate.
func Flock(ctx context.Context, f *os.File) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fd := int(f.Fd())
	if err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB); err != unix.EWOULDBLOCK {
		return err
	}
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return err
	}
	got := make(chan error, 1)
	go func() { // ends with the lock, which is f's too: closing both lets it go
		defer unix.Close(dup)
		for {
			err := unix.Flock(dup, unix.LOCK_EX)
			if err != unix.EINTR {
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
