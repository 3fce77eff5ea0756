package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/oci"
	containerruntime "moss/rootless/runtime"
	"moss/rootless/runtime/birth"
	"moss/rootless/tree"
)

// view is the root file system of a container, open for one command. A container
// that runs is seen as its own processes see it. One that does not is mounted in
// a mount namespace that nobody else is in, and is locked meanwhile: it cannot be
// started.
type view struct {
	dir     *os.File
	running bool
	// tmpfs are the mounts that a container gets when it starts, and that are
	// not there now.
	tmpfs []string
	undo  func() // what mountVolumes took
	close func()
}

// root is where paths of the container are looked up.
func (v *view) root() tree.Root { return tree.Confined(v.dir) }

// look opens the root file system of c: with volumes as its processes see it;
// without, nothing but the layers.
func (e *Engine) look(ctx context.Context, c *container.Container, volumes bool) (*view, error) {
	if v := c.Look(); v.Live != nil {
		return e.lookRunning(c, v, volumes)
	}
	unlock, err := c.Lock(ctx)
	if err != nil {
		return nil, err
	}
	if v := c.Look(); v.Live != nil { // it was started meanwhile
		unlock()
		return e.lookRunning(c, v, volumes)
	}
	v, err := e.lookStopped(ctx, c, volumes)
	if err != nil {
		unlock()
		return nil, err
	}
	inner := v.close
	v.close = func() { inner(); unlock() }
	return v, nil
}

func (e *Engine) lookRunning(c *container.Container, v container.View, volumes bool) (*view, error) {
	if v.Status == container.StatusRestarting {
		return nil, fmt.Errorf("it is %s: %w", v.Status, errdefs.ErrFailedPrecondition)
	}
	live := v.Live
	pidfd, err := pidFD(live.PID, live.PIDStart)
	if err != nil {
		return nil, fmt.Errorf("its first process has ended: %w", err)
	}
	defer unix.Close(pidfd)
	var dir *os.File
	if volumes {
		dir, err = os.OpenFile(fmt.Sprintf("/proc/%d/root", live.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	} else {
		dir, err = rootOf(pidfd)
	}
	if err != nil {
		return nil, err
	}
	if !container.Alive(live.PID, live.PIDStart) { // else it was that process's
		dir.Close()
		return nil, errors.New("its first process has ended")
	}
	return &view{dir: dir, running: true, close: func() { dir.Close() }}, nil
}

// rootOf opens a copy of the root mount of a process's mount namespace, without
// what is mounted in it.
func rootOf(pidfd int) (*os.File, error) {
	var dir *os.File
	err := onThread(func() error {
		// setns(2) wants a thread that shares neither root nor working directory.
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			return err
		}
		if err := unix.Setns(pidfd, unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("cannot join its mount namespace: %w", err)
		}
		fd, err := unix.OpenTree(unix.AT_FDCWD, "/", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("cannot open its root mount: %w", err)
		}
		dir = os.NewFile(uintptr(fd), "/")
		return nil
	})
	return dir, err
}

// onThread does something on a thread of its own, which ends with it: what it
// changes about the thread concerns nobody else.
func onThread(do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		done <- do()
	}()
	return <-done
}

// lookStopped mounts the container. The caller holds its lock.
func (e *Engine) lookStopped(ctx context.Context, c *container.Container, volumes bool) (*view, error) {
	point, scratch, err := e.points()
	if err != nil {
		return nil, err
	}
	v := &view{}
	namespace, err := inPrivate(func() (err error) {
		if v.dir, err = e.mountRoot(ctx, c, point, scratch); err != nil || !volumes {
			return err
		}
		return e.mountVolumes(ctx, c, v)
	})
	v.close = func() {
		for _, f := range []*os.File{v.dir, namespace} {
			if f != nil {
				f.Close()
			}
		}
		if v.undo != nil {
			v.undo()
		}
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

// points are two empty directories on which something is mounted in namespaces of
// one's own only.
func (e *Engine) points() (point, scratch string, err error) {
	point, scratch = filepath.Join(e.Paths.Run, "view", "root"), filepath.Join(e.Paths.Run, "view", "scratch")
	return point, scratch, errors.Join(os.MkdirAll(point, 0o700), os.MkdirAll(scratch, 0o700))
}

// inPrivate does something in a mount namespace of its own, whose mounts stay as
// long as the file that it returns is open.
func inPrivate(do func() error) (namespace *os.File, err error) {
	err = onThread(func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return fmt.Errorf("cannot make a mount namespace: %w", err)
		}
		if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("cannot make a mount namespace: %w", err)
		}
		if namespace, err = os.Open("/proc/thread-self/ns/mnt"); err != nil {
			return err
		}
		return do()
	})
	return namespace, err
}

// mountRoot mounts the layers at point, in the caller's mount namespace, or what
// is mounted for the user already.
func (e *Engine) mountRoot(ctx context.Context, c *container.Container, point, scratch string) (*os.File, error) {
	source := e.Paths.Mounted(c.Spec.ID)
	if !isMounted(source) {
		l := &launch{e: e, c: &container.Container{Spec: c.Spec, Dir: c.Dir, RunDir: scratch}}
		in, doc := oci.Input{Root: point}, &containerruntime.Document{}
		if err := l.root(ctx, doc, &in); err != nil {
			return nil, err
		}
		source = in.Root
		if doc.Overlay != nil {
			doc.Overlay.Volatile = false // the next mount would be refused
			if err := containerruntime.MountOverlay(doc.Overlay, point); err != nil {
				return nil, err
			}
		}
	}
	if source != point {
		fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return nil, fmt.Errorf("cannot open %q: %w", source, err)
		}
		defer unix.Close(fd)
		if err := unix.MoveMount(fd, "", unix.AT_FDCWD, point, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return nil, fmt.Errorf("cannot mount %q: %w", source, err)
		}
	}
	return os.OpenFile(point, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// mountVolumes mounts volumes and bind mounts below the root, as a start would,
// and fills new volumes from the image.
func (e *Engine) mountVolumes(ctx context.Context, c *container.Container, v *view) error {
	l := &launch{e: e, c: &container.Container{Spec: c.Spec, Dir: c.Dir, RunDir: c.RunDir}}
	l.c.Spec.Rootfs.Mounts = nil
	for _, m := range c.Spec.Rootfs.Mounts {
		if e.onlyRunning(&m) {
			v.tmpfs = append(v.tmpfs, filepath.Clean(m.Target))
		} else {
			l.c.Spec.Rootfs.Mounts = append(l.c.Spec.Rootfs.Mounts, m)
		}
	}
	in, doc := oci.Input{}, &containerruntime.Document{}
	v.undo = func() {
		closed := errClosed
		l.undo.onError(&closed)
	}
	if err := l.userMounts(ctx, doc, &in); err != nil {
		return err
	}
	for _, m := range doc.CopyUp {
		if err := fillVolume(ctx, v.root(), m); err != nil {
			return err
		}
	}
	for _, name := range l.filled {
		e.Volumes.Used(name)
	}
	slices.SortStableFunc(in.Mounts, func(a, b specs.Mount) int { return len(a.Destination) - len(b.Destination) }) // parents first
	for _, m := range in.Mounts {
		if err := bindInto(v.root(), m, doc.Sources[m.Destination]); err != nil {
			return fmt.Errorf("cannot mount %q: %w", m.Destination, err)
		}
	}
	return nil
}

// errClosed has the leases of a view given back, as those of a failed start.
var errClosed = errors.New("closed")

// onlyRunning says whether there is nothing to see of a mount while the container
// does not run.
func (e *Engine) onlyRunning(m *container.Mount) bool {
	switch m.Type {
	case "bind":
	case "volume":
		if v, err := e.Volumes.Get(m.Source); err == nil && v.Options["type"] == "tmpfs" && v.Uses(e.Paths.Run) == 0 {
			return true
		}
	default:
		return true
	}
	return slices.Contains(m.Options, "O")
}

// fillVolume is what the start of the container would do first.
func fillVolume(ctx context.Context, root tree.Root, m containerruntime.CopyUp) error {
	if entries, err := os.ReadDir(m.Source); err != nil || len(entries) > 0 || m.NoCopy {
		return err
	}
	from, err := root.Entry(m.Target)
	if errors.Is(err, unix.ENOENT) || err == nil && !from.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := tree.Host().Entry(m.Source)
	if err != nil {
		return err
	}
	defer to.Close()
	if err := tree.Copy(ctx, from, to, false, tree.Options{}); err != nil {
		return fmt.Errorf("cannot copy %q to its volume: %w", m.Target, err)
	}
	return nil
}

// bindInto binds a file or a directory into the root.
func bindInto(root tree.Root, m specs.Mount, from containerruntime.Source) error {
	recursive, attr := false, unix.MountAttr{Propagation: unix.MS_PRIVATE}
	for _, o := range m.Options {
		switch o {
		case "rbind":
			recursive = true
		case "ro", "rro":
			attr.Attr_set |= unix.MOUNT_ATTR_RDONLY
		}
	}
	if from.Within == "" {
		from.Path = m.Source
	}
	fd, err := birth.CloneTree(from.Within, from.Path, recursive, from.NoLinks)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return err
	}
	target, err := mountTarget(root, fd, m.Destination)
	if err != nil {
		return err
	}
	defer target.Close()
	return unix.MoveMount(fd, "", int(target.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// mountTarget opens what is to be mounted on, made if it is not there.
func mountTarget(root tree.Root, source int, path string) (*os.File, error) {
	target, err := root.Open(path, unix.O_PATH)
	if !errors.Is(err, unix.ENOENT) {
		return target, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(source, &st); err != nil {
		return nil, err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		return root.MkdirAll(filepath.Clean(path), 0o755)
	}
	parent, err := root.MkdirAll(filepath.Dir(filepath.Clean(path)), 0o755)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	fd, err := unix.Openat(int(parent.Fd()), filepath.Base(path), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
	if err != nil {
		return nil, err
	}
	unix.Close(fd)
	return root.Open(path, unix.O_PATH)
}

// inTmpfs says whether a path is below a mount that is not there before the start.
func (v *view) inTmpfs(path string) (string, bool) {
	for _, t := range v.tmpfs {
		if path == t || strings.HasPrefix(path, t+"/") {
			return t, true
		}
	}
	return "", false
}

// isMounted says whether dir is a mount point.
func isMounted(dir string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
