package rootless

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

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
	edits, err := l.e.cdi(ctx, spec)
	if err != nil {
		return nil, err
	}
	if in.Join, err = l.e.joins(spec); err != nil {
		return nil, err
	}
	if err := l.userNamespace(&in); err != nil {
		return nil, err
	}
	if err := l.userMounts(ctx, doc, &in); err != nil {
		return nil, err
	}
	if edits != nil {
		if err := cdiMounts(edits, &in); err != nil {
			return nil, err
		}
	}
	if err := l.notifyMount(&in); err != nil {
		return nil, err
	}
	l.secrets(doc)
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
	l.notifyEnv(doc)
	l.socketsEnv(doc)
	var more *specs.Hooks
	if edits != nil {
		if more, err = cdiProcess(edits, doc); err != nil {
			return nil, err
		}
	}
	if err := l.hooks(doc, more); err != nil {
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
	l.unmountLater(unmount)
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
