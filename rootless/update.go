package rootless

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"

	"github.com/containerd/errdefs"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
	"moss/slirp"
	"moss/systemd"
	"moss/systemd/cgroup"
	"moss/systemd/scope"
)

// Update changes what may change after create: limits, the restart policy, the
// health check, published ports, and for the next start the environment and ulimits. change gets a
// copy. A container that runs obeys at once; if it cannot, nothing is changed.
func (e *Engine) Update(ctx context.Context, c *container.Container, change func(*container.Spec) error) error {
	err := e.change(ctx, c, change)
	if err == nil {
		e.note(c, event.Update)
	}
	return err
}

// change is Update without its event; it changes networks, too.
func (e *Engine) change(ctx context.Context, c *container.Container, change func(*container.Spec) error) error {
	wrap := func(err error) error { return fmt.Errorf("cannot update container %q: %w", c.Spec.Name, err) }
	unlock, err := c.Lock(ctx)
	if err != nil {
		return wrap(err)
	}
	defer unlock()
	now, err := container.Load(c.Dir, c.RunDir)
	if err != nil {
		return wrap(err)
	}
	was := now.Spec
	now.Spec.Resources.IODevices = slices.Clone(was.Resources.IODevices)
	now.Spec.Process.Env = slices.Clone(was.Process.Env)
	now.Spec.Process.Rlimits = slices.Clone(was.Process.Rlimits)
	if err := change(&now.Spec); err != nil {
		return err
	}
	if err := checkUpdate(now, &was); err != nil {
		return wrap(err)
	}

	var undo rollback
	defer undo.onError(&err)
	if err = e.updateLimits(ctx, now, &was, &undo); err != nil {
		return err
	}
	connected, err := e.updateNetwork(ctx, now, &was, &undo)
	if err != nil {
		return wrap(err)
	}
	if err = now.Save(true); err != nil {
		return wrap(err)
	}
	undo.add(func() error {
		now.Spec = was
		return now.Save(true)
	})
	if err = e.tell(ctx, now, connected); err != nil {
		return wrap(err)
	}
	c.Spec = now.Spec
	return nil
}

// checkUpdate says why a container cannot be as its Spec now says.
func checkUpdate(c *container.Container, was *container.Spec) error {
	now := &c.Spec
	if now.Health != was.Health {
		if err := completeHealth(now, nil); err != nil {
			return err
		}
	}
	if err := checkWake(now); err != nil {
		return err
	}
	wakes := now.Network.Idle != was.Network.Idle || !slices.Equal(now.Network.Wake, was.Network.Wake)
	if v := c.Look(); wakes && v.Live != nil {
		return fmt.Errorf("it is %s; what a client wakes can be changed when it is stopped: %w", v.Status, errdefs.ErrFailedPrecondition)
	}
	if policy := now.Lifecycle.Restart; now.Lifecycle.AutoRemove && policy != "" && policy != "no" {
		return fmt.Errorf("it is removed when it exits: a restart policy would have no effect: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// updateNetwork has moss-net change what is changed, and returns how the container is
// connected then; nil if nothing is.
func (e *Engine) updateNetwork(ctx context.Context, c *container.Container, was *container.Spec, undo *rollback) (connected *slirp.Status, err error) {
	updates := []func(context.Context, *container.Container, *container.Spec, *rollback) (*slirp.Status, error){e.updatePorts, e.updateAllow}
	if !reflect.DeepEqual(c.Spec.Network.Networks, was.Network.Networks) {
		updates = append(updates, e.updateNetworks)
	}
	for _, update := range updates {
		st, err := update(ctx, c, was, undo)
		if err != nil {
			return nil, err
		}
		if st != nil {
			connected = st
		}
	}
	return connected, nil
}

// setOrUndo has moss-net do what a Spec says, and what it said before if it comes to that.
func setOrUndo(ctx context.Context, set func(context.Context, *container.Spec) (*slirp.Status, error), now, was *container.Spec, undo *rollback) (*slirp.Status, error) {
	st, err := set(ctx, now)
	if err != nil {
		return nil, err
	}
	undo.add(func() error {
		_, err := set(context.WithoutCancel(ctx), was)
		return err
	})
	return st, nil
}

// updateLimits holds the container to other limits, if there are others.
func (e *Engine) updateLimits(ctx context.Context, c *container.Container, was *container.Spec, undo *rollback) error {
	if reflect.DeepEqual(c.Spec.Resources, was.Resources) {
		return nil
	}
	if c.Spec.Resources.CgroupsMode == "disabled" {
		return fmt.Errorf("cannot limit container %q: it was created with --cgroups disabled: %w", c.Spec.Name, errdefs.ErrFailedPrecondition)
	}
	before, err := e.limits(ctx, was)
	if err != nil {
		before = nil // those could not be set today: nothing to go back to
	}
	limits, err := e.limits(ctx, &c.Spec)
	if err != nil {
		return err
	}
	v := c.Look()
	if v.Live == nil {
		return nil
	}
	if v.Live.Cgroup == "" {
		return fmt.Errorf("cannot limit container %q: it has no cgroup of its own: %w", c.Spec.Name, errdefs.ErrFailedPrecondition)
	}
	apply := func(changed map[string]string) error {
		if err := cgroup.Apply(v.Live.Cgroup, changed); err != nil {
			return err
		}
		if filepath.Base(v.Live.Cgroup) != scope.Of(c.Spec.ID) || len(changed) == 0 {
			return nil
		}
		return systemd.Limit(ctx, c.Spec.ID, changed) // or the manager would put its own back
	}
	undo.add(func() error { return apply(changed(limits, before)) })
	if err := apply(changed(before, limits)); err != nil {
		return fmt.Errorf("cannot limit container %q: %w", c.Spec.Name, err)
	}
	return nil
}

// changed is what has to be written to come from one set of limits to another: a
// limit that is no more is put back to what the kernel begins with.
func changed(from, to map[string]string) map[string]string {
	out := map[string]string{}
	for file, value := range to {
		if from[file] != value {
			out[file] = value
		}
	}
	for file := range from {
		if _, stays := to[file]; stays {
			continue
		}
		switch file {
		case "memory.max", "memory.swap.max", "memory.high", "pids.max", "cpu.max":
			out[file] = "max"
		case "memory.low", "memory.min":
			out[file] = "0"
		case "cpu.weight":
			out[file] = "100"
		case "io.weight":
			out[file] = "default 100"
		}
	}
	return out
}

// tell tells the monitor of a container that runs what its Spec says now, and how
// moss-net has connected it; nil: as before.
func (e *Engine) tell(ctx context.Context, c *container.Container, connected *slirp.Status) error {
	v := c.Look()
	if v.Live == nil || !v.Monitor() {
		return nil
	}
	path := filepath.Join(c.RunDir, monitor.ConfigFile)
	var cfg monitor.Config
	found, err := record.Read(path, &cfg)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%q is gone", path)
	}
	cfg.Name, cfg.Names = c.Spec.Name, []string{e.Paths.Name(c.Spec.Name)}
	cfg.Restart, cfg.RestartMax = c.Spec.Lifecycle.Restart, c.Spec.Lifecycle.RestartMax
	cfg.Health = e.healthPlan(c.Spec.Health)
	if cfg.Connected = connected; cfg.Network != nil {
		if asked := asked(c); asked != nil {
			cfg.Network.Request = *asked
		}
	}
	if cfg.HostNames != "" {
		cfg.HostNames = ownNames(&c.Spec)
	}
	if limits, err := e.limits(ctx, &c.Spec); err == nil {
		cfg.Limits = limits
	}
	if cfg.Scope != nil {
		cfg.Scope.Description = described(&c.Spec)
	}
	if err := e.writeChecks(c, cfg.Cgroup); err != nil {
		return err
	}
	if err := record.Write(path, cfg, false); err != nil {
		return err
	}
	err = e.control(ctx, c, monitor.ControlRequest{Op: "reload"})
	if errors.Is(err, client.ErrMonitorGone) {
		return nil // it has ended meanwhile
	}
	return err
}
