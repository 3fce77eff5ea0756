package cli

import (
	"fmt"
	"slices"
	"strings"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless/container"
)

func (r *specReader) files() {
	f, fs := r.f, &r.spec.Rootfs
	fs.ReadOnly = f.ReadOnly
	fs.NoReadOnlyTmpfs = f.ReadOnlyTmpfs != nil && !*f.ReadOnlyTmpfs
	add := func(err error, mounts ...container.Mount) error {
		for _, m := range mounts {
			if err != nil {
				break
			}
			err = r.mount(m)
		}
		return err
	}
	r.each("volume", f.Volume, func(v string) error {
		m, err := syntax.Volume(v, r.dir)
		return add(err, m)
	})
	r.each("mount", f.Mount, func(v string) error {
		mounts, err := syntax.Mount(v, r.dir)
		return add(err, mounts...)
	})
	r.each("tmpfs", f.Tmpfs, func(v string) error {
		m, err := syntax.Tmpfs(v)
		return add(err, m)
	})
	r.each("volumes-from", f.VolumesFrom, syntax.VolumesFrom)
	fs.VolumesFrom = f.VolumesFrom
	r.each("secret", f.Secret, func(v string) error {
		s, err := syntax.Secret(v)
		if err == nil {
			err = r.secret(s)
		}
		return err
	})
	r.one("image-volume", f.ImageVolume, oneOf("anonymous", "bind", "tmpfs", "ignore"))
	fs.ImageVolumes = f.ImageVolume
	if f.ImageVolume == "bind" { // podman's older word
		fs.ImageVolumes = "anonymous"
	}
	r.one("shm-size", f.ShmSize, func(v string) (err error) {
		if fs.ShmSize, err = syntax.Size(v); err == nil && fs.ShmSize == 0 {
			fs.ShmSize = -1
		}
		return err
	})
	shares := f.IPC == "host" || f.IPC == "none" || strings.HasPrefix(f.IPC, "container:")
	r.check(f.ShmSize != "" && shares, "--shm-size cannot be combined with --ipc %s", f.IPC)
	r.devices()
}

// mount adds a mount. The same twice is one, as with podman.
func (r *specReader) mount(m container.Mount) error {
	fs := &r.spec.Rootfs
	for _, other := range fs.Mounts {
		if other.Target != m.Target {
			continue
		}
		if m.Source != "" && other.Type == m.Type && other.Source == m.Source && other.ReadOnly == m.ReadOnly && slices.Equal(other.Options, m.Options) {
			return nil
		}
		return fmt.Errorf("something else is mounted on %q already", m.Target)
	}
	fs.Mounts = append(fs.Mounts, m)
	return nil
}

func (r *specReader) secret(s container.Secret) error {
	fs := &r.spec.Rootfs
	for _, other := range fs.Secrets {
		if other.Env == s.Env && other.Target == s.Target {
			return fmt.Errorf("another secret is %q already", strings.TrimSpace(s.Env+s.Target))
		}
	}
	fs.Secrets = append(fs.Secrets, s)
	return nil
}
