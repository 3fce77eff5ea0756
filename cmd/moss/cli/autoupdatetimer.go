package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"moss/systemd"
	"moss/systemd/user"
)

// AutoUpdateEnableCmd is "moss auto-update enable".
type AutoUpdateEnableCmd struct{ Globals }

// Run has the timer started, now and with the manager.
func (cmd *AutoUpdateEnableCmd) Run(ctx context.Context, c *call) error {
	if err := c.enableUnit(user.AutoUpdate); err != nil {
		return err
	}
	units, err := systemd.DialUnits(ctx)
	if err != nil {
		slog.Warn("your service manager does not run: "+user.AutoUpdate+" begins when that does", "err", err)
		return nil
	}
	defer units.Close()
	if err := units.Reload(ctx); err != nil {
		return err
	}
	return units.Start(ctx, user.AutoUpdate)
}

// AutoUpdateDisableCmd is "moss auto-update disable".
type AutoUpdateDisableCmd struct{ Globals }

// Run takes that back, and stops the timer. An update that is on its way goes on.
func (cmd *AutoUpdateDisableCmd) Run(ctx context.Context, c *call) error {
	if err := disableUnit(user.AutoUpdate); err != nil {
		return err
	}
	units, err := systemd.DialUnits(ctx)
	if err != nil {
		return nil // nor does the timer run
	}
	defer units.Close()
	states, err := units.States(ctx, []string{user.AutoUpdate})
	if err != nil {
		return fmt.Errorf("cannot stop %s: %w", user.AutoUpdate, err)
	}
	if states[user.AutoUpdate].Active != "inactive" {
		err = units.Stop(ctx, user.AutoUpdate)
	}
	return errors.Join(err, units.Reload(ctx))
}
