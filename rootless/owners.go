package rootless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
	"moss/storage/driver"
	"moss/storage/image"
	"moss/userns"
)

// The ways to give the files of an image the owners that a container with a user
// namespace of its own wants, best first.
const (
	shiftIDMap    = "idmap"    // mounts with an ID map; see mount_setattr(2)
	shiftRedirect = "redirect" // inodes without bytes, over the layers as data-only ones
	shiftReflink  = "reflink"  // a copy that shares the blocks
	shiftFuse     = "fuse"     // fuse-overlayfs maps, below the kernel's overlay
	shiftCopy     = "copy"     // a copy
)

// shift is the outcome of trying them.
type shift struct {
	Name string
	// Why says what the better ways lack.
	Why string `json:",omitempty"`
	// Kernel, file system and program for which this was found out.
	Kernel  string
	Place   string
	Program string `json:",omitempty"`
}

// shift finds out, once, how owners can be shifted here.
func (e *Engine) shift() (shift, error) {
	path := filepath.Join(e.Paths.Root, "owner-shift.json")
	program, _ := exec.LookPath("fuse-overlayfs")
	var s shift
	if found, err := record.Read(path, &s); found && err == nil && s.Kernel == kernelRelease() && s.Program == program && s.Place == driver.Place(e.Paths.Root) {
		return s, nil
	}
	s, err := e.tryShifts(program)
	if err != nil {
		return s, fmt.Errorf("cannot find out how to map owners: %w", err)
	}
	slog.Debug("how the owners of images are mapped", "by", s.Name, "because", s.Why)
	return s, record.Write(path, s, false)
}

func (e *Engine) tryShifts(program string) (shift, error) {
	s := shift{Kernel: kernelRelease(), Program: program, Place: driver.Place(e.Paths.Root), Name: shiftCopy}
	d, err := driver.Cached(e.Paths.Root)
	if err != nil {
		return s, err
	}
	if d.Name != driver.Native {
		s.Why = d.Why
		return s, nil
	}
	dir, err := os.MkdirTemp(e.Paths.Root, ".shift-*")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	t := trial{dir: dir, program: program}
	if err := t.prepare(); err != nil {
		return s, err
	}
	var why []string
	for _, way := range []struct {
		name string
		try  func() error
	}{{shiftIDMap, t.idmap}, {shiftRedirect, t.redirect}, {shiftReflink, t.reflink}, {shiftFuse, t.fuse}} {
		err := way.try()
		if err == nil {
			s.Name = way.name
			break
		}
		why = append(why, "no "+way.name+": "+err.Error())
	}
	s.Why = strings.Join(why, "; ")
	return s, nil
}

// trial tries each way on a layer with one file.
type trial struct{ dir, program string }

func (t *trial) path(name string) string { return filepath.Join(t.dir, name) }

func (t *trial) prepare() error {
	for _, name := range []string{"layer", "inodes", "upper", "work", "merged"} {
		if err := os.Mkdir(t.path(name), 0o755); err != nil {
			return err
		}
	}
	return os.WriteFile(t.path("layer/file"), []byte("x"), 0o644)
}

// one shifts the file's owner, 0, to the next ID.
var one = []birth.IDMap{{Container: 0, Host: 1, Size: 1}}

// look mounts and looks: is the file there, and whose is it?
func (t *trial) look(o birth.Overlay) error {
	o.Upper, o.Work, o.UserXattr = t.path("upper"), t.path("work"), true
	fd, attached, err := o.Mount(t.path("merged"))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if attached {
		defer unix.Unmount(t.path("merged"), unix.MNT_DETACH)
	}
	file := "/proc/self/fd/" + strconv.Itoa(fd) + "/file"
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return err
	}
	data, err := record.ReadFile(file)
	if err != nil {
		return err
	}
	if string(data) != "x" || st.Uid != 1 || st.Gid != 1 {
		return fmt.Errorf("a file shows %d bytes of owner %d:%d", len(data), st.Uid, st.Gid)
	}
	return nil
}

func (t *trial) idmap() error {
	return t.look(birth.Overlay{Lower: []string{t.path("layer")}, UIDMap: one, GIDMap: one})
}

// redirect needs Linux 6.16, which follows a redirect to a data-only layer with
// userxattr too.
func (t *trial) redirect() error {
	path := t.path("inodes/file")
	err := os.WriteFile(path, nil, 0o644)
	if err == nil {
		err = os.Truncate(path, 1)
	}
	if err == nil {
		err = os.Chown(path, 1, 1)
	}
	for name, value := range map[string]string{"user.overlay.metacopy": "", "user.overlay.redirect": "/file"} {
		if err == nil {
			err = os.NewSyscallError("setxattr", unix.Setxattr(path, name, []byte(value), 0))
		}
	}
	if err != nil {
		return err
	}
	return t.look(birth.Overlay{Lower: []string{t.path("inodes")}, DataOnly: []string{t.path("layer")}})
}

func (t *trial) reflink() error {
	from, err := os.Open(t.path("layer/file"))
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.Create(t.path("clone"))
	if err != nil {
		return err
	}
	defer to.Close()
	return os.NewSyscallError("FICLONE", unix.IoctlFileClone(int(to.Fd()), int(from.Fd())))
}

func (t *trial) fuse() error {
	if t.program == "" {
		return errors.New("fuse-overlayfs is not installed")
	}
	view := t.path("view")
	if err := os.Mkdir(view, 0o755); err != nil {
		return err
	}
	if err := mountShifted([]string{t.path("layer")}, one, one, view, ""); err != nil {
		return err
	}
	defer unix.Unmount(view, unix.MNT_DETACH)
	return t.look(birth.Overlay{Lower: []string{view}})
}

// mountShifted mounts layers, read-only, with shifted owners; see runFuse.
func mountShifted(lower []string, uids, gids []birth.IDMap, target, home string) error {
	option := func(name string, maps []birth.IDMap) string {
		var fields []string
		for _, m := range maps {
			fields = append(fields, strconv.Itoa(m.Container), strconv.Itoa(m.Host), strconv.Itoa(m.Size))
		}
		return "," + name + "=" + strings.Join(fields, ":")
	}
	options := "ro,lowerdir=" + strings.Join(lower, ":") + option("uidmapping", uids) + option("gidmapping", gids)
	return runFuse(options, target, home)
}

// layers are the image's files as the container sees their owners: an overlay
// without an upper layer. What has to be unmounted when that is gone is mounted
// below scratch, an existing directory; "" only finds out the root's owner.
func (e *Engine) layers(ctx context.Context, spec *container.Spec, img *image.Image, scratch string) (o *runtime.Overlay, unmount []string, err error) {
	if other, ok := strings.CutPrefix(spec.Namespaces.User, "container:"); ok {
		c, err := e.Find(other)
		if err != nil {
			return nil, nil, err
		}
		return e.layers(ctx, &c.Spec, img, scratch) // as its user namespace sees them
	}
	o = &runtime.Overlay{Lower: img.Lower, UserXattr: true}
	m, err := e.mapping(spec)
	if err != nil || m == nil {
		return o, nil, err
	}
	s, err := e.shift()
	if err != nil {
		return nil, nil, err
	}
	switch s.Name {
	case shiftIDMap:
		o.UIDMap, o.GIDMap = birthMaps(m.UID), birthMaps(m.GID)
		return o, nil, nil
	case shiftFuse:
		if scratch == "" {
			return o, nil, nil
		}
		view := filepath.Join(scratch, "lower")
		if err := os.Mkdir(view, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, nil, err
		}
		o.Lower = []string{view}
		return o, o.Lower, mountShifted(img.Lower, birthMaps(m.UID), birthMaps(m.GID), view, e.fuseHome())
	case shiftRedirect:
		o.DataOnly = img.Lower
	}
	dir, err := e.mapped(ctx, img, m, s.Name == shiftRedirect)
	o.Lower = []string{dir}
	return o, nil, err
}

func birthMaps(maps []userns.IDMap) []birth.IDMap { return idMaps(specMaps(maps)) }

// mapped is the tree of an image with shifted owners, made once for each image and
// mapping.
func (e *Engine) mapped(ctx context.Context, img *image.Image, m *userns.Mapping, redirect bool) (string, error) {
	req := image.MappedRequest{Image: img.ID, Redirect: redirect}
	for _, line := range m.UID {
		req.UIDMap = append(req.UIDMap, image.IDMap{Container: line.Container, Host: line.Host, Size: line.Size})
	}
	for _, line := range m.GID {
		req.GIDMap = append(req.GIDMap, image.IDMap{Container: line.Container, Host: line.Host, Size: line.Size})
	}
	if dir, ok := e.Images.Mapped(req); ok {
		return dir, nil
	}
	var out bytes.Buffer
	if err := e.ImageHelper(ctx, image.Request{Mapped: &req}, &out); err != nil {
		return "", err
	}
	return strings.TrimSpace(out.String()), nil
}

// rootOwner is who owns the root directory of the image, as the kept namespace
// numbers it, and its mode.
func (e *Engine) rootOwner(ctx context.Context, spec *container.Spec, img *image.Image) (st unix.Stat_t, err error) {
	st.Mode = 0o755
	o, _, err := e.layers(ctx, spec, img, "")
	if err != nil || len(o.Lower) == 0 {
		return st, err
	}
	if err := unix.Stat(o.Lower[0], &st); err != nil {
		return st, fmt.Errorf("cannot read layer %q: %w", o.Lower[0], err)
	}
	if len(o.DataOnly) > 0 || len(img.Lower) > 0 && o.Lower[0] != img.Lower[0] {
		return st, nil // a tree with shifted owners
	}
	m, err := e.mapping(spec)
	if err != nil {
		return st, err
	}
	if uid, gid, ok := m.Host(int(st.Uid), int(st.Gid)); ok {
		st.Uid, st.Gid = uint32(uid), uint32(gid)
	}
	return st, nil
}
