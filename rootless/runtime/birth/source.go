package birth

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CloneTree clones the mount of what path leads to, detached. With within, path is
// resolved in that directory as if it were the root: who may write there may be at
// it at this moment, and no symbolic link, however quickly it is put in the place
// of a directory, leads out. With noLinks there may be none at all.
func CloneTree(within, path string, recursive, noLinks bool) (int, error) {
	flags := cloneFlags(recursive)
	if within == "" {
		fd, err := unix.OpenTree(unix.AT_FDCWD, path, flags)
		if err != nil {
			return -1, fmt.Errorf("cannot open %q: %w", path, err)
		}
		return fd, nil
	}
	dir, err := unix.Open(within, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("cannot open %q: %w", within, err)
	}
	defer unix.Close(dir)
	at, err := OpenWithin(dir, path, noLinks)
	if err != nil {
		return -1, fmt.Errorf("cannot open %q in %q: %w", path, within, err)
	}
	defer unix.Close(at)
	fd, err := unix.OpenTree(at, "", flags|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, fmt.Errorf("cannot open %q in %q: %w", path, within, err)
	}
	return fd, nil
}

func cloneFlags(recursive bool) uint {
	if recursive {
		return unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC | unix.AT_RECURSIVE
	}
	return unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC
}

// OpenWithin opens path, O_PATH, as CloneTree resolves it.
func OpenWithin(dir int, path string, noLinks bool) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	if noLinks {
		how.Resolve |= unix.RESOLVE_NO_SYMLINKS
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		// EAGAIN: something was renamed on the way; see openat2(2).
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}
