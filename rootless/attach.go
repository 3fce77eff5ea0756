package rootless

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
)

// Streams are the terminal or pipes that a container is attached to.
type Streams struct {
	In       *os.File  // nil: not attached
	Out, Err io.Writer // nil: not attached
	// Terminal is set when In is a terminal in raw mode: window changes are
	// passed on and DetachKeys looked for.
	Terminal   bool
	DetachKeys []byte // nil: none
	// SigProxy passes the signals that moss receives to the container: the
	// command line does so with Kill.
	SigProxy bool
	// Idle, if set, is called by Start while it waits for the container to be
	// made, before the program runs: time that costs nothing.
	Idle func()
}

// ErrDetached says that the user typed the detach keys.
var ErrDetached = client.ErrDetached

// Session is one attachment to a running container.
type Session struct {
	conn    *client.Conn
	streams *Streams
	c       *container.Container
}

// Wait copies the streams until the container has exited and been cleaned up,
// and returns its exit code; ErrDetached if the user detached.
func (s *Session) Wait(ctx context.Context) (int, error) {
	defer s.conn.Close()
	exit, err := client.Pump(ctx, s.conn, client.Streams{
		In: s.streams.In, Out: s.streams.Out, Err: s.streams.Err,
		Terminal: s.streams.Terminal, DetachKeys: s.streams.DetachKeys,
		Lost: func(bytes int64) {
			slog.Warn("output was left out here: it was not read in time, and the container does not wait", "bytes", bytes)
		},
	})
	if errors.Is(err, client.ErrMonitorGone) {
		return s.orphan(ctx)
	}
	return exit.Code, err
}

// orphan waits for a container whose monitor was killed.
func (s *Session) orphan(ctx context.Context) (int, error) {
	if err := waitGone(ctx, s.c.Look()); err != nil {
		return 0, err
	}
	return 0, fmt.Errorf("cannot tell how container %q ended: its monitor was killed", s.c.Spec.Name)
}

// Attach joins a running container.
func (e *Engine) Attach(ctx context.Context, c *container.Container, s *Streams) (*Session, error) {
	if v := c.Look(); v.Status != container.StatusRunning {
		return nil, fmt.Errorf("cannot attach to container %q: it is %s: %w", c.Spec.Name, v.Status, errdefs.ErrFailedPrecondition)
	}
	if passthrough(&c.Spec) {
		return nil, fmt.Errorf("cannot attach to container %q: log driver %q gave its streams to who started it: %w", c.Spec.Name, c.Spec.Log.Driver, errdefs.ErrFailedPrecondition)
	}
	conn, err := client.Attach(ctx, c.RunDir)
	if err != nil {
		return nil, fmt.Errorf("cannot attach to container %q: %w", c.Spec.Name, err)
	}
	e.note(c, event.Attach)
	return &Session{conn: conn, streams: s, c: c}, nil
}

// Wait waits for one of several conditions (none is "exited") and returns the exit
// code, or -1 for a condition that is no end of the container, as podman does. The
// end is told by the monitor; other conditions are looked at every interval.
func (e *Engine) Wait(ctx context.Context, c *container.Container, conditions []string, interval time.Duration) (int, error) {
	if len(conditions) == 0 {
		conditions = []string{string(container.StatusExited)}
	}
	isEnd := func(condition string) bool { return condition == "exited" || condition == "stopped" }
	forEnd := slices.ContainsFunc(conditions, isEnd)
	onlyEnd := !slices.ContainsFunc(conditions, func(condition string) bool { return !isEnd(condition) })
	for {
		v := c.Look()
		if forEnd && v.Live == nil {
			return exitCode(v), nil
		}
		for _, condition := range conditions {
			if condition != container.Healthy && condition != container.HealthUnhealthy {
				continue
			}
			if is, err := healthIs(c, v, condition); is || err != nil {
				return -1, err
			}
		}
		if slices.ContainsFunc(conditions, func(condition string) bool { return meets(v, condition) }) {
			return -1, nil
		}
		code, ended, err := e.waitAMoment(ctx, c, v, interval, onlyEnd)
		if err != nil {
			return 0, err
		}
		if ended && forEnd {
			return code, nil
		}
	}
}

// meets says whether a container meets a condition of Wait that is not its end.
func meets(v container.View, condition string) bool {
	switch condition {
	case "exited", "stopped", container.Healthy, container.HealthUnhealthy: // Wait has looked
		return false
	case "configured":
		return v.Status == container.StatusCreated
	}
	return condition == string(v.Status)
}

// waitAMoment waits until the container ends; for no longer than interval, unless
// its end is all that counts.
func (e *Engine) waitAMoment(ctx context.Context, c *container.Container, v container.View, interval time.Duration, onlyEnd bool) (code int, ended bool, err error) {
	moment := ctx
	if !onlyEnd {
		var cancel context.CancelFunc
		moment, cancel = context.WithTimeout(ctx, interval)
		defer cancel()
	}
	if v.Live != nil {
		exit, err := client.Wait(moment, c.RunDir)
		switch {
		case err == nil:
			return exit.Code, true, nil
		case ctx.Err() != nil:
			return 0, false, ctx.Err()
		case onlyEnd:
			return 0, false, waitGone(ctx, v)
		}
	}
	<-moment.Done() // the user's own --interval
	return 0, false, ctx.Err()
}

func exitCode(v container.View) int {
	if v.Last == nil {
		return 0
	}
	return v.Last.ExitCode
}

// control sends one request to the monitor, if there is one.
func (e *Engine) control(ctx context.Context, c *container.Container, r monitor.ControlRequest) error {
	return client.Control(ctx, c.RunDir, r)
}
