package record

import (
	"encoding/binary"
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// RemoveTree removes what is at path with all that is in it, like os.RemoveAll,
// in half the system calls: it believes the directory about what is one. It
// follows no symbolic link, and goes on after what it cannot remove. What is not
// there is removed.
func RemoveTree(path string) error {
	parent, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return &treeError{path, err}
	}
	defer unix.Close(parent)
	if err := removeEntry(parent, filepath.Base(path), unix.DT_UNKNOWN); err != nil {
		return &treeError{path, err}
	}
	return nil
}

type treeError struct {
	path string
	err  error
}

func (e *treeError) Error() string { return "cannot remove \"" + e.path + "\": " + e.err.Error() }
func (e *treeError) Unwrap() error { return e.err }

// removeEntry removes one name of a directory.
func removeEntry(dir int, name string, kind byte) error {
	if kind != unix.DT_DIR {
		err := unix.Unlinkat(dir, name, 0)
		if err == nil || err == unix.ENOENT {
			return nil
		}
		if kind != unix.DT_UNKNOWN || err != unix.EISDIR && err != unix.EPERM {
			return err
		}
	}
	failed := emptyDir(dir, name)
	if err := unix.Unlinkat(dir, name, unix.AT_REMOVEDIR); err != nil && err != unix.ENOENT {
		return errors.Join(failed, err)
	}
	return nil
}

// emptyDir removes everything in a directory.
func emptyDir(parent int, name string) error {
	dir, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	var failed error
	buffer := make([]byte, 8<<10)
	for {
		n, err := retry(func() (int, error) { return unix.Getdents(dir, buffer) })
		if err != nil {
			return err
		}
		if n == 0 {
			return failed
		}
		removed := false
		for entries := buffer[:n]; len(entries) > 0; {
			var name string
			var kind byte
			name, kind, entries = NextEntry(entries)
			if name == "." || name == ".." {
				continue
			}
			if err := removeEntry(dir, name, kind); err != nil {
				failed = err
			} else {
				removed = true
			}
		}
		if removed { // what a directory lists while it changes is not defined: from the start again
			if _, err := unix.Seek(dir, 0, 0); err != nil {
				return err
			}
			if failed == nil {
				continue
			}
		}
		if failed != nil {
			return failed
		}
	}
}

// NextEntry takes one struct linux_dirent64 off what getdents(2) has filled.
func NextEntry(b []byte) (name string, kind byte, rest []byte) {
	const reclen, dtype, start = 16, 18, 19
	size := int(binary.NativeEndian.Uint16(b[reclen:]))
	end := start
	for end < size && b[end] != 0 {
		end++
	}
	return string(b[start:end]), b[dtype], b[size:]
}
