package rootless

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"moss/record"
	"moss/rootless/container"
)

// CloneOptions of Clone.
type CloneOptions struct {
	Name    string // "" is the original's with -clone
	Image   string // "" is the original's
	Destroy bool   // remove the original
	Force   bool   // even if it runs
	Command []string
	// Change may change what the clone is created with; nil changes nothing.
	Change func(*container.Spec) error
}

// Clone creates a container like another one: with its flags and its named volumes,
// and nothing of what it has written. Anonymous volumes and addresses are its own.
func (e *Engine) Clone(ctx context.Context, c *container.Container, o CloneOptions) (*container.Container, error) {
	clone, err := e.clone(ctx, c, o)
	if err != nil {
		return nil, fmt.Errorf("cannot clone container %q: %w", c.Spec.Name, err)
	}
	if o.Destroy {
		if err := e.Remove(ctx, c, RemoveOptions{Force: o.Force}); err != nil {
			return clone, err
		}
	}
	return clone, nil
}

func (e *Engine) clone(ctx context.Context, c *container.Container, o CloneOptions) (*container.Container, error) {
	if v := c.Look(); o.Destroy && !o.Force && !v.Status.CanRemove() {
		return nil, fmt.Errorf("it is %s: it is destroyed only by force: %w", v.Status, errdefs.ErrConflict)
	}
	spec, err := e.like(ctx, &c.Spec, o.Image != "")
	if err != nil {
		return nil, err
	}
	if o.Image != "" {
		spec.Image = container.Image{Name: o.Image}
	}
	spec.CreateCommand = o.Command
	spec.Lifecycle.UnitName = ""
	if o.Change != nil {
		if err := o.Change(spec); err != nil {
			return nil, err
		}
	}
	if spec.Name = o.Name; o.Name != "" {
		return e.Create(ctx, spec, CreateOptions{})
	}
	for n := 0; ; n++ {
		spec.Name = c.Spec.Name + "-clone"
		if n > 0 {
			spec.Name += strconv.Itoa(n)
		}
		clone, err := e.Create(ctx, spec, CreateOptions{})
		var taken *NameInUseError
		if !errors.As(err, &taken) {
			return clone, err
		}
		if spec, err = e.again(spec); err != nil {
			return nil, err
		}
	}
}

// again is a Spec as it was before an attempt to create a container of it.
func (e *Engine) again(spec *container.Spec) (*container.Spec, error) {
	out, err := copySpec(spec)
	if err == nil {
		forget(out, spec)
	}
	return out, err
}

// like is the Spec of one more container; with other, it is to have another image.
func (e *Engine) like(ctx context.Context, spec *container.Spec, other bool) (*container.Spec, error) {
	out, err := copySpec(spec)
	if err != nil {
		return nil, err
	}
	forget(out, spec)
	if spec.Rootfs.Path != "" {
		return out, nil
	}
	img, err := e.imageOf(ctx, spec)
	if err != nil {
		if other {
			return out, nil
		}
		return nil, err
	}
	if out.Process.User == img.Config.User {
		out.Process.User = ""
	}
	if now, err := e.Image(ctx, spec.Image.Name); err != nil || now.ID != img.ID {
		out.Image.Name = img.ID // the name means another image by now
	}
	return out, nil
}

// copySpec is a Spec that shares nothing with spec.
func copySpec(spec *container.Spec) (*container.Spec, error) {
	data, err := record.Encode(spec)
	if err != nil {
		return nil, err
	}
	out := &container.Spec{}
	return out, record.Decode(data, out)
}

// forget takes away what belongs to one container alone, so that create makes it
// anew.
func forget(out, spec *container.Spec) {
	out.ID, out.Name = "", ""
	out.Lifecycle.CIDFile, out.Lifecycle.PIDFile, out.Lifecycle.Volumes = "", "", nil
	if len(spec.ID) >= 12 && out.Network.Hostname == spec.ID[:12] {
		out.Network.Hostname = ""
	}
	env := out.Process.Env[:0]
	for _, kv := range out.Process.Env {
		if kv != "HOSTNAME="+spec.Network.Hostname {
			env = append(env, kv)
		}
	}
	out.Process.Env = env
	if out.Process.MakeDir { // the image's
		out.Process.Dir, out.Process.MakeDir = "", false
	}
	if mode, ok := strings.CutPrefix(out.Namespaces.User, "map:"); ok { // fixAuto's
		out.Namespaces.User, out.Namespaces.UIDMap, out.Namespaces.GIDMap = mode, nil, nil
	}
	for i := range out.Network.Networks {
		out.Network.Networks[i].IPs, out.Network.Networks[i].MAC = nil, ""
	}
	for i := range out.Rootfs.Mounts {
		if m := &out.Rootfs.Mounts[i]; m.Type == "volume" && m.Anonymous {
			m.Source = ""
		}
	}
}
