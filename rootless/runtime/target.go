package runtime

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Paths inside the root filesystem belong to the image and to volumes, which may
// be full of symbolic links, and which other containers may be changing at this
// moment. Every one is resolved by openat2(2) inside the root, and used by the
// descriptor that came of it.

// target opens a path in the root filesystem, O_PATH.
func (s *stage) target(name string) (int, error) {
	return openIn(s.root, name, unix.O_PATH, 0)
}

// openIn opens a path as if dir were the root directory.
func openIn(dir int, name string, flags int, more uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | more,
	}
	if name == "" {
		name = "/"
	}
	for {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: something was renamed on the way; see openat2(2).
		if err != unix.EAGAIN && err != unix.EINTR {
			return fd, err
		}
	}
}

// makeTarget opens a path to mount on, made if it is missing, as a directory or
// as an empty file.
func (s *stage) makeTarget(name string, directory bool) (int, error) {
	fd, err := s.target(name)
	if err == nil || !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if name, err = s.makePath(name, directory); err != nil {
		return -1, err
	}
	return openIn(s.root, name, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
}

// makePath makes what is missing of a path, also where a symbolic link leads
// nowhere yet (as /etc/resolv.conf of many images), and returns it without links.
func (s *stage) makePath(name string, directory bool) (string, error) {
	todo := strings.Split(name, "/")
	at, links := "/", 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}

		link, err := s.makePart(at, part, directory || strings.Trim(strings.Join(todo, ""), "/.") != "")
		if err != nil {
			return "", fmt.Errorf("cannot make %q: %w", path.Join(at, part), err)
		}
		if link == "" {
			at = path.Join(at, part)
			continue
		}
		if links++; links > 40 {
			return "", unix.ELOOP
		}
		todo = append(strings.Split(link, "/"), todo...)
		if link[0] == '/' {
			at = "/"
		}
	}
	return at, nil
}

// makePart makes one component if it is missing; it returns where it leads if it
// is a symbolic link.
func (s *stage) makePart(at, part string, directory bool) (link string, err error) {
	parent, err := openIn(s.root, at, unix.O_PATH|unix.O_DIRECTORY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return "", err
	}
	defer unix.Close(parent)

	var st unix.Stat_t
	switch err := unix.Fstatat(parent, part, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFLNK:
		var buf [unix.PathMax]byte
		n, err := unix.Readlinkat(parent, part, buf[:])
		if err == nil && n == 0 {
			err = unix.ENOENT
		}
		return string(buf[:max(n, 0)]), err
	case err == nil:
		return "", nil
	case err != unix.ENOENT:
		return "", err
	}
	if directory {
		err = unix.Mkdirat(parent, part, 0o755)
	} else {
		var fd int
		fd, err = unix.Openat(parent, part, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err == nil {
			unix.Close(fd)
		}
	}
	if err == unix.EEXIST { // somebody was faster
		err = nil
	}
	return "", err
}

// fdPath names an open file for system calls that want a path. It is the
// caller's /proc: the container's is not the root yet.
func fdPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// isDirectory reports what an O_PATH descriptor refers to.
func isDirectory(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}
