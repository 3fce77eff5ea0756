package systemd

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
	return ask(ctx, func(c *scope.Conn) []uint32 { return []uint32{c.Limit(scope.Of(id), limits)} })
}

// Describe changes what the scopes of the container with that ID and of its monitor are for, where
// there are any.
func Describe(ctx context.Context, id, description string) error {
	return ask(ctx, func(c *scope.Conn) []uint32 {
		return []uint32{
			c.Describe(scope.Of(id), description),
			c.Describe(scope.OfMonitor(id), scope.DescriptionOfMonitor(description)),
		}
	})
}

// ask asks the manager something about units, which need not be there, and waits for its answers.
func ask(ctx context.Context, what func(*scope.Conn) []uint32) error {
	c, err := scope.Dial(cgroup.ManagerSocket(), cgroup.HostUID())
	if err != nil {
		return err
	}
	defer c.Close()
	questions := what(c)
	if err := c.Flush(); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	if t, ok := ctx.Deadline(); ok && t.Before(deadline) {
		deadline = t
	}
	var refused error
	for len(questions) > 0 {
		said, err := c.Await(deadline)
		if err != nil {
			return fmt.Errorf("your service manager does not answer: %w", err)
		}
		i := slices.Index(questions, said.To)
		if i < 0 {
			continue
		}
		questions = slices.Delete(questions, i, i+1)
		if said.Err != nil && said.Err.Name != "org.freedesktop.systemd1.NoSuchUnit" {
			refused = errors.Join(refused, said.Err)
		}
	}
	return refused
}
