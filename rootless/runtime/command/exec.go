package command

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
)

// execution are the flags of exec.
type execution struct {
	process, pidFile, consoleSocket string
	cwd, user, apparmor, label      string
	tty, detach, noNewPrivs, paused bool
	preserve                        int
	env, caps, groups               words
}

func setupExec(fs *flag.FlagSet) func(*global, []string) (int, error) {
	x := &execution{}
	fs.StringVar(&x.process, "process", "", "file with the process in JSON")
	fs.StringVar(&x.process, "p", "", "file with the process in JSON")
	fs.StringVar(&x.pidFile, "pid-file", "", "file to write the process ID to")
	fs.StringVar(&x.consoleSocket, "console-socket", "", "unix socket to send the terminal to")
	fs.StringVar(&x.cwd, "cwd", "", "working directory")
	fs.StringVar(&x.user, "user", "", "UID[:GID]")
	fs.StringVar(&x.user, "u", "", "UID[:GID]")
	fs.StringVar(&x.apparmor, "apparmor", "", "AppArmor profile")
	fs.StringVar(&x.label, "process-label", "", "SELinux label")
	for _, name := range []string{"tty", "t"} {
		fs.BoolVar(&x.tty, name, false, "give it a terminal")
	}
	for _, name := range []string{"detach", "d"} {
		fs.BoolVar(&x.detach, name, false, "do not wait for it")
	}
	fs.BoolVar(&x.noNewPrivs, "no-new-privs", false, "set no_new_privs")
	fs.BoolVar(&x.paused, "ignore-paused", false, "also in a paused container")
	fs.IntVar(&x.preserve, "preserve-fds", 0, "number of more descriptors to pass on, from 3")
	for _, name := range []string{"env", "e"} {
		fs.Var(&x.env, name, "NAME=value, may be repeated")
	}
	for _, name := range []string{"cap", "c"} {
		fs.Var(&x.caps, name, "capability to add, may be repeated")
	}
	for _, name := range []string{"additional-gids", "g"} {
		fs.Var(&x.groups, name, "group ID to add, may be repeated")
	}
	return func(g *global, args []string) (int, error) {
		if len(args) == 0 {
			return 1, errors.New("cannot read command line: a container ID is wanted")
		}
		return x.run(g, args[0], args[1:])
	}
}

// run executes one more process in a container.
func (x *execution) run(g *global, id string, command []string) (int, error) {
	c, err := load(g, id)
	if err != nil {
		return 1, err
	}
	switch status := c.status(); {
	case status == specs.StateStopped:
		return 1, fmt.Errorf("cannot exec in container %q: container not running", id)
	case status == statusPaused && !x.paused:
		return 1, fmt.Errorf("cannot exec in container %q: it is paused", id)
	}
	doc, err := x.document(c, command)
	if err != nil {
		return 1, err
	}
	if doc.Console && x.detach && x.consoleSocket == "" {
		return 1, errors.New("cannot detach from a process with a terminal without --console-socket")
	}
	if !doc.Console && x.consoleSocket != "" {
		return 1, errors.New("cannot use --console-socket: the process has no terminal")
	}
	p, master, err := x.birth(doc)
	if err != nil {
		return execCode(err), fmt.Errorf("cannot exec in container %q: %w", id, explain(err))
	}
	return x.follow(c, p, master)
}

// birth makes the process and waits until it is ready.
func (x *execution) birth(doc *runtime.ExecDocument) (*birth.Process, *os.File, error) {
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	extra, err := preserved(x.preserve)
	if err != nil {
		return nil, nil, err
	}
	stdio := [3]*os.File{os.Stdin, os.Stdout, os.Stderr}
	if doc.Console {
		stdio = [3]*os.File{nil, nil, os.Stderr}
	}
	p, err := birth.Exec(birth.ExecRequest{Runtime: self, Data: data, PreserveFDs: x.preserve}, stdio, extra)
	if err != nil {
		return nil, nil, err
	}
	master, err := p.Ready()
	if err != nil {
		discard(p)
		return nil, nil, err
	}
	return p, master, nil
}

func discard(p *birth.Process) {
	p.Kill()
	p.Wait()
	p.Close()
}

// follow lets it run, and waits unless detached.
func (x *execution) follow(c *container, p *birth.Process, master *os.File) (int, error) {
	if master != nil && x.consoleSocket != "" {
		err := sendConsole(x.consoleSocket, master)
		master.Close()
		if err != nil {
			discard(p)
			return 1, err
		}
		master = nil
	}
	if err := writePIDFile(x.pidFile, p.PID); err != nil {
		discard(p)
		return 1, err
	}
	if _, err := c.config(); err != nil {
		discard(p)
		return 1, err
	}
	p.Listener = (&creation{c: c, p: p}).seccompListener
	streams, err := newForeground(p, master, x.detach || master == nil)
	if err != nil {
		discard(p)
		return 1, err
	}
	defer streams.close()
	if err := p.Go(); err != nil {
		p.Wait()
		return execCode(err), fmt.Errorf("cannot exec in container %q: %w", c.ID, explain(err))
	}
	if x.detach {
		return 0, nil
	}
	status, err := streams.wait()
	if err != nil {
		return 1, err
	}
	return exitCode(status), nil
}

// execCode: 255 is runc's code for its own failures, so that they are not taken
// for the program's.
func execCode(err error) int {
	var said *birth.InitError
	if errors.As(err, &said) && said.Code != 125 {
		return said.Code
	}
	return 255
}

// document describes the process: from --process, or the container's own process
// with the flags on top.
func (x *execution) document(c *container, command []string) (*runtime.ExecDocument, error) {
	spec, err := c.config()
	if err != nil {
		return nil, err
	}
	p, err := x.describe(spec, command)
	if err != nil {
		return nil, fmt.Errorf("cannot exec in container %q: %w", c.ID, err)
	}
	if err := checkProcess(p); err != nil {
		return nil, fmt.Errorf("cannot exec in container %q: %w", c.ID, err)
	}
	filter, err := filterFile(filepath.Dir(c.dir), spec.Linux.Seccomp)
	if err != nil {
		return nil, fmt.Errorf("cannot exec in container %q: %w", c.ID, err)
	}
	return &runtime.ExecDocument{
		PID: c.PID, Process: p, Cgroup: c.Cgroup, Console: p.Terminal, SeccompBPF: filter,
		Seccomp: spec.Linux.Seccomp, Personality: spec.Linux.Personality,
	}, nil
}

func (x *execution) describe(spec *specs.Spec, command []string) (*specs.Process, error) {
	if x.process != "" {
		data, err := os.ReadFile(x.process)
		if err != nil {
			return nil, err
		}
		p := new(specs.Process)
		if err := json.Unmarshal(data, p); err != nil {
			return nil, fmt.Errorf("cannot read %q: %w", x.process, err)
		}
		p.Terminal = p.Terminal || x.tty
		return p, nil
	}
	p := *spec.Process
	p.Args, p.Terminal = command, x.tty
	p.Env = append(append([]string(nil), p.Env...), x.env...)
	p.NoNewPrivileges = p.NoNewPrivileges || x.noNewPrivs
	p.ConsoleSize = nil
	if x.cwd != "" {
		p.Cwd = x.cwd
	}
	if x.apparmor != "" {
		p.ApparmorProfile = x.apparmor
	}
	if x.label != "" {
		p.SelinuxLabel = x.label
	}
	if err := x.identity(&p); err != nil {
		return nil, err
	}
	return &p, addCapabilities(&p, x.caps)
}

// identity applies --user and --additional-gids.
func (x *execution) identity(p *specs.Process) error {
	number := func(s string) (uint32, error) {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return 0, fmt.Errorf("cannot use ID %q: not a number", s)
		}
		return uint32(n), nil
	}
	var err error
	if x.user != "" {
		uid, gid, hasGroup := strings.Cut(x.user, ":")
		if p.User.UID, err = number(uid); err != nil {
			return err
		}
		if hasGroup {
			if p.User.GID, err = number(gid); err != nil {
				return err
			}
		}
	}
	for _, g := range x.groups {
		gid, err := number(g)
		if err != nil {
			return err
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, gid)
	}
	return nil
}

// addCapabilities adds to the three sets that a program of any user can use.
func addCapabilities(p *specs.Process, names []string) error {
	if len(names) == 0 {
		return nil
	}
	known := strings.Join(runtime.CapabilityNames(), " ") + " "
	caps := specs.LinuxCapabilities{}
	if p.Capabilities != nil {
		caps = *p.Capabilities
	}
	for _, name := range names {
		if !strings.Contains(known, name+" ") {
			return fmt.Errorf("cannot add capability %q: unknown", name)
		}
		for _, set := range []*[]string{&caps.Bounding, &caps.Effective, &caps.Permitted} {
			*set = append(append([]string(nil), *set...), name)
		}
	}
	p.Capabilities = &caps
	return nil
}
