package tree

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/storage/limit"
)

// Options of Copy and Extract.
type Options struct {
	// Owner translates the owner of a file to that of its copy; nil keeps it.
	Owner func(uid, gid uint32) (newUID, newGID int, err error)
	// Overwrite lets a directory be replaced by a file, and the other way round.
	Overwrite bool
	// NoDevices leaves devices out; else one that cannot be made is an error.
	NoDevices bool
	// ACLs copies access control lists too: the copy is for the same users.
	ACLs bool
	// Overlay copies the attributes of overlayfs too: the copy is of layers.
	Overlay bool
	// Count, if it is set, is told of each entry that was made, with the bytes of a
	// file, and whether the file system has shared them.
	Count func(size int64, shared bool)
	// Skip is asked whether to go on without a file that cannot be read; nil: never.
	Skip func(path string, err error) bool
	// Limits of Extract.
	Limits limit.Limits
}

// ErrKind says that a directory is in the place of a file, or the other way round.
var ErrKind = errors.New("one is a directory, the other is not")

// Copy makes the entry to of the file or directory from. A directory is laid over
// one that is there, and files over files; each file is there as it was before or
// whole. With contents only what is in the directory is copied to the directory
// to, which must be there and keeps its own attributes. When ctx ends, what was
// copied so far stays, but no half file.
func Copy(ctx context.Context, from, to *Entry, contents bool, o Options) error {
	c := &copier{ctx: ctx, o: o, top: to, contents: contents, links: map[inode]string{}}
	if to.IsDir() {
		c.made = inodeOf(&to.Stat)
	}
	return walk(ctx, from, c)
}

// copier is the visitor of Copy.
type copier struct {
	ctx      context.Context
	o        Options
	top      *Entry
	contents bool
	dirs     []int            // the directories that are open, uppermost first
	links    map[inode]string // files with several names: the copy's, below the top
	made     inode            // what is copied to: no content of itself
	data     data
}

// target is where the copy of n belongs.
func (c *copier) target(n *node) (dir int, name string) {
	if n.path == "" {
		return int(c.top.Dir.Fd()), c.top.Name
	}
	return c.dirs[len(c.dirs)-1], n.name
}

func (c *copier) skip(n *node, err error) bool {
	return n.path != "" && c.o.Skip != nil && c.o.Skip(n.path, err)
}

func (c *copier) enter(n *node) (bool, error) {
	if n.path != "" && inodeOf(&n.st) == c.made {
		c.dirs = append(c.dirs, -1)
		return false, nil
	}
	dir, name := c.target(n)
	fd, err := makeDir(dir, name, c.o.Overwrite)
	c.dirs = append(c.dirs, fd)
	if err == nil && n.path == "" {
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		c.made = inodeOf(&st)
	}
	return true, err
}

// makeDir makes a directory, or opens the one that is there.
func makeDir(dir int, name string, overwrite bool) (int, error) {
	if name == "." {
		return unix.Openat(dir, name, unix.O_RDONLY|dirFlags, 0)
	}
	err := unix.Mkdirat(dir, name, 0o700)
	if err != nil && err != unix.EEXIST {
		return -1, err
	}
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|dirFlags, 0)
	if err != unix.ENOTDIR && err != unix.ELOOP {
		return fd, err
	}
	if !overwrite {
		return -1, fmt.Errorf("cannot overwrite it with a directory: %w", ErrKind)
	}
	if err := unix.Unlinkat(dir, name, 0); err != nil {
		return -1, err
	}
	if err := unix.Mkdirat(dir, name, 0o700); err != nil {
		return -1, err
	}
	return unix.Openat(dir, name, unix.O_RDONLY|dirFlags, 0)
}

func (c *copier) leave(n *node) error {
	last := len(c.dirs) - 1
	fd := c.dirs[last]
	c.dirs = c.dirs[:last]
	if fd < 0 {
		return nil
	}
	defer unix.Close(fd)
	if n.path == "" && c.contents {
		return nil
	}
	list, err := c.o.xattrs(n.fd)
	if err != nil {
		return err
	}
	return c.o.attributes(fd, &n.st, list)
}

// attributes gives an open file owner, extended attributes, mode and times, in
// this order: a change of owner takes set-ID bits and capabilities away.
func (o *Options) attributes(fd int, st *unix.Stat_t, list map[string]string) error {
	uid, gid, err := o.owner(st)
	if err != nil {
		return err
	}
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return err
	}
	if err := setXattrs(fd, list); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o7777); err != nil {
		return err
	}
	return futimes(fd, st)
}

func (o *Options) owner(st *unix.Stat_t) (uid, gid int, err error) {
	if o.Owner == nil {
		return int(st.Uid), int(st.Gid), nil
	}
	return o.Owner(st.Uid, st.Gid)
}

func futimes(fd int, st *unix.Stat_t) error {
	times := []unix.Timespec{st.Atim, st.Mtim}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), times, 0)
}

func (c *copier) file(n *node) error {
	dir, name := c.target(n)
	if n.st.Nlink > 1 {
		if old, ok := c.links[inodeOf(&n.st)]; ok {
			return c.link(old, dir, name)
		}
	}
	made, err := true, error(nil)
	switch n.kind() {
	case unix.S_IFREG:
		err = c.regular(n, dir, name)
	case unix.S_IFSOCK:
		return nil // of use to whoever listens, and to nobody else
	case unix.S_IFCHR, unix.S_IFBLK:
		if c.o.NoDevices {
			return nil
		}
		made, err = c.special(n, dir, name)
	default:
		made, err = c.special(n, dir, name)
	}
	if err == nil && made && c.o.Count != nil {
		size := int64(0)
		if n.kind() == unix.S_IFREG {
			size = n.st.Size
		}
		c.o.Count(size, !c.data.noClone)
	}
	if err == nil && made && n.st.Nlink > 1 {
		c.links[inodeOf(&n.st)] = n.path
	}
	return err
}

// link makes one more name of a file that was copied.
func (c *copier) link(old string, dir int, name string) error {
	parent, oldName := int(c.top.Dir.Fd()), c.top.Name
	if old != "" {
		how := unix.OpenHow{Flags: unix.O_PATH | dirFlags, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
		fd, err := unix.Openat2(parent, filepath.Join(c.top.Name, filepath.Dir(old)), &how)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		parent, oldName = fd, filepath.Base(old)
	}
	return replace(dir, name, c.o.Overwrite, func(dir int, name string) error {
		return unix.Linkat(parent, oldName, dir, name, 0)
	})
}

// special makes a symbolic link, a FIFO or a device.
func (c *copier) special(n *node, dir int, name string) (bool, error) {
	uid, gid, err := c.o.owner(&n.st)
	if err != nil {
		return false, err
	}
	target := ""
	if n.kind() == unix.S_IFLNK {
		if target, err = readlink(n.dir, n.name); err != nil {
			return false, err
		}
	}
	return true, replace(dir, name, c.o.Overwrite, func(dir int, name string) error {
		return makeSpecial(dir, name, &n.st, target, uid, gid)
	})
}

func makeSpecial(dir int, name string, st *unix.Stat_t, target string, uid, gid int) error {
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		if err := unix.Symlinkat(target, dir, name); err != nil {
			return err
		}
	} else {
		if err := unix.Mknodat(dir, name, st.Mode, int(st.Rdev)); err == unix.EPERM {
			return fmt.Errorf("cannot make a device without root on the host: %w", err)
		} else if err != nil {
			return err
		}
		if err := unix.Fchmodat(dir, name, st.Mode&0o7777, 0); err != nil {
			return err
		}
	}
	if err := unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	at := fmt.Sprintf("/proc/self/fd/%d/%s", dir, name)
	return unix.UtimesNanoAt(unix.AT_FDCWD, at, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// replace makes something under a name; what is there is replaced in one step.
func replace(dir int, name string, overwrite bool, put func(dir int, name string) error) error {
	err := put(dir, name)
	if err != unix.EEXIST {
		return err
	}
	if err := clearDir(dir, name, overwrite); err != nil {
		return err
	}
	temp := tempName()
	if err := put(dir, temp); err != nil {
		unix.Unlinkat(dir, temp, 0)
		return err
	}
	if err := unix.Renameat(dir, temp, dir, name); err != nil {
		unix.Unlinkat(dir, temp, 0)
		return err
	}
	// Two names of the same file are not renamed: see rename(2).
	if err := unix.Unlinkat(dir, temp, 0); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

// clearDir takes a directory away that is in the place of a file.
func clearDir(dir int, name string, overwrite bool) error {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if !overwrite {
		return fmt.Errorf("cannot overwrite a directory with it: %w", ErrKind)
	}
	return record.RemoveTree(fmt.Sprintf("/proc/self/fd/%d/%s", dir, name))
}

func tempName() string { return ".moss-" + rand.Text() }

func (c *copier) regular(n *node, dir int, name string) error {
	in, err := n.open()
	if err != nil {
		return err
	}
	defer in.Close()
	list, err := c.o.xattrs(int(in.Fd()))
	if err != nil {
		return err
	}
	return putFile(dir, name, &n.st, list, &c.o, func(out *os.File) error {
		return c.data.copy(c.ctx, out, in, &n.st)
	})
}

// putFile writes a regular file whole, or leaves what there was.
func putFile(dir int, name string, st *unix.Stat_t, list map[string]string, o *Options, fill func(*os.File) error) error {
	const flags = unix.O_WRONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	at := name
	fd, err := unix.Openat(dir, name, flags|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err == unix.EEXIST {
		if err := clearDir(dir, name, o.Overwrite); err != nil {
			return err
		}
		if isMount(dir, name) {
			return putThrough(dir, name, fill)
		}
		at = tempName()
		fd, err = unix.Openat(dir, at, flags|unix.O_CREAT|unix.O_EXCL, 0o600)
	}
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	err = fill(out)
	if err == nil {
		err = o.attributes(fd, st, list)
	}
	err = errors.Join(err, out.Close())
	if err == nil && at != name {
		err = unix.Renameat(dir, at, dir, name)
	}
	if err != nil {
		unix.Unlinkat(dir, at, 0)
	}
	return err
}

// isMount says whether something is mounted on a file: it cannot be replaced.
func isMount(dir int, name string) bool {
	var st unix.Statx_t
	err := unix.Statx(dir, name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// putThrough writes into a file that is somebody else's, mounted here: it keeps
// owner and mode.
func putThrough(dir int, name string, fill func(*os.File) error) error {
	fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	out := os.NewFile(uintptr(fd), name)
	return errors.Join(fill(out), out.Close())
}

// Unreadable says whether an error is about a file that must not be read, as the
// terminal of a container must not by anybody but its kernel.
func Unreadable(err error) bool { return errors.Is(err, fs.ErrPermission) }
