package rootless

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/oci"
	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
)

// ExecOptions describe one more process.
type ExecOptions struct {
	Args                           []string
	Env                            []string
	Dir, User                      string
	TTY, Stdin, Detach, Privileged bool
	// NoSession keeps the process out of the list of Sessions, and of the events.
	NoSession bool
	// Preserve are the descriptors that the process inherits from 3 on; nil is none.
	Preserve []*os.File
	Streams  *Streams
	// Started is called with the ID of the session when the program runs.
	Started func(session string)
}

// Exec runs one more process in a running container and returns its exit code.
// The process is our own child: a join and an exec, with nothing in between; one
// that is detached is the monitor's.
func (e *Engine) Exec(ctx context.Context, c *container.Container, o ExecOptions) (code int, err error) {
	wrap := func(err error) error { return fmt.Errorf("cannot exec in container %q: %w", c.Spec.Name, err) }
	v := c.Look()
	if v.Status != container.StatusRunning {
		return 0, wrap(fmt.Errorf("it is %s: %w", v.Status, errdefs.ErrFailedPrecondition))
	}
	if err := c.Whole(); err != nil {
		return 0, wrap(err)
	}
	doc, err := e.execDocument(c, v.Live, o)
	if err != nil {
		return 0, wrap(err)
	}
	doc.Bound = !o.TTY && !o.Detach
	data, err := record.Encode(doc)
	if err != nil {
		return 0, err
	}
	s := &session{e: e, c: c, o: o, id: newID()}
	if o.Detach {
		return 0, s.detached(ctx, data)
	}
	stdio, err := execStdio(o)
	if err != nil {
		return 0, err
	}
	request := birth.ExecRequest{Runtime: Helper("moss-runtime"), Data: data, PreserveFDs: len(o.Preserve)}
	if s.p, err = birth.Exec(request, stdio, o.Preserve); err != nil {
		return 0, wrap(err)
	}
	return s.follow(ctx)
}

// execDocument describes the process: what the container's own process may do,
// it may do, and no more.
func (e *Engine) execDocument(c *container.Container, live *container.Live, o ExecOptions) (*runtime.ExecDocument, error) {
	spec := c.Spec // a copy
	if o.User != "" {
		spec.Process.User = o.User
	}
	kernel, err := oci.KernelCapabilities()
	if err != nil {
		return nil, err
	}
	spec.Security.Privileged = spec.Security.Privileged || o.Privileged
	caps, err := oci.ProcessCapabilities(&spec, kernel)
	if err != nil {
		return nil, err
	}
	env := slices.Clone(spec.Process.Env)
	if o.TTY && !slices.ContainsFunc(env, func(kv string) bool { return strings.HasPrefix(kv, "TERM=") }) {
		env = append(env, "TERM=xterm")
	}
	secrets, err := secretVariables(c)
	if err != nil {
		return nil, err
	}
	env = override(env, secrets)
	dir := o.Dir
	if dir == "" {
		dir = spec.Process.Dir
	}
	doc := &runtime.ExecDocument{
		PID: live.PID, User: spec.Process.User, SetHome: true, Console: o.TTY, Cgroup: live.Cgroup,
		Process: &specs.Process{
			Terminal: o.TTY, Args: o.Args, Env: override(env, o.Env), Cwd: dir,
			Capabilities: caps, NoNewPrivileges: spec.Security.NoNewPrivileges,
			Rlimits: oci.Rlimits(spec.Process.Rlimits), ApparmorProfile: oci.AppArmor(&spec), OOMScoreAdj: spec.Process.OOMScoreAdj,
		},
	}
	if o.TTY && o.Streams != nil && o.Streams.In != nil {
		// The program must not see a terminal without a size first.
		if size, err := unix.IoctlGetWinsize(int(o.Streams.In.Fd()), unix.TIOCGWINSZ); err == nil {
			doc.Process.ConsoleSize = &specs.Box{Height: uint(size.Row), Width: uint(size.Col)}
		}
	}
	doc.Process.User.Umask, doc.Personality = spec.Process.Umask, oci.Personality(&spec)
	for _, g := range spec.Process.Groups {
		if g != "keep-groups" && o.User == "" { // podman: the groups go with the user
			doc.Groups = append(doc.Groups, g)
		}
	}
	l := &launch{e: e, c: &container.Container{Spec: spec}}
	filter := &runtime.Document{Spec: &specs.Spec{Process: doc.Process, Linux: &specs.Linux{}}}
	l.c.Spec.Runtime = "" // exec is always ours
	if err := l.seccomp(filter); err != nil {
		return nil, err
	}
	doc.SeccompBPF = filter.SeccompBPF
	return doc, nil
}

// execStdio are the descriptors that the process inherits: without a terminal
// they are our own.
func execStdio(o ExecOptions) ([3]*os.File, error) {
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return [3]*os.File{}, err
	}
	stdio := [3]*os.File{null, os.Stdout, os.Stderr}
	if o.Stdin && !o.TTY {
		stdio[0] = os.Stdin
	}
	if o.TTY {
		stdio[1], stdio[2] = null, null
	}
	return stdio, nil
}
