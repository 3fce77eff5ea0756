package rootless

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/oci"
	"moss/rootless/runtime"
	"moss/storage/image"
)

// document is stage 5, Mount, as data: the OCI configuration and the overlay that
// the init process mounts in the container's own mount namespace.
func (l *launch) document(ctx context.Context) (*runtime.Document, error) {
	spec := &l.c.Spec
	in := l.in
	doc := &runtime.Document{
		User: spec.Process.User, Groups: spec.Process.Groups, SetHome: !slices.Contains(spec.Process.UnsetEnv, "HOME"), MakeCwd: spec.Process.MakeDir, Console: spec.Process.TTY,
	}
	if doc.KeepGroups = slices.Contains(spec.Process.Groups, "keep-groups"); doc.KeepGroups {
		doc.Groups = nil
	}
	if err := l.root(ctx, doc, &in); err != nil {
		return nil, err
	}
	var err error
	if in.Mounts, doc.CopyUp, err = l.e.userMounts(spec); err != nil {
		return nil, err
	}
	doc.Chown = chowned(spec)
	if in.Join, err = l.e.joins(spec); err != nil {
		return nil, err
	}
	if err := l.userNamespace(&in); err != nil {
		return nil, err
	}
	if in.KernelCaps, err = oci.KernelCapabilities(); err != nil {
		return nil, err
	}
	accounts(spec, doc)
	l.nameFiles(&in)
	if err := l.timeZone(&in); err != nil {
		return nil, err
	}
	chrootFiles(spec, &in)
	if spec.Process.Init {
		if err := l.reaper(&in); err != nil {
			return nil, err
		}
	}
	if doc.Spec, err = oci.Build(spec, in); err != nil {
		return nil, err
	}
	if err := l.hooks(doc, nil); err != nil {
		return nil, err
	}
	return doc, l.seccomp(doc)
}

// newNetwork says whether the container has a network namespace of its own.
func newNetwork(spec *container.Spec) bool {
	mode := spec.Network.Mode
	return mode != "host" && !strings.HasPrefix(mode, "container:") && !strings.HasPrefix(mode, "ns:")
}

// root fills in the overlay, or the --rootfs directory.
func (l *launch) root(ctx context.Context, doc *runtime.Document, in *oci.Input) error {
	spec := &l.c.Spec
	if spec.Rootfs.Path != "" {
		in.Root = spec.Rootfs.Path
		return nil
	}
	// Two overlays of one upper directory would not know of each other's changes.
	if point := l.e.Paths.Mounted(spec.ID); isMounted(point) {
		in.Root = point
		return nil
	}
	img, err := l.e.imageOf(ctx, spec)
	if err != nil {
		return err
	}
	o, unmount, err := l.e.layers(ctx, spec, img, l.c.RunDir)
	if err != nil {
		return err
	}
	for _, path := range unmount {
		l.cfg.Unmount = append(l.cfg.Unmount, path)
		l.undo.add(func() error { return unix.Unmount(path, unix.MNT_DETACH) })
	}
	o.Upper, o.Work, o.Volatile = filepath.Join(l.c.Dir, "upper"), filepath.Join(l.c.Dir, "work"), spec.Lifecycle.AutoRemove
	doc.Overlay = o
	return l.e.overlayDriver(l, doc, in)
}

// imageOf finds the container's image again, by its ID.
func (e *Engine) imageOf(ctx context.Context, spec *container.Spec) (*image.Image, error) {
	img, err := e.Image(ctx, spec.Image.ID)
	if err != nil {
		return nil, fmt.Errorf("its image %q (%s) is gone: %w", spec.Image.Name, spec.Image.ID[:12], err)
	}
	return img, nil
}

// userMounts resolves volumes and bind mounts to OCI mounts, and says which
// volumes are to be filled from the image first.
func (e *Engine) userMounts(spec *container.Spec) ([]specs.Mount, []runtime.CopyUp, error) {
	var out []specs.Mount
	var copyUp []runtime.CopyUp
	for _, m := range spec.Rootfs.Mounts {
		switch m.Type {
		case "tmpfs":
			out = append(out, tmpfs(m))
		case "bind":
			if _, err := os.Stat(m.Source); err != nil {
				return nil, nil, fmt.Errorf("cannot mount %q: %w", m.Source, err)
			}
			mount, _, err := bind(m, m.Source)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, mount)
		case "volume":
			v, err := e.Volumes.Get(m.Source)
			if err != nil {
				return nil, nil, err
			}
			data := v.Mountpoint
			mount, noCopy, err := bind(m, data)
			if err != nil {
				return nil, nil, err
			}
			out = append(out, mount)
			if !noCopy && isEmpty(data) {
				copyUp = append(copyUp, runtime.CopyUp{Target: m.Target, Source: data})
			}
		default:
			return nil, nil, fmt.Errorf("cannot mount %q: mounts of type %q are not supported: %w", m.Target, m.Type, errdefs.ErrInvalidArgument)
		}
	}
	return out, copyUp, nil
}

func tmpfs(m container.Mount) specs.Mount {
	opts := []string{"nosuid", "nodev", "tmpcopyup", "rprivate"}
	for _, o := range m.Options {
		switch o {
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
	return specs.Mount{Destination: m.Target, Type: "tmpfs", Source: "tmpfs", Options: opts}
}

// bind makes the OCI mount of a host directory; noCopy is the volume's option.
func bind(m container.Mount, source string) (mount specs.Mount, noCopy bool, err error) {
	opts := []string{"rbind"}
	propagation := "rprivate"
	for _, o := range m.Options {
		switch o {
		case "rw", "Z", "z", "copy", "cached", "delegated", "consistent":
			// z and Z relabel for SELinux: nothing to do where it is not on.
		case "ro":
			m.ReadOnly = true
		case "U": // done by init; see chowned
		case "nocopy":
			noCopy = true
		case "bind", "rbind":
			opts[0] = o
		case "private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable":
			propagation = o
		case "exec", "suid", "dev", "noexec", "nosuid", "nodev", "noatime", "relatime", "nodiratime", "strictatime":
			opts = append(opts, o)
		default:
			return mount, false, fmt.Errorf("cannot mount %q on %q: option %q is not supported: %w", source, m.Target, o, errdefs.ErrInvalidArgument)
		}
	}
	for _, o := range []string{"suid", "dev"} {
		if !slices.Contains(opts, o) && !slices.Contains(opts, "no"+o) {
			opts = append(opts, "no"+o)
		}
	}
	opts = append(opts, propagation)
	if m.ReadOnly {
		opts = append(opts, "rro")
	}
	return specs.Mount{Destination: m.Target, Type: "bind", Source: source, Options: opts}, noCopy, nil
}

// chowned are the targets of the mounts with the option U.
func chowned(spec *container.Spec) []string {
	var out []string
	for _, m := range spec.Rootfs.Mounts {
		if slices.Contains(m.Options, "U") {
			out = append(out, m.Target)
		}
	}
	return out
}

func isEmpty(dir string) bool {
	f, err := os.Open(dir)
	if err != nil {
		return false
	}
	defer f.Close()
	names, _ := f.Readdirnames(1)
	return len(names) == 0
}
