package storage

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// worker makes files that belong to their owners from the beginning, where a
// change of owner would be one more change of the inode for the file system.
type worker struct {
	*copier
	able     bool
	uid, gid int // as whom it makes files now; -1 before the first
}

// prepare lets this thread make files as somebody else and keep its capabilities;
// see capabilities(7). The thread ends with the goroutine, which stays locked.
func (w *worker) prepare() {
	runtime.LockOSThread()
	w.able = unix.Prctl(unix.PR_SET_SECUREBITS, secureNoSetuidFixup, 0, 0, 0) == nil
}

const secureNoSetuidFixup = 1 << 2 // SECBIT_NO_SETUID_FIXUP

// become says whether files that are made now belong to uid and gid.
func (w *worker) become(uid, gid int) bool {
	if !w.able {
		return false
	}
	if uid != w.uid || gid != w.gid {
		// These return the ID before; what they did, a second call tells.
		unix.SetfsuidRetUid(uid)
		unix.SetfsgidRetGid(gid)
		w.uid, _ = unix.SetfsuidRetUid(-1)
		w.gid, _ = unix.SetfsgidRetGid(-1)
	}
	return uid == w.uid && gid == w.gid
}

// file copies a regular file: as a redirect to the layer that has its bytes, by a
// reflink from there, or byte by byte.
func (c *worker) file(p *place) error {
	born := c.become(c.owner(&p.st))
	fd, err := unix.Openat(p.to, p.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, p.st.Mode&0o777)
	if err != nil {
		return p.fail("create", err)
	}
	to := os.NewFile(uintptr(fd), p.name)
	switch {
	case p.st.Size == 0:
	case c.redirect:
		err = c.redirected(p, fd)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.ERANGE) || errors.Is(err, unix.E2BIG) {
			err = c.bytes(p, to) // the path is too long for an attribute of this file system
		}
	default:
		err = c.bytes(p, to)
	}
	if err == nil {
		err = c.attributes(p, fd, born)
	}
	return errors.Join(err, to.Close())
}

// The attributes of a file that has its bytes in a data-only layer.
const (
	xattrMetacopy = "user.overlay.metacopy"
	xattrRedirect = "user.overlay.redirect"
)

// redirected says where the bytes are, and how many.
func (c *copier) redirected(p *place, fd int) error {
	if err := unix.Fsetxattr(fd, xattrRedirect, []byte("/"+p.path()), 0); err != nil {
		return err
	}
	if err := unix.Fsetxattr(fd, xattrMetacopy, nil, 0); err != nil {
		return err
	}
	return unix.Ftruncate(fd, p.st.Size)
}

func (c *copier) bytes(p *place, to *os.File) error {
	c.bytesCopied.Store(true)
	from, err := c.openLayer(p.path())
	if err != nil {
		var fd int
		fd, err = unix.Openat(p.from, p.name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
		from = os.NewFile(uintptr(fd), p.name)
	}
	if err != nil {
		return p.fail("open", err)
	}
	defer from.Close()
	if unix.IoctlFileClone(int(to.Fd()), int(from.Fd())) == nil {
		return nil
	}
	_, err = io.Copy(to, from)
	return err
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

// futimens sets the times of an open file; see utimensat(2), where the path is
// null for that, which x/sys has no words for.
func futimens(fd int, times []unix.Timespec) error {
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&times[0])), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func itoa(n int) string { return strconv.Itoa(n) }
