package test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// crashed kills PROGRAM before each of its steps in turn, counted from the start
// of `moss VERB` in SHELL, which may make a container named c. After each, ps,
// inspect, logs, stop, rm and a new container of the same name must work without
// anyone's help, and nothing may stay behind.
//
//	crashed PROGRAM VERB STRIDE SHELL
//
// A stride above 1 leaves steps out; MOSS_CRASH=all hits them all.
func crashed(ts *testscript.TestScript, args []string) error {
	if len(args) != 4 {
		return errors.New("usage: crashed PROGRAM VERB STRIDE SHELL")
	}
	stride, err := strconv.Atoi(args[2])
	if err != nil || stride < 1 {
		return fmt.Errorf("%q is no stride", args[2])
	}
	if os.Getenv("MOSS_CRASH") == "all" {
		stride = 1
	}
	c := crasher{ts}
	hit := 0
	var wrong []error
	for n := 1; ; n += stride {
		out, err := c.run("box", "crash", args[0], args[1], strconv.Itoa(n), "sh", "-c", args[3])
		var exit *exec.ExitError
		if errors.As(err, &exit) && exit.ExitCode() == 3 {
			if err := c.recovers(); err != nil {
				return fmt.Errorf("%s: %w", strings.TrimSpace(out), err)
			}
			break
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		hit++
		if err := c.recovers(); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", strings.TrimSpace(out), err))
			if len(wrong) == 5 {
				break // more would only be longer
			}
			if _, err := c.run("moss", "rm", "-fa", "-t", "0"); err != nil {
				break
			}
		}
	}
	if hit == 0 {
		return fmt.Errorf("%s has no step in moss %s", args[0], args[1])
	}
	ts.Logf("%s killed at %d steps of %s", args[0], hit, args[1])
	return errors.Join(append(wrong, c.nothingLeft())...)
}

type crasher struct{ ts *testscript.TestScript }

// run runs a program to its end, with its output in a file: what it leaves behind
// must not hold a pipe of ours.
func (c crasher) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	plain := environed(c.ts, args)
	cmd := exec.CommandContext(ctx, plain.Path, plain.Args[1:]...)
	cmd.Env, cmd.Dir = plain.Env, plain.Dir
	out, err := os.CreateTemp("", "crash")
	if err != nil {
		return "", err
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	err = cmd.Run()
	text, _ := os.ReadFile(out.Name())
	return string(text), err
}

// recovers does what somebody would do who finds the container as the crash left it.
func (c crasher) recovers() error {
	image := c.ts.Getenv("box")
	all, err := c.run("moss", "ps", "-a", "--format", "{{.Names}}")
	if err != nil {
		return fmt.Errorf("ps: %w: %s", err, all)
	}
	var steps [][]string
	if strings.TrimSpace(all) == "c" {
		steps = [][]string{{"inspect", "c"}, {"logs", "c"}, {"stop", "-t", "0", "c"}}
	} else if strings.TrimSpace(all) != "" {
		return fmt.Errorf("ps shows %q", all)
	}
	steps = append(steps, []string{"rm", "-f", "-t", "0", "c"}, []string{"run", "-d", "--name", "c", "-p", "127.0.0.1:0:80", image, "sleep"},
		[]string{"exec", "c", "true"}, []string{"rm", "-f", "-t", "0", "c"})
	for _, step := range steps {
		if out, err := c.run(append([]string{"moss"}, step...)...); err != nil {
			return fmt.Errorf("moss %s: %w: %s", strings.Join(step, " "), err, out)
		}
	}
	return c.noProcesses()
}

// nothingLeft looks for what removed containers must not leave behind: files, also
// those that wait for the sweep, which takes what is ten minutes old, and processes.
func (c crasher) nothingLeft() error {
	root, run := c.ts.Getenv("HOME")+"/.local/share/moss/", c.ts.Getenv("XDG_RUNTIME_DIR")+"/moss/"
	leftovers := func() (all []string) {
		for _, dir := range []string{root + "containers/", root + "names/", root + "trash/", run + "c/"} {
			entries, _ := os.ReadDir(dir)
			for _, entry := range entries {
				all = append(all, dir+entry.Name())
			}
		}
		return all
	}
	hourAgo := time.Now().Add(-time.Hour)
	for _, path := range append(leftovers(), run+"swept") {
		os.Chtimes(path, hourAgo, hourAgo)
	}
	for _, step := range [][]string{{"create", "--name", "last", c.ts.Getenv("box")}, {"rm", "last"}} {
		if out, err := c.run(append([]string{"moss"}, step...)...); err != nil {
			return fmt.Errorf("moss %s: %w: %s", step[0], err, out)
		}
	}
	if left := leftovers(); len(left) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(left, " "))
	}
	return c.noProcesses()
}

// noProcesses: of this script's user namespace; a monitor may be on its way out.
func (c crasher) noProcesses() error {
	const list = `me=$(readlink /proc/self/ns/user); for p in /proc/[0-9]*; do [ "$(readlink $p/ns/user)" != "$me" ] || cat $p/comm; done`
	const more = `cd /proc; for p in [0-9]*; do [ "$(cat $p/comm)" != moss-monitor ] || { cut -d' ' -f1-4 $p/stat; cat $p/wchan; ls -l $p/fd; }; done`
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		out, err := c.run("moss", "unshare", "sh", "-c", list)
		if err != nil {
			return fmt.Errorf("moss unshare: %w: %s", err, out)
		}
		left := slices.DeleteFunc(strings.Fields(out), func(name string) bool {
			return slices.Contains([]string{"sh", "cat", "readlink", "moss-pause", "moss-net", "slirp4netns", "pasta"}, name)
		})
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(end) {
			out, _ := c.run("moss", "unshare", "sh", "-c", more)
			return fmt.Errorf("processes left behind: %s\n%s", strings.Join(left, " "), out)
		}
	}
}
