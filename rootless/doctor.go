package rootless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"moss/userns"
)

// Check is one thing that Doctor tried.
type Check struct {
	Name string
	OK   bool
	// Needed: moss cannot do its main work without it.
	Needed bool
	Detail string `json:",omitempty"` // what was found
	Cause  string `json:",omitempty"` // why it is not OK
	Fix    string `json:",omitempty"` // the command that mends it
}

// DoctorOptions of Doctor; the zero value is right.
type DoctorOptions struct {
	// Program is the moss to try; "" is the one that runs.
	Program string
	// Dirs are where that moss keeps its files, if not where it finds by itself.
	Dirs userns.Dirs
	// CgroupManager is Engine's.
	CgroupManager string
	// Timeout bounds each try; 0 is 30 seconds.
	Timeout time.Duration
	// Report, if set, is called with each check when it is done.
	Report func(Check)
}

// Doctor tries, one after another, whatever moss needs on this machine. It
// looks at outcomes, not at settings: settings are read only to explain a
// failure. It must run outside the kept namespaces, and leaves nothing behind
// but the pause process and the image that moss carries.
func Doctor(ctx context.Context, o DoctorOptions) []Check {
	d := &doctor{ctx: ctx, DoctorOptions: o, failed: map[string]bool{}}
	if d.Program == "" {
		d.Program, _ = os.Executable()
	}
	if d.Timeout == 0 {
		d.Timeout = 30 * time.Second
	}
	d.container = fmt.Sprintf("moss-doctor-%d", os.Getpid())
	var dirsErr error
	if d.dirs = o.Dirs; d.dirs == (userns.Dirs{}) {
		d.dirs, dirsErr = userns.FindDirs()
	}

	for _, t := range doctorTries(dirsErr) {
		c := d.do(t)
		d.failed[t.name] = !c.OK && c.Needed
		d.checks = append(d.checks, c)
		if o.Report != nil {
			o.Report(c)
		}
	}
	return d.checks
}

// Healthy says whether everything that is needed works.
func Healthy(checks []Check) bool {
	for _, c := range checks {
		if c.Needed && !c.OK {
			return false
		}
	}
	return true
}

type doctor struct {
	DoctorOptions
	ctx       context.Context
	dirs      userns.Dirs
	container string // the name of the containers that are run
	checks    []Check
	failed    map[string]bool
}

// try is how one check is done. It returns what it found; its error is the
// cause of the failure, with a Hint if it knows the cure.
type try struct {
	name   string
	needed bool
	after  string // the check without which this one says nothing
	run    func(d *doctor, ctx context.Context) (detail string, err error)
}

// do does one check within its time.
func (d *doctor) do(t try) Check {
	c := Check{Name: t.name, Needed: t.needed}
	if d.failed[t.after] {
		// One cause is told once, where it is.
		c.Needed, c.Cause = false, fmt.Sprintf("not tried, because %q failed", t.after)
		d.failed[t.name] = true
		return c
	}
	ctx, cancel := context.WithTimeout(d.ctx, d.Timeout)
	defer cancel()
	detail, err := t.run(d, ctx)
	c.Detail, c.OK = detail, err == nil
	if err == nil {
		return c
	}
	if ctx.Err() != nil && !errors.Is(err, context.Canceled) {
		err = fmt.Errorf("it took more than %v: %w", d.Timeout, err)
	}
	c.Cause = err.Error()
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		c.Fix = hinted.Hint()
	}
	return c
}

// curable is an error with the command that mends it.
type curable struct {
	cause string
	cure  string
}

func (e *curable) Error() string { return e.cause }

// Hint is the command that mends it.
func (e *curable) Hint() string { return e.cure }

// moss runs moss as the user would, and returns what it printed. The error is
// what it said, with its own hint.
func (d *doctor) moss(ctx context.Context, args ...string) (string, error) {
	var stdout bytes.Buffer
	return d.mossTo(ctx, &stdout, args...)
}

// mossTo is moss with its output going to stdout, and returned if that keeps it.
func (d *doctor) mossTo(ctx context.Context, stdout io.Writer, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, d.Program, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 3 * time.Second
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "_MOSS_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	if d.Dirs != (userns.Dirs{}) {
		cmd.Env = append(cmd.Env, "MOSS_ROOT="+d.Dirs.Root, "MOSS_RUN="+d.Dirs.Run)
	}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	err := cmd.Run()
	out := ""
	if kept, ok := stdout.(fmt.Stringer); ok {
		out = strings.TrimSpace(kept.String())
	}
	if err == nil {
		return out, nil
	}
	said := curable{cause: fmt.Sprintf("moss %s: %v", args[0], err)}
	first := true
	for line := range strings.Lines(stderr.String()) {
		line = strings.TrimSpace(line)
		text, hint := strings.CutPrefix(line, "hint: ")
		switch {
		case hint:
			said.cure = text
		case first && line != "":
			said.cause, first = strings.TrimPrefix(line, "moss: "), false
		}
	}
	return out, &said
}

// remove removes the container that a try has started, whatever became of it.
func (d *doctor) remove(name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), d.Timeout)
	defer cancel()
	d.moss(ctx, "rm", "--force", "--time", "0", "--ignore", name) // --rm has mostly done it
}

// sudo is how a command for root is written down.
func sudo(command string) string {
	if os.Getuid() == 0 {
		return command
	}
	return "sudo " + command
}

// sysctl is the command that sets a kernel setting for good.
func sysctl(name, value string) string {
	return sudo(fmt.Sprintf("sh -c 'echo \"%s = %s\" >/etc/sysctl.d/90-moss-%s.conf && sysctl --system'",
		name, value, name[strings.LastIndexByte(name, '.')+1:]))
}

// install is the command that installs a Debian package by its name, or its
// like elsewhere.
func install(pkg string) string {
	for manager, command := range map[string]string{
		"/usr/bin/apt-get": "apt-get install -y ", "/usr/bin/dnf": "dnf install -y ",
		"/usr/bin/pacman": "pacman -S --noconfirm ", "/usr/bin/zypper": "zypper install -y ", "/sbin/apk": "apk add ",
	} {
		if _, err := os.Stat(manager); err == nil {
			return sudo(command + pkg)
		}
	}
	return sudo("apt-get install -y " + pkg)
}
