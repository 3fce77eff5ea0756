package command

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
)

// startVerb lets a created container run its program.
func startVerb(g *global, args []string) (int, error) {
	id, err := one(args)
	if err != nil {
		return 1, err
	}
	c, err := load(g, id)
	if err != nil {
		return 1, err
	}
	if status := c.status(); status != specs.StateCreated {
		return 1, fmt.Errorf("cannot start container %q: it is %s", id, status)
	}
	spec, err := c.config()
	if err != nil {
		return 1, err
	}
	p, err := c.connect()
	if err != nil {
		return 1, err
	}
	defer p.Close()
	n := &creation{c: c, p: p}
	p.Listener = n.seccompListener
	if err := p.Go(); err != nil {
		return 1, fmt.Errorf("cannot start container %q: %w", id, explain(err))
	}
	if err := os.Remove(c.knock()); err != nil {
		return 1, fmt.Errorf("cannot start container %q: %w", id, err)
	}
	return 0, c.poststart(spec)
}

// connect knocks where the init stage waits.
func (c *container) connect() (*birth.Process, error) {
	dir, err := os.Open(c.dir)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	address := &unix.SockaddrUnix{Name: fmt.Sprintf("/proc/self/fd/%d/start.sock", dir.Fd())}
	if err := unix.Connect(fd, address); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot start container %q: %w", c.ID, err)
	}
	return birth.Waiting(c.PID, fd), nil
}

func (c *container) poststart(spec *specs.Spec) error {
	if spec.Hooks == nil {
		return nil
	}
	state := c.state()
	if err := runtime.RunHooks("poststart", spec.Hooks.Poststart, state); err != nil {
		fmt.Fprintln(os.Stderr, "moss-runtime:", err) // logged, and goes on: OCI runtime.md
	}
	return nil
}

// seccompListener hands the notify descriptor to the agent of the profile; see
// OCI config-linux.md, "The Container Process State".
func (n *creation) seccompListener(f *os.File) error {
	defer f.Close()
	profile := n.c.spec.Linux.Seccomp
	state := n.c.state()
	state.Status = specs.StateCreating
	data, err := json.Marshal(specs.ContainerProcessState{
		Version: specVersion, Fds: []string{specs.SeccompFdName}, Pid: n.p.PID,
		Metadata: profile.ListenerMetadata, State: *state,
	})
	if err != nil {
		return err
	}
	if err := sendFile(profile.ListenerPath, data, f); err != nil {
		return fmt.Errorf("cannot reach seccomp agent: %w", err)
	}
	return nil
}

func setupRun(fs *flag.FlagSet) func(*global, []string) (int, error) {
	n := &creation{}
	n.flags(fs)
	fs.BoolVar(&n.detach, "detach", false, "do not wait for the container")
	fs.BoolVar(&n.detach, "d", false, "do not wait for the container")
	fs.BoolVar(&n.keep, "keep", false, "keep the container's state when it has ended")
	fs.Bool("no-subreaper", false, "accepted; no subreaper is needed")
	return func(g *global, args []string) (int, error) {
		id, err := one(args)
		if err != nil {
			return 1, err
		}
		return n.run(g, id)
	}
}

// run creates and starts in one, and waits unless detached.
func (n *creation) run(g *global, id string) (int, error) {
	if err := n.prepare(g, id); err != nil {
		return 1, err
	}
	terminal := n.c.spec.Process.Terminal
	if terminal && n.detach && n.consoleSocket == "" {
		return 1, n.fail(errors.New("cannot detach from a container with a terminal without --console-socket"))
	}
	err := n.birth(nil)
	if err == nil {
		err = n.passConsole()
	}
	if err == nil {
		err = n.writePID()
	}
	var streams *foreground
	if err == nil {
		streams, err = newForeground(n.p, n.master, n.detach || n.consoleSocket != "")
	}
	if err == nil {
		defer streams.close()
		err = n.p.Go()
	}
	if err != nil {
		var said *birth.InitError
		code := 1
		if errors.As(err, &said) {
			code = said.Code
		}
		return code, n.fail(err)
	}
	n.c.poststart(n.c.spec)
	if n.detach {
		n.p.Close()
		return 0, nil
	}
	status, err := streams.wait()
	if err != nil {
		return 1, err
	}
	if !n.keep {
		n.poststop()
		if err := n.c.remove(); err != nil {
			return 1, err
		}
	}
	return exitCode(status), nil
}

// exitCode is the shell's way of telling a signal.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// passConsole sends the terminal's master to the console socket, if there is one.
func (n *creation) passConsole() error {
	if n.master == nil || n.consoleSocket == "" {
		if n.c.spec.Process.Terminal && n.master == nil {
			return errors.New("cannot make terminal: the init stage sent none")
		}
		return nil
	}
	defer func() { n.master.Close(); n.master = nil }()
	return sendConsole(n.consoleSocket, n.master)
}

// sendConsole sends a terminal over a unix socket, as runc does: the descriptor
// beside its name; see runc's docs/terminals.md.
func sendConsole(path string, master *os.File) error {
	if err := sendFile(path, []byte("/dev/ptmx"), master); err != nil {
		return fmt.Errorf("cannot send terminal to console socket: %w", err)
	}
	return nil
}

// sendFile sends one message with one descriptor to a listening unix socket.
func sendFile(path string, data []byte, f *os.File) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("%q: %w", path, err)
	}
	return unix.Sendmsg(fd, data, unix.UnixRights(int(f.Fd())), nil, unix.MSG_NOSIGNAL)
}
