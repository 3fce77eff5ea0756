package cli

import (
	"context"
	"fmt"
	"strings"
	"text/tabwriter"

	"moss/rootless"
)

// TopCmd is "moss top".
type TopCmd struct {
	Globals
	Latest          bool     `short:"l" help:"The container that was created last."`
	ListDescriptors bool     `help:"List the descriptors."`
	Args            []string `arg:"" optional:"" passthrough:"partial" name:"container" help:"The container, and descriptors of what to show."`
}

func (cmd *TopCmd) prepare() error {
	if cmd.Args = withoutDashes(cmd.Args); !cmd.ListDescriptors && !cmd.Latest && len(cmd.Args) == 0 {
		return usagef("the name or ID of a container is missing")
	}
	return nil
}

// Run prints one line for each process.
func (cmd *TopCmd) Run(ctx context.Context, c *call) error {
	if cmd.ListDescriptors {
		fmt.Fprintln(c.Out, strings.Join(rootless.TopDescriptors(), "\n"))
		return nil
	}
	name, descriptors := "", cmd.Args
	if !cmd.Latest {
		name, descriptors = cmd.Args[0], cmd.Args[1:]
	}
	ctr, err := c.one(name, cmd.Latest)
	if err != nil {
		return err
	}
	rows, err := c.Engine.Top(ctx, ctr, descriptors)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Out, 12, 2, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}
