package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"moss/cmd/moss/cli/format"
	"moss/rootless/container"
	"moss/userns/enter"
)

// MountCmd is "moss mount".
type MountCmd struct {
	Globals
	All       bool     `short:"a" help:"All containers."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Format    string   `help:"Print as json, or through a Go template." placeholder:"FORMAT"`
	NoTrunc   bool     `aliases:"notruncate" help:"Show whole IDs."`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID; without any, what is mounted is listed."`
}

func (cmd *MountCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Container: cmd.Container}
}

func (cmd *MountCmd) lists() bool { return !cmd.All && !cmd.Latest && len(cmd.Container) == 0 }

func (cmd *MountCmd) prepare() error {
	if err := format.Suits(cmd.Format, reflect.TypeFor[mountRow]()); err != nil || cmd.lists() {
		return err
	}
	if err := cmd.selection().prepare(); err != nil {
		return err
	}
	if !enter.Below() {
		return &hintedError{errors.New("cannot run \"moss mount\" here: the mount is seen only in your user namespace; run 'moss unshare' first"),
			"moss unshare sh -c 'ls $(moss mount CONTAINER)'"}
	}
	return nil
}

// mountRow is a mounted container, as templates show it.
type mountRow struct {
	ID    string   `json:"id"`
	Names []string `json:"Names"`
	Path  string   `json:"mountpoint"`
}

// Run prints where each is mounted: of a single container the path alone.
func (cmd *MountCmd) Run(ctx context.Context, c *call) error {
	var list []*container.Container
	var err error
	if cmd.lists() {
		list, err = c.Engine.All()
	} else {
		list, err = cmd.selection().containers(c, func(v container.View) bool { return v.Status != container.StatusRemoving })
	}
	errs := []error{err}
	rows := []mountRow{}
	for _, ctr := range list {
		path := c.Engine.Mounted(ctr)
		if !cmd.lists() {
			if path, err = c.Engine.Mount(ctx, ctr); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if path == "" {
			continue
		}
		id := ctr.Spec.ID
		if !cmd.NoTrunc && cmd.Format == "" {
			id = id[:12]
		}
		rows = append(rows, mountRow{id, []string{ctr.Spec.Name}, path})
	}
	if len(cmd.Container) == 1 && cmd.Format == "" && len(rows) == 1 {
		fmt.Fprintln(c.Out, rows[0].Path)
		return errors.Join(errs...)
	}
	table := format.Table{NoHeading: true, Columns: []format.Column{{Header: "ID", Cell: ".ID"}, {Header: "PATH", Cell: ".Path"}}}
	return errors.Join(append(errs, table.Print(c.Out, cmd.Format, rows, rows))...)
}

// UnmountCmd is "moss unmount".
type UnmountCmd struct {
	Globals
	All       bool     `short:"a" help:"All containers that are mounted."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Force     bool     `short:"f" help:"Also if somebody works in it: it goes when they are done."`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`
}

func (cmd *UnmountCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Container: cmd.Container}
}

func (cmd *UnmountCmd) prepare() error { return cmd.selection().prepare() }

// Run prints the containers that were unmounted.
func (cmd *UnmountCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(container.View) bool { return true })
	errs := []error{err}
	for _, ctr := range list {
		if cmd.All && c.Engine.Mounted(ctr) == "" {
			continue
		}
		if err := c.Engine.Unmount(ctx, ctr, cmd.Force); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, nameGiven(cmd.Container)(ctr))
	}
	return errors.Join(errs...)
}
