package cli

import (
	"context"
	"fmt"
	"reflect"
	"strconv"
	"time"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless/logs"
)

// LogsCmd is "moss logs".
type LogsCmd struct {
	Globals
	Color      bool     `help:"Give the lines of each container a colour of their own."`
	Follow     bool     `short:"f" help:"Go on as the container writes, until it ends."`
	Latest     bool     `short:"l" help:"The container that was created last."`
	Names      bool     `short:"n" help:"Begin each line with the container's name; with several, the ID is the default."`
	Since      string   `help:"Show what was written since then: a time, or a duration such as 10m." placeholder:"TIME"`
	Until      string   `help:"Show what was written until then." placeholder:"TIME"`
	Tail       string   `help:"Show the last N lines only; all is every line." placeholder:"N"`
	Timestamps bool     `short:"t" help:"Show when each line was written."`
	Container  []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	options logs.Options
}

func (cmd *LogsCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[LogsCmd]()}
	o := &cmd.options
	o.Follow, o.Names, o.Color, o.Timestamps, o.Tail = cmd.Follow, cmd.Names, cmd.Color, cmd.Timestamps, -1
	moment := func(t *time.Time) func(string) error {
		return func(s string) (err error) {
			*t, err = syntax.Moment(s, time.Now())
			return err
		}
	}
	v.one("since", cmd.Since, moment(&o.Since))
	v.one("until", cmd.Until, moment(&o.Until))
	v.one("tail", cmd.Tail, func(s string) (err error) {
		if s == "all" {
			return nil
		}
		if o.Tail, err = strconv.Atoi(s); err != nil {
			return fmt.Errorf("%q is neither a number of lines nor all", s)
		}
		return nil
	})
	v.check(!cmd.Latest && len(cmd.Container) == 0, "the name or ID of a container is missing")
	v.check(cmd.Latest && len(cmd.Container) > 0, "--latest cannot be combined with names of containers")
	return v.err
}

// Run shows the logs of the containers as one, in order of time.
func (cmd *LogsCmd) Run(ctx context.Context, c *call) error {
	list, err := c.findAll(cmd.Container, nil, cmd.Latest, false)
	if err != nil {
		return err
	}
	cmd.options.Out, cmd.options.Err = c.Out, c.Err
	return c.Engine.Logs(ctx, list, cmd.options)
}
