package record

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ScratchPrefix begins the names of directories in which something is being made
// that is renamed to its place when it is whole.
const ScratchPrefix = ".new-"

// Scratch makes such a directory in parent, which is made too. It is locked while
// somebody works in it, so that what a crash leaves can be told from it. done removes
// it, if it is still there.
func Scratch(parent string) (dir string, done func(), err error) {
	// What is in it may be setuid: nobody else is to reach it, however open the
	// directory is that the user has given.
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return "", nil, err
	}
	for {
		dir, err := os.MkdirTemp(parent, ScratchPrefix+"*")
		if err != nil {
			return "", nil, err
		}
		f, err := os.Open(dir)
		if os.IsNotExist(err) {
			continue // swept before it was locked
		}
		if err != nil {
			os.Remove(dir)
			return "", nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && unix.Access(dir, unix.F_OK) == nil {
			return dir, func() { RemoveTree(dir); f.Close() }, nil
		}
		f.Close()
		if err != nil && err != unix.EWOULDBLOCK { // the file system has no such locks
			os.Remove(dir)
			return "", nil, fmt.Errorf("cannot lock %q: %w", dir, err)
		}
	}
}

// SweepScratch removes a directory of Scratch's that nobody works in any more.
func SweepScratch(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		RemoveTree(dir)
	}
}

// SyncTree waits until the file system of a directory has everything on the disk:
// what is in it must not be renamed into its place before its bytes are there.
func SyncTree(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return &os.PathError{Op: "sync", Path: dir, Err: err}
	}
	return nil
}
