package cli

import (
	"context"
	"fmt"
	"os"
	"reflect"

	"moss/rootless/container"
)

// SystemResetCmd is "moss system reset".
type SystemResetCmd struct {
	Globals
	Force bool `short:"f" help:"Do not ask."`
}

// Run removes everything, whatever state it is in.
func (cmd *SystemResetCmd) Run(ctx context.Context, c *call) error {
	if !cmd.Force {
		fmt.Fprintf(c.Out, "WARNING! This will remove:\n\t- all containers\n\t- all images\n\t- all networks\n\t- all volumes, with what is in them\n\t- all secrets\n"+
			"\t- what is in the directory %q\n\t- what is in the directory %q\n", c.Dirs.Root, c.Dirs.Run)
		if yes, err := c.confirm("Are you sure you want to continue? [y/N] "); !yes || err != nil {
			return err
		}
	}
	return c.Engine.Reset(ctx)
}

// SystemMoveCmd is "moss system move".
type SystemMoveCmd struct {
	Globals
	Quiet bool   `short:"q" help:"Print nothing."`
	Dir   string `arg:"" help:"Where everything is to be; a directory that does not exist, or is empty."`
}

// Run prints where everything is then.
func (cmd *SystemMoveCmd) Run(ctx context.Context, c *call) error {
	dir := absolute(cmd.Dir)
	if err := c.Engine.Move(ctx, dir); err != nil {
		return err
	}
	if !cmd.Quiet {
		fmt.Fprintln(c.Out, dir)
	}
	return nil
}

// SystemMigrateCmd is "moss system migrate".
type SystemMigrateCmd struct {
	Globals
	NewRuntime string `help:"The OCI runtime of all containers from now on: a name or a path." placeholder:"RUNTIME"`

	runtime string
}

func (cmd *SystemMigrateCmd) prepare() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	r := &specReader{spec: new(container.Spec), dir: dir, f: new(ContainerFlags), flagValues: flagValues{grammar: reflect.TypeFor[SystemMigrateCmd]()}}
	r.f.conf = cmd.conf
	if cmd.NewRuntime != "" {
		r.one("new-runtime", cmd.NewRuntime, r.runtime)
	}
	cmd.runtime = r.spec.Runtime
	return r.err
}

// Run prints the IDs of the containers that it has stopped.
func (cmd *SystemMigrateCmd) Run(ctx context.Context, c *call) error {
	stopped, err := c.Engine.Migrate(ctx, cmd.runtime)
	for _, id := range stopped {
		fmt.Fprintln(c.Out, id)
	}
	return err
}
