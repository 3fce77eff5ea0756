package systemd

import (
	"context"
	"fmt"
	"time"

	"moss/systemd/cgroup"
	"moss/systemd/scope"
)

// StartSlice starts a slice of the user's service manager, with what its unit file says if
// there is one.
func StartSlice(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	units, err := DialUnits(ctx)
	if err != nil {
		return err
	}
	defer units.Close()
	return units.Start(ctx, name)
}

// Limit puts other limits on the scope of the container with that ID: cgroup files and values. One
// that there is no scope of is none of the manager's business.
func Limit(ctx context.Context, id string, limits map[string]string) error {
	c, err := scope.Dial(cgroup.ManagerSocket(), cgroup.HostUID())
	if err != nil {
		return err
	}
	defer c.Close()
	serial := c.Limit(scope.Of(id), limits)
	if err := c.Flush(); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	if t, ok := ctx.Deadline(); ok && t.Before(deadline) {
		deadline = t
	}
	for {
		said, err := c.Await(deadline)
		switch {
		case err != nil:
			return fmt.Errorf("your service manager does not answer: %w", err)
		case said.To != serial:
		case said.Err == nil, said.Err.Name == "org.freedesktop.systemd1.NoSuchUnit":
			return nil
		default:
			return said.Err
		}
	}
}
