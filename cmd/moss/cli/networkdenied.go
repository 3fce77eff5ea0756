package cli

import (
	"context"
	"slices"
	"strconv"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/cmd/moss/cli/syntax"
	"moss/slirp"
)

// NetworkDeniedCmd is "moss network denied".
type NetworkDeniedCmd struct {
	Globals
	Since     string `help:"Only what was refused since then: a time, or a duration such as 10m." placeholder:"TIME"`
	Format    string `help:"Print as json, or through a Go template." placeholder:"FORMAT"`
	NoHeading bool   `short:"n" name:"noheading" help:"Print no headings."`
	Container string `arg:"" help:"Name, ID, or the first digits of an ID."`

	since time.Time
}

const textNetworkDenied = `What a container with --allow-out has tried to reach outside in its last run and was refused: each address and port
once, with the time of the last attempt and how often. The protocol dns is for a name that it was not let look up.

The name is the one in whose answers the address was. More than 200 packets a second are refused without being counted.`

func (cmd *NetworkDeniedCmd) prepare() error {
	v := new(flagValues)
	v.one("since", cmd.Since, func(s string) (err error) {
		cmd.since, err = syntax.Moment(s, time.Now())
		return err
	})
	return v.err
}

// refusalRow is one line.
type refusalRow struct{ slirp.Refusal }

// Time is that of the last attempt.
func (r refusalRow) Time() string { return r.Last.Local().Format(time.DateTime) }

// Addr is "-" for a question about a name.
func (r refusalRow) Addr() string {
	if !r.Address.IsValid() {
		return "-"
	}
	return r.Address.String()
}

// Known is the name, if there is one.
func (r refusalRow) Known() string {
	if r.Name == "" {
		return "-"
	}
	return r.Name
}

// Number is the port; an echo request has none.
func (r refusalRow) Number() string {
	if r.Port == 0 {
		return "-"
	}
	return strconv.Itoa(int(r.Port))
}

var refusalTable = format.Table{Columns: []format.Column{
	{Header: "TIME", Cell: ".Time"}, {Header: "PROTOCOL", Cell: ".Protocol"}, {Header: "ADDRESS", Cell: ".Addr"},
	{Header: "NAME", Cell: ".Known"}, {Header: "PORT", Cell: ".Number"}, {Header: "COUNT", Cell: ".Count"},
}}

// Run lists what was refused, the last one last.
func (cmd *NetworkDeniedCmd) Run(_ context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	list, err := c.Engine.Refused(ctr)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(append([]slirp.Refusal{}, list...), func(r slirp.Refusal) bool { return r.Last.Before(cmd.since) })
	slices.SortFunc(list, func(a, b slirp.Refusal) int { return a.Last.Compare(b.Last) })
	rows := make([]refusalRow, len(list))
	for i, r := range list {
		rows[i] = refusalRow{r}
	}
	t := refusalTable
	t.NoHeading = cmd.NoHeading
	return t.Print(c.Out, cmd.Format, rows, list)
}
