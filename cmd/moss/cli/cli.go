// Package cli is the command line of moss: the grammar, one struct and one file
// a command, and the only place that prints.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/cmd/moss/cli/syntax"
	"moss/config"
	"moss/rootless"
	"moss/rootless/monitor/client"
	"moss/storage/volume"
	"moss/systemd/cgroup"
	"moss/userns"
	"moss/userns/enter"
)

// Version is the version of this moss; the linker sets it.
var Version = "unknown"

// Globals are the flags that every command takes.
type Globals struct {
	Root    string `help:"Directory of images, containers and volumes." placeholder:"DIR" group:"Global"`
	Runroot string `help:"Directory of what a reboot takes away; must be on a tmpfs." placeholder:"DIR" group:"Global"`
	Volumes string `name:"volumepath" aliases:"volume-path" help:"Directory of volumes, in place of one in that of --root." placeholder:"DIR" group:"Global"`
	// RegistriesConf is hidden in podman.
	RegistriesConf string   `help:"File to use in place of registries.conf." placeholder:"FILE" group:"Global"`
	CgroupManager  string   `name:"cgroup-manager" words:"systemd cgroupfs none" help:"Who makes the cgroups of containers: systemd, cgroupfs, or none; the best that there is by default." placeholder:"MANAGER" group:"Global"`
	LogLevel       string   `words:"debug info warn error" help:"What to log: debug, info, warn or error." placeholder:"LEVEL" group:"Global"`
	Help           helpFlag `help:"Show the help of the command." group:"Global"`

	given []string       // the names of the flags that were given
	conf  *config.Config // what the configuration files set
	// fromFile are the flags that those set.
	fromFile []fromFile
}

func (g *Globals) globals() *Globals { return g }

// command is what every command's struct is.
type command interface {
	globals() *Globals
	// Run does the command's work.
	Run(ctx context.Context, c *call) error
}

// preparer is a command that checks its arguments before namespaces are made or
// entered.
type preparer interface{ prepare() error }

// call is one command line being carried out.
type call struct {
	Engine *rootless.Engine // of the commands that the table marks as the host's: outside the namespaces
	Dirs   userns.Dirs
	In     *os.File
	Out    io.Writer
	Err    io.Writer
	Args   []string // the whole command line
}

// Main carries out a command line and returns the exit code.
func Main(args []string) int {
	c := &call{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Args: args}
	defer restoreTerminal()
	err := c.run(context.Background())
	return c.report(err)
}

// run is stages 1 and 2 of ARCHITECTURE.md, and then the command.
func (c *call) run(ctx context.Context) error {
	entry, name, rest, err := lookup(c.Args[1:])
	if group := groupAsked(c.Args[1:]); group != "" {
		return c.groupHelp(group)
	}
	if err != nil {
		return err
	}
	if entry == nil {
		return c.top(rest)
	}
	cmd := entry.New()
	if err := parse("moss "+name, cmd, rest); err != nil {
		if errors.Is(err, errHelp) {
			return c.help(entry)
		}
		return err
	}
	g := cmd.globals()
	if err := setLog(g.LogLevel); err != nil {
		return err
	}
	if err := g.checkManager(); err != nil {
		return err
	}
	if err := g.useRegistriesConf(); err != nil {
		return err
	}
	if f, ok := cmd.(interface{ containerFlags() *ContainerFlags }); ok {
		if err := g.dropEmpty(f.containerFlags(), rest); err != nil {
			return err
		}
	}
	if !entry.Host {
		if err := c.configure(ctx, g, entry.Name, cmd); err != nil {
			return err
		}
	}
	if p, ok := cmd.(preparer); ok {
		if err := p.prepare(); err != nil {
			return g.blame(err)
		}
	}
	if err := c.open(ctx, g, entry.Host); err != nil {
		return err
	}
	if g.isGiven("creds") || g.isGiven("password") {
		hideSecrets(cmd)
	}
	if entry.Streams { // it handles signals itself
		return cmd.Run(ctx, c)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if e, ok := cmd.(interface{ interruptible() bool }); ok && e.interruptible() {
		cancelOnSignal(cancel) // from the first moment: an interrupt is how it ends, or has it undo what it does
	} else {
		time.AfterFunc(seldom, func() { cancelOnSignal(cancel) })
	}
	return cmd.Run(ctx, c)
}

// cancelOnSignal lets a command that takes its time undo what it has begun when it
// is interrupted. One that is over in a moment is not worth the threads that
// catching signals takes: what it leaves when it is killed is what a crash leaves.
func cancelOnSignal(cancel func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
	go func() { // ends with moss
		<-signals
		cancel()
	}()
}

// open finds the directories and enters the namespaces, if that is wanted and
// the constructor has not done it. Programs that moss starts find the same
// directories, through the environment.
func (c *call) open(ctx context.Context, g *Globals, host bool) (err error) {
	if err := setenv("MOSS_ROOT", absolute(g.Root)); err != nil {
		return err
	}
	if c.Dirs.Run == "" {
		if c.Dirs.Run, err = findRun(g); err != nil {
			return err
		}
	}
	if c.Dirs.Root, err = userns.FindRoot(); err != nil {
		return err
	}
	if !host && !enter.Joined() {
		if err := userns.Enter(ctx, c.Dirs); err != nil {
			return err
		}
	}
	if !host && userns.NewsOfSingleID(c.Dirs) {
		slog.Warn("you have no subordinate IDs: images that need more than one user do not run; to mend it: sudo " + userns.SingleIDHint())
	}
	if err := setenv("MOSS_VOLUMES", absolute(g.Volumes)); err != nil {
		return err
	}
	c.Engine = rootless.New(c.Dirs)
	if dir := os.Getenv("MOSS_VOLUMES"); dir != "" {
		c.Engine.Volumes = volume.In(absolute(dir), c.Dirs.Root)
	}
	c.Engine.Config = g.conf
	c.Engine.CgroupManager = g.CgroupManager
	if text := g.conf.String("storage.max_size"); text != "" {
		if c.Engine.MaxSize, err = syntax.Size(text); err != nil {
			return fmt.Errorf("cannot use storage.max_size %q: %w", text, err)
		}
	}
	c.Engine.Images.Beside(g.conf.Stores(cgroup.HostUID))
	if g.Root+g.Runroot == "" {
		ahead := new(client.Ahead)
		ahead.Sock, ahead.PID, ahead.Home, ahead.ID = enter.Monitor()
		c.Engine.Ahead = ahead
	}
	return nil
}

// findRun finds the run directory of a command line.
func findRun(g *Globals) (string, error) {
	if err := setenv("MOSS_RUN", absolute(g.Runroot)); err != nil {
		return "", err
	}
	return userns.FindRun()
}

// useRegistriesConf lets moss, and what it starts, read another registries.conf.
func (g *Globals) useRegistriesConf() error {
	if g.RegistriesConf == "" {
		return nil
	}
	if err := readable(g.RegistriesConf); err != nil {
		return &flagError{Flag: "--registries-conf", Value: g.RegistriesConf, Err: err}
	}
	return setenv("CONTAINERS_REGISTRIES_CONF", absolute(g.RegistriesConf))
}

func setenv(variable, value string) error {
	if value == "" {
		return nil
	}
	return os.Setenv(variable, value)
}

func absolute(path string) string {
	if path == "" || strings.HasPrefix(path, "/") {
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		return path
	}
	return dir + "/" + path
}

// setLog sets the level of slog: --log-level, else MOSS_LOG, else warnings.
func setLog(level string) error {
	if level == "" {
		level = os.Getenv("MOSS_LOG")
	}
	l, err := logLevel(level)
	if err != nil {
		return err
	}
	if level != "" { // for the programs that moss starts
		if err := os.Setenv("MOSS_LOG", strings.ToLower(l.String())); err != nil {
			return err
		}
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{
		Level: l,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey && l > slog.LevelDebug {
				return slog.Attr{}
			}
			return a
		},
	})))
	return nil
}

// logLevel reads the value of --log-level, and what podman calls the levels.
func logLevel(level string) (slog.Level, error) {
	switch strings.ToLower(level) {
	case "", "warn", "warning":
		return slog.LevelWarn, nil
	case "debug", "trace":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "error", "fatal", "panic":
		return slog.LevelError, nil
	}
	return 0, &flagError{Flag: "--log-level", Value: level, Err: fmt.Errorf("want debug, info, warn or error")}
}
