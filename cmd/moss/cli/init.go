package cli

import (
	"context"
	"errors"
	"fmt"

	"moss/rootless/container"
)

// InitCmd is "moss init".
type InitCmd struct {
	Globals
	All       bool     `short:"a" help:"All containers that were created and never started."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`
}

func (cmd *InitCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Container: cmd.Container}
}

func (cmd *InitCmd) prepare() error { return cmd.selection().prepare() }

// Run initializes one container after the other, in the order given: the first may
// be what the second needs.
func (cmd *InitCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(v container.View) bool { return v.Status == container.StatusCreated })
	errs := []error{err}
	for _, ctr := range list {
		if err := c.Engine.Init(ctx, ctr); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, nameGiven(cmd.Container)(ctr))
	}
	return errors.Join(errs...)
}
