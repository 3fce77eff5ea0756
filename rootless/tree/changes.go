package tree

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Kinds of a Change.
const (
	Added   = 'A'
	Changed = 'C'
	Deleted = 'D'
)

// Change is one difference between a tree and what is below it.
type Change struct {
	Kind byte
	Path string // begins with a slash
	// Entry is what is there now. It is good until report returns, and nil for
	// what was deleted.
	Entry *Entry
}

// Layers are the trees that Changes compares.
type Layers struct {
	// Merged is the tree as it is seen, Lower the tree without the layer; nil is
	// an empty one.
	Merged, Lower *os.File
	// Upper is the directory of the layer itself, as overlay has it. Nil compares
	// the two whole trees, files by size, time, owner and mode.
	Upper *os.File
}

// Changes reports what is different, a directory before what is in it. A
// directory in which something is different counts as changed. What is below a
// directory that was deleted is not told.
func Changes(ctx context.Context, l Layers, report func(Change) error) error {
	d := &differ{ctx: ctx, report: report, upper: -1, lower: -1, byStat: l.Upper == nil}
	files := []struct {
		f  *os.File
		fd *int
	}{{l.Upper, &d.upper}, {l.Merged, &d.merged}, {l.Lower, &d.lower}}
	for _, file := range files {
		if file.f == nil {
			continue
		}
		fd, err := unix.Openat(int(file.f.Fd()), ".", unix.O_RDONLY|dirFlags, 0) // it may be open as a path only
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		*file.fd = fd
	}
	return d.directory("")
}

// differ is the place of the comparison: the same directory in three trees.
type differ struct {
	ctx    context.Context
	report func(Change) error
	byStat bool
	// -1: the layer has all of the directory (upper), or none was below (lower).
	upper, merged, lower int
	pending              []pending
}

// pending is a directory that is reported when something in it is.
type pending struct {
	path string
	dir  int
	name string
}

func (d *differ) directory(path string) error {
	if err := d.ctx.Err(); err != nil {
		return err
	}
	names, err := d.names()
	if err != nil {
		return &Error{Path: path, Err: err}
	}
	for _, name := range names {
		if err := d.one(path+"/"+name, name); err != nil {
			var at *Error
			if errors.As(err, &at) {
				return err
			}
			return &Error{Path: path + "/" + name, Err: err}
		}
	}
	return nil
}

// names are those that may be different.
func (d *differ) names() ([]string, error) {
	if d.upper >= 0 {
		names, err := readDir(d.upper)
		if err != nil || !slices.Contains(names, opaqueFile) {
			return names, err
		}
		d.upper = -1
	}
	names, err := readDir(d.merged)
	if err != nil || d.lower < 0 {
		return names, err
	}
	below, err := readDir(d.lower)
	if err != nil {
		return nil, err
	}
	names = append(names, below...)
	slices.Sort(names)
	return slices.Compact(names), nil
}

// fuse-overlayfs writes these where it may not make the kernel's marks.
const (
	whiteoutPrefix = ".wh."
	opaqueFile     = ".wh..wh..opq"
)

func (d *differ) one(path, name string) error {
	now, isNow, err := statIn(d.merged, name)
	if err != nil {
		return err
	}
	if d.upper >= 0 && !isNow {
		if hidden, ok := strings.CutPrefix(name, whiteoutPrefix); ok {
			path, name = path[:len(path)-len(name)]+hidden, hidden
			if now, isNow, err = statIn(d.merged, name); err != nil || isNow {
				return err
			}
		}
	}
	old, isOld := unix.Stat_t{}, false
	if d.lower >= 0 {
		if old, isOld, err = statIn(d.lower, name); err != nil {
			return err
		}
	}
	nowDir, oldDir := isNow && now.Mode&unix.S_IFMT == unix.S_IFDIR, isOld && old.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case !isNow && !isOld: // made and removed
		return nil
	case !isNow:
		if err := d.flush(); err != nil {
			return err
		}
		return d.report(Change{Kind: Deleted, Path: path})
	case !isOld:
		return d.added(path, name, &now, Added)
	case nowDir && oldDir:
		return d.both(path, name, &now, &old)
	case d.byStat && sameFile(&now, &old):
		return nil
	}
	return d.added(path, name, &now, Changed)
}

func statIn(dir int, name string) (st unix.Stat_t, ok bool, err error) {
	err = unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == unix.ENOENT {
		return st, false, nil
	}
	return st, err == nil, err
}

func sameFile(a, b *unix.Stat_t) bool {
	return sameAttributes(a, b) && a.Size == b.Size && a.Rdev == b.Rdev
}

func sameAttributes(a, b *unix.Stat_t) bool {
	return a.Mode == b.Mode && a.Uid == b.Uid && a.Gid == b.Gid && a.Mtim == b.Mtim
}

// flush reports the directories that something is to be reported of.
func (d *differ) flush() error {
	for _, p := range d.pending {
		if err := d.present(Changed, p.path, p.dir, p.name); err != nil {
			return err
		}
	}
	d.pending = d.pending[:0]
	return nil
}

// present reports what is there now.
func (d *differ) present(kind byte, path string, dir int, name string) error {
	// The descriptor is the differ's: a file of its own may be closed.
	fd, err := unix.FcntlInt(uintptr(dir), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	e := &Entry{Dir: os.NewFile(uintptr(fd), path), Name: name, Exists: true}
	defer e.Close()
	if err := unix.Fstatat(fd, name, &e.Stat, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return d.report(Change{Kind: kind, Path: path, Entry: e})
}

// added tells of something new, and of all that is in it.
func (d *differ) added(path, name string, st *unix.Stat_t, kind byte) error {
	if err := d.flush(); err != nil {
		return err
	}
	if err := d.present(kind, path, d.merged, name); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	fd, err := unix.Openat(d.merged, name, unix.O_RDONLY|dirFlags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return (&differ{ctx: d.ctx, report: d.report, upper: -1, merged: fd, lower: -1}).directory(path)
}

// both compares a directory that is in both.
func (d *differ) both(path, name string, now, old *unix.Stat_t) error {
	sub := &differ{ctx: d.ctx, report: d.report, byStat: d.byStat, upper: -1, pending: append(slices.Clone(d.pending), pending{path, d.merged, name})}
	for _, tree := range []struct {
		dir int
		fd  *int
	}{{d.merged, &sub.merged}, {d.lower, &sub.lower}, {d.upper, &sub.upper}} {
		if tree.dir < 0 {
			continue
		}
		fd, err := unix.Openat(tree.dir, name, unix.O_RDONLY|dirFlags, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		*tree.fd = fd
	}
	if sub.upper >= 0 && isWhole(sub.upper) {
		sub.upper = -1
	}
	if !sameAttributes(now, old) {
		if err := sub.flush(); err != nil {
			return err
		}
	}
	err := sub.directory(path)
	if len(sub.pending) == 0 { // something was told, and what it is in before it
		d.pending = d.pending[:0]
	}
	return err
}

// isWhole says whether the layer has all of a directory, because what was below is
// hidden, or taken from another place; see the kernel's overlayfs.rst.
func isWhole(upper int) bool {
	var value [256]byte
	for _, prefix := range []string{"user.overlay.", "trusted.overlay.", "user.fuseoverlayfs.", "user.containers."} {
		if n, err := unix.Fgetxattr(upper, prefix+"opaque", value[:]); err == nil && n == 1 && value[0] == 'y' {
			return true
		}
		if _, err := unix.Fgetxattr(upper, prefix+"redirect", value[:]); err == nil || err == unix.ERANGE {
			return true
		}
	}
	return false
}

// Change writes a change to an archive of changes, a layer.
func (w *Writer) Change(c Change) error {
	name := strings.TrimPrefix(c.Path, "/")
	if c.Kind == Deleted {
		at := strings.LastIndexByte(name, '/') + 1
		return w.Whiteout(strings.TrimSuffix(name[:at], "/"), name[at:])
	}
	return w.One(c.Entry, name)
}
