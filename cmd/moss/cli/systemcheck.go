package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
	"moss/storage/image"
)

// SystemCheckCmd is "moss system check".
type SystemCheckCmd struct {
	Globals
	Force  bool   `short:"f" help:"With --repair: remove damaged containers, and those of damaged images, too."`
	Format string `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Max    string `short:"m" help:"How old a layer without an image may be: 24h if not given." placeholder:"DURATION"`
	Quick  bool   `short:"q" help:"Do not read the content of layers."`
	Repair bool   `short:"r" help:"Remove what is damaged and not needed, and make again what can be."`

	max time.Duration
}

func (cmd *SystemCheckCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[SystemCheckCmd]()}
	v.check(cmd.Force && !cmd.Repair, "--force needs --repair")
	v.one("max", cmd.Max, func(s string) (err error) {
		cmd.max, err = time.ParseDuration(s)
		if err == nil && cmd.max < 0 {
			err = errors.New("it is negative")
		}
		return err
	})
	if v.err != nil {
		return v.err
	}
	return format.Suits(cmd.Format, reflect.TypeFor[damageRow]())
}

// errDamage is the result of a check that has found what is still there.
var errDamage = errors.New("damage was found")

// damageRow is one line.
type damageRow struct{ Kind, ID, Name, Result, Error string }

// Run prints what is damaged, and fails if some of it is still there.
func (cmd *SystemCheckCmd) Run(ctx context.Context, c *call) error {
	found, err := c.Engine.Check(ctx, rootless.CheckOptions{Quick: cmd.Quick, Repair: cmd.Repair, Force: cmd.Force, Max: cmd.max})
	left := 0
	rows := []damageRow{}
	for _, d := range found {
		id := d.ID
		if d.Kind != "list" { // which is a file's name
			id = format.ShortID(id)
		}
		row := damageRow{d.Kind, id, strings.Join(d.Names, ","), "damaged", d.Errors[0]}
		switch {
		case d.Made:
			row.Result = "repaired"
		case d.Repaired:
			row.Result = "removed"
		case d.Kept != "":
			row.Result = "kept: " + d.Kept
		}
		if !d.Repaired {
			left++
		}
		rows = append(rows, row)
	}
	if perr := cmd.print(c, found, rows); err == nil {
		err = perr
	}
	switch {
	case err != nil || left == 0:
		return err
	case cmd.Repair:
		return fmt.Errorf("%w, and %d of %d stay", errDamage, left, len(found))
	}
	return errDamage
}

func (cmd *SystemCheckCmd) print(c *call, found []image.Damage, rows []damageRow) error {
	if len(rows) == 0 && cmd.Format == "" {
		return nil
	}
	table := format.Table{Columns: []format.Column{
		{Header: "KIND", Cell: ".Kind"}, {Header: "ID", Cell: ".ID"}, {Header: "NAME", Cell: ".Name"},
		{Header: "RESULT", Cell: ".Result"}, {Header: "ERROR", Cell: ".Error"},
	}}
	if found == nil {
		found = []image.Damage{}
	}
	return table.Print(c.Out, cmd.Format, rows, found)
}

// ImageAdoptCmd is "moss image adopt".
type ImageAdoptCmd struct {
	Globals
	All   bool     `short:"a" help:"Every image of podman's store."`
	Quiet bool     `short:"q" help:"Print IDs only."`
	Image []string `arg:"" optional:"" help:"Name or ID of an image."`
}

func (cmd *ImageAdoptCmd) prepare() error {
	if cmd.All == (len(cmd.Image) > 0) {
		return usagef("image adopt wants either names of images or --all")
	}
	return nil
}

// Run lets moss-image copy.
func (cmd *ImageAdoptCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.ImageHelper(ctx, image.Request{Adopt: &image.AdoptRequest{Images: cmd.Image, All: cmd.All, Quiet: cmd.Quiet}}, nil)
}
