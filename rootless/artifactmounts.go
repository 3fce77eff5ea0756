package rootless

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"moss/rootless/container"
	"moss/storage/image"
)

// artifactMounts makes a bind mount of each file of an artifact that is to be mounted:
// on the target, if it is one file and root has no directory there; else below it, by
// the file's title, or its digest if it has none.
func (e *Engine) artifactMounts(ctx context.Context, spec *container.Spec, root layers) error {
	if !slices.ContainsFunc(spec.Rootfs.Mounts, func(m container.Mount) bool { return m.Type == "artifact" }) {
		return nil
	}
	var all []container.Mount
	for _, m := range spec.Rootfs.Mounts {
		if m.Type != "artifact" {
			all = append(all, m)
			continue
		}
		some, err := e.artifactMount(ctx, root, m)
		if err != nil {
			return err
		}
		for _, one := range some {
			if slices.ContainsFunc(all, func(o container.Mount) bool { return o.Target == one.Target }) {
				return fmt.Errorf("cannot mount artifact %q: two mounts would be on %q", m.Source, one.Target)
			}
			all = append(all, one)
		}
	}
	spec.Rootfs.Mounts = all
	return nil
}

func (e *Engine) artifactMount(ctx context.Context, root layers, m container.Mount) (out []container.Mount, err error) {
	var files []image.ArtifactFile
	req := image.ArtifactRequest{Verb: "files", Names: []string{m.Source}, Title: m.DriverOptions["title"], Digest: m.DriverOptions["digest"]}
	if err := e.askImages(ctx, image.Request{Artifact: &req}, &files); err != nil {
		return nil, err
	}
	below := len(files) > 1
	if !below {
		if below, err = root.isDirectory(m.Target); err != nil {
			return nil, fmt.Errorf("cannot mount artifact %q: %w", m.Source, err)
		}
	}
	name := m.DriverOptions["name"]
	for n, f := range files {
		one := container.Mount{Type: "bind", Source: f.Path, Target: m.Target, ReadOnly: true}
		switch {
		case !below:
		case name == "":
			one.Target = filepath.Join(m.Target, f.Name)
		case len(files) == 1:
			one.Target = filepath.Join(m.Target, name)
		default:
			one.Target = filepath.Join(m.Target, name+"-"+strconv.Itoa(n))
		}
		out = append(out, one)
	}
	return out, nil
}
