// Package tree copies files from one open directory to another, and to and from
// tar archives. It reaches everything through descriptors and never follows a
// symbolic link that it meets on its way, so that nobody who changes a tree
// meanwhile, as the processes of a container may, can lead it to another place.
package tree

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is where paths are looked up.
type Root struct {
	dir *os.File // nil: the caller's own root and working directory
}

// Host looks paths up as the caller himself does.
func Host() Root { return Root{} }

// Confined takes dir for the root directory: neither "..", nor a symbolic link,
// nor a rename meanwhile leads out of it. The caller keeps dir open.
func Confined(dir *os.File) Root { return Root{dir} }

// Open opens a path with the flags of open(2); symbolic links are followed
// within the root.
func (r Root) Open(path string, flags int) (*os.File, error) {
	at, how := unix.AT_FDCWD, unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC)}
	if r.dir != nil {
		at, how.Resolve = int(r.dir.Fd()), unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS
	}
	if path == "" {
		path = "."
	}
	for {
		fd, err := unix.Openat2(at, path, &how)
		// EAGAIN: something was renamed on the way; see openat2(2).
		if err == unix.EAGAIN || err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		return os.NewFile(uintptr(fd), path), nil
	}
}

// Entry is a name in an open directory, where something is or could be.
type Entry struct {
	Dir    *os.File
	Name   string
	Exists bool
	Stat   unix.Stat_t // if it exists; never of a symbolic link
}

// Close closes the directory.
func (e *Entry) Close() error { return e.Dir.Close() }

// IsDir says whether it is an existing directory.
func (e *Entry) IsDir() bool { return e.Exists && e.Stat.Mode&unix.S_IFMT == unix.S_IFDIR }

// Entry finds the entry that a path leads to; symbolic links are followed within
// the root. The directory that holds it must be there.
func (r Root) Entry(path string) (*Entry, error) {
	for range 40 { // as many links as the kernel follows; see path_resolution(7)
		dir, name := filepath.Split(strings.TrimRight(path, "/"))
		if name == "" || name == "." || name == ".." {
			dir, name = path, "."
			if dir == "" {
				dir = "/"
			}
		}
		d, err := r.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			return nil, err
		}
		e := &Entry{Dir: d, Name: name}
		switch err := unix.Fstatat(int(d.Fd()), name, &e.Stat, unix.AT_SYMLINK_NOFOLLOW); {
		case err == unix.ENOENT:
			return e, nil
		case err != nil:
			d.Close()
			return nil, err
		case e.Stat.Mode&unix.S_IFMT != unix.S_IFLNK:
			e.Exists = true
			return e, nil
		}
		target, err := readlink(int(d.Fd()), name)
		d.Close()
		if err != nil {
			return nil, err
		}
		if !strings.HasPrefix(target, "/") {
			target = dir + target
		}
		path = target
	}
	return nil, unix.ELOOP
}

// Into is the entry of a name in the directory that e is.
func (e *Entry) Into(name string) (*Entry, error) {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q is no name of a file", name)
	}
	fd, err := unix.Openat(int(e.Dir.Fd()), e.Name, unix.O_RDONLY|dirFlags, 0)
	if err != nil {
		return nil, err
	}
	in := &Entry{Dir: os.NewFile(uintptr(fd), e.Name), Name: name}
	switch err := unix.Fstatat(fd, name, &in.Stat, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		in.Exists = true
	case err != unix.ENOENT:
		in.Close()
		return nil, err
	}
	return in, nil
}

// MkdirAll makes the directory path, with those above it.
func (r Root) MkdirAll(path string, mode uint32) (*os.File, error) {
	d, err := r.Open(path, unix.O_RDONLY|unix.O_DIRECTORY)
	if !errors.Is(err, unix.ENOENT) || path == "/" || path == "." {
		return d, err
	}
	parent, err := r.MkdirAll(filepath.Dir(path), mode)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if err := unix.Mkdirat(int(parent.Fd()), filepath.Base(path), mode); err != nil && err != unix.EEXIST {
		return nil, err
	}
	return r.Open(path, unix.O_RDONLY|unix.O_DIRECTORY)
}

const dirFlags = unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC

func readlink(dir int, name string) (string, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(dir, name, buf[:])
	return string(buf[:max(n, 0)]), err
}

// inode is what tells one file from another.
type inode struct{ dev, ino uint64 }

func inodeOf(st *unix.Stat_t) inode { return inode{uint64(st.Dev), st.Ino} }

// node is one file that a walk meets.
type node struct {
	dir  int    // the directory that holds it
	name string // in dir
	path string // below the top; "" is the top itself
	st   unix.Stat_t
	fd   int // of a directory: open
}

func (n *node) kind() uint32 { return n.st.Mode & unix.S_IFMT }

// open opens a regular file that nobody has replaced by something else.
func (n *node) open() (*os.File, error) {
	// O_NONBLOCK: a FIFO in its place must not be waited for.
	fd, err := unix.Openat(n.dir, n.name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return nil, errors.Join(errors.New("it is not the regular file any more that it was"), err)
	}
	n.st = st
	return os.NewFile(uintptr(fd), n.name), nil
}

// visitor is what a walk calls.
type visitor interface {
	// enter is called with a directory before what is in it; false leaves that out.
	enter(n *node) (bool, error)
	// leave is called after it, and also if enter has failed half-way.
	leave(n *node) error
	// file is called with everything else.
	file(n *node) error
	// skip is asked whether the walk goes on without n.
	skip(n *node, err error) bool
}

// walk visits from and what is below it, in the order of their names.
func walk(ctx context.Context, from *Entry, v visitor) error {
	top := &node{dir: int(from.Dir.Fd()), name: from.Name, st: from.Stat}
	return visit(ctx, top, v)
}

func visit(ctx context.Context, n *node, v visitor) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	err := visitOne(ctx, n, v)
	var at *Error
	switch {
	case err == nil, errors.As(err, &at), ctx.Err() != nil:
		return err
	case v.skip(n, err):
		return nil
	case errors.Is(err, unix.ENOENT) && n.path != "" && gone(n):
		return nil // it was removed while we looked
	}
	return &Error{Path: n.path, Err: err}
}

func gone(n *node) bool {
	var st unix.Stat_t
	return unix.Fstatat(n.dir, n.name, &st, unix.AT_SYMLINK_NOFOLLOW) == unix.ENOENT
}

// Error is what went wrong with one file of a tree; Path is below the top.
type Error struct {
	Path string
	Err  error
}

func (e *Error) Error() string {
	if e.Path == "" {
		return e.Err.Error()
	}
	return fmt.Sprintf("%q: %v", e.Path, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

func visitOne(ctx context.Context, n *node, v visitor) (err error) {
	if n.kind() != unix.S_IFDIR {
		return v.file(n)
	}
	if n.fd, err = unix.Openat(n.dir, n.name, unix.O_RDONLY|dirFlags, 0); err != nil {
		return err
	}
	defer unix.Close(n.fd)
	parent := n.st.Dev
	if err := unix.Fstat(n.fd, &n.st); err != nil {
		return err
	}
	into, err := v.enter(n)
	if err != nil {
		return errors.Join(err, v.leave(n))
	}
	// What the kernel makes up, /proc and /sys, is no content of a tree that
	// happens to have it inside.
	if into && (n.path == "" || n.st.Dev == parent || !isKernels(n.fd)) {
		err = visitAll(ctx, n, v)
	}
	return errors.Join(err, v.leave(n))
}

func visitAll(ctx context.Context, n *node, v visitor) error {
	names, err := readDir(n.fd)
	if err != nil {
		return err
	}
	for _, name := range names {
		sub := &node{dir: n.fd, name: name, path: name}
		if n.path != "" {
			sub.path = n.path + "/" + name
		}
		switch err := unix.Fstatat(n.fd, name, &sub.st, unix.AT_SYMLINK_NOFOLLOW); err {
		case nil:
		case unix.ENOENT:
			continue
		default:
			return &Error{Path: sub.path, Err: err}
		}
		// Whether a mount begins is seen by the device: the directory's, here.
		if sub.kind() == unix.S_IFDIR {
			sub.st.Dev = n.st.Dev
		}
		if err := visit(ctx, sub, v); err != nil {
			return err
		}
	}
	return nil
}

// isKernels says whether a directory is of a file system that holds no files.
func isKernels(fd int) bool {
	var fs unix.Statfs_t
	if unix.Fstatfs(fd, &fs) != nil {
		return false
	}
	switch int64(fs.Type) {
	case unix.PROC_SUPER_MAGIC, unix.SYSFS_MAGIC, unix.CGROUP_SUPER_MAGIC, unix.CGROUP2_SUPER_MAGIC, unix.DEVPTS_SUPER_MAGIC,
		unix.DEBUGFS_MAGIC, unix.TRACEFS_MAGIC, unix.SECURITYFS_MAGIC, unix.BPF_FS_MAGIC, mqueueMagic:
		return true
	}
	return false
}

const mqueueMagic = 0x19800202 // ipc/mqueue.c

// readDir lists an open directory, sorted: archives of the same tree are the same.
func readDir(fd int) ([]string, error) {
	if _, err := unix.Seek(fd, 0, 0); err != nil {
		return nil, err
	}
	var names []string
	buf := make([]byte, 16<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			slices.Sort(names)
			return names, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

// xattrs are the extended attributes that belong to a file's content; those of
// overlayfs and of security modules belong to where it is.
func xattrs(fd int, overlay bool) (map[string]string, error) {
	size, err := unix.Flistxattr(fd, nil)
	if err != nil || size == 0 {
		return nil, unlessUnsupported(err)
	}
	list := make([]byte, size)
	if size, err = unix.Flistxattr(fd, list); err != nil {
		return nil, unlessUnsupported(err)
	}
	var out map[string]string
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list[:size]), "\x00"), "\x00") {
		if !ownXattr(name) && !(overlay && strings.HasPrefix(name, "user.")) {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			return nil, unlessUnsupported(err)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[name] = string(value[:n])
	}
	return out, nil
}

// xattrs are those that a copy is to have.
func (o *Options) xattrs(fd int) (map[string]string, error) {
	list, err := xattrs(fd, o.Overlay)
	if err != nil || !o.ACLs {
		return list, err
	}
	// The kernel translates the IDs in them; see acl(5).
	for _, name := range []string{"system.posix_acl_access", "system.posix_acl_default"} {
		value := make([]byte, 64<<10)
		n, err := unix.Fgetxattr(fd, name, value)
		if err != nil {
			if unlessUnsupported(err) != nil {
				return nil, err
			}
			continue
		}
		if list == nil {
			list = map[string]string{}
		}
		list[name] = string(value[:n])
	}
	return list, nil
}

func ownXattr(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") &&
		!strings.HasPrefix(name, "user.fuseoverlayfs.") && !strings.HasPrefix(name, "user.containers.")
}

func unlessUnsupported(err error) error {
	if err == unix.EOPNOTSUPP || err == unix.ENODATA {
		return nil
	}
	return err
}

// setXattrs sets what the file system takes; one that has none is no reason to
// fail, as with cp(1) and tar(1).
func setXattrs(fd int, list map[string]string) error {
	for name, value := range list {
		switch err := unix.Fsetxattr(fd, name, []byte(value), 0); err {
		case nil, unix.EOPNOTSUPP:
		case unix.EPERM:
			if !strings.HasPrefix(name, "security.") {
				return fmt.Errorf("cannot set attribute %s: %w", name, err)
			}
		default:
			return fmt.Errorf("cannot set attribute %s: %w", name, err)
		}
	}
	return nil
}
