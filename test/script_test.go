package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"moss/test/badregistry"
)

// TestScripts runs script/*.txtar against the built programs, as a person
// without root would: each script is a promise, and reads as one would type it.
//
//	MOSS_BIN      where the programs are (default ../bin)
//	MOSS_SCRIPTS  where the scripts are (default script), and
//	MOSS_ONLY     which: names separated by spaces (default all)
//	MOSS_PROGRAM  podman runs them against podman: are the expectations right?
func TestScripts(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("moss is for people without root: make e2e runs this as one")
	}
	if _, err := os.Stat(filepath.Join(binaries(), "moss")); err != nil && !againstPodman() {
		t.Skip("moss is not built: run make build first")
	}
	files, err := filepath.Glob(filepath.Join(scripts(), "*.txtar"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	if only := strings.Fields(os.Getenv("MOSS_ONLY")); len(only) > 0 {
		files = slices.DeleteFunc(files, func(f string) bool {
			return !slices.Contains(only, strings.TrimSuffix(filepath.Base(f), ".txtar"))
		})
	}
	// Programs that scripts leave in the background are interrupted in the end. They would not hear
	// of it where nobody does, as in what a shell has put in the background itself.
	if signal.Ignored(os.Interrupt) {
		signal.Notify(make(chan os.Signal, 1), os.Interrupt)
	}
	testscript.RunT(terse{t, new(strings.Builder)}, testscript.Params{
		Files: files,
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"moss":         command(func(ts *testscript.TestScript, args []string) error { return ts.Exec(program(), args...) }),
			"box":          command(func(ts *testscript.TestScript, args []string) error { return ts.Exec("box", args...) }),
			"exits":        command(exits),
			"eventually":   command(eventually),
			"field":        command(field),
			"killed":       command(killed),
			"crashed":      command(crashed),
			"imagecrash":   command(imageCrash),
			"parallel":     command(parallel),
			"registry":     command(startRegistry),
			"images":       command(images),
			"odd":          command(odd),
			"hostile":      command(tryHostile),
			"distribution": command(startDistribution),
			"misbehave":    command(misbehave),
			"requests":     command(requests),
		},
		Condition: condition,
	})
}

// terse runs scripts without the log of those that succeed, also under -v.
type terse struct {
	*testing.T
	log *strings.Builder
}

func (t terse) Verbose() bool   { return false }
func (t terse) Log(args ...any) { fmt.Fprintln(t.log, args...) }

func (t terse) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) {
		var log strings.Builder
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(log.String())
			}
		})
		f(terse{t, &log})
	})
}

// program is what the word moss stands for in a script.
func program() string { return first(os.Getenv("MOSS_PROGRAM"), "moss") }

// scripts is where the scripts are; beside the directory is world, the host of a network of its own.
func scripts() string {
	dir, err := filepath.Abs(first(os.Getenv("MOSS_SCRIPTS"), "script"))
	if err != nil {
		return "script"
	}
	return dir
}

func againstPodman() bool { return program() == "podman" }

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// setup gives a script a home and a runtime directory of its own. The runtime
// directory's path is short: a socket's path holds 108 bytes, and $WORK alone may be 60.
func setup(env *testscript.Env) error {
	base := os.Getenv("XDG_RUNTIME_DIR")
	if base == "" {
		base = "/tmp"
	}
	run, err := os.MkdirTemp(base, "t")
	if err != nil {
		return err
	}
	home := filepath.Join(env.WorkDir, "home")
	if err := os.MkdirAll(home, 0o755); err != nil {
		return err
	}
	env.Setenv("PATH", binaries()+":"+os.Getenv("PATH"))
	if againstPodman() {
		env.Setenv("PATH", home+":"+binaries()+":"+os.Getenv("PATH"))
	}
	env.Setenv("HOME", home)
	env.Setenv("XDG_RUNTIME_DIR", run)
	env.Setenv("LANG", "C.UTF-8")
	env.Setenv("TERM", "dumb")
	env.Setenv("box", "localhost/box")
	for _, name := range []string{"USER", "LOGNAME", "DBUS_SESSION_BUS_ADDRESS", "MOSS_LIBEXEC", "MOSS_LOG", "MOSS_DEBIAN", "MOSS_STORES", "MOSS_SOAK"} {
		if value, ok := os.LookupEnv(name); ok {
			env.Setenv(name, value)
		}
	}
	if bus := filepath.Join(base, "bus"); exists(bus) {
		env.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+bus)
	}
	if err := os.Symlink(filepath.Join(scripts(), "..", "world"), filepath.Join(env.WorkDir, "world")); err != nil {
		return err
	}
	env.Setenv("hostip", hostAddress())
	env.Values[bad{}] = new(*badregistry.Registry)
	vars := slices.Clone(env.Vars)
	env.Defer(func() { tidy(vars, home, run) })
	if againstPodman() {
		if err := preparePodman(home); err != nil {
			return err
		}
	}
	return loadBox(vars, home)
}

// loadBox puts the scripts' own image into the store, as localhost/box.
func loadBox(env []string, home string) error {
	archive := filepath.Join(home, "box.tar")
	if err := writeArchive(archive, "box", "localhost/box:latest"); err != nil {
		return err
	}
	load := exec.Command(lookIn(env, program()), "load", "-q", "-i", archive)
	load.Env = env
	if out, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("%s load: %w: %s", program(), err, out)
	}
	return os.Remove(archive)
}

// hostAddress is an IPv4 address of this machine that is not loopback, or "".
func hostAddress() string {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return ""
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
			return n.IP.String()
		}
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// tidy removes what a script left. Files of subordinate IDs are not the test's
// to delete, only those of someone inside the user's namespace.
func tidy(env []string, home, run string) {
	quietly := func(args ...string) {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		cmd := exec.CommandContext(ctx, lookIn(env, args[0]), args[1:]...)
		cmd.Env = env
		cmd.Run()
	}
	quietly(program(), "rm", "-fa", "-t", "0")
	quietly(program(), "unshare", "rm", "-rf", filepath.Join(home, ".local"))
	// moss-net would go by itself, later; the pause process stays until the user
	// logs out. Their namespaces belong to this script: they are told to go.
	for _, file := range []string{"moss/net/moss-net.pid", "moss/pause", "libpod/tmp/pause.pid"} {
		text, err := os.ReadFile(filepath.Join(run, file))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(text))
		if len(fields) == 0 {
			continue // a script may have damaged it
		}
		if pid, err := strconv.Atoi(fields[min(1, len(fields)-1)]); err == nil && pid > 1 {
			end(pid)
		}
	}
	os.RemoveAll(run)
}

// end asks a process to go, so that it can take along what it started, and
// insists a little later.
func end(pid int) {
	syscall.Kill(pid, syscall.SIGTERM)
	for range 50 {
		if syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	syscall.Kill(pid, syscall.SIGKILL)
}

// lookIn finds a program in the PATH of env, which is not that of this process.
func lookIn(env []string, name string) string {
	for _, kv := range slices.Backward(env) {
		path, ok := strings.CutPrefix(kv, "PATH=")
		if !ok {
			continue
		}
		for dir := range strings.SplitSeq(path, ":") {
			if full := filepath.Join(dir, name); exists(full) {
				return full
			}
		}
		break
	}
	return name
}

// command makes a script command of a function: `!` before it wants an error.
func command(run func(*testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, negated bool, args []string) {
		switch err := run(ts, args); {
		case negated && err == nil:
			ts.Fatalf("unexpected success")
		case !negated && err != nil:
			ts.Fatalf("%v", err)
		}
	}
}

// execute runs a program, for which "moss" stands for the one under test.
func execute(ts *testscript.TestScript, args []string) error {
	if len(args) == 0 {
		return errors.New("which program?")
	}
	if args[0] == "exec" {
		args = args[1:]
	}
	if args[0] == "field" {
		return field(ts, args[1:])
	}
	if args[0] == "moss" {
		args = append([]string{program()}, args[1:]...)
	}
	return ts.Exec(args[0], args[1:]...)
}

// exits CODE PROGRAM ARG…: it exits with CODE.
func exits(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: exits CODE PROGRAM ARG…")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	got := 0
	var exit *exec.ExitError
	if err := execute(ts, args[1:]); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if got != want {
		return fmt.Errorf("exit code %d, want %d", got, want)
	}
	return nil
}

// eventually DURATION PROGRAM ARG… [=~ REGEXP]: within DURATION it succeeds, and
// its output matches REGEXP.
func eventually(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: eventually DURATION PROGRAM ARG… [=~ REGEXP]")
	}
	patience, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	if slow, err := strconv.Atoi(os.Getenv("MOSS_SLOW")); err == nil {
		patience *= time.Duration(slow) // an emulated CPU
	}
	args = args[1:]
	want := regexp.MustCompile("")
	if n := len(args); n > 2 && args[n-2] == "=~" {
		if want, err = regexp.Compile("(?m)" + args[n-1]); err != nil {
			return err
		}
		args = args[:n-2]
	}
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := execute(ts, args)
		if err == nil && want.MatchString(ts.ReadFile("stdout")+ts.ReadFile("stderr")) {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("not within %v: %w", patience, errors.Join(err, fmt.Errorf("output does not match %q", want)))
		}
	}
}

// field CONTAINER FIELD VALUE: inspect shows VALUE.
func field(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: field CONTAINER .FIELD VALUE")
	}
	if err := ts.Exec(program(), "inspect", "--format", "{{"+args[1]+"}}", args[0]); err != nil {
		return err
	}
	if got := strings.TrimSuffix(ts.ReadFile("stdout"), "\n"); got != args[2] {
		return fmt.Errorf("%s is %q, want %q", args[1], got, args[2])
	}
	return nil
}

// killed DURATION PROGRAM ARG…: start it, and kill -9 it after DURATION. Its
// output goes to files: what it leaves running must not hold a pipe of ours.
func killed(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: killed DURATION PROGRAM ARG…")
	}
	after, err := time.ParseDuration(args[0])
	if err != nil {
		return err
	}
	cmd := environed(ts, args[1:])
	if err := cmd.Start(); err != nil {
		return err
	}
	time.Sleep(after)
	cmd.Process.Kill()
	cmd.Wait()
	return nil
}

// environed is a command in the script's environment, without streams.
func environed(ts *testscript.TestScript, args []string) *exec.Cmd {
	name := args[0]
	if name == "moss" {
		name = program()
	}
	var env []string
	for _, key := range []string{"PATH", "HOME", "XDG_RUNTIME_DIR", "LANG", "TERM", "USER", "LOGNAME", "DBUS_SESSION_BUS_ADDRESS", "MOSS_LIBEXEC"} {
		if value := ts.Getenv(key); value != "" {
			env = append(env, key+"="+value)
		}
	}
	cmd := exec.Command(lookIn(env, name), args[1:]...)
	cmd.Env, cmd.Dir = env, ts.MkAbs(".")
	return cmd
}

// parallel N PROGRAM ARG…: N of them at once, {} being 1 to N. All must succeed.
func parallel(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: parallel N PROGRAM ARG…")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	all := make([]error, n)
	var running sync.WaitGroup
	for i := range n {
		each := slices.Clone(args[1:])
		for j := range each {
			each[j] = strings.ReplaceAll(each[j], "{}", strconv.Itoa(i+1))
		}
		cmd := environed(ts, each)
		running.Go(func() {
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil {
				all[i] = fmt.Errorf("%s: %w: %s", strings.Join(each, " "), err, out.Bytes())
			}
		})
	}
	running.Wait()
	return errors.Join(all...)
}

// condition answers for the words in brackets, beside testscript's own such as
// [exec:podman].
func condition(word string) (bool, error) {
	switch word {
	case "podman": // the scripts run against podman
		return againstPodman(), nil
	case "systemd":
		return exists("/run/systemd/system") && exists(filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "bus")), nil
	case "journal": // systemd's
		return exists("/run/systemd/journal/socket"), nil
	case "cgroup": // a cgroup of our own to manage
		return own() != "" && syscall.Access(filepath.Join(own(), "cgroup.procs"), 2) == nil, nil
	case "limits": // with the controllers that limits need
		text, _ := os.ReadFile(filepath.Join(own(), "cgroup.controllers"))
		return strings.Contains(string(text), "memory") && strings.Contains(string(text), "pids"), nil
	case "many": // a hundred containers at once
		return os.Getenv("MOSS_MANY") != "", nil
	case "hostip": // this machine has an address beside loopback
		return hostAddress() != "", nil
	case "zoneinfo": // the machine knows time zones
		return exists("/usr/share/zoneinfo/Asia/Tokyo") && exists("/etc/localtime"), nil
	case "debian": // an image of Debian packages was made
		return exists(os.Getenv("MOSS_DEBIAN")), nil
	case "ipv6":
		return exists("/proc/sys/net/ipv6"), nil
	case "apparmor":
		text, _ := os.ReadFile("/sys/module/apparmor/parameters/enabled")
		return strings.HasPrefix(string(text), "Y"), nil
	case "busybox":
		return busybox() != "", nil
	}
	return false, fmt.Errorf("unknown condition %q", word)
}

// own is the cgroup directory of this process.
func own() string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join("/sys/fs/cgroup", path)
		}
	}
	return ""
}
