package tree

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"moss/storage/limit"
)

// xattrPAX begins the names of PAX records that hold extended attributes, as
// bsdtar, GNU tar and container engines write them.
const xattrPAX = "SCHILY.xattr."

// Writer writes files as a tar archive.
type Writer struct {
	ctx   context.Context
	o     Options
	tar   *tar.Writer
	links map[inode]string
	data  data
}

// NewWriter makes a Writer; Owner, NoDevices and Skip of the options count.
func NewWriter(ctx context.Context, w io.Writer, o Options) *Writer {
	return &Writer{ctx: ctx, o: o, tar: tar.NewWriter(w), links: map[inode]string{}}
}

// Close ends the archive; it does not close what it is written to.
func (w *Writer) Close() error { return w.tar.Close() }

// Tree writes a file, or a directory with all that is in it, under name. With
// name "" what is in a directory is written, each under its own name.
func (w *Writer) Tree(from *Entry, name string) error {
	return walk(w.ctx, from, &archiver{w, name})
}

// One writes a single file or directory under name, whatever is in it.
func (w *Writer) One(from *Entry, name string) error {
	return walk(w.ctx, from, shallow{&archiver{w, name}})
}

// Whiteout writes that a file of the layer below is not there any more; see the
// image specification, layer.md.
func (w *Writer) Whiteout(dir, name string) error {
	if dir != "" {
		dir += "/"
	}
	return w.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: dir + ".wh." + name, Mode: 0o600, ModTime: time.Unix(0, 0)})
}

// archiver is the visitor of Tree.
type archiver struct {
	w    *Writer
	name string
}

// shallow is the visitor of One.
type shallow struct{ *archiver }

func (s shallow) enter(n *node) (bool, error) {
	_, err := s.archiver.enter(n)
	return false, err
}

func (a *archiver) path(n *node) string {
	switch {
	case n.path == "":
		return a.name
	case a.name == "":
		return n.path
	}
	return a.name + "/" + n.path
}

func (a *archiver) skip(n *node, err error) bool {
	return n.path != "" && a.w.o.Skip != nil && a.w.o.Skip(n.path, err)
}

func (a *archiver) enter(n *node) (bool, error) {
	name := a.path(n)
	if name == "" {
		return true, nil
	}
	h, err := a.w.header(n, name+"/")
	if err == nil {
		err = a.w.withXattrs(h, n.fd)
	}
	if err == nil {
		err = a.w.tar.WriteHeader(h)
	}
	return true, err
}

func (a *archiver) leave(*node) error { return nil }

func (a *archiver) file(n *node) error {
	w, name := a.w, a.path(n)
	h, err := w.header(n, name)
	if err != nil {
		return err
	}
	if n.st.Nlink > 1 {
		if old, ok := w.links[inodeOf(&n.st)]; ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, old, 0
			return w.tar.WriteHeader(h)
		}
	}
	switch n.kind() {
	case unix.S_IFREG:
		err = w.regular(n, h)
	case unix.S_IFLNK:
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = readlink(n.dir, n.name); err == nil {
			err = w.tar.WriteHeader(h)
		}
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
		err = w.tar.WriteHeader(h)
	case unix.S_IFCHR, unix.S_IFBLK:
		if w.o.NoDevices {
			return nil
		}
		h.Typeflag = tar.TypeChar
		if n.kind() == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(n.st.Rdev)), int64(unix.Minor(n.st.Rdev))
		err = w.tar.WriteHeader(h)
	default: // sockets: an archive has no word for them
		return nil
	}
	if err == nil && n.st.Nlink > 1 {
		w.links[inodeOf(&n.st)] = name
	}
	return err
}

// header has all but the kind of n.
func (w *Writer) header(n *node, name string) (*tar.Header, error) {
	uid, gid, err := w.o.owner(&n.st)
	if err != nil {
		return nil, err
	}
	h := &tar.Header{Name: name, Mode: int64(n.st.Mode & 0o7777), Uid: uid, Gid: gid, ModTime: time.Unix(n.st.Mtim.Sec, 0)}
	if n.kind() == unix.S_IFDIR {
		h.Typeflag = tar.TypeDir
	}
	return h, nil
}

func (w *Writer) withXattrs(h *tar.Header, fd int) error {
	list, err := xattrs(fd, false)
	if len(list) == 0 {
		return err
	}
	h.PAXRecords = map[string]string{}
	for name, value := range list {
		h.PAXRecords[xattrPAX+name] = value
	}
	return nil
}

// regular writes a file. Its length is told before its content: a file that grows
// meanwhile is cut, and one that shrinks is filled with zeros.
func (w *Writer) regular(n *node, h *tar.Header) error {
	in, err := n.open()
	if err != nil {
		return err
	}
	defer in.Close()
	h.Typeflag, h.Size = tar.TypeReg, n.st.Size
	if err := w.withXattrs(h, int(in.Fd())); err != nil {
		return err
	}
	if err := w.tar.WriteHeader(h); err != nil {
		return err
	}
	before := &io.LimitedReader{R: in, N: h.Size}
	if err := w.data.stream(w.ctx, w.tar, before); err != nil {
		return &Error{Path: h.Name, Err: err} // the archive is broken: no skipping
	}
	return w.data.stream(w.ctx, w.tar, io.LimitReader(zeros{}, before.N))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// explain says which entry of an archive an error is about.
func explain(name string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	return fmt.Errorf("archive entry %s: %w", limit.Quote(name), err)
}

// closeAll closes what may be nil.
func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
