package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/monitor/client"
	"moss/rootless/tree"
	"moss/storage/volume"
	"moss/systemd/cgroup"
)

// SnapshotOptions of SnapshotVolume and CloneVolume.
type SnapshotOptions struct {
	// Running takes the files while containers go on writing; else those that run
	// with the volume are frozen meanwhile, and go on whatever becomes of this process.
	Running bool
}

// SnapshotVolume keeps what a volume holds now under a name; "" makes one of the time.
func (e *Engine) SnapshotVolume(ctx context.Context, v *volume.Volume, name string, o SnapshotOptions) (*volume.Snapshot, error) {
	now := time.Now()
	given := name != ""
	if !given {
		name = now.Format("20060102-150405")
	}
	s := &volume.Snapshot{Name: name, Volume: v.Name, Created: now.UTC(), New: v.New}
	take := func() error {
		return e.Volumes.TakeSnapshot(s, func(data string) error {
			return e.still(ctx, v, o, func() (err error) {
				s.Size, s.Files, s.Shared, err = copyFiles(ctx, v.Mountpoint, data)
				return err
			})
		})
	}
	err := take()
	for n := 2; !given && errors.Is(err, volume.ErrSnapshotExists); n++ { // two in a second
		s.Name = fmt.Sprintf("%s-%d", name, n)
		err = take()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot take snapshot %q of volume %q: %w", s.Name, v.Name, err)
	}
	e.noteVolumes(event.Snapshot, v.Name)
	return s, nil
}

// CloneVolume makes the volume name with what another one holds, or with from, what
// that held at a snapshot. It keeps the labels, and those that are given are added.
// The clone of a volume in memory or in a directory elsewhere is a common one: it has
// files of its own.
func (e *Engine) CloneVolume(ctx context.Context, v *volume.Volume, from *volume.Snapshot, name string, labels map[string]string, o SnapshotOptions) (*volume.Volume, error) {
	clone := &volume.Volume{
		Name: name, Driver: "local", Created: time.Now().UTC(), Labels: map[string]string{}, UID: v.UID, GID: v.GID, New: v.New,
	}
	for _, list := range []map[string]string{v.Labels, labels} {
		for key, value := range list {
			clone.Labels[key] = value
		}
	}
	if !v.NeedsMount() {
		clone.Options = v.Options
	}
	err := e.Volumes.CloneInto(clone, func(data string) (err error) {
		if from != nil {
			clone.New = from.New
			_, _, _, err = copyFiles(ctx, from.Mountpoint, data)
			return err
		}
		return e.still(ctx, v, o, func() error {
			_, _, _, err := copyFiles(ctx, v.Mountpoint, data)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("cannot clone volume %q as %q: %w", v.Name, name, err)
	}
	e.noteVolumes(event.Create, name)
	return clone, nil
}

// RestoreVolume puts what a volume held at a snapshot in the place of what it holds,
// in one step. No container may run with it.
func (e *Engine) RestoreVolume(ctx context.Context, v *volume.Volume, s *volume.Snapshot) error {
	fail := func(err error) error {
		return fmt.Errorf("cannot restore volume %q: %w", v.Name, err)
	}
	if v.NeedsMount() {
		return fail(fmt.Errorf("its files are not in the store: they cannot be exchanged in one step: %w", errdefs.ErrNotImplemented))
	}
	unlock, err := e.keepStopped(ctx, v)
	if err != nil {
		return fail(err)
	}
	defer unlock()
	err = e.Volumes.Replace(v, s.New, func(data string) error {
		if _, _, _, err := copyFiles(ctx, s.Mountpoint, data); err != nil {
			return err
		}
		return e.noneRuns(v) // one that was created meanwhile
	})
	if err != nil {
		return fail(err)
	}
	e.noteVolumes(event.Restore, v.Name)
	return nil
}

// keepStopped keeps the containers that use a volume from being started.
func (e *Engine) keepStopped(ctx context.Context, v *volume.Volume) (unlock func(), err error) {
	all, err := e.All()
	if err != nil {
		return nil, err
	}
	var locks []func()
	unlock = func() {
		for _, open := range locks {
			open()
		}
	}
	if err := e.noneRuns(v); err != nil {
		return nil, err
	}
	for _, c := range VolumeUsers(all, v.Name) {
		open, err := c.Lock(ctx)
		if errors.Is(err, os.ErrNotExist) {
			continue // it was removed meanwhile
		}
		if err != nil {
			unlock()
			return nil, err
		}
		locks = append(locks, open)
	}
	if err := e.noneRuns(v); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

func (e *Engine) noneRuns(v *volume.Volume) error {
	all, err := e.All()
	if err != nil {
		return err
	}
	var names []string
	for _, c := range VolumeUsers(all, v.Name) {
		if c.Look().Live != nil {
			names = append(names, c.Spec.Name)
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("container %s runs with it: %w", strings.Join(names, ", "), errdefs.ErrFailedPrecondition)
	}
	return nil
}

// held is a container that is frozen while a volume is read.
type held struct {
	c    *container.Container
	live container.Live
}

// still does something while the containers that run with a volume are frozen. It
// is an error if one of them went on meanwhile, or another was started: what was
// read may be of several moments then.
func (e *Engine) still(ctx context.Context, v *volume.Volume, o SnapshotOptions, do func() error) error {
	if o.Running {
		return do()
	}
	all, err := e.All()
	if err != nil {
		return err
	}
	frozen := map[string]held{}
	for _, c := range VolumeUsers(all, v.Name) {
		look := c.Look()
		if look.Live == nil {
			continue
		}
		thaw, err := freezeFor(ctx, c, look)
		if err != nil {
			return fmt.Errorf("container %q runs with it and cannot be paused: %w", c.Spec.Name, err)
		}
		defer thaw()
		frozen[c.Spec.ID] = held{c, *look.Live}
	}
	for _, h := range frozen {
		if err := cgroup.AwaitFrozen(h.live.Cgroup); err != nil {
			return fmt.Errorf("container %q runs with it and cannot be paused: %w", h.c.Spec.Name, err)
		}
	}
	if err := do(); err != nil {
		return err
	}
	return e.wereStill(v, frozen)
}

// freezeFor has a container that runs frozen until thaw is called, or this process is
// killed: its monitor lets go of it then. It may return before every process has stopped.
func freezeFor(ctx context.Context, c *container.Container, look container.View) (thaw func(), err error) {
	release, err := client.Freeze(ctx, c.RunDir)
	if err != nil {
		return nil, err
	}
	wasPaused := look.Status == container.StatusPaused
	return func() {
		release()
		if !wasPaused && !c.Look().Monitor() { // it was killed, and lets go of nothing
			cgroup.Thaw(look.Live.Cgroup)
		}
	}, nil
}

// wereStill checks that no container could have written to a volume.
func (e *Engine) wereStill(v *volume.Volume, frozen map[string]held) error {
	all, err := e.All()
	if err != nil {
		return err
	}
	for _, c := range VolumeUsers(all, v.Name) {
		live := c.Look().Live
		h, was := frozen[c.Spec.ID]
		switch {
		case live == nil:
		case !was || live.PID != h.live.PID || live.PIDStart != h.live.PIDStart:
			return fmt.Errorf("container %q was started while it was read: %w", c.Spec.Name, errdefs.ErrConflict)
		case !cgroup.Frozen(live.Cgroup):
			return fmt.Errorf("container %q was unpaused while it was read: %w", c.Spec.Name, errdefs.ErrConflict)
		}
	}
	return nil
}

// copyFiles makes the directory to what from is, with owners, times, holes, hard
// links and attributes, and says how much that was. shared is whether the file
// system shares the bytes of all of them.
func copyFiles(ctx context.Context, from, to string) (size, files int64, shared bool, err error) {
	source, err := tree.Host().Entry(from)
	if err != nil {
		return 0, 0, false, err
	}
	defer source.Close()
	target, err := tree.Host().Entry(to)
	if err != nil {
		return 0, 0, false, err
	}
	defer target.Close()
	shared = true
	options := tree.Options{ACLs: true, Count: func(n int64, alike bool) {
		size += n
		files++
		shared = shared && (alike || n == 0)
	}}
	err = tree.Copy(ctx, source, target, false, options)
	return size, files, shared && size > 0, err
}
