package rootless

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/oci"
	"moss/rootless/runtime"
	"moss/rootless/tree"
	"moss/storage/driver"
	"moss/storage/image"
)

// scaffold are the paths that every container has, whatever its program did: what
// is mounted there at the start needs something to be mounted on. As with podman
// they are no changes.
var scaffold = [...]string{
	"/dev", "/proc", "/sys", "/run", "/run/.containerenv", "/run/secrets", "/run/notify", "/dev/init",
	"/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/mtab",
}

func withoutScaffold(report func(tree.Change) error) func(tree.Change) error {
	return func(change tree.Change) error {
		if slices.Contains(scaffold[:], change.Path) {
			return nil
		}
		return report(change)
	}
}

// compared is an opened pair of trees.
type compared struct {
	layers tree.Layers
	open   []func()
}

func (c *compared) close() {
	for _, f := range c.open {
		f()
	}
}

func (c *compared) add(f *os.File, more ...*os.File) *os.File {
	for _, f := range append(more, f) {
		if f != nil {
			c.open = append(c.open, func() { f.Close() })
		}
	}
	return f
}

// Changes reports what a container's program has changed about the image.
func (e *Engine) Changes(ctx context.Context, c *container.Container, report func(tree.Change) error) error {
	err := e.changes(ctx, c, withoutScaffold(report))
	if err != nil {
		return fmt.Errorf("cannot compare container %q with its image: %w", c.Spec.Name, err)
	}
	return nil
}

func (e *Engine) changes(ctx context.Context, c *container.Container, report func(tree.Change) error) error {
	if c.Spec.Rootfs.Path != "" {
		return fmt.Errorf("its root file system is the directory %q, not an image", c.Spec.Rootfs.Path)
	}
	v, err := e.look(ctx, c, false)
	if err != nil {
		return err
	}
	defer v.close()
	img, err := e.imageOf(ctx, &c.Spec)
	if err != nil {
		return err
	}
	pair := &compared{layers: tree.Layers{Merged: v.dir}}
	defer pair.close()
	pair.layers.Lower, err = e.openLayers(pair, func(scratch string) (*runtime.Overlay, error) {
		o, _, err := e.layers(ctx, &c.Spec, img, scratch)
		return o, err
	})
	if err != nil {
		return err
	}
	d, err := driver.Cached(e.Paths.Root)
	if err != nil {
		return err
	}
	if d.Name != driver.VFS { // there is no layer, but a whole copy
		upper, err := os.Open(filepath.Join(c.Dir, "upper"))
		if err != nil {
			return err
		}
		pair.layers.Upper = pair.add(upper)
	}
	return tree.Changes(ctx, pair.layers, report)
}

// openLayers opens image layers as one tree, read-only; nil when there is none.
// describe may mount in the scratch directory, in a mount namespace of its own.
func (e *Engine) openLayers(pair *compared, describe func(scratch string) (*runtime.Overlay, error)) (*os.File, error) {
	point, scratch, err := e.points()
	if err != nil {
		return nil, err
	}
	var dir *os.File
	namespace, err := inPrivate(func() error {
		o, err := describe(scratch)
		if err != nil || len(o.Lower) == 0 {
			return err
		}
		if err = e.mountLayers(o, &point, scratch); err != nil {
			return err
		}
		dir, err = os.Open(point)
		return err
	})
	return pair.add(dir, namespace), err
}

// mountLayers mounts layers read-only at point, or sets point to the only one.
func (e *Engine) mountLayers(o *runtime.Overlay, point *string, scratch string) error {
	if len(o.Lower) == 1 && len(o.DataOnly)+len(o.UIDMap)+len(o.GIDMap) == 0 {
		*point = o.Lower[0]
		return nil
	}
	if len(o.Lower)+len(o.DataOnly) == 1 { // overlay wants two; see the kernel's overlayfs.rst
		o.Lower = append(o.Lower[:1:1], scratch)
	}
	d, err := driver.Cached(e.Paths.Root)
	if err != nil {
		return err
	}
	if d.Name == driver.Fuse {
		return e.mountFuse(o, *point)
	}
	return runtime.MountOverlay(o, *point)
}

// ofImage describes the layers of an image.
func ofImage(lower []string) func(string) (*runtime.Overlay, error) {
	return func(string) (*runtime.Overlay, error) { return &runtime.Overlay{Lower: lower, UserXattr: true}, nil }
}

// ImageChanges reports what the uppermost layer of an image changes about those
// below it.
func (e *Engine) ImageChanges(ctx context.Context, img *image.Image, report func(tree.Change) error) error {
	err := e.imageChanges(ctx, img, report)
	if err != nil {
		return fmt.Errorf("cannot compare image %q with what is below it: %w", img.ID[:12], err)
	}
	return nil
}

func (e *Engine) imageChanges(ctx context.Context, img *image.Image, report func(tree.Change) error) error {
	d, err := driver.Cached(e.Paths.Root)
	if err != nil {
		return err
	}
	pair := &compared{}
	defer pair.close()
	if len(img.Lower) == 0 {
		return nil
	}
	if d.Name == driver.VFS && len(img.Layers) > 1 {
		return errors.New("the layers are whole copies here (vfs): give another image to compare it with")
	}
	if pair.layers.Merged, err = e.openLayers(pair, ofImage(img.Lower)); err != nil {
		return err
	}
	if len(img.Lower) > 1 {
		if pair.layers.Lower, err = e.openLayers(pair, ofImage(img.Lower[1:])); err != nil {
			return err
		}
	}
	upper, err := os.Open(img.Lower[0])
	if err != nil {
		return err
	}
	pair.layers.Upper = pair.add(upper)
	return tree.Changes(ctx, pair.layers, report)
}

// Subject is a container or an image to be compared.
type Subject struct {
	Container *container.Container
	Image     *image.Image
}

// Compare reports what is different in one subject from another: files of the same
// size, time, owner and mode count as the same.
func (e *Engine) Compare(ctx context.Context, now, old Subject, report func(tree.Change) error) error {
	pair := &compared{}
	defer pair.close()
	var err error
	if pair.layers.Merged, err = e.openSubject(ctx, now, pair); err == nil {
		pair.layers.Lower, err = e.openSubject(ctx, old, pair)
	}
	if err != nil {
		return fmt.Errorf("cannot compare: %w", err)
	}
	if now.Container != nil || old.Container != nil {
		report = withoutScaffold(report)
	}
	if err := tree.Changes(ctx, pair.layers, report); err != nil {
		return fmt.Errorf("cannot compare: %w", err)
	}
	return nil
}

func (e *Engine) openSubject(ctx context.Context, s Subject, pair *compared) (*os.File, error) {
	if s.Container == nil {
		return e.openLayers(pair, ofImage(s.Image.Lower))
	}
	v, err := e.look(ctx, s.Container, false)
	if err != nil {
		return nil, err
	}
	pair.open = append(pair.open, v.close)
	return v.dir, nil
}

// Export writes a container's root file system to w as a tar archive, without
// its volumes.
func (e *Engine) Export(ctx context.Context, c *container.Container, w io.Writer) error {
	if err := e.export(ctx, c, w); err != nil {
		return fmt.Errorf("cannot export container %q: %w", c.Spec.Name, err)
	}
	e.note(c, event.Export)
	return nil
}

func (e *Engine) export(ctx context.Context, c *container.Container, w io.Writer) error {
	ids, err := e.idsOf(&c.Spec)
	if err != nil {
		return err
	}
	return e.writeRoot(ctx, c, w, tree.Options{Owner: containerOwner(ids)})
}

// writeRoot writes an archive of the whole root file system.
func (e *Engine) writeRoot(ctx context.Context, c *container.Container, w io.Writer, o tree.Options) error {
	v, err := e.look(ctx, c, false)
	if err != nil {
		return err
	}
	defer v.close()
	root, err := v.root().Entry("/")
	if err != nil {
		return err
	}
	defer root.Close()
	return writeTree(ctx, w, root, "", o)
}

// Mount mounts a container's root file system for the user, in the kept mount
// namespace, and returns where. It stays until Unmount or the container's removal.
func (e *Engine) Mount(ctx context.Context, c *container.Container) (string, error) {
	point, err := e.mount(ctx, c)
	if err != nil {
		return "", fmt.Errorf("cannot mount container %q: %w", c.Spec.Name, err)
	}
	return point, nil
}

func (e *Engine) mount(ctx context.Context, c *container.Container) (string, error) {
	if c.Spec.Rootfs.Path != "" {
		return c.Spec.Rootfs.Path, nil
	}
	point := e.Paths.Mounted(c.Spec.ID)
	if isMounted(point) {
		return point, nil
	}
	if err := os.MkdirAll(point, 0o700); err != nil {
		return "", err
	}
	if err := e.mountAt(ctx, c, point); err != nil {
		os.Remove(point)
		return "", err
	}
	e.note(c, event.Mount)
	return point, nil
}

// mountAt mounts what a running container has as its root, or the layers.
func (e *Engine) mountAt(ctx context.Context, c *container.Container, point string) error {
	unlock, err := c.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if live := c.Look(); live.Live != nil {
		v, err := e.lookRunning(c, live, false)
		if err != nil {
			return err
		}
		defer v.close()
		return unix.MoveMount(int(v.dir.Fd()), "", unix.AT_FDCWD, point, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	scratch := e.Paths.MountedLower(c.Spec.ID)
	if err := os.Mkdir(scratch, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	l := &launch{e: e, c: &container.Container{Spec: c.Spec, Dir: c.Dir, RunDir: scratch}}
	in, doc := oci.Input{Root: point}, &runtime.Document{}
	if err := l.root(ctx, doc, &in); err != nil {
		return err
	}
	os.Remove(scratch) // it is in use where layers are mounted by FUSE first
	if doc.Overlay != nil {
		doc.Overlay.Volatile = false
		return runtime.MountOverlay(doc.Overlay, point)
	}
	if in.Root == point { // it is mounted
		return nil
	}
	return unix.Mount(in.Root, point, "", unix.MS_BIND, "")
}

// Mounted is where the user has mounted a container; "" if it is not.
func (e *Engine) Mounted(c *container.Container) string {
	if point := e.Paths.Mounted(c.Spec.ID); isMounted(point) {
		return point
	}
	return ""
}

// Unmount undoes Mount.
func (e *Engine) Unmount(ctx context.Context, c *container.Container, force bool) error {
	point := e.Mounted(c)
	if point == "" {
		if c.Spec.Rootfs.Path != "" {
			return nil // the user's own directory: nothing was done
		}
		return fmt.Errorf("cannot unmount container %q: it is not mounted", c.Spec.Name)
	}
	if err := unmount(point, force); err != nil {
		if errors.Is(err, unix.EBUSY) {
			return &busyError{"container", c.Spec.Name, err}
		}
		return fmt.Errorf("cannot unmount container %q: %w", c.Spec.Name, err)
	}
	e.note(c, event.Unmount)
	e.dropMount(c.Spec.ID)
	return nil
}

// unmount unmounts; with force what is in use goes when nobody uses it any more.
func unmount(point string, force bool) error {
	flags := unix.UMOUNT_NOFOLLOW
	if force {
		flags |= unix.MNT_DETACH
	}
	return unix.Unmount(point, flags)
}

// busyError is a mount that is in use.
type busyError struct {
	kind, name string
	err        error
}

func (b *busyError) Error() string {
	return fmt.Sprintf("cannot unmount %s %q: %v", b.kind, b.name, b.err)
}
func (b *busyError) Unwrap() error { return b.err }

// Hint says what can be done.
func (b *busyError) Hint() string {
	return "somebody works in it; with --force it goes when they are done"
}

// dropMount takes away what the user has mounted of a container that is removed.
func (e *Engine) dropMount(id string) {
	point, lower := e.Paths.Mounted(id), e.Paths.MountedLower(id)
	for _, path := range []string{point, filepath.Join(lower, "lower")} {
		for unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH) == nil {
		}
		os.Remove(path)
	}
	os.Remove(lower)
}
