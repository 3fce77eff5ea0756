package rootless

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/monitor/client"
)

// Init makes everything of a container, but does not execute its program: Start
// does, and finds nothing else left to do. If a stage fails, those before it are
// undone.
func (e *Engine) Init(ctx context.Context, c *container.Container) (err error) {
	if err := e.startRequired(ctx, &c.Spec); err != nil {
		return err
	}
	unlock, err := c.Lock(ctx)
	if err != nil {
		return fmt.Errorf("cannot initialize container %q: %w", c.Spec.Name, err)
	}
	defer unlock()
	if v := c.Look(); v.Live != nil || !v.Status.CanStart() {
		return fmt.Errorf("cannot initialize container %q: it is %s: %w", c.Spec.Name, v.Status, errdefs.ErrFailedPrecondition)
	}
	l := &launch{e: e, c: c}
	defer l.undo.onError(&err)
	if err := l.make(ctx, nil); err != nil {
		return err
	}
	if err := l.conn.Hold(ctx); err != nil {
		return err // the monitor has undone what it did
	}
	return l.conn.Close()
}

// startHeld starts the program of a container after Init. The caller holds its lock.
func (e *Engine) startHeld(ctx context.Context, c *container.Container, s *Streams) (session *Session, err error) {
	if s != nil {
		conn, err := client.Attach(ctx, c.RunDir)
		if err != nil {
			return nil, fmt.Errorf("cannot attach to container %q: %w", c.Spec.Name, err)
		}
		session = &Session{conn: conn, streams: s, c: c}
		e.note(c, event.Attach)
		if s.Idle != nil {
			s.Idle()
		}
	}
	if err := client.StartHeld(ctx, c.RunDir); err != nil {
		if session != nil {
			session.conn.Close()
		}
		var failed *client.Failed
		if errors.As(err, &failed) {
			return nil, failed
		}
		return nil, fmt.Errorf("cannot start container %q: %w", c.Spec.Name, err)
	}
	return session, nil
}
