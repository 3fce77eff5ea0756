package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
)

// readTimeout reads a --time flag; nil leaves it to the container.
func readTimeout(v *flagValues, name, value string) *time.Duration {
	var timeout *time.Duration
	v.one(name, value, func(s string) error {
		n, err := syntax.Seconds(s)
		d := time.Duration(n) * time.Second
		timeout = &d
		return err
	})
	return timeout
}

// StopCmd is "moss stop".
type StopCmd struct {
	Globals
	Selection
	Time string `short:"t" aliases:"timeout" help:"Seconds before SIGKILL; -1 waits for ever." placeholder:"SECONDS"`

	timeout *time.Duration
}

func (cmd *StopCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[StopCmd]()}
	cmd.timeout = readTimeout(v, "time", cmd.Time)
	if v.err != nil {
		return v.err
	}
	return cmd.Selection.prepare()
}

// Run stops the containers, several at a time.
func (cmd *StopCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.containers(c, func(v container.View) bool { return v.Status.CanStop() })
	return errors.Join(err, c.inParallel(list, func(ctr *container.Container) error {
		return c.Engine.Stop(ctx, ctr, cmd.timeout)
	}, nameGiven(cmd.Container)))
}

// KillCmd is "moss kill".
type KillCmd struct {
	Globals
	All       bool     `short:"a" help:"All containers that run."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Signal    string   `words:"HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH" short:"s" help:"Signal, by name or number; KILL by default." placeholder:"SIGNAL"`
	Cidfile   []string `sep:"none" help:"Read the container's ID from this file." placeholder:"FILE"`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	signal int
}

func (cmd *KillCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Cidfile: cmd.Cidfile, Container: cmd.Container}
}

func (cmd *KillCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[KillCmd]()}
	cmd.signal = 9
	v.one("signal", cmd.Signal, func(s string) (err error) {
		cmd.signal, err = syntax.Signal(s)
		return err
	})
	if v.err != nil {
		return v.err
	}
	return cmd.selection().prepare()
}

// Run sends the signal.
func (cmd *KillCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(v container.View) bool { return v.Status.CanKill() })
	return errors.Join(err, c.inParallel(list, func(ctr *container.Container) error {
		return c.Engine.Kill(ctx, ctr, cmd.signal)
	}, nameGiven(cmd.Container)))
}

// RestartCmd is "moss restart".
type RestartCmd struct {
	Globals
	All       bool     `short:"a" help:"All containers."`
	Running   bool     `help:"All containers that run."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Filter    []string `sep:"none" short:"f" help:"Containers that match; see moss-ps(1)." placeholder:"KEY=VALUE"`
	Cidfile   []string `sep:"none" help:"Read the container's ID from this file." placeholder:"FILE"`
	Time      string   `short:"t" aliases:"timeout" help:"Seconds before SIGKILL; -1 waits for ever." placeholder:"SECONDS"`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	timeout *time.Duration
}

func (cmd *RestartCmd) selection() *Selection {
	return &Selection{All: cmd.All || cmd.Running, Latest: cmd.Latest, Filter: cmd.Filter, Cidfile: cmd.Cidfile, Container: cmd.Container}
}

func (cmd *RestartCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[RestartCmd]()}
	if cmd.timeout = readTimeout(v, "time", cmd.Time); v.err != nil {
		return v.err
	}
	return cmd.selection().prepare()
}

// Run stops each container that runs, and starts it.
func (cmd *RestartCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(v container.View) bool {
		return v.Status.CanStop() || v.Status.CanStart() && !cmd.Running
	})
	return errors.Join(err, c.inParallel(list, func(ctr *container.Container) error {
		return c.Engine.Restart(ctx, ctr, cmd.timeout)
	}, nameGiven(cmd.Container)))
}

// PauseCmd is "moss pause".
type PauseCmd struct {
	Globals
	All       bool     `short:"a" help:"All containers that run."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Filter    []string `sep:"none" short:"f" help:"Containers that match; see moss-ps(1)." placeholder:"KEY=VALUE"`
	Cidfile   []string `sep:"none" help:"Read the container's ID from this file." placeholder:"FILE"`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`
}

func (cmd *PauseCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Filter: cmd.Filter, Cidfile: cmd.Cidfile, Container: cmd.Container}
}

func (cmd *PauseCmd) prepare() error { return cmd.selection().prepare() }

// Run freezes the containers.
func (cmd *PauseCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(v container.View) bool { return v.Status.CanPause() })
	return errors.Join(err, c.inParallel(list, func(ctr *container.Container) error {
		return c.Engine.Pause(ctx, ctr)
	}, nameGiven(cmd.Container)))
}

// UnpauseCmd is "moss unpause".
type UnpauseCmd struct {
	Globals
	All       bool     `short:"a" help:"All containers that are paused."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Filter    []string `sep:"none" short:"f" help:"Containers that match; see moss-ps(1)." placeholder:"KEY=VALUE"`
	Cidfile   []string `sep:"none" help:"Read the container's ID from this file." placeholder:"FILE"`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`
}

func (cmd *UnpauseCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Filter: cmd.Filter, Cidfile: cmd.Cidfile, Container: cmd.Container}
}

func (cmd *UnpauseCmd) prepare() error { return cmd.selection().prepare() }

// Run thaws the containers.
func (cmd *UnpauseCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(v container.View) bool { return v.Status.CanUnpause() })
	return errors.Join(err, c.inParallel(list, func(ctr *container.Container) error {
		return c.Engine.Unpause(ctx, ctr)
	}, nameGiven(cmd.Container)))
}

// RmCmd is "moss rm".
type RmCmd struct {
	Globals
	Force     bool     `short:"f" help:"Stop those that run first; say nothing of those that are not there."`
	Volumes   bool     `short:"v" help:"Remove their anonymous volumes too."`
	Depend    bool     `help:"Remove the containers that need them, too."`
	Time      string   `short:"t" aliases:"timeout" help:"Seconds before SIGKILL, with --force." placeholder:"SECONDS"`
	All       bool     `short:"a" help:"All containers."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Filter    []string `sep:"none" help:"Containers that match; see moss-ps(1)." placeholder:"KEY=VALUE"`
	Cidfile   []string `sep:"none" help:"Read the container's ID from this file." placeholder:"FILE"`
	Ignore    bool     `short:"i" help:"Say nothing of containers that are not there."`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	timeout *time.Duration
}

func (cmd *RmCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Filter: cmd.Filter, Cidfile: cmd.Cidfile,
		Ignore: cmd.Ignore || cmd.Force, Container: cmd.Container}
}

func (cmd *RmCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[RmCmd]()}
	cmd.timeout = readTimeout(v, "time", cmd.Time)
	v.check(cmd.timeout != nil && !cmd.Force, "--time needs --force")
	if v.err != nil {
		return v.err
	}
	return cmd.selection().prepare()
}

// Run ends with exit code 1 when all that is wrong is that containers are not there,
// and with 2 when one of them runs.
func (cmd *RmCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(container.View) bool { return true })
	rounds, orderErr := c.Engine.RemovalOrder(list, cmd.Depend)
	errs := []error{err, orderErr}
	for _, round := range rounds {
		errs = append(errs, c.inParallel(round, func(ctr *container.Container) error {
			return c.Engine.Remove(ctx, ctr, rootless.RemoveOptions{Force: cmd.Force, Volumes: cmd.Volumes, Timeout: cmd.timeout})
		}, nameGiven(cmd.Container)))
	}
	return notRemovable(errors.Join(errs...))
}

// WaitCmd is "moss wait".
type WaitCmd struct {
	Globals
	Condition      []string `words:"exited stopped configured created initialized running paused removing healthy unhealthy" sep:"none" help:"What to wait for: exited (the default), stopped, configured, created, initialized, running, paused, removing, healthy or unhealthy; given several times, one of them." placeholder:"STATUS"`
	ExitFirstMatch bool     `help:"Wait until one of several containers meets the condition."`
	Ignore         bool     `help:"Print -1 for containers that are not there."`
	Interval       string   `short:"i" help:"How often to look for a condition that nothing announces; 250ms by default." placeholder:"DURATION"`
	Latest         bool     `short:"l" help:"The container that was created last."`
	Container      []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	interval time.Duration
}

func (cmd *WaitCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[WaitCmd]()}
	cmd.interval = 250 * time.Millisecond
	v.one("interval", cmd.Interval, func(s string) (err error) {
		cmd.interval, err = syntax.Interval(s)
		return err
	})
	v.each("condition", cmd.Condition, oneOf("exited", "stopped", "configured", "created", "initialized", "running", "paused", "removing", "healthy", "unhealthy"))
	v.check(!cmd.Latest && len(cmd.Container) == 0, "the name or ID of a container is missing")
	v.check(cmd.Latest && len(cmd.Container) > 0, "--latest cannot be combined with names of containers")
	return v.err
}

// Run waits for one after the other and prints their exit codes.
func (cmd *WaitCmd) Run(ctx context.Context, c *call) error {
	names := cmd.Container
	if cmd.Latest {
		names = []string{""}
	}
	if cmd.ExitFirstMatch && len(names) > 1 {
		return cmd.first(ctx, c, names)
	}
	var errs []error
	for _, name := range names {
		code, err := cmd.wait(ctx, c, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, code)
	}
	return errors.Join(errs...)
}

func (cmd *WaitCmd) wait(ctx context.Context, c *call, name string) (int, error) {
	ctr, err := c.one(name, cmd.Latest)
	if cmd.Ignore && isNotFound(err) {
		return -1, nil
	}
	if err != nil {
		return 0, err
	}
	return c.Engine.Wait(ctx, ctr, cmd.Condition, cmd.interval)
}

// first waits for all of them, until one is done.
func (cmd *WaitCmd) first(ctx context.Context, c *call, names []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		code int
		err  error
	}
	results := make(chan result, len(names))
	for _, name := range names {
		go func() { // ends with its wait, at the latest when the first has returned
			code, err := cmd.wait(ctx, c, name)
			results <- result{code, err}
		}()
	}
	r := <-results
	if r.err == nil {
		fmt.Fprintln(c.Out, r.code)
	}
	return r.err
}

// RenameCmd is "moss rename".
type RenameCmd struct {
	Globals
	Container string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`
	Name      string `arg:"" optional:"" help:"The new name."`
}

func (cmd *RenameCmd) prepare() error {
	if cmd.Name == "" {
		return usagef("the name or ID of a container and its new name are wanted")
	}
	return syntax.Name(cmd.Name)
}

// Run prints nothing.
func (cmd *RenameCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	return c.Engine.Rename(ctx, ctr, cmd.Name)
}
