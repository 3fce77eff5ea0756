package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"text/tabwriter"
	"time"

	"moss/rootless"
	"moss/rootless/container"
	"moss/storage/image"
)

// RunCmd is "moss run".
type RunCmd struct {
	Globals
	ContainerFlags
	Detach bool     `short:"d" help:"Print the ID and return." group:"Terminal"`
	Args   []string `arg:"" passthrough:"" help:"Image, command and its arguments."`
}

// Run creates a container, starts it and stays with it.
func (cmd *RunCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.create(ctx, &cmd.ContainerFlags, cmd.Args)
	if err != nil {
		return err
	}
	if cmd.Detach {
		if _, err := c.Engine.Start(ctx, ctr, nil); err != nil {
			return errors.Join(err, c.undoRun(ctx, ctr))
		}
		fmt.Fprintln(c.Out, ctr.Spec.ID)
		return nil
	}
	return c.startAttached(ctx, ctr)
}

// undoRun removes a container of run --rm that could not be started.
func (c *call) undoRun(ctx context.Context, ctr *container.Container) error {
	if !ctr.Spec.Lifecycle.AutoRemove {
		return nil
	}
	return c.Engine.Remove(ctx, ctr, rootless.RemoveOptions{Force: true, Volumes: true})
}

func (c *call) create(ctx context.Context, f *ContainerFlags, args []string) (*container.Container, error) {
	spec, err := f.Spec(args)
	if err != nil {
		return nil, err
	}
	spec.CreateCommand = c.Args
	return c.Engine.Create(ctx, spec, rootless.CreateOptions{Pull: f.Pull, Replace: f.Replace, Quiet: f.Quiet, TLSVerify: f.TLSVerify, AuthFile: f.Authfile})
}

// startAttached starts a container with our streams and returns its exit code.
func (c *call) startAttached(ctx context.Context, ctr *container.Container) error {
	p := ctr.Spec.Process
	s, raw := c.streams(which{p.Stdin, true, true}, p.TTY, []byte{16, 17}, true)
	begin, stop := c.proxySignals(ctx, s, func() *container.Container { return ctr })
	defer stop()
	session, err := c.Engine.Start(ctx, ctr, s)
	if err != nil {
		return errors.Join(err, c.undoRun(ctx, ctr))
	}
	begin()
	if err := raw(); err != nil {
		return err
	}
	code, err := session.Wait(ctx)
	if err != nil {
		return err
	}
	return exitWith(code)
}

// CreateCmd is "moss create".
type CreateCmd struct {
	Globals
	ContainerFlags
	Args []string `arg:"" passthrough:"" help:"Image, command and its arguments."`
}

// Run creates a container and prints its ID.
func (cmd *CreateCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.create(ctx, &cmd.ContainerFlags, cmd.Args)
	if err != nil {
		return err
	}
	fmt.Fprintln(c.Out, ctr.Spec.ID)
	return nil
}

// each finds containers and does one thing with each, to the end.
func (c *call) each(names []string, do func(*container.Container) error) error {
	var errs []error
	for _, name := range names {
		ctr, err := c.Engine.Find(name)
		if err == nil {
			err = do(ctr)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, name)
	}
	return errors.Join(errs...)
}

// StartCmd is "moss start".
type StartCmd struct {
	Globals
	Attach bool     `short:"a" help:"Attach the container's streams."`
	Names  []string `arg:"" help:"Containers."`
}

// Run starts containers.
func (cmd *StartCmd) Run(ctx context.Context, c *call) error {
	if cmd.Attach {
		if len(cmd.Names) != 1 {
			return usagef("you cannot start and attach more than one container at once")
		}
		ctr, err := c.Engine.Find(cmd.Names[0])
		if err != nil {
			return err
		}
		return c.startAttached(ctx, ctr)
	}
	return c.each(cmd.Names, func(ctr *container.Container) error {
		_, err := c.Engine.Start(ctx, ctr, nil)
		return err
	})
}

// ExecCmd is "moss exec".
type ExecCmd struct {
	Globals
	Detach      bool     `short:"d" help:"Do not wait for the program."`
	Interactive bool     `short:"i" help:"Keep standard input open."`
	TTY         bool     `name:"tty" short:"t" help:"Give the program a terminal."`
	Env         []string `short:"e" sep:"none" help:"Environment variable." placeholder:"NAME=VALUE"`
	User        string   `short:"u" help:"User and group." placeholder:"USER[:GROUP]"`
	Workdir     string   `short:"w" help:"Working directory." placeholder:"DIR"`
	Privileged  bool     `help:"Give the program every capability."`
	Args        []string `arg:"" passthrough:"" help:"Container, program and its arguments."`
}

// Run runs one more program in a container.
func (cmd *ExecCmd) Run(ctx context.Context, c *call) error {
	if len(cmd.Args) < 2 {
		return usagef("exec needs a container and a command")
	}
	ctr, err := c.Engine.Find(cmd.Args[0])
	if err != nil {
		return err
	}
	s, raw := c.streams(which{cmd.Interactive, true, true}, cmd.TTY, []byte{16, 17}, true)
	if err := raw(); err != nil {
		return err
	}
	code, err := c.Engine.Exec(ctx, ctr, rootless.ExecOptions{Args: cmd.Args[1:], Env: cmd.Env, Dir: cmd.Workdir, User: cmd.User,
		TTY: cmd.TTY, Stdin: cmd.Interactive, Detach: cmd.Detach, Privileged: cmd.Privileged, Streams: s})
	if err != nil {
		return err
	}
	return exitWith(code)
}

// PsCmd is "moss ps".
type PsCmd struct {
	Globals
	All     bool `short:"a" help:"Also those that do not run."`
	Quiet   bool `short:"q" help:"IDs only."`
	NoTrunc bool `help:"Do not shorten."`
}

// Run lists containers.
func (cmd *PsCmd) Run(ctx context.Context, c *call) error {
	all, err := c.Engine.All()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Out, 0, 8, 2, ' ', 0)
	if !cmd.Quiet {
		fmt.Fprintln(w, "CONTAINER ID\tIMAGE\tCOMMAND\tCREATED\tSTATUS\tNAMES")
	}
	for _, ctr := range all {
		v := ctr.Look()
		if v.Live == nil && !cmd.All {
			continue
		}
		id := ctr.Spec.ID
		if !cmd.NoTrunc {
			id = id[:12]
		}
		if cmd.Quiet {
			fmt.Fprintln(w, id)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s ago\t%s\t%s\n", id, ctr.Spec.Image.Name, strings.Join(ctr.Spec.Process.Args, " "),
			time.Since(ctr.Spec.Created).Round(time.Second), status(v), ctr.Spec.Name)
	}
	return w.Flush()
}

func status(v container.View) string {
	if v.Status == container.StatusExited && v.Last != nil {
		return fmt.Sprintf("Exited (%d)", v.Last.ExitCode)
	}
	return string(v.Status)
}

// LogsCmd is "moss logs".
type LogsCmd struct {
	Globals
	Follow     bool   `short:"f" help:"Go on as the container writes."`
	Timestamps bool   `short:"t" help:"Show when each line was written."`
	Tail       *int   `help:"Only the last lines." placeholder:"N"`
	Name       string `arg:"" help:"Container."`
}

// Run shows what a container wrote.
func (cmd *LogsCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Name)
	if err != nil {
		return err
	}
	tail := -1
	if cmd.Tail != nil {
		tail = *cmd.Tail
	}
	return c.Engine.Logs(ctx, ctr, rootless.LogOptions{Follow: cmd.Follow, Timestamps: cmd.Timestamps, Tail: tail, Out: c.Out, Err: c.Err})
}

// StopCmd is "moss stop".
type StopCmd struct {
	Globals
	Time  *int     `short:"t" help:"Seconds before SIGKILL." placeholder:"SECONDS"`
	Names []string `arg:"" help:"Containers."`
}

func seconds(n *int) *time.Duration {
	if n == nil {
		return nil
	}
	d := time.Duration(*n) * time.Second
	return &d
}

// Run stops containers.
func (cmd *StopCmd) Run(ctx context.Context, c *call) error {
	return c.each(cmd.Names, func(ctr *container.Container) error { return c.Engine.Stop(ctx, ctr, seconds(cmd.Time)) })
}

// KillCmd is "moss kill".
type KillCmd struct {
	Globals
	Signal string   `short:"s" help:"Signal to send." placeholder:"SIGNAL"`
	Names  []string `arg:"" help:"Containers."`
}

// Run sends a signal to containers.
func (cmd *KillCmd) Run(ctx context.Context, c *call) error {
	if cmd.Signal == "" {
		cmd.Signal = "KILL"
	}
	sig, err := rootless.ParseSignal(cmd.Signal)
	if err != nil {
		return err
	}
	return c.each(cmd.Names, func(ctr *container.Container) error { return c.Engine.Kill(ctx, ctr, int(sig)) })
}

// RmCmd is "moss rm".
type RmCmd struct {
	Globals
	Force   bool     `short:"f" help:"Also those that run."`
	Volumes bool     `short:"v" help:"Their anonymous volumes too."`
	All     bool     `short:"a" help:"Every container."`
	Time    *int     `short:"t" help:"Seconds before SIGKILL." placeholder:"SECONDS"`
	Ignore  bool     `short:"i" help:"It is no error that there is none."`
	Names   []string `arg:"" optional:"" help:"Containers."`
}

// Run removes containers.
func (cmd *RmCmd) Run(ctx context.Context, c *call) error {
	names := cmd.Names
	if cmd.All {
		all, err := c.Engine.All()
		if err != nil {
			return err
		}
		for _, ctr := range all {
			names = append(names, ctr.Spec.ID)
		}
	}
	err := notThere(c.each(names, func(ctr *container.Container) error {
		return c.Engine.Remove(ctx, ctr, rootless.RemoveOptions{Force: cmd.Force, Volumes: cmd.Volumes, Timeout: seconds(cmd.Time)})
	}))
	if cmd.Ignore && err != nil && exitCode(err) == exitFound {
		return nil
	}
	return err
}

// WaitCmd is "moss wait".
type WaitCmd struct {
	Globals
	Names []string `arg:"" help:"Containers."`
}

// Run waits for containers and prints their exit codes.
func (cmd *WaitCmd) Run(ctx context.Context, c *call) error {
	for _, name := range cmd.Names {
		ctr, err := c.Engine.Find(name)
		if err != nil {
			return err
		}
		code, err := c.Engine.Wait(ctx, ctr, "", time.Second)
		if err != nil {
			return err
		}
		fmt.Fprintln(c.Out, code)
	}
	return nil
}

// PullCmd is "moss pull".
type PullCmd struct {
	Globals
	Quiet     bool     `short:"q" help:"Show no progress."`
	TLSVerify *bool    `name:"tls-verify" help:"Require HTTPS and a valid certificate."`
	Platform  string   `help:"Platform of the image." placeholder:"OS/ARCH[/VARIANT]"`
	Names     []string `arg:"" help:"Images."`
}

// Run gets images from a registry.
func (cmd *PullCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.ImageHelper(ctx, image.Request{Pull: &image.PullRequest{
		References: cmd.Names, Platform: cmd.Platform, Policy: "always", TLSVerify: cmd.TLSVerify, Quiet: cmd.Quiet}}, nil)
}

// ImagesCmd is "moss images".
type ImagesCmd struct {
	Globals
}

// Run lists images.
func (cmd *ImagesCmd) Run(ctx context.Context, c *call) error {
	if err := c.Engine.FreshImages(ctx); err != nil {
		return err
	}
	list, err := c.Engine.Images.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.Out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tIMAGE ID")
	for _, img := range list {
		fmt.Fprintf(w, "%s\t%s\n", strings.Join(img.Names, " "), img.ID[:12])
	}
	return w.Flush()
}

// UnshareCmd is "moss unshare".
type UnshareCmd struct {
	Globals
	Args []string `arg:"" optional:"" passthrough:"" help:"Program and its arguments."`
}

// Run runs a program of the host in moss's namespaces.
func (cmd *UnshareCmd) Run(ctx context.Context, c *call) error {
	args := cmd.Args
	if len(args) == 0 {
		args = []string{os.Getenv("SHELL")}
	}
	program := exec.Command(args[0], args[1:]...)
	program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stdout, os.Stderr
	err := program.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exitWith(exit.ExitCode())
	}
	return err
}

// VersionCmd is "moss version".
type VersionCmd struct {
	Globals
}

// Run shows the version.
func (cmd *VersionCmd) Run(ctx context.Context, c *call) error {
	fmt.Fprintln(c.Out, "moss", Version)
	return nil
}

// top answers a line without a command.
func (c *call) top([]string) error { return c.help(nil) }

// help lists the commands, or shows one's use.
func (c *call) help(e *entry) error {
	if e != nil {
		fmt.Fprintf(c.Out, "Usage: moss %s [FLAGS] %s\n\n%s\n", e.Name, e.Usage, e.Help)
		return nil
	}
	fmt.Fprintln(c.Out, "Usage: moss COMMAND")
	for i := range commands {
		if !commands[i].Hidden {
			fmt.Fprintf(c.Out, "  %-12s %s\n", commands[i].Name, commands[i].Help)
		}
	}
	return nil
}
