package rootless

import (
	"context"
	"fmt"
	"slices"

	"moss/rootless/container"
)

// fixRequires turns the names of required containers into IDs, which stay when
// they are renamed.
func (e *Engine) fixRequires(spec *container.Spec) error {
	var ids []string
	for _, name := range spec.Lifecycle.Requires {
		other, err := e.Find(name)
		if err != nil {
			return fmt.Errorf("cannot require container %q: %w", name, err)
		}
		if !slices.Contains(ids, other.Spec.ID) {
			ids = append(ids, other.Spec.ID)
		}
	}
	spec.Lifecycle.Requires = ids
	return nil
}

// startRequired starts the containers that one requires and that do not run, and
// before them those that they require.
func (e *Engine) startRequired(ctx context.Context, spec *container.Spec) error {
	for _, id := range spec.Lifecycle.Requires {
		other, err := e.Find(id)
		if err != nil {
			return fmt.Errorf("cannot start what container %q requires: %w", spec.Name, err)
		}
		if other.Look().Live != nil {
			continue
		}
		if _, err := e.Start(ctx, other, nil); err != nil {
			return fmt.Errorf("cannot start what container %q requires: %w", spec.Name, err)
		}
	}
	return nil
}
