package event

import (
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// maxSize is the size in bytes at which a log makes way for a new one. The events
// of ten thousand runs fit in.
const maxSize = 8 << 20

const (
	current = "log"
	rotated = "log.old"
)

// Log is the log of one user: the directory that it lies in.
type Log string

// At is the log below the directory of what survives a reboot.
func At(root string) Log { return Log(filepath.Join(root, "events")) }

// Write appends events; those without a time happened now. It takes some
// microseconds, waits for nobody and never fails: what cannot be recorded, since
// the disk is full, must not hinder what it is about.
func (l Log) Write(events ...*Event) {
	if l == "" || len(events) == 0 {
		return
	}
	now := time.Now()
	line := make([]byte, 0, 512)
	for _, e := range events {
		line = e.appendTo(line, now)
	}
	path := string(l) + "/" + current
	const flags = unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0o600)
	if err == unix.ENOENT {
		if unix.Mkdir(string(l), 0o700) == nil {
			fd, err = unix.Open(path, flags, 0o600)
		}
	}
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.Write(fd, line)
	if size, err := unix.Seek(fd, 0, unix.SEEK_CUR); err == nil && size >= maxSize {
		l.rotate(fd)
	}
}

// rotate renames the log away, if it is still the one that is open as fd: of
// several who find it too large, one does it.
func (l Log) rotate(fd int) {
	if unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB) != nil {
		return
	}
	var open, named unix.Stat_t
	path := string(l) + "/" + current
	if unix.Fstat(fd, &open) == nil && unix.Stat(path, &named) == nil && open.Ino == named.Ino {
		unix.Rename(path, string(l)+"/"+rotated)
	}
}
