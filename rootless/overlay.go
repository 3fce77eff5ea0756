package rootless

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"moss/rootless/oci"
	"moss/rootless/runtime"
	"moss/storage/driver"
)

// overlayDriver mounts the root file system here when the kernel's overlay
// cannot be mounted by the init process: with fuse-overlayfs, whose process must
// live outside the container.
func (e *Engine) overlayDriver(l *launch, doc *runtime.Document, in *oci.Input) error {
	d, err := driver.Cached(e.Paths.Root)
	if err != nil {
		return err
	}
	switch d.Name {
	case driver.Native:
		return nil
	case driver.Fuse:
		if err := e.mountFuse(doc.Overlay, in.Root); err != nil {
			return err
		}
		l.cfg.Unmount = append(l.cfg.Unmount, in.Root)
	default:
		merged := filepath.Join(l.c.Dir, "merged")
		if err := copyMerged(doc.Overlay, merged); err != nil {
			return err
		}
		in.Root = merged
	}
	doc.Overlay = nil
	return nil
}

func (e *Engine) mountFuse(o *runtime.Overlay, target string) error {
	opts := "lowerdir=" + strings.Join(o.Lower, ":")
	if o.Upper != "" {
		opts += ",upperdir=" + o.Upper + ",workdir=" + o.Work
	}
	return runFuse(opts, target, e.fuseHome())
}

// copyMerged is the last resort, vfs: a whole copy of the layers, made once, at
// the first start. The driver's record said why, and the user was told.
func copyMerged(o *runtime.Overlay, target string) error {
	if _, err := os.Stat(target); err == nil {
		return nil
	}
	if len(o.Lower) != 1 {
		return fmt.Errorf("cannot copy the root file system: vfs layers must be whole")
	}
	tmp := target + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if out, err := exec.Command("cp", "-a", "--reflink=auto", o.Lower[0], tmp).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot copy the root file system: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return os.Rename(tmp, target)
}

// externalRoot mounts the root file system for another OCI runtime, which knows
// nothing of overlays. The monitor unmounts it.
func (l *launch) externalRoot(doc *runtime.Document) error {
	if doc.Overlay == nil {
		return nil
	}
	if err := runtime.MountOverlay(doc.Overlay, doc.Spec.Root.Path); err != nil {
		return err
	}
	l.cfg.Unmount = append(l.cfg.Unmount, doc.Spec.Root.Path)
	return nil
}
