package userns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// The environment variables of enter/enter.c.
const (
	joinVar  = "_MOSS_JOIN"
	pauseVar = "_MOSS_PAUSE"
	hostVar  = "_MOSS_HOST"
)

// Enter is called when the constructor of userns/enter has not joined the kept
// namespaces. It makes, repairs or replaces the pause process and executes this
// program once more inside: it returns only if that fails. Two that do it at
// once make one pause process.
func Enter(ctx context.Context, dirs Dirs) error {
	if os.Getenv(joinVar) != "" || os.Getenv(pauseVar) != "" {
		return errors.New("cannot enter the user namespace: this program is built without userns/enter")
	}
	lock, err := lockFile(filepath.Join(dirs.Run, "pause.lock"))
	if err != nil {
		return err
	}
	defer lock.Close()

	p, err := keep(ctx, dirs, lookupUser(os.Getuid()))
	if err != nil {
		return fmt.Errorf("cannot enter the user namespace: %w", err)
	}
	defer p.close()
	// The lock, like every file of Go's, is closed by the exec.
	return execInside(p)
}

// execInside becomes this program inside the namespaces of p.
func execInside(p *process) error {
	if _, err := unix.FcntlInt(p.fd.Fd(), unix.F_SETFD, 0); err != nil {
		return fmt.Errorf("cannot pass on a pidfd: %w", err)
	}
	env := append(os.Environ(), fmt.Sprintf("%s=%d:%x:cwd", joinVar, p.fd.Fd(), unix.CLONE_NEWUSER|unix.CLONE_NEWNS))

	// By its path, so that ps does not show "exe"; by the link, if an update has
	// just moved the file away.
	self, err := os.Executable()
	if err == nil {
		err = syscall.Exec(self, os.Args, env)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = syscall.Exec("/proc/self/exe", os.Args, env)
	}
	return fmt.Errorf("cannot execute %q again: %w", self, err)
}

// lockFile takes an exclusive lock that ends with the file's closing.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open lock %q: %w", path, cause(err))
	}
	for {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX)
		if err == nil {
			return file, nil
		}
		if err != unix.EINTR {
			file.Close()
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
	}
}

// SingleID says that the kept namespace has the user's own ID only, because he
// has no subordinate IDs.
func SingleID(dirs Dirs) bool {
	_, err := os.Lstat(singleIDFile(dirs))
	return err == nil
}

// NewsOfSingleID is SingleID once for each kept namespace: then it is time to tell
// the user.
func NewsOfSingleID(dirs Dirs) bool {
	info, err := os.Lstat(singleIDFile(dirs))
	if err != nil || info.Size() > 0 {
		return false
	}
	return writeFile(singleIDFile(dirs), "told\n") == nil
}

func singleIDFile(dirs Dirs) string { return filepath.Join(dirs.Run, "single-id") }

// Release ends the pause process: the namespaces live on only as long as other
// processes are in them. It is for "moss reset", outside or inside.
func Release(dirs Dirs) error {
	lock, err := lockFile(filepath.Join(dirs.Run, "pause.lock"))
	if err != nil {
		return err
	}
	defer lock.Close()

	if r, ok := readRecord(dirs); ok {
		if p := openProcess(r.pid, r.start); p != nil {
			defer p.close()
			if err := p.kill(); err != nil {
				return err
			}
		}
	}
	return errors.Join(remove(pauseFile(dirs)), remove(singleIDFile(dirs)))
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
