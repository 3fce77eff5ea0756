package rootless

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/oci"
	"moss/rootless/runtime"
	"moss/userns"
)

// userMounts resolves volumes, bind mounts and the rest of what the user mounts to
// OCI mounts, and says in doc what those have no words for.
func (l *launch) userMounts(ctx context.Context, doc *runtime.Document, in *oci.Input) error {
	for i := range l.c.Spec.Rootfs.Mounts {
		m := &l.c.Spec.Rootfs.Mounts[i]
		if err := l.userMount(ctx, doc, in, m, i); err != nil {
			return fmt.Errorf("cannot mount %q: %w", m.Target, err)
		}
		if slices.Contains(m.Options, "U") {
			doc.Chown = append(doc.Chown, m.Target)
		}
	}
	return nil
}

func (l *launch) userMount(ctx context.Context, doc *runtime.Document, in *oci.Input, m *container.Mount, i int) error {
	switch m.Type {
	case "tmpfs", "ramfs":
		mount, err := memory(m)
		in.Mounts = append(in.Mounts, mount)
		return err
	case "devpts":
		in.Mounts = append(in.Mounts, devpts(m, in))
		return nil
	case "image":
		return l.imageMount(ctx, doc, in, m, i)
	}
	source, within, err := l.sourceOf(doc, m)
	if err != nil {
		return err
	}
	if err := relabel(&l.c.Spec, m, source); err != nil {
		return err
	}
	if slices.Contains(m.Options, "O") {
		if within != nil { // where a path leads is not known yet
			return fmt.Errorf("option O cannot be combined with subpath: %w", errdefs.ErrInvalidArgument)
		}
		overlay, err := l.temporary(m, i, source)
		if err != nil {
			return err
		}
		setSource(doc, m, runtime.Source{Overlay: overlay})
		in.Mounts = append(in.Mounts, specs.Mount{Destination: m.Target, Type: "bind", Source: source, Options: []string{"bind", "nosuid", "nodev", "rprivate"}})
		return nil
	}
	if within != nil {
		setSource(doc, m, *within)
	}
	mount, err := bind(m, source)
	if err != nil {
		return err
	}
	if mount.UIDMappings, mount.GIDMappings, err = idMappings(m, in); err != nil {
		return err
	}
	in.Mounts = append(in.Mounts, mount)
	return nil
}

func setSource(doc *runtime.Document, m *container.Mount, from runtime.Source) {
	if doc.Sources == nil {
		doc.Sources = map[string]runtime.Source{}
	}
	doc.Sources[m.Target] = from
}

// sourceOf is the directory or file of the host that is mounted; of what can be
// written to by others meanwhile also how it is to be looked up.
func (l *launch) sourceOf(doc *runtime.Document, m *container.Mount) (string, *runtime.Source, error) {
	if m.Type == "bind" {
		stat := os.Stat
		if slices.Contains(m.Options, "no-dereference") {
			stat = os.Lstat
		}
		if _, err := stat(m.Source); err != nil {
			return "", nil, err
		}
		if m.Beneath == "" {
			return m.Source, nil, nil
		}
		rest, err := filepath.Rel(m.Beneath, m.Source)
		if err != nil {
			return "", nil, err
		}
		return m.Source, &runtime.Source{Within: m.Beneath, Path: rest, NoLinks: true}, nil
	}
	if m.Type != "volume" {
		return "", nil, fmt.Errorf("mounts of type %q are not supported: %w", m.Type, errdefs.ErrInvalidArgument)
	}
	v, err := l.e.Volumes.Get(m.Source)
	if err != nil {
		return "", nil, err
	}
	lease, err := v.Use(l.e.Paths.Run, l.c.Spec.ID)
	if err != nil {
		return "", nil, err
	}
	if lease != nil {
		l.cfg.Leases = append(l.cfg.Leases, *lease)
		l.undo.add(lease.Drop)
	}
	if v.New && m.SubPath == "" && !slices.Contains(m.Options, "O") {
		noCopy := slices.Contains(m.Options, "nocopy") || v.NoCopy()
		doc.CopyUp = append(doc.CopyUp, runtime.CopyUp{Target: m.Target, Source: v.Mountpoint, NoCopy: noCopy, KeepOwner: v.OwnerGiven()})
		l.filled = append(l.filled, m.Source)
	}
	if m.SubPath != "" {
		return v.Mountpoint, &runtime.Source{Within: v.Mountpoint, Path: m.SubPath}, nil
	}
	return v.Mountpoint, nil, nil
}

// imageMount mounts an image's root filesystem: read-only, or below a layer that
// goes with the run.
func (l *launch) imageMount(ctx context.Context, doc *runtime.Document, in *oci.Input, m *container.Mount, i int) error {
	img, err := l.e.Image(ctx, m.ImageID)
	if err != nil {
		return fmt.Errorf("its image %q is gone: %w", m.Source, err)
	}
	view := filepath.Join(l.c.RunDir, "image"+strconv.Itoa(i))
	if err := os.Mkdir(view, 0o700); err != nil {
		return err
	}
	overlay, unmount, err := l.e.layers(ctx, &l.c.Spec, img, view)
	if err != nil {
		return err
	}
	l.unmountLater(unmount)
	mount := specs.Mount{Destination: m.Target, Type: "bind", Source: overlay.Lower[0], Options: []string{"bind", "nosuid", "nodev", "rprivate"}}
	from := runtime.Source{Overlay: overlay, Path: m.SubPath}
	switch {
	case !m.ReadOnly:
		root, err := l.e.rootOwner(ctx, &l.c.Spec, img)
		if err != nil {
			return err
		}
		if err := l.scratch(overlay, i, root); err != nil {
			return err
		}
	case len(overlay.Lower)+len(overlay.DataOnly) == 1 && len(overlay.UIDMap) == 0: // an overlay wants two
		from = runtime.Source{Within: overlay.Lower[0], Path: filepath.Join(".", m.SubPath)}
	}
	if m.ReadOnly {
		mount.Options = append(mount.Options, "ro")
	}
	setSource(doc, m, from)
	if mount.UIDMappings, mount.GIDMappings, err = idMappings(m, in); err != nil {
		return err
	}
	in.Mounts = append(in.Mounts, mount)
	return nil
}

// unmountLater has the monitor undo mounts of this namespace.
func (l *launch) unmountLater(paths []string) {
	for _, path := range paths {
		l.cfg.Unmount = append(l.cfg.Unmount, path)
		l.undo.add(func() error { return unix.Unmount(path, unix.MNT_DETACH) })
	}
}

// temporary is an overlay over a directory of the host, for the option O.
func (l *launch) temporary(m *container.Mount, i int, lower string) (*runtime.Overlay, error) {
	overlay := &runtime.Overlay{Lower: []string{lower}, UserXattr: true}
	for _, o := range m.Options {
		if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
			overlay.Upper = dir
		}
		if dir, ok := strings.CutPrefix(o, "workdir="); ok {
			overlay.Work = dir
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(lower, &st); err != nil {
		return nil, &os.PathError{Op: "stat", Path: lower, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil, fmt.Errorf("option O: %q is not a directory: %w", lower, errdefs.ErrInvalidArgument)
	}
	if overlay.Upper != "" {
		return overlay, nil
	}
	return overlay, l.scratch(overlay, i, st)
}

// scratch lets an overlay be written to for as long as the run; the monitor
// empties it.
func (l *launch) scratch(overlay *runtime.Overlay, i int, top unix.Stat_t) error {
	s := monitor.Scratch{
		Dir: filepath.Join(l.c.Dir, "overlay", strconv.Itoa(i)), UID: int(top.Uid), GID: int(top.Gid), Mode: top.Mode & 0o7777,
	}
	if err := s.Make(); err != nil {
		return err
	}
	l.cfg.Scratch = append(l.cfg.Scratch, s)
	l.undo.add(s.Remove)
	overlay.Upper, overlay.Work, overlay.Volatile = s.Upper(), s.Work(), true
	return nil
}

// memory is a tmpfs or a ramfs.
func memory(m *container.Mount) (specs.Mount, error) {
	opts := []string{"nosuid", "nodev", "tmpcopyup", "rprivate"}
	for _, o := range m.Options {
		switch o {
		case "U":
			if m.ReadOnly {
				return specs.Mount{}, fmt.Errorf("option U cannot be combined with ro: %w", errdefs.ErrInvalidArgument)
			}
		case "notmpcopyup":
			opts = slices.DeleteFunc(opts, func(s string) bool { return s == "tmpcopyup" })
		case "suid", "dev":
			opts = slices.DeleteFunc(opts, func(s string) bool { return s == "no"+o })
		default:
			opts = append(opts, o)
		}
	}
	if m.ReadOnly {
		opts = append(opts, "ro")
	}
	return specs.Mount{Destination: m.Target, Type: m.Type, Source: m.Type, Options: opts}, nil
}

// devpts is a devpts of its own, by default as the container's first.
func devpts(m *container.Mount, in *oci.Input) specs.Mount {
	opts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666"}
	given := func(key string) bool {
		return slices.ContainsFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, key) })
	}
	if !given("mode=") {
		opts = append(opts, "mode=0620")
	}
	if !given("gid=") && in.GIDs > 5 {
		opts = append(opts, "gid=5")
	}
	return specs.Mount{Destination: m.Target, Type: "devpts", Source: "devpts", Options: append(opts, m.Options...)}
}

// bind makes the OCI mount of something of the host's.
func bind(m *container.Mount, source string) (mount specs.Mount, err error) {
	opts := []string{"rbind"}
	propagation := "rprivate"
	readOnly := m.ReadOnly
	for _, o := range m.Options {
		switch o {
		case "rw", "Z", "z", "U", "copy", "nocopy", "cached", "delegated", "consistent":
			// Done elsewhere, or nothing to do.
		case "ro":
			readOnly = true
		case "bind", "rbind":
			opts[0] = o
		case "no-dereference":
			opts = append(opts, "copy-symlink")
		case "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
			propagation = o
		case "exec", "suid", "dev", "noexec", "nosuid", "nodev", "noatime", "relatime", "nodiratime", "strictatime":
			opts = append(opts, o)
		default:
			if o != "idmap" && !strings.HasPrefix(o, "idmap=") {
				return mount, fmt.Errorf("option %q is not supported: %w", o, errdefs.ErrInvalidArgument)
			}
		}
	}
	for _, o := range []string{"suid", "dev"} {
		if !slices.Contains(opts, o) && !slices.Contains(opts, "no"+o) {
			opts = append(opts, "no"+o)
		}
	}
	opts = append(opts, propagation)
	if readOnly {
		opts = append(opts, "rro")
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: source, Options: opts}, nil
}

// idMappings are those of the option idmap: what it says, or what the container's
// user namespace says.
func idMappings(m *container.Mount, in *oci.Input) (uids, gids []specs.LinuxIDMapping, err error) {
	i := slices.IndexFunc(m.Options, func(o string) bool { return o == "idmap" || strings.HasPrefix(o, "idmap=") })
	if i < 0 {
		return nil, nil, nil
	}
	u, g, err := container.ParseIDMapOption(m.Options[i])
	if err != nil {
		return nil, nil, err
	}
	outer, err := userns.Self()
	if err != nil {
		return nil, nil, err
	}
	if uids, err = mapped(u, in.UIDMap, outer.UIDs); err != nil {
		return nil, nil, fmt.Errorf("option %s: uids: %w", m.Options[i], err)
	}
	if gids, err = mapped(g, in.GIDMap, outer.GIDs); err != nil {
		return nil, nil, fmt.Errorf("option %s: gids: %w", m.Options[i], err)
	}
	return uids, gids, nil
}

// mapped turns ranges into a map. own is the map of the container's user
// namespace; without one it is in moss's, where every ID is itself.
func mapped(ranges []container.IDRange, own []specs.LinuxIDMapping, size int) ([]specs.LinuxIDMapping, error) {
	if len(own) == 0 {
		own = []specs.LinuxIDMapping{{Size: uint32(size)}}
	}
	if len(ranges) == 0 {
		return own, nil
	}
	var out []specs.LinuxIDMapping
	for _, r := range ranges {
		to := specs.LinuxIDMapping{ContainerID: r.Inner, HostID: r.Outer, Size: r.Size}
		if r.Relative {
			i := slices.IndexFunc(own, func(o specs.LinuxIDMapping) bool {
				return r.Outer >= o.ContainerID && uint64(r.Outer)+uint64(r.Size) <= uint64(o.ContainerID)+uint64(o.Size)
			})
			if i < 0 {
				return nil, fmt.Errorf("%d to %d are not in one range of the container's user namespace", r.Outer, uint64(r.Outer)+uint64(r.Size)-1)
			}
			to.HostID = own[i].HostID + r.Outer - own[i].ContainerID
		}
		out = append(out, to)
	}
	return out, nil
}
