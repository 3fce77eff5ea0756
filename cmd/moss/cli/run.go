package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
)

// AttachFlags say how moss stays with a container.
type AttachFlags struct {
	DetachKeys *string `help:"Keys that detach; ctrl-p,ctrl-q by default." placeholder:"KEYS" group:"Terminal"`
	SigProxy   *bool   `help:"Pass the signals that moss receives on to the program; on by default, without a terminal." group:"Terminal"`
}

// keys reads --detach-keys.
func (f *AttachFlags) keys(v *flagValues) []byte {
	keys := []byte{'P' - '@', 'Q' - '@'}
	if f.DetachKeys == nil {
		return keys
	}
	keys = nil
	v.one("detach-keys", *f.DetachKeys, func(s string) (err error) {
		keys, err = syntax.DetachKeys(s)
		return err
	})
	return keys
}

func (f *AttachFlags) sigProxy() bool { return f.SigProxy == nil || *f.SigProxy }

// RunCmd is "moss run": create a container, start it and stay with it.
type RunCmd struct {
	Globals
	ContainerFlags
	AttachFlags
	PreserveFlags

	Detach bool     `short:"d" help:"Print the ID and return instead of staying attached." group:"Terminal"`
	Attach []string `short:"a" sep:"none" help:"Attach only stdin, stdout or stderr." placeholder:"STREAM" group:"Terminal"`
	RMI    bool     `name:"rmi" help:"Remove the image too when the container exits, unless another container uses it; implies --rm." group:"Life"`
	Image  []string `arg:"" optional:"" passthrough:"partial" help:"The image, and the command to run in it."`

	spec       *container.Spec
	which      which
	detachKeys []byte
	preserved  []*os.File
}

// prepare is stage 1: argv becomes a Spec, or an error before anything is made.
func (cmd *RunCmd) prepare() (err error) {
	if cmd.RMI {
		cmd.Rm = true
	}
	if cmd.spec, err = cmd.Spec(withoutDashes(cmd.Image)); err != nil {
		return err
	}
	v := &flagValues{grammar: reflect.TypeFor[RunCmd]()}
	v.check(cmd.RMI && cmd.Detach, "--rmi cannot be combined with --detach: nobody is there to remove the image")
	v.check(cmd.RMI && cmd.Rootfs, "--rmi cannot be combined with --rootfs: there is no image")
	v.check(len(cmd.Wake) > 0 && !cmd.Detach, "--wake needs --detach: the container waits for a client first")
	cmd.detachKeys = cmd.keys(v)
	cmd.preserved = cmd.preserve(v)
	cmd.which = which{in: cmd.Interactive, out: true, err: true}
	if len(cmd.Attach) > 0 {
		v.check(cmd.Detach, "--attach cannot be combined with --detach")
		cmd.which = which{}
		v.check(cmd.LogDriver == "passthrough" || cmd.LogDriver == "passthrough-tty", "--attach cannot be combined with --log-driver %s", cmd.LogDriver)
		v.each("attach", cmd.Attach, cmd.which.add)
		cmd.spec.Process.Stdin = cmd.spec.Process.Stdin || cmd.which.in
	}
	return v.err
}

// withoutDashes takes away the -- that may end the flags.
func withoutDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}

func (w *which) add(stream string) error {
	switch strings.ToLower(stream) {
	case "stdin":
		w.in = true
	case "stdout":
		w.out = true
	case "stderr":
		w.err = true
	default:
		return fmt.Errorf("want stdin, stdout or stderr")
	}
	return nil
}

// Run follows the stages of ARCHITECTURE.md; stages 1 and 2 have been done.
func (cmd *RunCmd) Run(ctx context.Context, c *call) error {
	if cmd.TTY && cmd.which.in && !cmd.Detach && !isTerminal(c.In) {
		slog.Warn(noTerminal)
	}
	if cmd.Detach {
		ctr, _, err := c.runContainer(ctx, cmd, nil)
		if err == nil {
			fmt.Fprintln(c.Out, ctr.Spec.ID)
			c.explainDenied(ctx, ctr, false)
		}
		return err
	}
	streams, raw := c.streams(cmd.which, cmd.TTY, cmd.detachKeys, cmd.sigProxy())
	var ctr *container.Container
	err := c.stay(ctx, streams, raw, func() *container.Container { return ctr }, func() (session *rootless.Session, err error) {
		ctr, session, err = c.runContainer(ctx, cmd, streams)
		if err == nil && !cmd.which.out && !cmd.which.err {
			fmt.Fprintln(c.Out, ctr.Spec.ID) // nothing else will be printed
		}
		return session, err
	})
	if cmd.RMI && ctr != nil {
		c.removeImageOf(ctx, ctr)
	}
	return err
}

// removeImageOf is --rmi. The exit code stays the container's.
func (c *call) removeImageOf(ctx context.Context, ctr *container.Container) {
	using, err := c.Engine.UsingImages()
	if err != nil || len(using[ctr.Spec.Image.ID]) > 0 { // by this one too, while it runs: somebody detached
		return
	}
	err = c.Engine.RemoveImage(ctx, ctr.Spec.Image.ID, rootless.RemoveImageOptions{Force: true, Using: using}, func(verb, what string) {})
	if err = errors.Join(err, c.Engine.SweepImages()); err != nil {
		slog.Warn("the image was not removed", "image", ctr.Spec.Image.Name, "err", err)
	}
}

// runContainer is stages 3 to 8.
func (c *call) runContainer(ctx context.Context, cmd *RunCmd, s *rootless.Streams) (*container.Container, *rootless.Session, error) {
	spec := cmd.spec
	opts, err := c.createOptions(spec, &cmd.ContainerFlags)
	if err != nil {
		return nil, nil, err
	}
	opts.Preserve = cmd.preserved
	c.Engine.Sockets = rootless.PassedSockets()
	ctr, session, err := c.Engine.Run(ctx, spec, opts, s)
	if err != nil && ctr != nil {
		err = c.startFailed(ctx, ctr, err)
	} else if err == nil {
		c.tellOfBoots(&ctr.Spec)
	}
	return ctr, session, err
}

// stay starts a container attached, by start, and ends with its exit code.
func (c *call) stay(ctx context.Context, s *rootless.Streams, raw func() error, target func() *container.Container, start func() (*rootless.Session, error)) error {
	catch, begin := c.proxySignals(ctx, s, target)
	s.Idle = catch
	session, err := start()
	if err != nil {
		return err
	}
	told := c.explainDenied(ctx, target(), false)
	begin()
	if err := raw(); err != nil {
		return err
	}
	err = c.waitSession(ctx, session)
	var exit *exitError
	if !told && errors.As(err, &exit) && exit.code < 128 {
		c.explainDenied(ctx, target(), true)
	}
	return err
}

// explainDenied warns of a host path that the container's user may not read. Of one
// that it may not write to it warns when the program has failed: most do not want to.
func (c *call) explainDenied(ctx context.Context, ctr *container.Container, write bool) bool {
	why := c.Engine.Denied(ctx, &ctr.Spec, write)
	if why != "" {
		slog.Warn(why)
	}
	return why != ""
}

func (c *call) waitSession(ctx context.Context, session *rootless.Session) error {
	code, err := session.Wait(ctx)
	restoreTerminal()
	if err != nil {
		return err
	}
	return exitWith(code)
}

// startFailed removes a container of --rm that could not be started.
func (c *call) startFailed(ctx context.Context, ctr *container.Container, err error) error {
	if !ctr.Spec.Lifecycle.AutoRemove {
		return err
	}
	if _, ferr := c.Engine.Find(ctr.Spec.ID); ferr != nil {
		return err // the monitor has removed it
	}
	return errors.Join(err, c.Engine.Remove(ctx, ctr, rootless.RemoveOptions{Force: true, Volumes: true}))
}

// create is stages 3 and 4.
func (c *call) create(ctx context.Context, spec *container.Spec, f *ContainerFlags) (*container.Container, error) {
	opts, err := c.createOptions(spec, f)
	if err != nil {
		return nil, err
	}
	ctr, err := c.Engine.Create(ctx, spec, opts)
	if err == nil {
		c.tellOfBoots(&ctr.Spec)
	}
	return ctr, err
}

// createOptions are those of the flags.
func (c *call) createOptions(spec *container.Spec, f *ContainerFlags) (opts rootless.CreateOptions, err error) {
	spec.CreateCommand = c.Args
	if unit := os.Getenv(rootless.UnitLabel); unit != "" && spec.Labels[rootless.UnitLabel] == "" {
		if spec.Labels == nil {
			spec.Labels = map[string]string{}
		}
		spec.Labels[rootless.UnitLabel] = unit
	}
	retries, delay := f.retries()
	env, err := f.defaultEnvironment()
	if err != nil {
		return opts, err
	}
	return rootless.CreateOptions{
		Env: env, ImageUser: f.User == "" && slices.Contains(f.given, "user"),
		Pull: f.Pull, Replace: f.Replace, Quiet: f.Quiet, TLSVerify: f.TLSVerify, AuthFile: f.Authfile,
		Creds: f.Creds, CertDir: f.CertDir, Retries: retries, RetryDelay: delay,
	}, nil
}

// CreateCmd is "moss create".
type CreateCmd struct {
	Globals
	ContainerFlags
	Warm bool `help:"Make all that can be made before the start, as init does: its mounts, network and ports; start then takes half of the time of run."`

	Image []string `arg:"" optional:"" passthrough:"partial" help:"The image, and the command to run in it."`

	spec *container.Spec
}

func (cmd *CreateCmd) prepare() (err error) {
	cmd.spec, err = cmd.Spec(withoutDashes(cmd.Image))
	return err
}

// Run prints the ID of the new container.
func (cmd *CreateCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.create(ctx, cmd.spec, &cmd.ContainerFlags)
	if err != nil {
		return err
	}
	if cmd.Warm {
		if err := c.Engine.Init(ctx, ctr); err != nil { // nothing is left that has not been asked for
			return errors.Join(err, c.Engine.Remove(context.WithoutCancel(ctx), ctr, rootless.RemoveOptions{Force: true, Volumes: true}))
		}
	}
	fmt.Fprintln(c.Out, ctr.Spec.ID)
	return nil
}
