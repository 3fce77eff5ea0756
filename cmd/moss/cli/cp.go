package cli

import (
	"context"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless"
)

// CpCmd is "moss cp".
type CpCmd struct {
	Globals
	Archive   *bool  `short:"a" help:"Give what is copied to a container to its user; with --archive=false the numbers of the owners stay. On by default."`
	Overwrite bool   `help:"Let a directory be replaced by a file, and a file by a directory."`
	Source    string `arg:"" help:"What to copy: [CONTAINER:]PATH, or - for a tar archive on standard input."`
	Dest      string `arg:"" help:"Where to: [CONTAINER:]PATH, or - for a tar archive on standard output."`

	from, to end
}

// end is an argument of cp: a path, of a container if there is one.
type end struct {
	container string
	path      string
}

// readEnd follows podman: what begins with a dot or a slash is the host's, whatever
// colons it has.
func readEnd(what, s string) (end, error) {
	if s == "" {
		return end{}, usagef("the %s is empty", what)
	}
	name, path, ok := strings.Cut(s, ":")
	if !ok || s[0] == '.' || s[0] == '/' {
		return end{path: s}, nil
	}
	if name == "" || path == "" {
		return end{}, usagef("invalid %s %q: want CONTAINER:PATH", what, s)
	}
	return end{name, path}, nil
}

func (e end) stream() bool { return e.container == "" && e.path == "-" }

func (cmd *CpCmd) prepare() (err error) {
	if cmd.from, err = readEnd("source", cmd.Source); err != nil {
		return err
	}
	if cmd.to, err = readEnd("destination", cmd.Dest); err != nil {
		return err
	}
	switch {
	case cmd.from.container == "" && cmd.to.container == "":
		return usagef("neither %q nor %q is in a container: want CONTAINER:PATH", cmd.Source, cmd.Dest)
	case cmd.to.stream() && isTerminal(os.Stdout):
		return usagef("refusing to write an archive to a terminal: redirect it")
	case cmd.from.stream() && isTerminal(os.Stdin):
		return usagef("refusing to read an archive from a terminal: redirect it")
	}
	return nil
}

// Run copies, and says nothing.
func (cmd *CpCmd) Run(ctx context.Context, c *call) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	from, err := cmd.from.place(c)
	if err != nil {
		return err
	}
	to, err := cmd.to.place(c)
	if err != nil {
		return err
	}
	options := rootless.CopyOptions{KeepOwner: cmd.Archive != nil && !*cmd.Archive, Overwrite: cmd.Overwrite}
	switch {
	case cmd.from.stream():
		return c.Engine.CopyIn(ctx, c.In, to, options)
	case cmd.to.stream():
		return c.Engine.CopyOut(ctx, from, c.Out)
	}
	return c.Engine.Copy(ctx, from, to, options)
}

func (e end) place(c *call) (p rootless.Place, err error) {
	p.Path = e.path
	if e.container != "" {
		p.Container, err = c.Engine.Find(e.container)
	}
	return p, err
}
