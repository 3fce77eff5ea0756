package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"moss/rootless"
	"moss/rootless/container"
)

// StartCmd is "moss start".
type StartCmd struct {
	Globals
	AttachFlags
	All         bool     `help:"All containers that do not run."`
	Latest      bool     `short:"l" help:"The container that was created last."`
	Filter      []string `sep:"none" short:"f" help:"Containers that match; see moss-ps(1)." placeholder:"KEY=VALUE"`
	Attach      bool     `short:"a" help:"Stay attached to its output, and end with its exit code."`
	Interactive bool     `short:"i" help:"Attach its input too."`
	SDNotify    string   `name:"sdnotify" words:"container conmon healthy ignore" help:"Who tells the service manager of $NOTIFY_SOCKET that it is ready, in place of whom it was created with." placeholder:"MODE"`
	Container   []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	detachKeys []byte
}

func (cmd *StartCmd) prepare() error {
	s := cmd.selection()
	if err := s.prepare(); err != nil {
		return err
	}
	v := &flagValues{grammar: reflect.TypeFor[StartCmd]()}
	cmd.detachKeys = cmd.keys(v)
	v.one("sdnotify", cmd.SDNotify, oneOf("container", "conmon", "healthy", "ignore"))
	v.check(cmd.attached() && (cmd.All || len(cmd.Container) > 1), "--attach and --interactive go with a single container")
	return v.err
}

func (cmd *StartCmd) attached() bool { return cmd.Attach || cmd.Interactive }

func (cmd *StartCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Filter: cmd.Filter, Container: cmd.Container}
}

// Run starts one container after the other, in the order given: the first may
// be what the second needs.
func (cmd *StartCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(v container.View) bool { return v.Status.CanStart() && !v.Waiting() })
	list = cmd.leave(list)
	for _, ctr := range list {
		if ctr.Spec.Lifecycle.SdNotify = cmp.Or(cmd.SDNotify, ctr.Spec.Lifecycle.SdNotify); cmd.SDNotify == "healthy" && ctr.Spec.Health == nil {
			return fmt.Errorf("cannot start container %q: it has no health check, by which --sdnotify healthy tells when it is ready", ctr.Spec.Name)
		}
	}
	c.Engine.Sockets = rootless.PassedSockets()
	if cmd.attached() {
		if err != nil {
			return err
		}
		if len(list) != 1 {
			return usagef("--attach and --interactive go with a single container")
		}
		return cmd.stay(ctx, c, list[0])
	}
	errs := []error{err}
	for _, ctr := range list {
		if ctr.Look().Status == container.StatusRunning { // podman: nothing to do
			if cmd.SDNotify != "" && cmd.SDNotify != "ignore" && os.Getenv("NOTIFY_SOCKET") != "" {
				errs = append(errs, &hintedError{
					fmt.Errorf("cannot start container %q for its unit: it runs already, and a service manager follows only what the unit has started", ctr.Spec.Name),
					"moss stop " + ctr.Spec.Name + "; then start the unit",
				})
				continue
			}
			fmt.Fprintln(c.Out, nameGiven(cmd.Container)(ctr))
			continue
		}
		if _, err := c.Engine.Start(ctx, ctr, nil); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, nameGiven(cmd.Container)(ctr))
		c.explainDenied(ctx, ctr, false)
	}
	return errors.Join(errs...)
}

// leave leaves out the containers that a user has stopped and that are to be started
// "unless stopped": --all --filter restart-policy=… is what a boot does.
func (cmd *StartCmd) leave(list []*container.Container) []*container.Container {
	policies := slices.ContainsFunc(cmd.Filter, func(f string) bool { return strings.HasPrefix(f, "restart-policy=") })
	if !cmd.All || !policies {
		return list
	}
	return slices.DeleteFunc(list, func(ctr *container.Container) bool {
		last := ctr.Look().Last
		return ctr.Spec.Lifecycle.Restart == "unless-stopped" && last != nil && last.StoppedByUser
	})
}

func (cmd *StartCmd) stay(ctx context.Context, c *call, ctr *container.Container) error {
	w := which{in: cmd.Interactive && ctr.Spec.Process.Stdin, out: true, err: true}
	streams, raw := c.streams(w, ctr.Spec.Process.TTY, cmd.detachKeys, cmd.sigProxy())
	if ctr.Look().Status == container.StatusRunning {
		return c.join(ctx, ctr, streams, raw)
	}
	return c.stay(ctx, streams, raw, func() *container.Container { return ctr }, func() (*rootless.Session, error) {
		session, err := c.Engine.Start(ctx, ctr, streams)
		if err != nil {
			return nil, c.startFailed(ctx, ctr, err)
		}
		return session, nil
	})
}
