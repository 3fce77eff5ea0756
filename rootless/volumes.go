package rootless

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/storage/image"
	"moss/storage/volume"
)

// completeMounts finds what the mounts of a Spec name: other containers, images,
// secrets. Nothing is made.
func (e *Engine) completeMounts(ctx context.Context, spec *container.Spec, img *image.Image) error {
	for _, from := range spec.Rootfs.VolumesFrom {
		if err := e.volumesFrom(spec, from); err != nil {
			return err
		}
	}
	for i := range spec.Rootfs.Mounts {
		m := &spec.Rootfs.Mounts[i]
		if m.Type != "image" {
			continue
		}
		img, err := e.Image(ctx, m.Source)
		if err != nil {
			return fmt.Errorf("cannot mount image %q: %w", m.Source, err)
		}
		m.ImageID = img.ID
	}
	if err := e.artifactMounts(ctx, spec, layersOf(spec, img)); err != nil {
		return err
	}
	return e.takeSecrets(spec)
}

// volumesFrom adds the volumes and bind mounts of another container, CONTAINER
// [:OPTIONS], where nothing else is mounted. Without ro or rw each stays as it is
// there.
func (e *Engine) volumesFrom(spec *container.Spec, from string) error {
	name, options, _ := strings.Cut(from, ":")
	other, err := e.Find(name)
	if err != nil {
		return fmt.Errorf("cannot use the volumes of container %q: %w", name, err)
	}
	words := strings.Split(options, ",")
	for _, m := range other.Spec.Rootfs.Mounts {
		if m.Type != "volume" && m.Type != "bind" || mountedOn(spec, m.Target) {
			continue
		}
		m.Options = slices.Clone(m.Options)
		m.ReadOnly = m.ReadOnly && !slices.Contains(words, "rw") || slices.Contains(words, "ro")
		if slices.Contains(words, "z") && !slices.Contains(m.Options, "z") {
			m.Options = append(slices.DeleteFunc(m.Options, func(o string) bool { return o == "Z" }), "z")
		}
		// It is removed with the last container that uses it.
		if m.Type == "volume" && m.Anonymous && !slices.Contains(spec.Lifecycle.Volumes, m.Source) {
			spec.Lifecycle.Volumes = append(spec.Lifecycle.Volumes, m.Source)
		}
		spec.Rootfs.Mounts = append(spec.Rootfs.Mounts, m)
	}
	return nil
}

func mountedOn(spec *container.Spec, target string) bool {
	return slices.ContainsFunc(spec.Rootfs.Mounts, func(m container.Mount) bool { return filepath.Clean(m.Target) == filepath.Clean(target) })
}

// imageVolumes mounts the image's VOLUMEs where the user mounted nothing.
func imageVolumes(spec *container.Spec, config image.Config) {
	var targets []string
	for target := range config.Volumes {
		targets = append(targets, target)
	}
	slices.Sort(targets)
	for _, target := range targets {
		if mountedOn(spec, target) {
			continue
		}
		switch spec.Rootfs.ImageVolumes {
		case "", "anonymous", "bind":
			spec.Rootfs.Mounts = append(spec.Rootfs.Mounts, container.Mount{Type: "volume", Target: target, Anonymous: true})
		case "tmpfs":
			spec.Rootfs.Mounts = append(spec.Rootfs.Mounts, container.Mount{Type: "tmpfs", Target: target})
		}
	}
}

// makeVolumes makes the named and anonymous volumes that are not there yet.
func (e *Engine) makeVolumes(spec *container.Spec, undo *rollback) error {
	for i := range spec.Rootfs.Mounts {
		m := &spec.Rootfs.Mounts[i]
		if m.Type != "volume" {
			continue
		}
		if m.Source == "" {
			m.Source, m.Anonymous = newID(), true
			spec.Lifecycle.Volumes = append(spec.Lifecycle.Volumes, m.Source)
		} else if _, err := e.Volumes.Get(m.Source); err == nil {
			continue
		} else if !errors.Is(err, volume.ErrNotFound) {
			return err
		}
		name := m.Source
		_, err := e.Volumes.Create(name, volume.Options{Anonymous: m.Anonymous, Labels: m.Labels, Options: m.DriverOptions})
		if errors.Is(err, volume.ErrExists) {
			continue // somebody else was faster
		}
		if err != nil {
			return err
		}
		e.noteVolumes(event.Create, name)
		undo.add(func() error { return e.dropVolume(name) })
	}
	return nil
}

// VolumeUsers are the containers that mount a volume.
func VolumeUsers(all []*container.Container, name string) []*container.Container {
	var out []*container.Container
	for _, c := range all {
		if slices.ContainsFunc(c.Spec.Rootfs.Mounts, func(m container.Mount) bool { return m.Type == "volume" && m.Source == name }) {
			out = append(out, c)
		}
	}
	return out
}

// removeVolumes removes the anonymous volumes of a container that is gone, but for
// those that others use.
func (e *Engine) removeVolumes(c *container.Container) error {
	if len(c.Spec.Lifecycle.Volumes) == 0 {
		return nil
	}
	all, err := e.All()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range c.Spec.Lifecycle.Volumes {
		if len(VolumeUsers(all, name)) > 0 {
			continue
		}
		if err := e.dropVolume(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// RemoveVolume removes a volume that no container and nobody else uses; all are
// the containers. With force, what else has it mounted loses it.
func (e *Engine) RemoveVolume(v *volume.Volume, all []*container.Container, force bool) error {
	if users := VolumeUsers(all, v.Name); len(users) > 0 {
		var names []string
		for _, c := range users {
			names = append(names, c.Spec.Name)
		}
		return fmt.Errorf("cannot remove volume %q: container %s uses it: %w", v.Name, strings.Join(names, ", "), errdefs.ErrFailedPrecondition)
	}
	if !force && e.Volumes.HasSnapshots(v.Name) {
		return fmt.Errorf("cannot remove volume %q: it has snapshots, which go with it; --force removes them too: %w", v.Name, errdefs.ErrFailedPrecondition)
	}
	if force { // no container has one: "volume mount", or a command that was killed
		for _, user := range v.Users(e.Paths.Run) {
			if err := v.Lease(e.Paths.Run, user).Drop(); err != nil {
				return fmt.Errorf("cannot remove volume %q: %w", v.Name, err)
			}
		}
	}
	if v.Uses(e.Paths.Run) > 0 {
		return fmt.Errorf("cannot remove volume %q: it is mounted; 'volume unmount' undoes that: %w", v.Name, errdefs.ErrFailedPrecondition)
	}
	return e.dropVolume(v.Name)
}

// dropVolume removes a volume that nobody uses.
func (e *Engine) dropVolume(name string) error {
	err := e.Volumes.Remove(name)
	if err == nil {
		e.noteVolumes(event.Remove, name)
	}
	return err
}

// CreateVolume makes a volume; name "" makes an anonymous one.
func (e *Engine) CreateVolume(name string, o volume.Options) (*volume.Volume, error) {
	vol, err := e.Volumes.Create(name, o)
	if err == nil {
		e.noteVolumes(event.Create, vol.Name)
	}
	return vol, err
}

// MountedByUser holds the lease of "volume mount".
const MountedByUser = "user"

// releaseVolumes does what a monitor that was killed could not: it gives back what
// was mounted for the container, and forgets what it wrote over other mounts.
func (e *Engine) releaseVolumes(c *container.Container) {
	for _, m := range c.Spec.Rootfs.Mounts {
		if m.Type != "volume" {
			continue
		}
		if v, err := e.Volumes.Get(m.Source); err == nil && v.NeedsMount() {
			v.Lease(e.Paths.Run, c.Spec.ID).Drop()
		}
	}
}
