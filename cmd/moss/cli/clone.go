package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
)

// CloneCmd is "moss container clone".
type CloneCmd struct {
	Globals
	LimitFlags
	Destroy   bool   `help:"Remove the original."`
	Force     bool   `short:"f" help:"With --destroy, also if the original runs."`
	Name      string `help:"Name of the clone; that of the original with -clone by default." placeholder:"NAME"`
	Start     bool   `name:"run" help:"Start the clone."`
	Container string `arg:"" help:"Name, ID, or the first digits of an ID."`
	NewName   string `arg:"" optional:"" name:"name" help:"Name of the clone."`
	Image     string `arg:"" optional:"" help:"Another image for the clone."`
}

func (cmd *CloneCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[CloneCmd]()}
	v.check(cmd.Force && !cmd.Destroy, "--force needs --destroy")
	v.check(cmd.Name != "" && cmd.NewName != "", "the name of the clone is given twice")
	if v.err != nil {
		return v.err
	}
	if cmd.Name == "" {
		cmd.Name = cmd.NewName
	}
	if cmd.Name != "" {
		return syntax.Name(cmd.Name)
	}
	return nil
}

// Run prints the ID of the clone.
func (cmd *CloneCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	clone, err := c.Engine.Clone(ctx, ctr, rootless.CloneOptions{
		Name: cmd.Name, Image: cmd.Image, Destroy: cmd.Destroy, Force: cmd.Force, Command: c.Args,
		Change: func(s *container.Spec) error {
			v := &flagValues{grammar: reflect.TypeFor[CloneCmd]()}
			cmd.LimitFlags.read(v, &s.Resources)
			return v.err
		},
	})
	if clone == nil {
		return err
	}
	if cmd.Start {
		_, started := c.Engine.Start(ctx, clone, nil)
		err = errors.Join(err, started)
	}
	fmt.Fprintln(c.Out, clone.Spec.ID)
	return err
}

// ContainerPruneCmd is "moss container prune".
type ContainerPruneCmd struct {
	Globals
	Filter []string `sep:"none" help:"Remove those that match: until, label or label!." placeholder:"KEY=VALUE"`
	Force  bool     `short:"f" help:"Do not ask."`

	filters filters
}

func (cmd *ContainerPruneCmd) prepare() (err error) {
	cmd.filters, err = parseFilters("filter", cmd.Filter, []string{"until", "label", "label!"})
	return err
}

// Run prints the IDs of the containers that it has removed.
func (cmd *ContainerPruneCmd) Run(ctx context.Context, c *call) error {
	if !cmd.Force {
		fmt.Fprintln(c.Out, "WARNING! This will remove all non running containers.")
		if yes, err := c.confirm("Are you sure you want to continue? [y/N] "); !yes || err != nil {
			return err
		}
	}
	rows, err := c.rows(cmd.filters)
	if err != nil {
		return err
	}
	var list []*container.Container
	for _, row := range rows {
		if row.view.Status.CanRemove() {
			list = append(list, row.container)
		}
	}
	return c.inParallel(list, func(ctr *container.Container) error {
		return c.Engine.Remove(ctx, ctr, rootless.RemoveOptions{Volumes: true})
	}, func(ctr *container.Container) string { return ctr.Spec.ID })
}
