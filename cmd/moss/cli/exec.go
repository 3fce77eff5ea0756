package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
)

// ExecCmd is "moss exec".
type ExecCmd struct {
	Globals
	Detach      bool     `short:"d" help:"Print the ID of the session and return at once; the program goes on."`
	DetachKeys  *string  `help:"Keys that detach; ctrl-p,ctrl-q by default." placeholder:"KEYS"`
	Env         []string `short:"e" sep:"none" help:"Environment variable; NAME alone passes moss's own on." placeholder:"NAME[=VALUE]"`
	EnvFile     []string `sep:"none" help:"File of environment variables, one a line." placeholder:"FILE"`
	Interactive bool     `short:"i" help:"Keep standard input open."`
	TTY         bool     `name:"tty" short:"t" help:"Give the program a terminal."`
	User        string   `short:"u" help:"User, and group, of the program; the container's by default." placeholder:"USER[:GROUP]"`
	Workdir     string   `short:"w" help:"Working directory; the container's by default." placeholder:"DIR"`
	Privileged  bool     `help:"Give the program every capability."`
	PreserveFlags
	Cidfile   string   `help:"Read the container's ID from this file." placeholder:"FILE"`
	NoSession bool     `help:"Keep no session: it is neither listed nor in the events."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Args      []string `arg:"" optional:"" passthrough:"partial" name:"container" help:"The container, and the command to run in it."`

	options rootless.ExecOptions
	target  string
}

func (cmd *ExecCmd) prepare() error {
	args := withoutDashes(cmd.Args)
	if cmd.Latest && cmd.Cidfile != "" {
		return usagef("--latest cannot be combined with --cidfile")
	}
	if !cmd.Latest && cmd.Cidfile == "" {
		if len(args) == 0 {
			return usagef("the name or ID of a container is missing")
		}
		cmd.target, args = args[0], args[1:]
	}
	if len(args) == 0 {
		return usagef("the command to run is missing")
	}
	v := &flagValues{grammar: reflect.TypeFor[ExecCmd]()}
	keys := (&AttachFlags{DetachKeys: cmd.DetachKeys}).keys(v)
	preserve := cmd.preserve(v)
	v.one("user", cmd.User, syntax.User)
	v.check(cmd.Workdir != "" && !strings.HasPrefix(cmd.Workdir, "/"), "invalid value %q for flag -w, --workdir: it is not an absolute path", cmd.Workdir)
	cmd.options = rootless.ExecOptions{
		Args: args, Dir: cmd.Workdir, User: cmd.User, TTY: cmd.TTY, Stdin: cmd.Interactive,
		Detach: cmd.Detach, Privileged: cmd.Privileged, NoSession: cmd.NoSession, Preserve: preserve,
	}
	environ := os.Environ()
	v.each("env-file", cmd.EnvFile, func(path string) error {
		kv, err := syntax.EnvironmentFile(path, environ)
		cmd.options.Env = append(cmd.options.Env, kv...)
		return err
	})
	for _, value := range cmd.Env {
		v.one("env", value, func(s string) error {
			kv, err := syntax.Environment(s, environ)
			cmd.options.Env = append(cmd.options.Env, kv...)
			return err
		})
	}
	cmd.options.Streams = &rootless.Streams{DetachKeys: keys}
	return v.err
}

func (cmd *ExecCmd) container(c *call) (*container.Container, error) {
	if cmd.Cidfile == "" {
		return c.one(cmd.target, cmd.Latest)
	}
	list, err := c.findAll(nil, []string{cmd.Cidfile}, false, false)
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

// Run ends with the exit code of the program.
func (cmd *ExecCmd) Run(ctx context.Context, c *call) error {
	ctr, err := cmd.container(c)
	if err != nil {
		return err
	}
	if cmd.TTY && cmd.Interactive && !cmd.Detach && !isTerminal(c.In) {
		slog.Warn(noTerminal)
	}
	raw := func() error { return nil }
	if cmd.Detach {
		cmd.options.Streams = nil
		cmd.options.Started = func(session string) { fmt.Fprintln(c.Out, session) }
	} else {
		cmd.options.Streams, raw = c.streams(which{cmd.Interactive, true, true}, cmd.TTY, cmd.options.Streams.DetachKeys, false)
	}
	if err := raw(); err != nil {
		return err
	}
	code, err := c.Engine.Exec(ctx, ctr, cmd.options)
	restoreTerminal()
	if errors.Is(err, errdefs.ErrFailedPrecondition) && ctr.Look().Live == nil {
		return &exitError{code: 255, err: err} // podman's, for one that does not run
	}
	if err != nil {
		return err
	}
	return exitWith(code)
}
