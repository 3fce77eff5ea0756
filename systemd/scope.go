// Package systemd talks to the user's service manager over D-Bus.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"moss/record"
	"moss/systemd/cgroup"
)

// patience bounds the conversation with the service manager.
const patience = 5 * time.Second

// Cgroup returns the cgroup below which containers' cgroups are made, by the manager
// "systemd", "cgroupfs" or "none", or "" for the best there is. Where the
// user has a service manager it asks it, once per login, for moss.scope, where moss's
// own processes are. A scope needs a process; it is
// pause, which keeps the user's namespaces. The scope's delegation (systemd's
// CGROUP_DELEGATION, "Two Key Design Rules") keeps all controllers in moss.slice, where
// each container is a scope too: see package scope. A caller from outside the manager's
// tree, such as a login by ssh, is moved into the scope, without which the
// kernel lets it put no process there.
//
// Where there can be none the Parent is not Usable, and says why.
func Cgroup(ctx context.Context, run, choice string) *cgroup.Parent {
	p, err := cgroup.Find(run, choice)
	if err == nil {
		return p
	}
	err = makeScope(ctx, run, choice)
	if err == nil {
		_, err = cgroup.Find(run, choice)
	}
	if err != nil { // it may have ended just now, with the last process of another run directory
		err = makeScope(ctx, run, choice)
	}
	if err != nil {
		return cgroup.None(&cgroup.NoneError{
			Reason: fmt.Sprintf("cannot get a scope from your service manager: %v", err),
			Mend:   "systemctl --user stop " + cgroup.Scope,
		})
	}
	if p, err = cgroup.Find(run, choice); err != nil {
		return cgroup.None(&cgroup.NoneError{
			Reason: fmt.Sprintf("your service manager made %s, but no process can be put there", cgroup.Scope),
		})
	}
	return p
}

// makeScope makes the scope where it is missing, and moves this process below
// the user's manager where it is not.
func makeScope(ctx context.Context, run, choice string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	unlock, err := record.Lock(filepath.Join(run, "cgroup.lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := cgroup.Find(run, choice); err == nil {
		return nil // another moss did it while we waited
	}

	bus, err := dial(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	dir, err := bus.startScope(ctx, run)
	if err != nil {
		return err
	}
	// No processes in the scope itself, or its controllers cannot be handed
	// down; see "no internal processes" in cgroup-v2.rst.
	if err := vacate(dir); err != nil {
		return err
	}
	return bus.enter(ctx, dir)
}

// vacate moves the scope's own processes into a leaf below it.
func vacate(dir string) error {
	leaf := filepath.Join(dir, "pause")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for pid := range strings.FieldsSeq(string(data)) {
		err := os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(pid), 0)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot move process %s into %q: %w", pid, leaf, err)
		}
	}
	return nil
}

// manager is a connection to the user's service manager.
type manager struct{ *systemd.Conn }

// dial connects to the manager's own socket, which needs no bus daemon. go-systemd
// would present os.Getuid, which is 0 inside moss's namespace; the other
// side sees the ID outside, and the two must agree.
func dial(ctx context.Context) (*manager, error) {
	path := cgroup.ManagerSocket()
	if path == "" {
		return nil, errors.New("it does not run")
	}
	conn, err := systemd.NewConnection(func() (*dbus.Conn, error) {
		c, err := dbus.Dial("unix:path="+path, dbus.WithContext(ctx))
		if err != nil {
			return nil, err
		}
		if err := c.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(cgroup.HostUID()))}); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return c, nil
	})
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %q: %w", path, err)
	}
	return &manager{conn}, nil
}

// startScope starts moss.scope with the pause process in it, unless it runs,
// and returns its cgroup's directory.
func (m *manager) startScope(ctx context.Context, run string) (string, error) {
	dir, err := m.scopeDir(ctx)
	if err == nil && dir != "" {
		return dir, nil
	}
	pid, err := cgroup.PausePID(run)
	if err != nil {
		return "", err
	}
	properties := []systemd.Property{
		systemd.PropDescription("moss: namespaces, networks and new monitors"),
		systemd.PropSlice(cgroup.Slice),
		{Name: "Delegate", Value: dbus.MakeVariant(true)},
		// A failed scope goes away too, or the next one could not have its name.
		{Name: "CollectMode", Value: dbus.MakeVariant("inactive-or-failed")},
		// At the end of the session moss-net stays until the last container has ended.
		{Name: "TimeoutStopUSec", Value: dbus.MakeVariant(uint64(90 * time.Second / time.Microsecond))},
		systemd.PropPids(uint32(pid)),
	}
	done := make(chan string, 1)
	_, err = m.StartTransientUnitContext(ctx, cgroup.Scope, "replace", properties, done)
	if refused, ok := errors.AsType[dbus.Error](err); ok && refused.Name == "org.freedesktop.systemd1.UnitExists" {
		// Another moss, with another run directory, has just asked for it: this is the end of the same job.
		_, err = m.StartUnitContext(ctx, cgroup.Scope, "replace", done)
	}
	if err != nil {
		return "", fmt.Errorf("cannot start %s: %w", cgroup.Scope, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return "", fmt.Errorf("cannot start %s: %s", cgroup.Scope, result)
		}
	case <-ctx.Done():
		return "", fmt.Errorf("cannot start %s: %w", cgroup.Scope, ctx.Err())
	}
	return m.scopeDir(ctx)
}

// scopeDir is the directory of the scope's cgroup; "" when it does not run.
func (m *manager) scopeDir(ctx context.Context) (string, error) {
	p, err := m.GetUnitTypePropertyContext(ctx, cgroup.Scope, "Scope", "ControlGroup")
	if err != nil {
		return "", err
	}
	path, _ := p.Value.Value().(string)
	if path == "" {
		return "", nil
	}
	return cgroup.Dir(path)
}

// enter moves this process below the user's manager unless it is there. The
// user's manager asks the system's to do what it may not do itself, which is
// why this is not a write to cgroup.procs.
func (m *manager) enter(ctx context.Context, dir string) error {
	inside, err := cgroup.InManager()
	if err != nil || inside {
		return err
	}
	leaf := filepath.Join(dir, "callers")
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := m.AttachProcessesToUnit(ctx, cgroup.Scope, "/callers", []uint32{uint32(os.Getpid())}); err != nil {
		return fmt.Errorf("cannot move moss into %s: %w", cgroup.Scope, err)
	}
	return nil
}
