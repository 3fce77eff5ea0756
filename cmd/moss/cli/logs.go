package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strconv"
	"sync"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
)

// LogsCmd is "moss logs".
type LogsCmd struct {
	Globals
	Follow     bool     `short:"f" help:"Go on as the container writes, until it ends."`
	Latest     bool     `short:"l" help:"The container that was created last."`
	Names      bool     `short:"n" help:"Begin each line with the container's name."`
	Since      string   `help:"Show what was written since then: a time, or a duration such as 10m." placeholder:"TIME"`
	Until      string   `help:"Show what was written until then." placeholder:"TIME"`
	Tail       string   `help:"Show the last N lines only; all is every line." placeholder:"N"`
	Timestamps bool     `short:"t" help:"Show when each line was written."`
	Container  []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	options rootless.LogOptions
}

func (cmd *LogsCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[LogsCmd]()}
	o := &cmd.options
	o.Follow, o.Names, o.Timestamps, o.Tail = cmd.Follow, cmd.Names, cmd.Timestamps, -1
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

// Run shows the logs of one container after the other; with --follow, those of
// several at once, each line with the container's ID.
func (cmd *LogsCmd) Run(ctx context.Context, c *call) error {
	list, err := c.findAll(cmd.Container, nil, cmd.Latest, false)
	if err != nil {
		return err
	}
	lock := &sync.Mutex{}
	out, errOut := &lockedWriter{lock, c.Out}, &lockedWriter{lock, c.Err}
	show := func(ctr *container.Container) error {
		o := cmd.options
		o.Out, o.Err = out, errOut
		if len(list) > 1 {
			o.Prefix = format.ShortID(ctr.Spec.ID)
		}
		return c.Engine.Logs(ctx, ctr, o)
	}
	if !cmd.Follow || len(list) == 1 {
		var errs []error
		for _, ctr := range list {
			errs = append(errs, show(ctr))
		}
		return errors.Join(errs...)
	}
	errs := make([]error, len(list))
	var wait sync.WaitGroup
	for i, ctr := range list {
		wait.Go(func() { errs[i] = show(ctr) }) // ends with its container, or with ctx
	}
	wait.Wait()
	return errors.Join(errs...)
}

// lockedWriter keeps the lines of several containers whole.
type lockedWriter struct {
	lock *sync.Mutex
	w    io.Writer
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.lock.Lock()
	defer l.lock.Unlock()
	return l.w.Write(p)
}
