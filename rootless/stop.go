package rootless

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
	"moss/systemd/cgroup"
)

// defaultStopTimeout is podman's and Docker's.
const defaultStopTimeout = 10 * time.Second

// Stop asks the program to end with its stop signal, and kills it after timeout
// (nil: the container's own). A container that does not run is stopped already.
func (e *Engine) Stop(ctx context.Context, c *container.Container, timeout *time.Duration) (err error) {
	v := c.Look()
	if v.Live == nil {
		if v.Status == container.StatusCreated || v.Status == container.StatusExited {
			return nil
		}
		return fmt.Errorf("cannot stop container %q: it is %s: %w", c.Spec.Name, v.Status, errdefs.ErrFailedPrecondition)
	}
	defer func() {
		if err == nil {
			e.note(c, event.Stop)
		}
	}()
	// From here on the monitor must not start it again. A dead monitor does not.
	if err := e.noRestart(ctx, c, "stop"); err != nil {
		return fmt.Errorf("cannot stop container %q: %w", c.Spec.Name, err)
	}
	// A restart under way may have given it another first process by now.
	if v = c.Look(); v.Live == nil {
		return nil
	}
	if v.Status == container.StatusPaused {
		if err := cgroup.Thaw(v.Live.Cgroup); err != nil {
			return fmt.Errorf("cannot stop container %q: %w", c.Spec.Name, err)
		}
	}
	wait := StopTimeout(&c.Spec, timeout)
	if v.Status == container.StatusInitialized {
		wait = 0 // there is no program yet that could do something about it
	}
	sig, err := stopSignal(&c.Spec)
	if err != nil {
		return err
	}
	if wait > 0 {
		if err := sendSignal(v.Live, sig); err != nil {
			return fmt.Errorf("cannot stop container %q: %w", c.Spec.Name, err)
		}
		gone, err := e.ended(ctx, c, v, wait)
		if gone || err != nil {
			return err
		}
	}
	if err := e.killAll(v.Live); err != nil {
		return fmt.Errorf("cannot kill container %q: %w", c.Spec.Name, err)
	}
	wakeCallers(c)
	gone, err := e.ended(ctx, c, v, time.Minute)
	if err == nil && !gone {
		err = fmt.Errorf("cannot stop container %q: it does not end, even after SIGKILL (a process may hang in the kernel)", c.Spec.Name)
	}
	return err
}

// answerTimeout is how long a monitor may take to answer: one that is well needs less
// than a millisecond.
const answerTimeout = 10 * time.Second

// noRestart tells the monitor that the end of the program will be the end of the
// container. A monitor that does not answer, because somebody has stopped it with a
// signal or it hangs, is killed: afterCrash does its work then. op is stop, or kill, which a
// service manager takes for a failure, as with podman.
func (e *Engine) noRestart(ctx context.Context, c *container.Container, op string) error {
	limited, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := e.control(limited, c, monitor.ControlRequest{Op: op})
	switch v := c.Look(); {
	case err == nil || errors.Is(err, client.ErrMonitorGone):
		return nil
	case ctx.Err() != nil || limited.Err() == nil || v.Live == nil || !v.Monitor():
		return err
	default:
		slog.Warn("the container's monitor does not answer, and is killed", "container", c.Spec.Name, "pid", v.Live.Monitor)
		monitorProcess := container.Live{PID: v.Live.Monitor, PIDStart: v.Live.MonitorStart}
		return sendSignal(&monitorProcess, unix.SIGKILL)
	}
}

// Restart stops a container if it runs, and starts it. Who follows its log meanwhile
// goes on to.
func (e *Engine) Restart(ctx context.Context, c *container.Container, timeout *time.Duration) error {
	unlock, err := c.LockRestart(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if c.Look().Status.CanStop() {
		if err := e.Stop(ctx, c, timeout); err != nil {
			return err
		}
	}
	if _, err = e.Start(ctx, c, nil); err != nil {
		return err
	}
	e.Note(c, event.Restart)
	return nil
}

// StopTimeout is how long a container may take to end after its stop signal: what was
// asked for, the container's own, or the default.
func StopTimeout(spec *container.Spec, asked *time.Duration) time.Duration {
	switch {
	case asked != nil && *asked < 0:
		return 100 * 365 * 24 * time.Hour // podman: -1 waits for ever
	case asked != nil:
		return *asked
	case spec.Lifecycle.StopTimeout != nil:
		return time.Duration(*spec.Lifecycle.StopTimeout) * time.Second
	}
	return defaultStopTimeout
}

func stopSignal(spec *container.Spec) (unix.Signal, error) {
	if spec.Lifecycle.StopSignal == "" {
		return unix.SIGTERM, nil
	}
	return ParseSignal(spec.Lifecycle.StopSignal)
}

// ended waits until the container has ended and its monitor has cleaned up.
func (e *Engine) ended(ctx context.Context, c *container.Container, v container.View, limit time.Duration) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	_, err := client.Wait(ctx, c.RunDir)
	if errors.Is(err, client.ErrMonitorGone) {
		if err = waitGone(ctx, v); err == nil {
			e.afterCrash(c)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return false, nil
	}
	return err == nil, err
}

// killAll kills every process of the container: by its cgroup where it has one.
func (e *Engine) killAll(live *container.Live) error {
	if live.Cgroup != "" {
		if err := cgroup.Kill(live.Cgroup); err == nil {
			return nil
		}
	}
	return sendSignal(live, unix.SIGKILL)
}

// sendSignal sends to the container's first process, and to no other that may have
// got its PID since.
func sendSignal(live *container.Live, sig unix.Signal) error {
	fd, err := pidFD(live.PID, live.PIDStart)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// pidFD is container.Hold.
func pidFD(pid int, start uint64) (int, error) { return container.Hold(pid, start) }

// waitGone waits until the container's first process has ended.
func waitGone(ctx context.Context, v container.View) error {
	if v.Live == nil {
		return nil
	}
	fd, err := pidFD(v.Live.PID, v.Live.PIDStart)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	cancel, stop, err := pipeOf(ctx)
	if err != nil {
		return err
	}
	defer stop()
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(cancel.Fd()), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		if fds[0].Revents != 0 {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// pipeOf is a descriptor that becomes readable when ctx ends.
func pipeOf(ctx context.Context) (*os.File, func(), error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	cancel := context.AfterFunc(ctx, func() { w.Close() })
	return r, func() { cancel(); w.Close(); r.Close() }, nil
}

// Kill sends a signal to the container's first process.
func (e *Engine) Kill(ctx context.Context, c *container.Container, sig int) error {
	v := c.Look()
	if v.Live == nil || v.Status != container.StatusRunning && v.Status != container.StatusPaused {
		return fmt.Errorf("cannot kill container %q: it is %s: %w", c.Spec.Name, v.Status, errdefs.ErrFailedPrecondition)
	}
	if unix.Signal(sig) == unix.SIGKILL {
		if err := e.noRestart(ctx, c, "kill"); err != nil {
			return fmt.Errorf("cannot kill container %q: %w", c.Spec.Name, err)
		}
	}
	if err := sendSignal(v.Live, unix.Signal(sig)); err != nil {
		return fmt.Errorf("cannot kill container %q: %w", c.Spec.Name, err)
	}
	e.note(c, event.Kill)
	if v.Monitor() {
		return nil
	}
	if unix.Signal(sig) != unix.SIGKILL {
		return nil
	}
	if err := waitGone(ctx, v); err != nil {
		return err
	}
	e.afterCrash(c)
	return nil
}

// Pause freezes the container's cgroup.
func (e *Engine) Pause(ctx context.Context, c *container.Container) error {
	return e.freeze(c, "pause", container.StatusRunning, cgroup.Freeze)
}

// Unpause thaws it.
func (e *Engine) Unpause(ctx context.Context, c *container.Container) error {
	return e.freeze(c, "unpause", container.StatusPaused, cgroup.Thaw)
}

func (e *Engine) freeze(c *container.Container, verb string, want container.Status, do func(string) error) error {
	v := c.Look()
	if v.Status != want {
		return fmt.Errorf("cannot %s container %q: it is %s: %w", verb, c.Spec.Name, v.Status, errdefs.ErrFailedPrecondition)
	}
	if v.Live.Cgroup == "" {
		return fmt.Errorf("cannot %s container %q: it has no cgroup of its own: %w", verb, c.Spec.Name, errdefs.ErrFailedPrecondition)
	}
	if err := do(v.Live.Cgroup); err != nil {
		return fmt.Errorf("cannot %s container %q: %w", verb, c.Spec.Name, err)
	}
	e.note(c, verb) // the verbs are the events' names
	return nil
}
