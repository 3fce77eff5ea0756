package cli

import (
	"context"
	"slices"
	"strings"

	"moss/systemd"
	"moss/systemd/cgroup"
	"moss/systemd/quadlet"
)

// unitStates are what the service manager says of services, by their names. Those of a
// template are its instances that the manager knows, but for those with a file of their
// own.
type unitStates struct {
	of        map[string]systemd.UnitState
	instances map[string][]string
}

// statesOf asks the service manager for the services of units; where there is none,
// nothing is loaded.
func statesOf(ctx context.Context, units []*quadlet.Unit) (*unitStates, error) {
	var names, patterns []string
	for _, u := range units {
		if isTemplate(u) {
			patterns = append(patterns, instance(u, "*"))
		} else {
			names = append(names, u.Name)
		}
	}
	s := &unitStates{instances: map[string][]string{}}
	if cgroup.ManagerSocket() == "" || len(units) == 0 {
		return s, nil
	}
	bus, err := systemd.DialUnits(ctx)
	if err != nil {
		return nil, err
	}
	defer bus.Close()
	if s.of, err = bus.States(ctx, names, patterns...); err != nil {
		return nil, err
	}
	for name := range s.of {
		if prefix, _, is := strings.Cut(name, "@"); is && !slices.Contains(names, name) {
			s.instances[prefix+"@.service"] = append(s.instances[prefix+"@.service"], name)
		}
	}
	return s, nil
}

// isTemplate says whether a unit is one of which the service manager makes instances.
func isTemplate(u *quadlet.Unit) bool { return strings.Contains(u.Name, "@.") }

// instance is the service of a template for a name.
func instance(u *quadlet.Unit, name string) string {
	return strings.Replace(u.Name, "@.", "@"+name+".", 1)
}

// services are those of a unit that are in one of the states.
func (s *unitStates) services(u *quadlet.Unit, states ...string) (names []string) {
	all := []string{u.Name}
	if isTemplate(u) {
		all = slices.Sorted(slices.Values(s.instances[u.Name]))
	}
	for _, name := range all {
		if slices.Contains(states, s.of[name].Active) {
			names = append(names, name)
		}
	}
	return names
}

// up are the services of a unit that run, or are on their way to.
func (s *unitStates) up(u *quadlet.Unit) []string {
	return s.services(u, "active", "activating", "reloading")
}

// forget has the service manager forget that services failed whose files are gone: nobody
// could do anything about it any more.
func (s *unitStates) forget(ctx context.Context, gone []*quadlet.Unit) {
	var names []string
	for _, u := range gone {
		names = append(names, s.services(u, "active", "activating", "reloading", "deactivating", "failed")...)
	}
	_ = manage(ctx, names, func(bus *systemd.Units, ctx context.Context, names ...string) error {
		for _, name := range names {
			_ = bus.ResetFailed(ctx, name) // it has not failed, or the manager has forgotten it
		}
		return nil
	})
}

// activeSockets are the sockets that listen for units which have one. They stop before
// their services: a client would start those again.
func activeSockets(ctx context.Context, units []*quadlet.Unit) (active []string, err error) {
	var sockets []*quadlet.Unit
	for _, u := range units {
		if u.Socket != nil {
			sockets = append(sockets, u.Socket)
		}
	}
	if len(sockets) == 0 {
		return nil, nil
	}
	states, err := statesOf(ctx, sockets)
	if err != nil {
		return nil, err
	}
	for _, s := range sockets {
		active = append(active, states.services(s, "active")...)
	}
	return active, nil
}

func stopUnits(ctx context.Context, names []string) error {
	return manage(ctx, names, (*systemd.Units).Stop)
}

func restartUnits(ctx context.Context, names []string) error {
	return manage(ctx, names, (*systemd.Units).Restart)
}

func manage(ctx context.Context, names []string, do func(*systemd.Units, context.Context, ...string) error) error {
	if len(names) == 0 {
		return nil
	}
	bus, err := systemd.DialUnits(ctx)
	if err != nil {
		return err
	}
	defer bus.Close()
	return do(bus, ctx, names...)
}
