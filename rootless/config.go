package rootless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"moss/config"
	"moss/record"
	"moss/userns/slack"
)

// Config is what the configuration files set. If none has changed since moss last
// looked, that is known from the run directory.
func Config(ctx context.Context, run string) (*config.Config, error) {
	return config.Load(config.Here(), run, func() (*config.Record, error) { return ReadConfig(ctx, run) })
}

// ReadConfig has the configuration files read, whether they have changed or not.
func ReadConfig(ctx context.Context, run string) (*config.Record, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, Helper("moss-image"), "config", run)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := slack.Exactly(cmd.Run); err != nil {
		if message := strings.TrimPrefix(strings.TrimSpace(errs.String()), "Error: "); message != "" {
			return nil, errors.New(message)
		}
		return nil, fmt.Errorf("cannot read configuration: moss-image: %w", err)
	}
	r := new(config.Record)
	if err := record.Decode(out.Bytes(), r); err != nil {
		return nil, fmt.Errorf("cannot read configuration: %w", err)
	}
	return r, nil
}
