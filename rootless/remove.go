package rootless

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/monitor"
	"moss/slirp"
	"moss/systemd/cgroup"
)

// RemoveOptions of Remove.
type RemoveOptions struct {
	Force   bool // stop it first; also clear what a crash left
	Volumes bool // its anonymous volumes too
	Timeout *time.Duration
}

// Remove removes a container's record and layer.
func (e *Engine) Remove(ctx context.Context, c *container.Container, o RemoveOptions) error {
	v := c.Look()
	if v.Live != nil {
		if !o.Force && v.Status != container.StatusInitialized {
			return fmt.Errorf("cannot remove container %q: it is %s; stop it first, or use force: %w", c.Spec.Name, v.Status, errdefs.ErrConflict)
		}
		if err := e.Stop(ctx, c, o.Timeout); err != nil {
			return err
		}
	}
	unlock, err := c.Lock(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it went by itself: --rm
	}
	if err != nil {
		return fmt.Errorf("cannot remove container %q: %w", c.Spec.Name, err)
	}
	defer unlock()
	if v := c.Look(); v.Live != nil {
		return fmt.Errorf("cannot remove container %q: it is %s again: %w", c.Spec.Name, v.Status, errdefs.ErrConflict)
	}
	if err := e.discard(c); err != nil {
		return fmt.Errorf("cannot remove container %q: %w", c.Spec.Name, err)
	}
	e.note(c, event.Remove)
	if o.Volumes || c.Spec.Lifecycle.AutoRemove {
		err = e.removeVolumes(c)
	}
	e.sweep()
	return err
}

// discard takes the record away in one step, then deletes at leisure.
func (e *Engine) discard(c *container.Container) error {
	if err := os.MkdirAll(e.Paths.Trash(), 0o700); err != nil {
		return err
	}
	e.killStray(c)
	e.closeParked(c)
	unmountBelow(c.RunDir)
	e.releaseVolumes(c)
	e.dropMount(c.Spec.ID)
	trash := filepath.Join(e.Paths.Trash(), c.Spec.ID)
	if err := os.Rename(c.Dir, trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	name := e.Paths.Name(c.Spec.Name)
	if id, err := os.ReadFile(name); err == nil && string(id) == c.Spec.ID {
		os.Remove(name)
	}
	return errors.Join(record.RemoveTree(c.RunDir), record.RemoveTree(trash))
}

// killStray ends what still runs in the cgroup of a container that has neither a
// monitor nor a live.json that would tell of it.
func (e *Engine) killStray(c *container.Container) {
	if !lexists(filepath.Join(c.RunDir, monitor.ControlSocket)) {
		return // a monitor that ends by itself takes its sockets away
	}
	var cfg struct{ Cgroup string }
	if found, err := record.Read(filepath.Join(c.RunDir, monitor.ConfigFile), &cfg); err != nil || !found || cfg.Cgroup == "" || !lexists(cfg.Cgroup) {
		return
	}
	if err := errors.Join(cgroup.Kill(cfg.Cgroup), cgroup.Leave(cfg.Cgroup)); err != nil {
		slog.Warn("something of a container may still run", "container", c.Spec.Name, "err", err)
	}
}

// RemoveBroken removes what is left of a container whose record cannot be read.
func (e *Engine) RemoveBroken(id string) error {
	c := &container.Container{Dir: e.Paths.Container(id), RunDir: e.Paths.RunContainer(id)}
	c.Spec.ID = id
	if v := c.Look(); v.Live != nil {
		if err := e.killAll(v.Live); err != nil {
			return err
		}
	}
	entries, _ := os.ReadDir(e.Paths.Names())
	for _, entry := range entries {
		if holder, err := os.ReadFile(e.Paths.Name(entry.Name())); err == nil && string(holder) == id {
			os.Remove(e.Paths.Name(entry.Name()))
		}
	}
	return e.discard(c)
}

// afterCrash does for a container without a monitor what the monitor would have
// done at its end: it may be repeated, and works from any half-way point.
func (e *Engine) afterCrash(c *container.Container) {
	v := c.Look()
	live, _ := container.ReadLive(c.RunDir)
	if v.Live != nil {
		return
	}
	e.closeParked(c)
	if live != nil && live.Cgroup != "" {
		cgroup.Kill(live.Cgroup)
		cgroup.Leave(live.Cgroup)
	}
	unmountBelow(c.RunDir)
	e.releaseVolumes(c)
	record.RemoveTree(filepath.Join(c.Dir, "overlay"))
	last, _ := container.ReadLast(c.Dir)
	if last != nil && last.Finished.IsZero() {
		last.Finished, last.ExitCode = time.Now(), 137
		last.Error = "its monitor was killed"
		record.Write(filepath.Join(c.Dir, "last.json"), last, true)
		e.note(c, event.Died, withCode(last.ExitCode))
	}
	for _, file := range []string{"live.json", "attach.sock", "ctl.sock", "monitor.pid"} {
		os.Remove(filepath.Join(c.RunDir, file))
	}
	if c.Spec.Lifecycle.AutoRemove {
		e.discard(c)
		e.note(c, event.Remove)
		e.removeVolumes(c)
	}
}

// unmountBelow takes away what is still mounted below dir in this namespace.
func unmountBelow(dir string) {
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || !strings.Contains(string(mounts), dir+"/") {
		return
	}
	for line := range strings.Lines(string(mounts)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			unix.Unmount(fields[4], unix.MNT_DETACH)
		}
	}
}

// Rename gives a container another name. What knows it by its name in the
// network learns the new one at the next start.
func (e *Engine) Rename(ctx context.Context, c *container.Container, name string) (err error) {
	if err := CheckName(name); err != nil || name == c.Spec.Name {
		return err
	}
	if err := c.Whole(); err != nil {
		return fmt.Errorf("cannot rename container %q: %w", c.Spec.Name, err)
	}
	unlock, err := c.Lock(ctx)
	if err != nil {
		return fmt.Errorf("cannot rename container %q: %w", c.Spec.Name, err)
	}
	defer unlock()
	hold, err := e.reserveName(name, c.Spec.ID)
	if err != nil {
		return fmt.Errorf("cannot rename container %q: %w", c.Spec.Name, err)
	}
	defer hold.Close()
	old := c.Spec.Name
	c.Spec.Name = name
	switch unit := &c.Spec.Lifecycle.UnitName; {
	case *unit == name:
		*unit = ""
	case *unit == "" && c.Spec.Labels[UnitLabel] != "":
		*unit = old
	}
	if err := record.Write(filepath.Join(c.Dir, container.SpecFile), &c.Spec, true); err != nil {
		return errors.Join(err, os.Remove(e.Paths.Name(name)))
	}
	e.note(c, event.Rename)
	var connected *slirp.Status
	if c.Spec.Network.Mode == "bridge" {
		was := c.Spec
		if connected, err = e.updateNetworks(ctx, c, &was, new(rollback)); err != nil {
			slog.Warn("the container's new name is not known on its networks before its next start", "container", name, "err", err)
		}
	}
	err = e.tell(ctx, c, connected)
	if derr := e.describe(ctx, c); derr != nil {
		slog.Warn("your service manager knows the container by its old name until its next start", "container", name, "err", derr)
	}
	return errors.Join(err, os.Remove(e.Paths.Name(old)))
}

// Ports are the published ports of a running container, with the host ports
// that were chosen.
func (e *Engine) Ports(c *container.Container) []slirp.Port {
	if v := c.Look(); v.Live != nil && v.Live.Network != nil {
		return v.Live.Network.Ports
	}
	return c.Spec.Network.Ports
}
