package rootless

import (
	"context"
	"fmt"
	"os"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
)

// Start brings a created or exited container to life: stages 5 to 8 of
// ARCHITECTURE.md. With streams it attaches before the program runs; without, the
// session it returns is nil. If a stage fails, the stages before it are undone.
func (e *Engine) Start(ctx context.Context, c *container.Container, s *Streams) (session *Session, err error) {
	unlock, err := c.Lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot start container %q: %w", c.Spec.Name, err)
	}
	defer unlock()
	if v := c.Look(); !v.Status.CanStart() {
		return nil, fmt.Errorf("cannot start container %q: it is %s: %w", c.Spec.Name, v.Status, errdefs.ErrFailedPrecondition)
	}

	var undo rollback
	defer undo.onError(&err)

	l := &launch{e: e, c: c}
	if err := l.prepare(ctx, &undo); err != nil {
		return nil, fmt.Errorf("cannot start container %q: %w", c.Spec.Name, err)
	}
	conn, err := l.spawn(ctx, s)
	if err != nil {
		return nil, err
	}
	if err := conn.Start(ctx); err != nil {
		conn.Close()
		return nil, err // the monitor has undone what it did
	}
	if s == nil {
		return nil, conn.Close()
	}
	return &Session{conn: conn, streams: s, c: c}, nil
}

// launch gathers what one start needs.
type launch struct {
	e   *Engine
	c   *container.Container
	cfg monitor.Config
}

// prepare makes the run directory and everything in it.
func (l *launch) prepare(ctx context.Context, undo *rollback) error {
	if err := os.RemoveAll(l.c.RunDir); err != nil { // what the last run left
		return err
	}
	if err := os.MkdirAll(l.c.RunDir+"/rootfs", 0o700); err != nil {
		return err
	}
	undo.add(func() error { return os.RemoveAll(l.c.RunDir) })
	l.config()
	doc, err := l.document(ctx, undo)
	if err != nil {
		return err
	}
	if err := l.files(doc); err != nil {
		return err
	}
	return l.birth(doc)
}

// spawn starts the monitor. With the driver passthrough it inherits our stdio.
func (l *launch) spawn(ctx context.Context, s *Streams) (*client.Conn, error) {
	var stdio []*os.File
	if l.cfg.Log.Driver == "passthrough" {
		stdio = []*os.File{os.Stdin, os.Stdout, os.Stderr}
	}
	conn, err := client.Spawn(ctx, Helper("moss-monitor"), l.cfg, stdio)
	if err != nil {
		return nil, fmt.Errorf("cannot start container %q: %w", l.c.Spec.Name, err)
	}
	return conn, nil
}
