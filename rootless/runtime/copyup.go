package runtime

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// copyUp makes an unused volume what the image has at its target; see CopyUp.
func (s *stage) copyUp(c CopyUp) error {
	to, err := s.openVolume(c.Source)
	if err != nil {
		return fmt.Errorf("cannot open volume %q: %w", c.Source, err)
	}
	defer unix.Close(to)
	names, err := readDir(to)
	if err != nil {
		return fmt.Errorf("cannot read volume %q: %w", c.Source, err)
	}
	if len(names) > 0 {
		return nil // once only
	}
	from, err := openIn(s.root, c.Target, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		if c.KeepOwner {
			return nil
		}
		return s.own(c.Target, to, false)
	}
	if err != nil {
		return fmt.Errorf("cannot copy %q to its volume: %w", c.Target, err)
	}
	defer unix.Close(from)
	var before unix.Stat_t
	if err := unix.Fstat(to, &before); err != nil {
		return fmt.Errorf("cannot read volume %q: %w", c.Source, err)
	}
	if c.NoCopy {
		err = copyAttributes(from, to)
	} else {
		err = copyTree(from, to)
	}
	if err == nil && c.KeepOwner {
		err = unix.Fchown(to, int(before.Uid), int(before.Gid))
	}
	if err != nil {
		return fmt.Errorf("cannot copy %q to its volume: %w", c.Target, err)
	}
	return nil
}

// openVolume opens a directory of the host to read and write in it.
func (s *stage) openVolume(dir string) (int, error) {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	fd, err := unix.Open(dir, flags, 0)
	if err != unix.EACCES {
		return fd, err
	}
	tree, err := s.cloneTree(dir, false)
	if err != nil {
		return -1, err
	}
	defer unix.Close(tree)
	return unix.Openat(tree, ".", flags, 0)
}

// copyTree copies the content of one open directory to another, and the
// directory's own owner, mode and times. It never follows a symbolic link.
func copyTree(from, to int) error {
	from, err := unix.Openat(from, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	if to, err = unix.Openat(to, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return err
	}
	defer unix.Close(to)
	return (&copier{links: map[inode]string{}}).directory(from, to, to, "")
}

type inode struct{ dev, ino uint64 }

// copier copies a tree; links are the hard links seen so far, by their path
// below the top.
type copier struct{ links map[inode]string }

func (c *copier) directory(from, to, top int, prefix string) error {
	names, err := readDir(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.entry(from, to, top, prefix, name); err != nil {
			return fmt.Errorf("%s: %w", prefix+name, err)
		}
	}
	return copyAttributes(from, to)
}

// copyAttributes makes one directory look like another, but for what is in it.
func copyAttributes(from, to int) error {
	var st unix.Stat_t
	if err := unix.Fstat(from, &st); err != nil {
		return err
	}
	if err := copyXattrs(from, to); err != nil {
		return err
	}
	if err := unix.Fchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if err := unix.Fchmod(to, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.Futimes(to, []unix.Timeval{unix.NsecToTimeval(st.Atim.Nano()), unix.NsecToTimeval(st.Mtim.Nano())})
}

func (c *copier) entry(from, to, top int, prefix, name string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && st.Nlink > 1 {
		id := inode{uint64(st.Dev), st.Ino}
		if old, ok := c.links[id]; ok {
			return unix.Linkat(top, old, to, name, 0)
		}
		c.links[id] = prefix + name
	}
	switch kind {
	case unix.S_IFDIR:
		return c.subdirectory(from, to, top, prefix, name)
	case unix.S_IFREG:
		return copyFile(from, to, name, &st)
	case unix.S_IFLNK:
		var buf [unix.PathMax]byte
		n, err := unix.Readlinkat(from, name, buf[:])
		if err != nil {
			return err
		}
		if err := unix.Symlinkat(string(buf[:n]), to, name); err != nil {
			return err
		}
	default: // devices fail here without privilege, FIFOs and sockets do not
		if err := unix.Mknodat(to, name, st.Mode, int(st.Rdev)); err != nil {
			if err == unix.EPERM {
				return nil
			}
			return err
		}
		if err := unix.Fchmodat(to, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	if err := unix.Fchownat(to, name, int(st.Uid), int(st.Gid), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fdPath(to)+"/"+name, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

func (c *copier) subdirectory(from, to, top int, prefix, name string) error {
	const flags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if err := unix.Mkdirat(to, name, 0o700); err != nil {
		return err
	}
	sub, err := unix.Openat(from, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	into, err := unix.Openat(to, name, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(into)
	return c.directory(sub, into, top, prefix+name+"/")
}

func copyFile(from, to int, name string, st *unix.Stat_t) error {
	in, err := unix.Openat(from, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(in)
	out, err := unix.Openat(to, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(out)
	for {
		n, err := unix.CopyFileRange(in, nil, out, nil, 1<<30, 0)
		if err == unix.EXDEV || err == unix.EINVAL || err == unix.EOPNOTSUPP {
			n, err = unix.Sendfile(out, in, nil, 1<<30)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	if err := unix.Fchown(out, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	// After chown, which takes file capabilities and set-ID bits away.
	if err := copyXattrs(in, out); err != nil {
		return err
	}
	if err := unix.Fchmod(out, st.Mode&0o7777); err != nil {
		return err
	}
	return unix.Futimes(out, []unix.Timeval{unix.NsecToTimeval(st.Atim.Nano()), unix.NsecToTimeval(st.Mtim.Nano())})
}

// copyXattrs copies extended attributes; those that the other file system does
// not take, or that are overlayfs's own, stay behind.
func copyXattrs(from, to int) error {
	size, err := unix.Flistxattr(from, nil)
	if err != nil || size == 0 {
		return nil
	}
	names := make([]byte, size)
	if size, err = unix.Flistxattr(from, names); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		if strings.HasPrefix(name, "trusted.overlay.") || strings.HasPrefix(name, "user.overlay.") {
			continue
		}
		var value [64 << 10]byte
		n, err := unix.Fgetxattr(from, name, value[:])
		if err != nil {
			continue
		}
		switch err := unix.Fsetxattr(to, name, value[:n], 0); err {
		case nil, unix.EOPNOTSUPP, unix.EPERM:
		default:
			return fmt.Errorf("attribute %s: %w", name, err)
		}
	}
	return nil
}

// readDir lists an open directory.
func readDir(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	var names []string
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// readFile reads a small file.
func readFile(name string) ([]byte, error) {
	fd, err := unix.Open(name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readAll(fd)
}

// readProc reads a file below the caller's /proc.
func (s *stage) readProc(name string) ([]byte, error) {
	fd, err := unix.Openat(s.proc, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	return readAll(fd)
}

func readAll(fd int) ([]byte, error) {
	var data []byte
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return data, nil
		}
		data = append(data, buf[:n]...)
	}
}
