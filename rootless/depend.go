package rootless

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
)

// modes are where a Spec may name another container whose namespace it joins.
func modes(spec *container.Spec) []*string {
	n := &spec.Namespaces
	return []*string{&spec.Network.Mode, &n.PID, &n.IPC, &n.UTS, &n.User, &n.Cgroup}
}

// fixJoins turns the names of containers that are joined into their IDs, which
// stay when they are renamed.
func (e *Engine) fixJoins(spec *container.Spec) error {
	for _, mode := range modes(spec) {
		name, ok := strings.CutPrefix(*mode, "container:")
		if !ok {
			continue
		}
		other, err := e.Find(name)
		if err != nil {
			return err
		}
		*mode = "container:" + other.Spec.ID
	}
	return nil
}

// Dependencies are the IDs, or for old records the names, of the containers that a
// container needs in order to start.
func Dependencies(spec *container.Spec) []string {
	out := []string{}
	for _, mode := range modes(spec) {
		if name, ok := strings.CutPrefix(*mode, "container:"); ok && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	for _, id := range spec.Lifecycle.Requires {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// needs says whether a container needs another one directly.
func needs(c, other *container.Container) bool {
	return slices.ContainsFunc(Dependencies(&c.Spec), func(name string) bool { return name == other.Spec.ID || name == other.Spec.Name })
}

// RemovalOrder sorts containers into rounds, those that are needed by others
// after these. What is not of the list, but needs one of it, is added when depend
// is set; else the needed one is left out, with an error.
func (e *Engine) RemovalOrder(list []*container.Container, depend bool) (rounds [][]*container.Container, err error) {
	all, err := e.All()
	if err != nil || !slices.ContainsFunc(all, func(c *container.Container) bool { return len(Dependencies(&c.Spec)) > 0 }) {
		return [][]*container.Container{list}, nil
	}
	dependents := func(c *container.Container) (out []*container.Container) {
		for _, other := range all {
			if other.Spec.ID != c.Spec.ID && needs(other, c) {
				out = append(out, other)
			}
		}
		return out
	}
	depth := map[string]int{} // -1 while it is looked at, for those that need each other
	refused := map[string]bool{}
	var errs []error
	var place func(c *container.Container) int
	place = func(c *container.Container) int {
		if d, known := depth[c.Spec.ID]; known {
			return d
		}
		depth[c.Spec.ID] = -1
		d := 0
		for _, other := range dependents(c) {
			isListed := slices.ContainsFunc(list, func(l *container.Container) bool { return l.Spec.ID == other.Spec.ID })
			if !isListed && !depend {
				errs = append(errs, fmt.Errorf("cannot remove container %q: container %q needs it; remove that first, or use --depend: %w", c.Spec.Name, other.Spec.Name, errdefs.ErrFailedPrecondition))
				refused[c.Spec.ID] = true
				break
			}
			d = max(d, place(other)+1)
			refused[c.Spec.ID] = refused[c.Spec.ID] || refused[other.Spec.ID]
		}
		depth[c.Spec.ID] = d
		for len(rounds) <= d {
			rounds = append(rounds, nil)
		}
		if !refused[c.Spec.ID] {
			rounds[d] = append(rounds[d], c)
		}
		return d
	}
	for _, c := range list {
		place(c)
	}
	return rounds, errors.Join(errs...)
}
