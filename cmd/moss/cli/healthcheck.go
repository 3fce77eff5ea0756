package cli

import (
	"context"
	"fmt"

	"moss/rootless/container"
)

// HealthcheckRunCmd is "moss healthcheck run".
type HealthcheckRunCmd struct {
	Globals
	IgnoreResult bool   `help:"Exit with 0 also when the check has failed."`
	Container    string `arg:"" help:"Name, ID, or the first digits of an ID."`
}

// Run ends with 1 when the check has failed.
func (cmd *HealthcheckRunCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	status, failed, err := c.Engine.CheckHealth(ctx, ctr)
	if err != nil {
		return err
	}
	if failed && status != container.HealthStarting || failed && ctr.Spec.Health.Startup == nil {
		status = container.HealthUnhealthy // what this check says, whatever those before did
	}
	if !failed && status != container.HealthStarting {
		return nil
	}
	fmt.Fprintln(c.Out, status)
	if cmd.IgnoreResult {
		return nil
	}
	return exitWith(1)
}
