// Package command is the OCI command line of moss-runtime: create, start, state,
// kill, delete, run, exec, list, ps, pause, resume, update, features and spec,
// with runc's flags.
package command

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// global is what stands before the verb.
type global struct {
	root, log, logFormat string
}

// verb is one command. flags are added to the set before parsing; run gets the
// arguments after them and returns the exit code.
type verb struct {
	args  string // for the help
	about string
	setup func(*flag.FlagSet) func(*global, []string) (int, error)
}

var verbs = map[string]verb{
	"create":   {"ID", "make a container, ready to start", setupCreate},
	"run":      {"ID", "create and start a container", setupRun},
	"start":    {"ID", "run the program of a created container", plain(startVerb)},
	"state":    {"ID", "print the state of a container", plain(stateVerb)},
	"kill":     {"ID [SIGNAL]", "send a signal to a container", setupKill},
	"delete":   {"ID", "remove a stopped container", setupDelete},
	"exec":     {"ID COMMAND [ARG...]", "run one more process in a container", setupExec},
	"list":     {"", "list the containers", setupList},
	"ps":       {"ID [PS OPTION...]", "list the processes of a container", setupPs},
	"pause":    {"ID", "freeze a container", plain(pauseVerb)},
	"resume":   {"ID", "thaw a container", plain(resumeVerb)},
	"update":   {"ID", "change the limits of a container", setupUpdate},
	"features": {"", "print what this runtime can do", plain(featuresVerb)},
	"spec":     {"", "write a config.json to begin with", setupSpec},
}

// order of the help.
var order = []string{"create", "start", "state", "kill", "delete", "run", "exec", "list", "ps",
	"pause", "resume", "update", "features", "spec"}

// plain is for verbs without flags.
func plain(run func(*global, []string) (int, error)) func(*flag.FlagSet) func(*global, []string) (int, error) {
	return func(*flag.FlagSet) func(*global, []string) (int, error) { return run }
}

// Main runs the command line and returns the exit code.
func Main(args []string, version string) int {
	g := &global{}
	fs := newFlags("moss-runtime")
	fs.StringVar(&g.root, "root", defaultRoot(), "directory of the containers' states")
	fs.StringVar(&g.log, "log", "", "file to write errors to, beside standard error")
	fs.StringVar(&g.logFormat, "log-format", "text", "format of the log: text or json")
	fs.Bool("debug", false, "accepted; moss-runtime has nothing more to tell")
	fs.String("log-level", "", "accepted; only errors are logged")
	fs.String("rootless", "auto", "accepted; found out")
	systemd := fs.Bool("systemd-cgroup", false, "not supported")
	showVersion := fs.Bool("version", false, "print the version")
	fs.BoolVar(showVersion, "v", false, "print the version")

	code, err := func() (int, error) {
		if err := fs.Parse(args); err != nil {
			return usage(err, os.Stdout, help)
		}
		if *showVersion {
			fmt.Printf("moss-runtime version %s\nspec: %s\n", version, specVersion)
			return 0, nil
		}
		if *systemd {
			return 0, errors.New("cannot use --systemd-cgroup: moss-runtime makes cgroups itself, in what is delegated to it")
		}
		if g.logFormat != "text" && g.logFormat != "json" {
			return 0, fmt.Errorf("cannot use log format %q: neither text nor json", g.logFormat)
		}
		if root, err := filepath.Abs(g.root); err == nil {
			g.root = root
		}
		return dispatch(g, fs.Args())
	}()
	if err == nil {
		return code
	}
	g.report(err)
	if code == 0 {
		code = 1
	}
	return code
}

// dispatch runs one verb.
func dispatch(g *global, args []string) (int, error) {
	if len(args) == 0 {
		help(os.Stderr)
		return 1, errors.New("no command is given")
	}
	if args[0] == "help" {
		help(os.Stdout)
		return 0, nil
	}
	v, ok := verbs[args[0]]
	if !ok {
		return 1, fmt.Errorf("cannot run command %q: unknown", args[0])
	}
	fs := newFlags(args[0])
	run := v.setup(fs)
	if err := fs.Parse(args[1:]); err != nil {
		return usage(err, os.Stdout, func(w io.Writer) {
			fmt.Fprintf(w, "usage: moss-runtime %s [FLAG...] %s\n%s\n", args[0], v.args, v.about)
			fs.SetOutput(w)
			fs.PrintDefaults()
		})
	}
	return run(g, fs.Args())
}

func newFlags(name string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return fs
}

// usage answers --help, and makes other errors of parsing ours.
func usage(err error, w io.Writer, print func(io.Writer)) (int, error) {
	if errors.Is(err, flag.ErrHelp) {
		print(w)
		return 0, nil
	}
	return 1, fmt.Errorf("cannot read command line: %w", err)
}

func help(w io.Writer) {
	fmt.Fprintln(w, "moss-runtime is an OCI runtime.\n\nusage: moss-runtime [--root DIR] [--log FILE] [--log-format text|json] COMMAND [FLAG...] [ARG...]\n\ncommands:")
	for _, name := range order {
		fmt.Fprintf(w, "  %-10s %s\n", name, verbs[name].about)
	}
}

// report writes an error to standard error and to the log.
func (g *global) report(err error) {
	fmt.Fprintln(os.Stderr, "moss-runtime:", err)
	if g.log == "" {
		return
	}
	f, openErr := os.OpenFile(g.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if openErr != nil {
		fmt.Fprintln(os.Stderr, "moss-runtime: cannot write log:", openErr)
		return
	}
	defer f.Close()
	now := time.Now().Format(time.RFC3339Nano)
	if g.logFormat == "json" {
		json.NewEncoder(f).Encode(struct {
			Msg   string `json:"msg"`
			Level string `json:"level"`
			Time  string `json:"time"`
		}{err.Error(), "error", now})
		return
	}
	fmt.Fprintf(f, "time=%q level=error msg=%q\n", now, err.Error())
}

// defaultRoot is where states live, as runc and crun choose it: gone after a
// reboot, and the user's own.
func defaultRoot() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return filepath.Join(dir, "moss-runtime")
	}
	if os.Geteuid() == 0 {
		return "/run/moss-runtime"
	}
	return filepath.Join(os.TempDir(), "moss-runtime-"+strconv.Itoa(os.Geteuid()))
}

// one returns the only argument, a container ID.
func one(args []string) (string, error) {
	if len(args) != 1 {
		return "", fmt.Errorf("cannot read command line: one container ID is wanted, and %d arguments are given", len(args))
	}
	return args[0], nil
}

// list of strings, for flags that may be repeated.
type words []string

func (w *words) String() string     { return strings.Join(*w, ",") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }
