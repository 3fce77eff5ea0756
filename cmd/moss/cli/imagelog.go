package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
)

// ImageLogCmd is "moss image log".
type ImageLogCmd struct {
	Globals
	Format  string `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Last    int    `short:"n" help:"Show the last so many lines; all of them by default." placeholder:"N"`
	NoTrunc bool   `help:"Show IDs and digests in full."`
	Name    string `arg:"" optional:"" help:"Name of an image; all names by default."`
}

func (cmd *ImageLogCmd) prepare() error {
	if cmd.Last < 0 {
		return usagef("--last must not be negative")
	}
	return nil
}

// logRow is a line of the log, as templates see it.
type logRow struct {
	e     image.LogEntry
	state string
	full  bool
}

func (r logRow) Name() string    { return r.e.Name }
func (r logRow) ImageID() string { return r.e.ID }
func (r logRow) ID() string {
	switch {
	case r.e.ID == "":
		return "<none>"
	case r.full:
		return "sha256:" + r.e.ID
	}
	return format.ShortID(r.e.ID)
}
func (r logRow) Digest() string {
	if d := r.e.Digest; r.full || len(d) < 19 {
		return or(d, "<none>")
	}
	return r.e.Digest[:19]
}
func (r logRow) Time() time.Time { return r.e.Time }
func (r logRow) When() string    { return format.Ago(r.e.Time) }
func (r logRow) At() string      { return r.e.Time.Format(timeLayout) }
func (r logRow) Verb() string    { return r.e.Verb }
func (r logRow) Source() string  { return r.e.Source }
func (r logRow) State() string   { return r.state }

// How is the verb and what it was done with.
func (r logRow) How() string {
	if r.e.Source == "" {
		return r.e.Verb
	}
	return r.e.Verb + " " + r.e.Source
}

// logJSON is a line in "--format json".
type logJSON struct {
	image.LogEntry
	State string
}

// Run prints what names have meant, the latest first.
func (cmd *ImageLogCmd) Run(ctx context.Context, c *call) error {
	if err := c.Engine.FreshImages(ctx); err != nil {
		return err
	}
	name := ""
	if cmd.Name != "" {
		var err error
		if name, err = c.Engine.Images.LogName(cmd.Name); err != nil {
			return fmt.Errorf("cannot show the log of image %q: %w", cmd.Name, err)
		}
	}
	log, err := c.Engine.Images.Log(name)
	if err != nil {
		return err
	}
	slices.Reverse(log)
	if cmd.Last > 0 {
		log = log[:min(cmd.Last, len(log))]
	}
	all, err := c.Engine.Images.List()
	if err != nil {
		return err
	}
	rows, lines := []logRow{}, []logJSON{}
	for _, e := range log {
		state := logState(e, all)
		rows = append(rows, logRow{e, state, cmd.NoTrunc})
		lines = append(lines, logJSON{e, state})
	}
	table := format.Table{Columns: []format.Column{
		{Header: "WHEN", Cell: ".When"}, {Header: "IMAGE ID", Cell: ".ID"}, {Header: "DIGEST", Cell: ".Digest"},
		{Header: "STATE", Cell: ".State"}, {Header: "HOW", Cell: ".How"},
	}, Headers: map[string]string{"ImageID": "IMAGE ID"}}
	if name == "" {
		table.Columns = slices.Insert(table.Columns, 1, format.Column{Header: "NAME", Cell: ".Name"})
	}
	return table.Print(c.Out, cmd.Format, rows, lines)
}

// logState says what has become of an image: the name still means it, it is there,
// or it has been removed.
func logState(e image.LogEntry, all []*image.Image) string {
	if e.ID == "" {
		return "-"
	}
	for _, img := range all {
		if img.ID != e.ID {
			continue
		}
		if slices.Contains(img.Names, e.Name) {
			return "current"
		}
		return "kept"
	}
	return "removed"
}

// ImageRollbackCmd is "moss image rollback".
type ImageRollbackCmd struct {
	Globals
	To   string `help:"The image of this ID or digest, which the name has meant once, in place of the last one." placeholder:"ID"`
	Name string `arg:"" help:"Name of an image."`
}

// Run prints what the name means now.
func (cmd *ImageRollbackCmd) Run(ctx context.Context, c *call) error {
	was, err := c.Engine.RollBack(ctx, cmd.Name, cmd.To)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "%s: sha256:%s\n", was.Name, was.ID)
	return nil
}
