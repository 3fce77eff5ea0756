package storage

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/storage/image"
)

// copier copies a tree, owners shifted. Everything else stays: modes, times,
// extended attributes, hard links, device numbers where they can be made.
type copier struct {
	from, to   string
	lower      []string // where the files really are, for reflinks
	uids, gids []image.IDMap
	links      map[inode]string // files with several names, where the first is
}

type inode struct{ dev, ino uint64 }

func (c *copier) run() error {
	return c.dir(".")
}

// dir copies a directory's entries and then its own attributes, because making
// entries would change its times.
func (c *copier) dir(path string) error {
	entries, err := os.ReadDir(filepath.Join(c.from, path))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		child := filepath.Join(path, entry.Name())
		if err := c.entry(child); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(c.from, path), &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return c.attributes(path, &st)
}

func (c *copier) entry(path string) error {
	from, to := filepath.Join(c.from, path), filepath.Join(c.to, path)
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		return c.dir(path)
	}
	if st.Nlink > 1 {
		id := inode{st.Dev, st.Ino}
		if first, ok := c.links[id]; ok {
			return os.Link(first, to)
		}
		c.links[id] = to
	}
	switch kind {
	case unix.S_IFREG:
		if err := c.file(path); err != nil {
			return fmt.Errorf("cannot copy file %q: %w", path, err)
		}
	case unix.S_IFLNK:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, to); err != nil {
			return err
		}
	default:
		err := unix.Mknod(to, st.Mode, int(st.Rdev))
		if errors.Is(err, unix.EPERM) && (kind == unix.S_IFCHR || kind == unix.S_IFBLK) {
			return nil // no devices in a user namespace; see user_namespaces(7)
		}
		if err != nil {
			return &os.PathError{Op: "mknod", Path: path, Err: err}
		}
	}
	return c.attributes(path, &st)
}

// file copies a regular file's bytes: by a reflink from the layer that holds it
// where the file system can, else through the kernel.
func (c *copier) file(path string) error {
	to, err := os.OpenFile(filepath.Join(c.to, path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	from, err := c.openLayer(path)
	if err != nil {
		from, err = os.Open(filepath.Join(c.from, path))
	}
	if err != nil {
		return errors.Join(err, to.Close())
	}
	defer from.Close()
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) != nil {
		_, err = io.Copy(to, from)
	}
	return errors.Join(err, to.Close())
}

// openLayer finds a file of the merged tree in its layer: the uppermost that has
// it. Overlay and the layer are different file systems to FICLONE and
// copy_file_range(2).
func (c *copier) openLayer(path string) (*os.File, error) {
	how := &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	for _, dir := range c.lower {
		root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		fd, err := unix.Openat2(root, path, how)
		unix.Close(root)
		switch {
		case err == nil:
			f := os.NewFile(uintptr(fd), path)
			if fi, err := f.Stat(); err == nil && fi.Mode().IsRegular() {
				return f, nil
			}
			f.Close()
			return nil, syscall.EINVAL
		case err != unix.ENOENT && err != unix.ENOTDIR:
			return nil, err
		}
	}
	return nil, fs.ErrNotExist
}

// attributes gives the copy of path its owner, mode, extended attributes and
// times, in this order: a change of owner takes setuid bits and file
// capabilities away.
func (c *copier) attributes(path string, st *unix.Stat_t) error {
	from, to := filepath.Join(c.from, path), filepath.Join(c.to, path)
	uid, ok := shift(c.uids, st.Uid)
	if !ok {
		uid = nobody(c.uids)
	}
	gid, ok := shift(c.gids, st.Gid)
	if !ok {
		gid = nobody(c.gids)
	}
	if err := os.Lchown(to, uid, gid); err != nil {
		return err
	}
	link := st.Mode&unix.S_IFMT == unix.S_IFLNK
	if !link {
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return &os.PathError{Op: "chmod", Path: path, Err: err}
		}
	}
	if err := copyXattrs(from, to); err != nil {
		return &os.PathError{Op: "setxattr", Path: path, Err: err}
	}
	times := []unix.Timespec{st.Atim, st.Mtim}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, to, times, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return &os.PathError{Op: "utimensat", Path: path, Err: err}
	}
	return nil
}

// shift maps an ID as the container sees it to the one that its namespace's
// mapping stands for.
func shift(maps []image.IDMap, id uint32) (int, bool) {
	for _, m := range maps {
		if n := int(id) - m.Container; n >= 0 && n < m.Size {
			return m.Host + n, true
		}
	}
	return 0, false
}

// nobody is an ID outside of a mapping, for files whose owner the mapping leaves
// out: the container sees them as the overflow user's; see user_namespaces(7).
func nobody(maps []image.IDMap) int {
	inside := func(id int) bool {
		for _, m := range maps {
			if id >= m.Host && id < m.Host+m.Size {
				return true
			}
		}
		return false
	}
	id := 0
	for inside(id) {
		id++
	}
	return id
}

// copyXattrs copies what a user namespace may set: user.* and capabilities.
// /proc/self/fd/N/path is looked through, its last part is not followed.
func copyXattrs(from, to string) error {
	size, err := unix.Llistxattr(from, nil)
	if err != nil || size == 0 {
		return ignoreUnsupported(err)
	}
	names := make([]byte, size)
	if size, err = unix.Llistxattr(from, names); err != nil {
		return err
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		n, err := unix.Lgetxattr(from, name, nil)
		if err != nil {
			return err
		}
		value := make([]byte, n)
		if n, err = unix.Lgetxattr(from, name, value); err != nil {
			return err
		}
		if err := unix.Lsetxattr(to, name, value[:n], 0); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func ignoreUnsupported(err error) error {
	if errors.Is(err, unix.ENOTSUP) {
		return nil
	}
	return err
}
