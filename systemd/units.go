package systemd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"
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

// States are those of the units of these names, each of which has one, and of those
// that are loaded and match one of the patterns, such as "web@*.service".
func (u *Units) States(ctx context.Context, names []string, patterns ...string) (map[string]UnitState, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	out := map[string]UnitState{}
	var errs []error
	list := func(words []string, ask func() ([]systemd.UnitStatus, error)) {
		if len(words) == 0 { // of the manager's, that would be all
			return
		}
		units, err := ask()
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot list units: %w", err))
		}
		for _, s := range units {
			out[s.Name] = UnitState{Load: s.LoadState, Active: s.ActiveState, Sub: s.SubState}
		}
	}
	list(names, func() ([]systemd.UnitStatus, error) { return u.bus.ListUnitsByNamesContext(ctx, names) })
	list(patterns, func() ([]systemd.UnitStatus, error) { return u.bus.ListUnitsByPatternsContext(ctx, nil, patterns) })
	return out, errors.Join(errs...)
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

// UnitError is a unit that could not be started or stopped.
type UnitError struct {
	Verb, Name string
	Err        error
}

func (e *UnitError) Error() string {
	return "cannot " + e.Verb + " unit \"" + e.Name + "\": " + e.Err.Error()
}
func (e *UnitError) Unwrap() error { return e.Err }

// Start, Stop and Restart begin with all the units, so that what one needs of another is
// done once, and wait for the ends of the jobs as long as ctx lets them: the manager
// bounds those by the timeouts of the units. Each unit that fails is a UnitError.
func (u *Units) Start(ctx context.Context, names ...string) error {
	return u.jobs(ctx, "start", names, u.bus.StartUnitContext)
}

// Stop is as Start.
func (u *Units) Stop(ctx context.Context, names ...string) error {
	return u.jobs(ctx, "stop", names, u.bus.StopUnitContext)
}

// Restart is as Start; a unit that does not run is started.
func (u *Units) Restart(ctx context.Context, names ...string) error {
	return u.jobs(ctx, "start", names, u.bus.RestartUnitContext)
}

// outcomes are what the manager says of a job that was not done, in words.
var outcomes = map[string]string{
	"failed": "it failed", "dependency": "what it needs could not be started", "timeout": "it took longer than it may",
	"canceled": "somebody else has asked for something else",
}

func (u *Units) jobs(ctx context.Context, verb string, names []string, begin func(context.Context, string, string, chan<- string) (int, error)) error {
	var errs []error
	fail := func(name string, err error) { errs = append(errs, &UnitError{verb, name, err}) }
	done := make([]chan string, len(names))
	for i, name := range names {
		done[i] = make(chan string, 1)
		if _, err := begin(ctx, name, "replace", done[i]); err != nil {
			fail(name, err)
			done[i] = nil
		}
	}
	for i, name := range names {
		if done[i] == nil {
			continue
		}
		select {
		case result := <-done[i]:
			if result != "done" {
				fail(name, errors.New(cmp.Or(outcomes[result], result)))
			}
		case <-ctx.Done():
			fail(name, ctx.Err())
		}
	}
	return errors.Join(errs...)
}

// ResetFailed lets the manager forget that a unit failed, and one that is gone.
func (u *Units) ResetFailed(ctx context.Context, name string) error {
	return u.bus.ResetFailedUnitContext(ctx, name)
}
