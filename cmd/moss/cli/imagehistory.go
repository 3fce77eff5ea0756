package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
)

// HistoryCmd is "moss history".
type HistoryCmd struct {
	Globals
	Format  string `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Human   *bool  `short:"H" help:"Print sizes and times in words; on by default."`
	NoTrunc bool   `help:"Do not shorten."`
	Quiet   bool   `short:"q" help:"Show IDs only."`
	Image   string `arg:"" help:"Name or ID of an image."`
}

// Run prints the newest layer first.
func (cmd *HistoryCmd) Run(ctx context.Context, c *call) error {
	img, err := c.Engine.Image(ctx, cmd.Image)
	if err != nil {
		return fmt.Errorf("cannot show the history of image %q: %w", cmd.Image, err)
	}
	rows, human := []historyRow{}, cmd.Human == nil || *cmd.Human
	for i, h := range slices.Backward(img.History) {
		id := "<missing>"
		if i == len(img.History)-1 {
			id = img.ID
		}
		rows = append(rows, historyRow{h: h, id: id, full: cmd.NoTrunc, human: human})
	}
	if cmd.Quiet && cmd.Format == "" {
		for _, r := range rows {
			fmt.Fprintln(c.Out, r.ID())
		}
		return nil
	}
	table := format.Table{Columns: []format.Column{
		{Header: "ID", Cell: ".ID"}, {Header: "CREATED", Cell: ".Created"}, {Header: "CREATED BY", Cell: ".CreatedBy"},
		{Header: "SIZE", Cell: ".Size"}, {Header: "COMMENT", Cell: ".Comment"},
	}, Headers: map[string]string{"CreatedSince": "CREATED", "CreatedAt": "CREATED AT"}}
	return table.Print(c.Out, cmd.Format, rows, rows)
}

// historyRow is one line of an image's history as templates see it.
type historyRow struct {
	h           image.History
	id          string
	full, human bool
}

func (r historyRow) ID() string {
	if r.full || r.id == "<missing>" {
		return r.id
	}
	return format.ShortID(r.id)
}
func (r historyRow) Created() string {
	if r.human {
		return format.Ago(r.h.Created)
	}
	return r.CreatedAt()
}
func (r historyRow) CreatedSince() string { return format.Ago(r.h.Created) }
func (r historyRow) CreatedAt() string    { return r.h.Created.Format(time.RFC3339) }
func (r historyRow) CreatedBy() string {
	s := strings.ReplaceAll(r.h.CreatedBy, "\t", " ")
	if r.full {
		return s
	}
	return format.Cut(s, 45)
}
func (r historyRow) Size() string {
	if r.human {
		return format.Size(r.h.Size, " ")
	}
	return strconv.FormatInt(r.h.Size, 10)
}
func (r historyRow) Comment() string { return r.h.Comment }
func (r historyRow) Tags() []string  { return nil }

// MarshalJSON has podman's names.
func (r historyRow) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID        string    `json:"id"`
		Created   time.Time `json:"created"`
		CreatedBy string
		Size      int64  `json:"size"`
		Comment   string `json:"comment"`
	}{r.id, r.h.Created, r.h.CreatedBy, r.h.Size, r.h.Comment})
}
