package systemd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"moss/systemd/cgroup"
	"moss/systemd/scope"
)

// StartSlice starts a slice of the user's service manager, with what its unit file says if
// there is one.
func StartSlice(ctx context.Context, name string) error {
	err := ask(ctx, func(c *scope.Conn) uint32 { return c.StartUnit(name) }, true)
	if err != nil {
		return fmt.Errorf("cannot start slice %q: %w", name, err)
	}
	return nil
}

// Limit puts other limits on the scope of the container with that ID: cgroup files and values. One
// that there is no scope of is none of the manager's business.
func Limit(ctx context.Context, id string, limits map[string]string) error {
	err := ask(ctx, func(c *scope.Conn) uint32 { return c.Limit(scope.Of(id), limits) }, false)
	if refused, ok := errors.AsType[*scope.Error](err); ok && refused.Name == "org.freedesktop.systemd1.NoSuchUnit" {
		return nil
	}
	return err
}

// ask asks the user's service manager something, and waits for the answer; job: until that
// is done.
func ask(ctx context.Context, question func(*scope.Conn) uint32, job bool) error {
	c, err := scope.Dial(cgroup.ManagerSocket(), cgroup.HostUID())
	if err != nil {
		return err
	}
	defer c.Close()
	serial := question(c)
	if err := c.Flush(); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	if t, ok := ctx.Deadline(); ok && t.Before(deadline) {
		deadline = t
	}
	path, results := "", map[string]string{} // it may be done before there is an answer
	for {
		said, err := c.Await(deadline)
		switch {
		case err != nil:
			return fmt.Errorf("your service manager does not answer: %w", err)
		case said.To == serial && said.Err != nil:
			return said.Err
		case said.To == serial && !job:
			return nil
		case said.To == serial:
			path = said.Job
		case said.To == 0:
			results[said.Job] = said.Result
		}
		if result, ok := results[path]; ok && result != "done" {
			return errors.New(result)
		} else if ok {
			return nil
		}
	}
}
