package systemd

import (
	"context"
	"fmt"
	"time"
)

// UnitState is what the user's service manager says of a unit.
type UnitState struct {
	Load   string // "loaded", "not-found"
	Active string // "active", "inactive", "failed", "activating"…
	Sub    string // "running", "dead"…
}

// Units is a connection to the user's service manager, for its units.
type Units struct{ bus *manager }

// DialUnits connects to the user's service manager; the connection ends with ctx.
func DialUnits(ctx context.Context) (*Units, error) {
	bus, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot talk to your service manager: %w", err)
	}
	return &Units{bus}, nil
}

// Close ends the connection.
func (u *Units) Close() { u.bus.Close() }

// States are those of the units of these names; each name has one.
func (u *Units) States(ctx context.Context, names []string) (map[string]UnitState, error) {
	out := make(map[string]UnitState, len(names))
	if len(names) == 0 {
		return out, nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	list, err := u.bus.ListUnitsByNamesContext(ctx, names)
	if err != nil {
		return nil, fmt.Errorf("cannot list units: %w", err)
	}
	for _, s := range list {
		out[s.Name] = UnitState{Load: s.LoadState, Active: s.ActiveState, Sub: s.SubState}
	}
	return out, nil
}

// Reload lets the manager run its generators and read its units anew.
func (u *Units) Reload(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := u.bus.ReloadContext(ctx); err != nil {
		return fmt.Errorf("cannot reload your service manager: %w", err)
	}
	return nil
}

// Start, Stop and Restart wait for the end of the job as long as ctx lets them: the
// manager bounds it by the timeouts of the unit.
func (u *Units) Start(ctx context.Context, name string) error {
	return u.job(ctx, "start", name, u.bus.StartUnitContext)
}

// Stop is as Start.
func (u *Units) Stop(ctx context.Context, name string) error {
	return u.job(ctx, "stop", name, u.bus.StopUnitContext)
}

// Restart is as Start; a unit that does not run is started.
func (u *Units) Restart(ctx context.Context, name string) error {
	return u.job(ctx, "restart", name, u.bus.RestartUnitContext)
}

func (u *Units) job(ctx context.Context, verb, name string, begin func(context.Context, string, string, chan<- string) (int, error)) error {
	done := make(chan string, 1)
	if _, err := begin(ctx, name, "replace", done); err != nil {
		return fmt.Errorf("cannot %s unit %q: %w", verb, name, err)
	}
	select {
	case result := <-done:
		if result != "done" {
			return fmt.Errorf("cannot %s unit %q: %s", verb, name, result)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot %s unit %q: %w", verb, name, ctx.Err())
	}
}

// ResetFailed lets the manager forget that a unit failed, and one that is gone.
func (u *Units) ResetFailed(ctx context.Context, name string) error {
	return u.bus.ResetFailedUnitContext(ctx, name)
}
