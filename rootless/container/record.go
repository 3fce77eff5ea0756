package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// The files of a record.
const (
	specName = "spec.json"
	lastName = "last.json"
	lockName = "lock"
	liveName = "live.json"
	exitName = "exit.json"
)

// Load reads the record in dir. runDir need not exist. The error is
// fs.ErrNotExist when there is no record.
func Load(dir, runDir string) (*Container, error) {
	c := &Container{Dir: dir, RunDir: runDir}
	found, err := readFile(filepath.Join(dir, specName), &c.Spec)
	if err != nil {
		return nil, fmt.Errorf("cannot load container: %w", err)
	}
	if !found {
		return nil, fmt.Errorf("cannot load container: %w", &fs.PathError{Op: "open", Path: filepath.Join(dir, specName), Err: fs.ErrNotExist})
	}
	if c.Spec.Version > SpecVersion {
		return nil, fmt.Errorf("cannot load container %q: its record has version %d, made by a newer moss (this one knows %d)", c.Spec.Name, c.Spec.Version, SpecVersion)
	}
	if c.Spec.ID == "" {
		return nil, fmt.Errorf("cannot load container: %q has no ID", filepath.Join(dir, specName))
	}
	return c, nil
}

// Save writes the Spec. With sync it also survives a power failure. After create
// the caller holds the lock.
func (c *Container) Save(sync bool) error {
	return WriteFile(filepath.Join(c.Dir, specName), &c.Spec, sync)
}

// ReadLive reads live.json; nil when there is none. It says nothing about
// whether the processes are alive: see Look.
func ReadLive(runDir string) (*Live, error) {
	var live Live
	found, err := readFile(filepath.Join(runDir, liveName), &live)
	if err != nil || !found {
		return nil, err
	}
	return &live, nil
}

// ReadLast reads last.json; nil when there is none.
func ReadLast(dir string) (*Last, error) {
	var last Last
	found, err := readFile(filepath.Join(dir, lastName), &last)
	if err != nil || !found {
		return nil, err
	}
	return &last, nil
}

// WriteLive writes live.json. It dies with the boot: it is never synced.
func WriteLive(runDir string, live *Live) error {
	return WriteFile(filepath.Join(runDir, liveName), live, false)
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
	return WriteFile(filepath.Join(dir, lastName), last, sync)
}

// readFile decodes one JSON file. A missing file is not an error.
func readFile(path string, v any) (found bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(data) == 0 {
		return true, fmt.Errorf("cannot read %q: it is empty", path)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return true, fmt.Errorf("cannot read %q: it is damaged: %w", path, err)
	}
	return true, nil
}

// WriteFile writes v as JSON to path in one step: a reader sees the old file or
// the new one. With sync the new one survives a power failure.
func WriteFile(path string, v any, sync bool) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	if err := replaceFile(path, append(data, '\n'), sync); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return nil
}

// replaceFile goes through raw system calls: the monitor, which links this,
// stays small without the poller of package os.
func replaceFile(path string, data []byte, sync bool) (err error) {
	tmp, fd, err := createBeside(path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			unix.Unlink(tmp)
		}
	}()
	for rest := data; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			unix.Close(fd)
			return err
		}
		rest = rest[n:]
	}
	if sync {
		if err := unix.Fsync(fd); err != nil {
			unix.Close(fd)
			return err
		}
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	if err := unix.Rename(tmp, path); err != nil {
		return err
	}
	if sync {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

// createBeside makes a new file with a name of its own in path's directory. The
// name begins with a dot and is never taken for a record.
func createBeside(path string) (string, int, error) {
	dir, base := filepath.Split(path)
	for n := 0; ; n++ {
		tmp := fmt.Sprintf("%s.%s.%d.%d", dir, base, os.Getpid(), n)
		fd, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, 0o600)
		switch {
		case err == unix.EEXIST && n < 10000, err == unix.EINTR:
			continue
		case err != nil:
			return "", -1, err
		}
		return tmp, fd, nil
	}
}

// syncDir makes a rename in dir last; see fsync(2).
func syncDir(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// Lock takes the container's lock, which start, rename, update and remove hold,
// and returns what gives it back. ctx ends the wait. The error is
// fs.ErrNotExist when the container has been removed, also meanwhile.
func (c *Container) Lock(ctx context.Context) (unlock func(), err error) {
	path := filepath.Join(c.Dir, lockName)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot lock container %q: %w", c.Spec.Name, err)
	}
	if err := flock(ctx, f); err != nil {
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

func sameFile(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Stat(path)
	return err == nil && os.SameFile(a, b)
}

// flock waits for an exclusive lock on f. A wait that ctx has ended leaves a
// goroutine until the lock is free: it then lets it go by closing its duplicate.
func flock(ctx context.Context, f *os.File) error {
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
