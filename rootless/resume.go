package rootless

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"moss/record"
	"moss/rootless/container"
	"moss/storage/volume"
)

// lockUpdates has one AutoUpdate at a time: what another one has begun must not be taken
// for what was killed.
func (e *Engine) lockUpdates(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(e.Paths.Run, "auto-update.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot begin to update: %w", err)
	}
	if err := container.Flock(ctx, f); err != nil {
		f.Close()
		return nil, fmt.Errorf("cannot wait for the end of another update: %w", err)
	}
	return func() { f.Close() }, nil
}

// resumeUpdates ends updates that were killed: where there was no new container yet, the old
// one gets its name back, and is started again; where the new one runs, it is the last of it.
func (e *Engine) resumeUpdates(ctx context.Context) error {
	all, err := e.All()
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range all {
		name, is := strings.CutSuffix(c.Spec.Name, asideSuffix)
		if !is || c.Spec.Labels[AutoUpdateLabel] == "" || c.Look().Live != nil {
			continue
		}
		if other, err := e.Find(name); err == nil && other.Spec.Name == name {
			if other.Look().Status != container.StatusCreated { // it has run: it is what there is
				if goesWell(other) {
					errs = append(errs, e.Remove(ctx, c, RemoveOptions{}))
				}
				continue
			}
			if err := e.Remove(ctx, other, RemoveOptions{}); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		slog.Warn("an update was interrupted: the old container goes on", "container", name)
		if err := e.Rename(ctx, c, name); err != nil {
			errs = append(errs, err)
			continue
		}
		if c, err = e.Find(c.Spec.ID); err == nil {
			_, err = e.Start(ctx, c, nil)
		}
		errs = append(errs, err)
	}
	errs = append(errs, e.resumeSnapshots())
	return errors.Join(errs...)
}

// goesWell says whether a container runs, and is not known to be ill.
func goesWell(c *container.Container) bool {
	v := c.Look()
	if v.Live == nil || v.Status == container.StatusCreated {
		return false
	}
	state, err := Health(c, v)
	return err == nil && (state == nil || state.Status != container.HealthUnhealthy)
}

// keptFor is a snapshot that is taken for the time of an update.
type keptFor struct{ Container, Image, Volume, Snapshot string } // Image: the old one's ID

func (e *Engine) updateNote() string { return filepath.Join(e.Paths.Root, "auto-update.json") }

// noteUpdate writes down what will be of no more use after an update, for the case that it
// is killed; forgetUpdate is its end.
func (e *Engine) noteUpdate(group []*AutoUpdate, volumes []*volume.Volume, name string) error {
	var list []keptFor
	for _, r := range group {
		for _, v := range volumes {
			list = append(list, keptFor{r.Container, r.c.Spec.Image.ID, v.Name, name})
		}
	}
	if len(list) == 0 {
		return nil
	}
	return record.Write(e.updateNote(), list, true)
}

func (e *Engine) forgetUpdate() { _ = os.Remove(e.updateNote()) }

// resumeSnapshots removes those of an update that was killed, if all its containers run with
// the new image. Otherwise they may be the only copy, and are somebody's to look at.
func (e *Engine) resumeSnapshots() error {
	var list []keptFor
	found, err := record.Read(e.updateNote(), &list)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !found {
		return nil
	}
	if err != nil {
		// It names snapshots, which stay; no update to come must fail for that.
		slog.Warn("cannot read which snapshots an interrupted update has left: they are kept", "file", e.updateNote(), "err", err)
		e.forgetUpdate()
		return nil
	}
	done := true
	for _, k := range list {
		c, err := e.Find(k.Container)
		done = done && err == nil && c.Spec.Image.ID != k.Image && goesWell(c)
	}
	seen := map[string]bool{}
	var errs []error
	for _, k := range list {
		if _, err := e.Volumes.Snapshot(k.Volume, k.Snapshot); err != nil || seen[k.Volume] {
			continue
		}
		seen[k.Volume] = true
		if done {
			errs = append(errs, e.Volumes.RemoveSnapshot(k.Volume, k.Snapshot))
		} else {
			slog.Warn("an update was interrupted: what its volume held before is kept", "volume", k.Volume, "snapshot", k.Snapshot)
		}
	}
	e.forgetUpdate()
	return errors.Join(errs...)
}
