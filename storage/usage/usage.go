// Package usage measures what directories take on the disk, as du does: the blocks
// that files have, a file of several names once, and nothing that is mounted on them.
package usage

import (
	"errors"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// block is the unit of st_blocks, whatever the file system's; see inode(7).
const block = 512

type inode struct{ dev, ino uint64 }

// Meter remembers the files of several names that it has counted: bytes that two
// trees share are the first one's.
type Meter struct {
	mu   sync.Mutex
	seen map[inode]bool
}

// Tree returns the bytes that the file at path and all below it take. What goes
// away meanwhile is not counted; what does not exist takes nothing.
func (m *Meter) Tree(path string) (int64, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0, gone(&os.PathError{Op: "lstat", Path: path, Err: err})
	}
	size := m.count(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return size, nil
	}
	below, err := m.below(unix.AT_FDCWD, path, uint64(st.Dev))
	return size + below, err
}

// File returns the bytes that one file or directory takes, without what is in it.
func File(path string) int64 {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return 0
	}
	return st.Blocks * block
}

// below counts what is in a directory, on the same file system.
func (m *Meter) below(parent int, name string, dev uint64) (int64, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, gone(&os.PathError{Op: "open", Path: name, Err: err})
	}
	dir := os.NewFile(uintptr(fd), name)
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return 0, gone(err)
	}
	var size int64
	var all error
	for _, name := range names {
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			all = errors.Join(all, gone(&os.PathError{Op: "lstat", Path: name, Err: err}))
			continue
		}
		if uint64(st.Dev) != dev {
			continue
		}
		size += m.count(&st)
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			below, err := m.below(fd, name, dev)
			size += below
			all = errors.Join(all, err)
		}
	}
	return size, all
}

func (m *Meter) count(st *unix.Stat_t) int64 {
	if st.Nlink > 1 && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		key := inode{uint64(st.Dev), st.Ino}
		m.mu.Lock()
		was := m.seen[key]
		if !was {
			if m.seen == nil {
				m.seen = map[inode]bool{}
			}
			m.seen[key] = true
		}
		m.mu.Unlock()
		if was {
			return 0
		}
	}
	return st.Blocks * block
}

func gone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	return err
}

// Trees measures many trees at once, several at a time, each as Tree does.
func (m *Meter) Trees(paths []string) ([]int64, error) {
	sizes, errs := make([]int64, len(paths)), make([]error, len(paths))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(4, len(paths)) {
		workers.Go(func() {
			for i := range next {
				sizes[i], errs[i] = m.Tree(paths[i])
			}
		})
	}
	for i := range paths {
		next <- i
	}
	close(next)
	workers.Wait()
	return sizes, errors.Join(errs...)
}
