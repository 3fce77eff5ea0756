package rootless

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/storage/image"
)

// layers are directories that overlayfs would mount over each other, uppermost first. Here
// they are looked into without that.
type layers []string

// layersOf are those that a container starts from.
func layersOf(spec *container.Spec, img *image.Image) layers {
	if spec.Rootfs.Path != "" {
		return layers{spec.Rootfs.Path}
	}
	return img.Lower
}

// maxLinks bounds the symbolic links of a path; see path_resolution(7).
const maxLinks = 40

// open opens with O_PATH what a name leads to, with the layers for the root directory; nil
// where there is nothing.
func (l layers) open(name string) (*os.File, error) {
	var at []merged // the way to where we are
	leave := func(keep int) {
		for _, m := range at[keep:] {
			m.close()
		}
		at = at[:keep]
	}
	defer func() { leave(0) }()
	root, err := l.root()
	if len(root) == 0 || err != nil {
		return nil, err
	}
	at = append(at, root)
	links := 0
	for rest := name; rest != ""; {
		var part string
		part, rest, _ = strings.Cut(rest, "/")
		switch part {
		case "", ".":
			continue
		case "..":
			leave(max(1, len(at)-1))
			continue
		}
		next, err := at[len(at)-1].find(part)
		if len(next) == 0 || err != nil {
			return nil, err
		}
		target, isLink := link(next[0])
		if !isLink {
			at = append(at, next)
			continue
		}
		next.close()
		if links++; links > maxLinks {
			return nil, &os.PathError{Op: "open", Path: name, Err: unix.ELOOP}
		}
		if strings.HasPrefix(target, "/") {
			leave(1)
		}
		rest = target + "/" + rest
	}
	last := at[len(at)-1]
	found := last[0]
	at[len(at)-1] = last[1:]
	return found, nil
}

// isDirectory says whether a name leads to a directory.
func (l layers) isDirectory(name string) (bool, error) {
	f, err := l.open(name)
	if f == nil || err != nil {
		return false, err
	}
	defer f.Close()
	info, err := f.Stat()
	return err == nil && info.IsDir(), err
}

// merged is what the layers have of one name: directories, uppermost first, or one file of
// another kind. The files' names are those of their descriptors, see proc_pid_fd(5).
type merged []*os.File

func (l layers) root() (m merged, err error) {
	for _, dir := range l {
		f, err := openPath(unix.AT_FDCWD, dir, unix.O_DIRECTORY)
		if err != nil {
			m.close()
			return nil, &os.PathError{Op: "open", Path: dir, Err: err}
		}
		m = append(m, f)
	}
	return m, nil
}

func (m merged) close() {
	for _, f := range m {
		f.Close()
	}
}

// find is what these directories have of a name, as overlayfs merges it.
func (m merged) find(name string) (found merged, err error) {
	for _, dir := range m {
		f, err := openPath(int(dir.Fd()), name, unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if errors.Is(err, unix.ENOTDIR) {
			return nil, nil
		}
		var st unix.Stat_t
		if err == nil {
			if err = unix.Fstat(int(f.Fd()), &st); err != nil {
				f.Close()
			}
		}
		if err != nil {
			found.close()
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
		isDir, whiteout := st.Mode&unix.S_IFMT == unix.S_IFDIR, st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
		if whiteout || !isDir && len(found) > 0 { // nothing below counts
			f.Close()
			break
		}
		if found = append(found, f); !isDir || opaque(f.Name()) {
			break
		}
	}
	return found, nil
}

// link reads a symbolic link.
func link(f *os.File) (target string, isLink bool) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlinkat(int(f.Fd()), "", buf[:])
	return string(buf[:max(n, 0)]), err == nil
}

// openPath opens a file for nothing but to say which it is.
func openPath(dir int, name string, flags int) (*os.File, error) {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_CLOEXEC|flags, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("/proc/self/fd/%d", fd)), nil
}

// opaque says whether a layer's directory hides those below it.
func opaque(dir string) bool {
	var value [2]byte
	n, err := unix.Getxattr(dir, "user.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}
