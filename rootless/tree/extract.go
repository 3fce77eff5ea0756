package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"moss/storage/limit"
)

// extractMemory is what is aimed at, in bytes; see limit.DefaultFiles.
const extractMemory = 40 << 20

// Extract unpacks a tar archive into the directory dir of root. Symbolic links,
// those of the archive as well as those that are there, are followed within root
// only, and a name with ".." is refused.
func Extract(ctx context.Context, r io.Reader, root Root, dir string, o Options) error {
	x := &extractor{ctx: ctx, o: o, root: root, top: dir}
	defer func() { closeAll(x.last) }()
	top, err := root.MkdirAll(dir, 0o755)
	if err != nil {
		return err
	}
	defer top.Close()
	judge := limit.NewJudge(o.Limits, fmt.Sprintf("/proc/self/fd/%d", top.Fd()))
	// Of an archive of nothing but names a megabyte long the garbage is collected in time,
	// also where there is little time.
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(extractMemory))
	archive := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		h, err := archive.Next()
		if err == io.EOF {
			return x.finish("")
		}
		if err != nil {
			return fmt.Errorf("cannot read the archive: %w", err)
		}
		if err := judge.Member(h); err != nil {
			return err
		}
		if err := explain(h.Name, x.entry(h, archive)); err != nil {
			return err
		}
	}
}

type extractor struct {
	ctx  context.Context
	o    Options
	root Root
	top  string
	last *os.File // the directory of the last entry
	path string   // its path below top
	late []late
	kept int // bytes that late takes
	data data
}

// late are the attributes of a directory, which making entries in it changes.
type late struct {
	path   string
	st     *unix.Stat_t
	xattrs map[string]string
}

// maxKept is how much memory late attributes may take: those of directories that are
// behind us are then given.
const maxKept = 4 << 20

// clean is the path of an entry below the top: "" is the top itself.
func clean(name string) (string, error) {
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", limit.ErrOutside
		}
	}
	return strings.TrimPrefix(path.Clean("/"+name), "/"), nil
}

// directory opens the directory dir below the top, made with those above it.
func (x *extractor) directory(dir string) (int, error) {
	if x.last != nil && x.path == dir {
		return int(x.last.Fd()), nil
	}
	d, err := x.root.MkdirAll(path.Join(x.top, dir), 0o755)
	if err != nil {
		return -1, err
	}
	closeAll(x.last)
	x.last, x.path = d, dir
	return int(d.Fd()), nil
}

func (x *extractor) entry(h *tar.Header, content io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	name, err := clean(h.Name)
	if err != nil {
		return err
	}
	if name == "" {
		if h.Typeflag != tar.TypeDir {
			return errors.New("it has no name")
		}
		return nil // the directory is there, and stays as it is
	}
	dir, base := path.Split(name)
	fd, err := x.directory(strings.TrimSuffix(dir, "/"))
	if err != nil {
		return err
	}
	st, err := x.stat(h)
	if err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return x.subdirectory(h, st, fd, name, base)
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		return putFile(fd, base, st, x.xattrs(h), x.own(), func(out *os.File) error {
			return x.content(out, content, h.Size)
		})
	case tar.TypeLink:
		return x.link(h, fd, base)
	case tar.TypeSymlink, tar.TypeFifo, tar.TypeChar, tar.TypeBlock:
		if x.o.NoDevices && (h.Typeflag == tar.TypeChar || h.Typeflag == tar.TypeBlock) {
			return nil
		}
		return replace(fd, base, x.o.Overwrite, func(dir int, name string) error {
			return makeSpecial(dir, name, st, h.Linkname, int(st.Uid), int(st.Gid))
		})
	}
	return fmt.Errorf("unknown type %q", h.Typeflag)
}

// own are the options for what stat has translated already.
func (x *extractor) own() *Options { return &Options{Overwrite: x.o.Overwrite} }

// stat is what a header says, with the owner that the file is to get.
func (x *extractor) stat(h *tar.Header) (*unix.Stat_t, error) {
	st := &unix.Stat_t{Mode: uint32(h.Mode) & 0o7777, Size: h.Size, Uid: uint32(h.Uid), Gid: uint32(h.Gid)}
	uid, gid, err := x.o.owner(st)
	if err != nil {
		return nil, err
	}
	st.Uid, st.Gid = uint32(uid), uint32(gid)
	switch h.Typeflag {
	case tar.TypeSymlink:
		st.Mode |= unix.S_IFLNK
	case tar.TypeFifo:
		st.Mode |= unix.S_IFIFO
	case tar.TypeChar:
		st.Mode |= unix.S_IFCHR
	case tar.TypeBlock:
		st.Mode |= unix.S_IFBLK
	}
	st.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	st.Mtim = unix.NsecToTimespec(h.ModTime.UnixNano())
	st.Atim = unix.NsecToTimespec(time.Now().UnixNano())
	return st, nil
}

func (x *extractor) xattrs(h *tar.Header) map[string]string {
	var out map[string]string
	for key, value := range h.PAXRecords {
		if name, ok := strings.CutPrefix(key, xattrPAX); ok && ownXattr(name) {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = value
		}
	}
	return out
}

func (x *extractor) subdirectory(h *tar.Header, st *unix.Stat_t, fd int, name, base string) error {
	// A link to a directory, as /lib is to /usr/lib, stays: the archive's files
	// belong to where it leads.
	var is unix.Stat_t
	if err := unix.Fstatat(fd, base, &is, unix.AT_SYMLINK_NOFOLLOW); err == nil && is.Mode&unix.S_IFMT == unix.S_IFLNK {
		if d, err := x.root.Open(path.Join(x.top, name), unix.O_PATH|unix.O_DIRECTORY); err == nil {
			return d.Close()
		}
	}
	made, err := makeDir(fd, base, x.o.Overwrite)
	if err != nil {
		return err
	}
	if err := unix.Close(made); err != nil {
		return err
	}
	l := late{name, st, x.xattrs(h)}
	x.late = append(x.late, l)
	x.kept += int(unsafe.Sizeof(l)+unsafe.Sizeof(*st)) + len(name)
	for key, value := range l.xattrs {
		x.kept += len(key) + len(value)
	}
	if x.kept > maxKept {
		return x.finish(name)
	}
	return nil
}

// link makes a hard link: the name that it repeats is one of the archive's.
func (x *extractor) link(h *tar.Header, fd int, base string) error {
	old, err := clean(h.Linkname)
	if err != nil || old == "" {
		return fmt.Errorf("link to %q: %w", h.Linkname, limit.ErrOutside)
	}
	parent, err := x.root.Open(path.Join(x.top, path.Dir(old)), unix.O_PATH|unix.O_DIRECTORY)
	if err != nil {
		return fmt.Errorf("link to %q: %w", h.Linkname, err)
	}
	defer parent.Close()
	return replace(fd, base, x.o.Overwrite, func(dir int, name string) error {
		return unix.Linkat(int(parent.Fd()), path.Base(old), dir, name, 0)
	})
}

// content writes a file; blocks of zeros become holes.
func (x *extractor) content(out *os.File, content io.Reader, size int64) error {
	const block = 64 << 10
	buf := x.data.buffer()
	for at := int64(0); at < size; {
		if err := x.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(content, buf[:min(size-at, int64(len(buf)))])
		for from := 0; from < n; from += block {
			piece := buf[from:min(from+block, n)]
			if isZero(piece) {
				continue
			}
			if _, err := out.WriteAt(piece, at+int64(from)); err != nil {
				return err
			}
		}
		at += int64(n)
		if err != nil {
			return fmt.Errorf("cannot read the archive: %w", err)
		}
	}
	return out.Truncate(size)
}

func isZero(b []byte) bool {
	for len(b) >= 8 {
		if b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7] != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// finish gives directories their attributes, the innermost first, but for those that
// hold at: more of what is in them may come.
func (x *extractor) finish(at string) error {
	var open []late
	x.kept = 0
	for i := len(x.late) - 1; i >= 0; i-- {
		l := x.late[i]
		if at == l.path || strings.HasPrefix(at, l.path+"/") {
			open = append(open, l)
			continue
		}
		d, err := x.root.Open(path.Join(x.top, l.path), unix.O_RDONLY|unix.O_DIRECTORY)
		if err != nil {
			continue // a later entry has replaced it
		}
		err = x.own().attributes(int(d.Fd()), l.st, l.xattrs)
		d.Close()
		if err != nil {
			return explain(l.path, err)
		}
	}
	slices.Reverse(open)
	x.late = open
	return nil
}
