package rootless

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
	"moss/storage/image"
)

// What a health check is where nobody says it: Docker's and podman's.
const (
	healthInterval    = 30 * time.Second
	healthTimeout     = 30 * time.Second
	healthRetries     = 3
	healthMaxLogCount = 5
	healthMaxLogSize  = 500
)

// completeHealth fills in what the user left to the image and to the defaults.
// Afterwards Health is nil where there is no check.
func completeHealth(spec *container.Spec, own *image.Healthcheck) error {
	h := spec.Health
	if h == nil {
		h = &container.Health{}
	}
	if own == nil {
		own = &image.Healthcheck{}
	}
	if len(h.Test) == 0 {
		h.Test = own.Test
	}
	if h.Disabled() {
		if spec.Health != nil && len(h.Test) == 0 {
			return fmt.Errorf("cannot check the health of a container: nothing says how: give --health-cmd; image %q has no HEALTHCHECK", spec.Image.Name)
		}
		spec.Health = nil
		if spec.Lifecycle.SdNotify == "healthy" {
			return fmt.Errorf("cannot tell when a container is ready (--sdnotify healthy): it has no health check")
		}
		return nil
	}
	h.Interval = pick(h.Interval, own.Interval, healthInterval)
	h.Timeout = pick(h.Timeout, own.Timeout, healthTimeout)
	h.StartPeriod = pick(h.StartPeriod, own.StartPeriod)
	h.Retries = pick(h.Retries, own.Retries, healthRetries)
	if s := h.Startup; s != nil {
		s.Interval = pick(s.Interval, h.Interval)
		s.Timeout = pick(s.Timeout, h.Timeout)
		s.Successes = pick(s.Successes, 1)
	}
	spec.Health = h
	return nil
}

// pick is the first value that is not zero.
func pick[T comparable](values ...T) T {
	var zero T
	for _, v := range values {
		if v != zero {
			return v
		}
	}
	return zero
}

func orDefault(n *int, other int) int {
	if n == nil {
		return other
	}
	return *n
}

// healthPlan is what the monitor has to know; nil where there is no check.
func (e *Engine) healthPlan(h *container.Health) *monitor.Health {
	if h.Disabled() {
		return nil
	}
	plan := &monitor.Health{
		Interval: max(0, h.Interval), Timeout: h.Timeout, StartPeriod: h.StartPeriod, Retries: h.Retries,
		OnFailure: h.OnFailure, Destination: h.LogDestination, Silent: !e.Config.Bool("engine.healthcheck_events", true),
		MaxLogCount: orDefault(h.MaxLogCount, healthMaxLogCount), MaxLogSize: orDefault(h.MaxLogSize, healthMaxLogSize),
	}
	if s := h.Startup; s != nil {
		plan.StartupInterval, plan.StartupTimeout = max(0, s.Interval), s.Timeout
		plan.StartupRetries, plan.StartupSuccesses = s.Retries, s.Successes
	}
	return plan
}

// writeChecks writes what a health check executes, in the container's cgroup.
func (e *Engine) writeChecks(c *container.Container, cgroup string) error {
	if c.Spec.Health.Disabled() {
		return nil
	}
	if err := e.writeCheck(c, cgroup, monitor.CheckFile, c.Spec.Health.Test); err != nil {
		return err
	}
	if c.Spec.Health.Startup == nil {
		return nil
	}
	return e.writeCheck(c, cgroup, monitor.StartupFile, c.Spec.Health.Startup.Test)
}

func (e *Engine) writeCheck(c *container.Container, cgroup, file string, test []string) error {
	args := test[1:]
	if test[0] == "CMD-SHELL" {
		args = append([]string{"/bin/sh", "-c"}, args...)
	}
	doc, err := e.execDocument(c, &container.Live{Cgroup: cgroup}, ExecOptions{Args: args})
	if err != nil {
		return err
	}
	return record.Write(filepath.Join(c.RunDir, file), doc, false)
}

// CheckHealth asks the monitor for a health check now, and returns what the
// container is after it, and whether this check has failed.
func (e *Engine) CheckHealth(ctx context.Context, c *container.Container) (status string, failed bool, err error) {
	v := c.Look()
	switch {
	case c.Spec.Health.Disabled():
		err = fmt.Errorf("it has no health check: %w", errdefs.ErrFailedPrecondition)
	case v.Status != container.StatusRunning:
		err = fmt.Errorf("it is %s: %w", v.Status, errdefs.ErrFailedPrecondition)
	}
	var reply monitor.ControlReply
	if err == nil {
		reply, err = client.Ask(ctx, c.RunDir, monitor.ControlRequest{Op: "health"})
	}
	if err != nil {
		return "", false, fmt.Errorf("cannot check the health of container %q: %w", c.Spec.Name, err)
	}
	return reply.Health, reply.Failed, nil
}

// healthIs says whether that is what the checks have found.
func healthIs(c *container.Container, v container.View, condition string) (bool, error) {
	refuse := func(cause string) error {
		return fmt.Errorf("cannot wait for container %q to be %s: it %s: %w", c.Spec.Name, condition, cause, errdefs.ErrFailedPrecondition)
	}
	switch {
	case c.Spec.Health.Disabled():
		return false, refuse("has no health check")
	case v.Live == nil && v.Status != container.StatusCreated:
		return false, refuse("is " + string(v.Status))
	}
	state, err := Health(c, v)
	return state != nil && state.Status == condition, err
}

// Health is what the checks have found; nil for a container without a check, or
// one that has not run since the machine was started.
func Health(c *container.Container, v container.View) (*container.HealthState, error) {
	if c.Spec.Health.Disabled() || v.Status == container.StatusCreated {
		return nil, nil
	}
	return container.ReadHealth(c.RunDir)
}
