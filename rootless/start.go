package rootless

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
	"moss/rootless/oci"
)

// Start brings a created or exited container to life: stages 5 to 8 of
// ARCHITECTURE.md. With streams it attaches before the program runs; without, the
// session it returns is nil. If a stage fails, the stages before it are undone.
func (e *Engine) Start(ctx context.Context, c *container.Container, s *Streams) (*Session, error) {
	if err := c.Whole(); err != nil {
		return nil, fmt.Errorf("cannot start container %q: %w", c.Spec.Name, err)
	}
	if err := e.startRequired(ctx, &c.Spec); err != nil {
		return nil, err
	}
	unlock, err := c.Lock(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot start container %q: %w", c.Spec.Name, err)
	}
	defer unlock()
	if v := c.Look(); !v.Status.CanStart() {
		return nil, fmt.Errorf("cannot start container %q: it is %s: %w", c.Spec.Name, v.Status, errdefs.ErrFailedPrecondition)
	}

	if c.Look().Status == container.StatusInitialized {
		return e.startHeld(ctx, c, s)
	}
	l := &launch{e: e, c: c}
	return l.start(ctx, s)
}

// Run is Create and Start in one, and faster than both: the monitor begins while
// the record is still being made. If only the start has failed, the container is
// returned too.
func (e *Engine) Run(ctx context.Context, spec *container.Spec, opts CreateOptions, s *Streams) (c *container.Container, session *Session, err error) {
	l := &launch{e: e, preserve: opts.Preserve}
	defer l.undo.onError(&err)
	c, err = e.create(ctx, spec, opts, func(c *container.Container) error {
		l.c = c
		if err := l.begin(ctx, s); err != nil {
			return fmt.Errorf("cannot start container %q: %w", c.Spec.Name, err)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	l.c = c
	if err := e.startRequired(ctx, &c.Spec); err != nil {
		return c, nil, err
	}
	unlock, err := c.Lock(ctx)
	if err != nil {
		return c, nil, fmt.Errorf("cannot start container %q: %w", c.Spec.Name, err)
	}
	defer unlock()
	synced := make(chan error, 1)
	if spec.Lifecycle.AutoRemove {
		synced <- nil
	} else { // the disk takes its time beside the start
		go func() { synced <- record.Sync(filepath.Join(c.Dir, container.SpecFile)) }()
	}
	if session, err = l.start(ctx, s); err != nil {
		return c, nil, err
	}
	if err := <-synced; err != nil { // it runs: that is no reason to end it
		slog.Warn("the container's record may not survive a power failure", "container", c.Spec.Name, "err", err)
	}
	return c, session, nil
}

// launch gathers what one start needs.
type launch struct {
	e    *Engine
	c    *container.Container
	cfg  monitor.Config
	in   oci.Input
	conn *client.Conn // the monitor, if it was started early
	undo rollback
	done bool // begin has been called
	// detached: nobody stays with it.
	detached bool
	// filled are the volumes that this start makes what the image has.
	filled []string

	preserve []*os.File // what the container inherits from 3 on
	sockets  []*os.File // that listen at its ports already
	passed   []Socket   // those of preserve that a service manager has passed
}

// start is everything but the lock.
func (l *launch) start(ctx context.Context, s *Streams) (session *Session, err error) {
	undo := &l.undo
	defer undo.onError(&err)
	if err := l.make(ctx, s); err != nil {
		return nil, err
	}
	if s != nil && s.Idle != nil {
		s.Idle()
	}
	if s != nil {
		l.e.note(l.c, event.Attach)
	}
	undo.add(l.killOrphan)
	l.notifyMain()
	if err := l.conn.Start(ctx); err != nil {
		if l.c.Look().Monitor() { // we only did not wait for its answer: it goes on
			*undo = nil
		}
		return nil, err // else the monitor has undone what it did
	}
	l.notifyStarted()
	for _, name := range l.filled {
		l.e.Volumes.Used(name)
	}
	if s == nil {
		return nil, l.conn.Close()
	}
	return &Session{conn: l.conn, streams: s, c: l.c}, nil
}

// make is stages 5 to 7: everything but the execution of the program is under way.
func (l *launch) make(ctx context.Context, s *Streams) error {
	if err := l.begin(ctx, s); err != nil {
		return fmt.Errorf("cannot start container %q: %w", l.c.Spec.Name, err)
	}
	if err := l.prepare(ctx); err != nil {
		return fmt.Errorf("cannot start container %q: %w", l.c.Spec.Name, err)
	}
	return l.hand(ctx, s)
}

// killOrphan ends a program whose monitor was killed before it could say that the
// program runs: nobody would know of it.
func (l *launch) killOrphan() error {
	v := l.c.Look()
	if v.Live == nil || v.Monitor() {
		return nil
	}
	if err := l.e.killAll(v.Live); err != nil {
		return err
	}
	return waitGone(context.Background(), v)
}

// begin makes the run directory and chooses the cgroup. Where the Spec alone says
// how the first process is to be born, it starts the monitor too: monitor and
// init get ready, a third of a start, beside what prepare has to do.
func (l *launch) begin(ctx context.Context, s *Streams) error {
	if l.done {
		return nil
	}
	l.done = true
	spec := &l.c.Spec
	if err := record.RemoveTree(l.c.RunDir); err != nil { // what the last run left
		return err
	}
	if err := os.MkdirAll(l.c.RunDir+"/rootfs", 0o700); err != nil {
		return err
	}
	l.undo.add(func() error { return record.RemoveTree(l.c.RunDir) })
	l.detached = s == nil
	l.config()
	if err := l.takeSockets(); err != nil {
		return err
	}
	l.in = oci.Input{
		Root:       filepath.Join(l.c.RunDir, "rootfs"),
		Hostname:   spec.Network.Hostname,
		NewNetwork: newNetwork(spec),
		Files:      map[string]string{},
	}
	if err := l.cgroup(ctx, &l.undo); err != nil {
		return err
	}
	if !alone(spec) {
		return nil
	}
	l.cfg.Birth = l.request(oci.Namespaces(spec, l.in))
	return l.spawn(ctx, s, true)
}

// alone says whether the namespaces of a container depend on nothing but its Spec.
func alone(spec *container.Spec) bool {
	n := spec.Namespaces
	if !native(spec) || len(n.UIDMap)+len(n.GIDMap) > 0 || n.User != "" && n.User != "host" {
		return false
	}
	for _, mode := range []string{n.PID, n.IPC, n.UTS, n.Cgroup, spec.Network.Mode} {
		if strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "ns:") {
			return false
		}
	}
	return true
}

// prepare writes everything that the first process reads.
func (l *launch) prepare(ctx context.Context) error {
	l.cfg.Volumes = nil
	for _, name := range l.c.Spec.Lifecycle.Volumes { // those without a name have got one by now
		l.cfg.Volumes = append(l.cfg.Volumes, l.e.Volumes.Dir(name))
	}
	doc, err := l.document(ctx)
	if err != nil {
		return err
	}
	if err := l.files(doc); err != nil {
		return err
	}
	if err := l.e.writeChecks(l.c, l.cfg.Cgroup); err != nil {
		return err
	}
	return l.birth(ctx, doc)
}

// hand gives the whole configuration to the monitor.
func (l *launch) hand(ctx context.Context, s *Streams) error {
	var err error
	if l.conn == nil {
		err = l.spawn(ctx, s, false)
	} else {
		err = l.conn.Prepared(l.cfg)
	}
	if err != nil {
		return fmt.Errorf("cannot start container %q: %w", l.c.Spec.Name, err)
	}
	return nil
}

// spawn starts the monitor. With the driver passthrough it inherits our stdio.
func (l *launch) spawn(ctx context.Context, s *Streams, early bool) error {
	stdio, err := inherited(&l.c.Spec)
	if err != nil {
		return err
	}
	if len(l.preserve)+len(l.sockets) > 0 {
		if stdio == nil {
			stdio = make([]*os.File, 3)
		}
		stdio = slices.Concat(stdio, l.preserve, l.sockets)
	}
	if early && stdio == nil {
		l.conn = l.e.Ahead.Take(l.cfg)
	}
	if l.conn != nil {
		l.undo.add(func() error { l.conn.Abort(); return nil })
		return nil
	}
	if l.cfg.Cgroup == "" && l.c.Spec.Resources.CgroupsMode == "" {
		client.Forget(l.e.Paths.Run)
	}
	if r := l.c.Spec.Resources; l.cfg.Cgroup != "" && r.CgroupParent+r.CgroupsMode == "" {
		client.Remember(l.e.Paths.Run, l.cfg.Home, filepath.Dir(l.cfg.Cgroup), l.cfg.Scope != nil)
	}
	conn, err := client.Spawn(ctx, Helper("moss-monitor"), l.cfg, early, stdio)
	if err != nil {
		return err
	}
	l.conn = conn
	// First of what is undone: the cgroup is in use for as long as it lives.
	l.undo.add(func() error { conn.Abort(); return nil })
	return nil
}
