package cli

import (
	"context"
	"os"
	"reflect"
	"strings"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
)

const textShell = `The shell and its tools come from an image of your choice (--image, else $MOSS_SHELL_IMAGE, else shell_image of moss.conf, else the one that
moss carries). They are in the container's namespaces, but it sees nothing of them, and nothing of them stays.

What the shell sees is the container's files as they are, with the tools under /.moss-tools, if the image's shell needs no
libraries; new files in / itself are refused. Otherwise the tools are the root, and the container's is at /container.

In a container that does not run the shell gets namespaces like its own, without a network. What it writes is then thrown away.`

// ShellCmd is "moss shell".
type ShellCmd struct {
	Globals
	Image      string   `help:"Image with the shell and the tools." placeholder:"IMAGE"`
	Command    string   `short:"c" help:"Run this command in place of an interactive shell." placeholder:"COMMAND"`
	User       string   `short:"u" help:"User, and group, of the shell; root by default." placeholder:"USER[:GROUP]"`
	Env        []string `short:"e" sep:"none" help:"Environment variable; NAME alone passes moss's own on." placeholder:"NAME[=VALUE]"`
	Workdir    string   `short:"w" help:"Working directory; the root, or the container's, by default." placeholder:"DIR"`
	Privileged bool     `help:"Give the shell every capability."`
	Pull       string   `words:"always missing never newer" help:"When to pull the image: always, missing (the default), never or newer." placeholder:"POLICY"`
	Quiet      bool     `short:"q" help:"Show no progress of a pull."`
	Latest     bool     `short:"l" help:"The container that was created last."`
	Container  string   `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	options rootless.ShellOptions
}

func (cmd *ShellCmd) prepare() error {
	if cmd.Container == "" && !cmd.Latest {
		return usagef("the name or ID of a container is missing")
	}
	v := &flagValues{grammar: reflect.TypeFor[ShellCmd]()}
	v.one("user", cmd.User, syntax.User)
	v.check(cmd.Workdir != "" && !strings.HasPrefix(cmd.Workdir, "/"), "invalid value %q for flag -w, --workdir: it is not an absolute path", cmd.Workdir)
	cmd.options = rootless.ShellOptions{
		Command: cmd.Command, Pull: rootless.CreateOptions{Pull: cmd.Pull, Quiet: cmd.Quiet},
		Exec: rootless.ExecOptions{Dir: cmd.Workdir, User: cmd.User, Privileged: cmd.Privileged, Stdin: true},
	}
	environ := os.Environ()
	v.each("env", cmd.Env, func(s string) error {
		kv, err := syntax.Environment(s, environ)
		cmd.options.Exec.Env = append(cmd.options.Exec.Env, kv...)
		return err
	})
	return v.err
}

// Run ends with the exit code of the shell.
func (cmd *ShellCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.one(cmd.Container, cmd.Latest)
	if err != nil {
		return err
	}
	if cmd.options.Image = cmd.Image; cmd.Image == "" {
		cmd.options.Image = or(os.Getenv("MOSS_SHELL_IMAGE"), c.Engine.Config.String("moss.shell_image"))
	}
	x := &cmd.options.Exec
	x.TTY = isTerminal(c.In) && isTerminal(os.Stdout)
	x.Streams, cmd.options.Raw = c.streams(which{true, true, true}, x.TTY, nil, false)

	code, err := c.Engine.Shell(ctx, ctr, cmd.options)
	restoreTerminal()
	if err != nil {
		return err
	}
	return exitWith(code)
}
