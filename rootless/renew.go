package rootless

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"moss/rootless/container"
	"moss/storage/image"
	"moss/storage/volume"
	"moss/systemd"
)

// renewed is the Spec of a container anew: what the user said of it, with what its
// image says left to the image that its name means now.
func (e *Engine) renewed(ctx context.Context, spec *container.Spec) (*container.Spec, error) {
	out, err := copySpec(spec)
	if err != nil {
		return nil, err
	}
	forget(out, spec)
	// What it has been given it keeps: addresses are free when it has stopped, and
	// volumes without a name are its own.
	out.Network.Networks = slices.Clone(spec.Network.Networks)
	out.Lifecycle.CIDFile, out.Lifecycle.PIDFile = "", spec.Lifecycle.PIDFile
	out.Lifecycle.Volumes = slices.Clone(spec.Lifecycle.Volumes)
	out.Rootfs.Mounts = slices.Clone(spec.Rootfs.Mounts)
	out.Name, out.Image = spec.Name, container.Image{Name: spec.Image.Name, Platform: spec.Image.Platform}

	img, err := e.Images.Lookup("sha256:" + spec.Image.ID)
	if errors.Is(err, image.ErrNotFound) {
		return nil, fmt.Errorf("the image that it was made of, %.12s, is gone: what the container says by itself is not known", spec.Image.ID)
	}
	if err != nil {
		return nil, err
	}
	config := img.Config
	out.Process.Env = slices.DeleteFunc(ownEnvironment(out, nil), func(kv string) bool { return slices.Contains(config.Env, kv) })
	if out.Process.User == config.User {
		out.Process.User = ""
	}
	if out.Lifecycle.StopSignal == config.StopSignal {
		out.Lifecycle.StopSignal = ""
	}
	maps.DeleteFunc(out.Labels, func(key, value string) bool {
		theirs, is := config.Labels[key]
		return is && theirs == value
	})
	out.Network.Exposed = slices.DeleteFunc(out.Network.Exposed, func(port string) bool {
		_, is := config.ExposedPorts[port]
		return is
	})
	if h, own := out.Health, config.Healthcheck; h != nil && own != nil && slices.Equal(h.Test, own.Test) {
		h.Test = nil
	}
	return out, nil
}

// asideSuffix is what the old container's name ends in while the new one has its name.
const asideSuffix = "-before-update"

// updateAlone makes a container of no unit anew. The old one is kept beside it until
// the new one is well, and takes its place again where that does not happen.
func (e *Engine) updateAlone(ctx context.Context, r *AutoUpdate, o AutoUpdateOptions) (back bool, err error) {
	spec, err := e.renewed(ctx, &r.c.Spec)
	if err != nil {
		return false, err
	}
	var undo rollback
	var snapshots []snapshotOf
	defer func() {
		cause := err
		undo.onError(&err)
		e.dropSnapshots(snapshots)
		back = o.RollBack && len(undo) > 0 && err != nil && err.Error() == cause.Error() // nothing has gone wrong since
	}()
	if snapshots, err = e.setAside(ctx, r, o, &undo); err != nil {
		return false, err
	}
	fresh, err := e.Create(ctx, spec, CreateOptions{Pull: "never", ImageUser: spec.Process.User == ""})
	if err != nil {
		return false, err
	}
	_, err = e.Start(ctx, fresh, nil)
	if err == nil {
		err = e.well(ctx, fresh.Spec.ID, o.Stay)
	}
	if err != nil && o.RollBack {
		undo.add(func() error {
			rest := context.WithoutCancel(ctx)
			err := e.Remove(rest, fresh, RemoveOptions{Force: true})
			return errors.Join(err, e.restoreVolumes(rest, snapshots), e.nameBack(rest, r))
		})
		return false, err
	}
	undo = nil
	old, ferr := e.Find(r.c.Spec.ID)
	if ferr == nil {
		ferr = e.Remove(ctx, old, RemoveOptions{Force: true})
	}
	return false, errors.Join(err, ferr)
}

// setAside stops the old container, keeps what its volumes hold, and gives its name away.
func (e *Engine) setAside(ctx context.Context, r *AutoUpdate, o AutoUpdateOptions, undo *rollback) (snapshots []snapshotOf, err error) {
	aside := r.Container + asideSuffix
	if left, err := e.Find(aside); err == nil && left.Spec.Name == aside && left.Look().Live == nil {
		// Of an update that was killed, and after which the new one has not been well.
		if err := e.Remove(ctx, left, RemoveOptions{}); err != nil {
			return nil, err
		}
	}
	rest := context.WithoutCancel(ctx)
	if err := e.Stop(ctx, r.c, nil); err != nil {
		return nil, err
	}
	undo.add(func() error {
		_, err := e.Start(rest, r.c, nil)
		return err
	})
	if snapshots, err = e.keepVolumes(ctx, []*AutoUpdate{r}, o); err != nil {
		return snapshots, err
	}
	if err := e.Rename(ctx, r.c, aside); err != nil {
		return snapshots, err
	}
	undo.add(func() error {
		now, err := e.Find(r.c.Spec.ID)
		if err != nil {
			return err
		}
		if err := e.Rename(rest, now, r.Container); err != nil {
			return err
		}
		r.c, err = e.Find(r.c.Spec.ID)
		return err
	})
	return snapshots, nil
}

// nameBack makes the image's name mean again what the container was made of.
func (e *Engine) nameBack(ctx context.Context, r *AutoUpdate) error {
	if err := e.FreshImages(ctx); err != nil {
		return err
	}
	old, err := e.Images.Lookup("sha256:" + r.c.Spec.Image.ID)
	if err != nil {
		return err
	}
	name, err := e.Images.LogName(r.Image)
	if err != nil {
		return err
	}
	return e.name(ctx, old, []string{name}, image.VerbRollback, "auto-update")
}

// updateUnit restarts a unit, which makes its containers of the new images.
func (e *Engine) updateUnit(ctx context.Context, group []*AutoUpdate, o AutoUpdateOptions) (back bool, err error) {
	unit := group[0].Unit
	// The connection must be there for the way back, which begins when ctx has ended.
	rest, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	dialled := context.AfterFunc(ctx, end)
	units, err := systemd.DialUnits(rest)
	if err == nil && !dialled() {
		units.Close()
		err = ctx.Err()
	}
	if err != nil {
		return false, fmt.Errorf("its unit %q cannot be restarted: %w", unit, err)
	}
	defer units.Close()
	var snapshots []snapshotOf
	if o.Snapshot && o.RollBack && e.hasVolumes(group) {
		if err = units.Stop(ctx, unit); err == nil { // else it may stop yet
			snapshots, err = e.keepVolumes(ctx, group, o)
			defer func() { e.dropSnapshots(snapshots) }()
		}
	}
	if err == nil {
		err = units.Restart(ctx, unit)
	}
	for _, r := range group {
		if err == nil {
			err = e.well(ctx, r.Container, o.Stay)
		}
	}
	if err == nil || !o.RollBack {
		return false, err
	}
	undone := units.Stop(rest, unit)
	undone = errors.Join(undone, e.restoreVolumes(rest, snapshots))
	for _, r := range group {
		undone = errors.Join(undone, e.nameBack(rest, r))
	}
	_ = units.ResetFailed(rest, unit) // it may have failed more often than it may
	undone = errors.Join(undone, units.Start(rest, unit))
	for _, r := range group {
		if undone == nil {
			undone = e.isBack(ctx, r, o)
		}
	}
	return undone == nil, errors.Join(err, undone)
}

// isBack looks whether a unit has made its container of the old image again: it may pull
// the new one by itself. Who has lost patience does not wait for more.
func (e *Engine) isBack(ctx context.Context, r *AutoUpdate, o AutoUpdateOptions) error {
	now, err := e.Find(r.Container)
	if err != nil {
		return err
	}
	if now.Spec.Image.ID != r.c.Spec.Image.ID {
		return fmt.Errorf("it cannot be rolled back: its unit %q pulls image %q at each start", r.Unit, r.Image)
	}
	if ctx.Err() != nil {
		return nil
	}
	return e.well(ctx, r.Container, o.Stay)
}

// snapshotOf is what a volume held before an update.
type snapshotOf struct {
	volume   *volume.Volume
	snapshot *volume.Snapshot
}

func (e *Engine) hasVolumes(group []*AutoUpdate) bool { return len(e.volumesOf(group)) > 0 }

// volumesOf are the volumes of containers that can be kept and put back: not those in
// memory or in a directory elsewhere.
func (e *Engine) volumesOf(group []*AutoUpdate) (out []*volume.Volume) {
	seen := map[string]bool{}
	for _, r := range group {
		for _, m := range r.c.Spec.Rootfs.Mounts {
			if m.Type != "volume" || seen[m.Source] {
				continue
			}
			seen[m.Source] = true
			if v, err := e.Volumes.Get(m.Source); err == nil && !v.NeedsMount() {
				out = append(out, v)
			}
		}
	}
	return out
}

// keepVolumes takes snapshots of the volumes of containers that have stopped.
func (e *Engine) keepVolumes(ctx context.Context, group []*AutoUpdate, o AutoUpdateOptions) (out []snapshotOf, err error) {
	if !o.Snapshot || !o.RollBack {
		return nil, nil
	}
	name := "auto-update-" + time.Now().Format("20060102-150405.000")
	volumes := e.volumesOf(group)
	if err := e.noteUpdate(group, volumes, name); err != nil {
		return nil, err
	}
	for _, v := range volumes {
		s, err := e.SnapshotVolume(ctx, v, name, SnapshotOptions{})
		if err != nil {
			return out, err
		}
		out = append(out, snapshotOf{v, s})
	}
	return out, nil
}

// restoreVolumes puts back what they held.
func (e *Engine) restoreVolumes(ctx context.Context, list []snapshotOf) error {
	var all error
	for i, s := range list {
		err := e.RestoreVolume(ctx, s.volume, s.snapshot)
		if err != nil {
			list[i].snapshot = nil // the only copy: it stays
			err = fmt.Errorf("%w; it is kept as snapshot %q", err, s.snapshot.Name)
		}
		all = errors.Join(all, err)
	}
	return all
}

// dropSnapshots removes those that are of no more use.
func (e *Engine) dropSnapshots(list []snapshotOf) {
	for _, s := range list {
		if s.snapshot != nil {
			_ = e.Volumes.RemoveSnapshot(s.volume.Name, s.snapshot.Name)
		}
	}
	e.forgetUpdate()
}
