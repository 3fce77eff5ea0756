package command

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime"
)

func setupKill(fs *flag.FlagSet) func(*global, []string) (int, error) {
	var all bool
	fs.BoolVar(&all, "all", false, "to all processes of the container")
	fs.BoolVar(&all, "a", false, "to all processes of the container")
	return func(g *global, args []string) (int, error) {
		if len(args) < 1 || len(args) > 2 {
			return 1, errors.New("cannot read command line: a container ID and at most one signal are wanted")
		}
		name := "SIGTERM"
		if len(args) == 2 {
			name = args[1]
		}
		n, err := parseSignal(name)
		if err != nil {
			return 1, err
		}
		c, err := load(g, args[0])
		if err != nil {
			return 1, err
		}
		if all {
			return 0, c.signalAll(n)
		}
		return 0, c.signal(n)
	}
}

// parseSignal reads a name, with or without SIG, or a number.
func parseSignal(name string) (syscall.Signal, error) {
	if n, err := strconv.Atoi(name); err == nil {
		if n < 0 || n > 64 {
			return 0, fmt.Errorf("cannot send signal %d: there is none", n)
		}
		return syscall.Signal(n), nil
	}
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, "SIG") {
		upper = "SIG" + upper
	}
	if n := unix.SignalNum(upper); n != 0 {
		return n, nil
	}
	for prefix, base := range map[string]int{"SIGRTMIN": 34, "SIGRTMAX": 64} {
		if rest, ok := strings.CutPrefix(upper, prefix); ok {
			delta := 0
			if rest != "" {
				var err error
				if delta, err = strconv.Atoi(rest); err != nil {
					break
				}
			}
			if n := base + delta; n >= 34 && n <= 64 {
				return syscall.Signal(n), nil
			}
		}
	}
	return 0, fmt.Errorf("cannot send signal %q: unknown", name)
}

// signal sends a signal to the first process.
func (c *container) signal(n syscall.Signal) error {
	fd, err := c.process()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, n, nil, 0); err != nil {
		return fmt.Errorf("cannot send signal %d to container %q: %w", n, c.ID, err)
	}
	return nil
}

// signalAll sends a signal to all processes. They may outlive the first where it
// has no PID namespace of its own.
func (c *container) signalAll(n syscall.Signal) error {
	if !c.OwnCgroup {
		return c.signal(n)
	}
	if n == syscall.SIGKILL {
		if err := os.WriteFile(filepath.Join(c.Cgroup, "cgroup.kill"), []byte("1"), 0); err == nil {
			return nil
		}
	}
	pids, err := cgroupProcesses(c.Cgroup)
	if err != nil {
		return fmt.Errorf("cannot list processes of container %q: %w", c.ID, err)
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, n); err != nil && err != syscall.ESRCH {
			return fmt.Errorf("cannot send signal %d to process %d: %w", n, pid, err)
		}
	}
	return nil
}

func setupDelete(fs *flag.FlagSet) func(*global, []string) (int, error) {
	var force bool
	fs.BoolVar(&force, "force", false, "kill it first; no error if there is none")
	fs.BoolVar(&force, "f", false, "kill it first; no error if there is none")
	return func(g *global, args []string) (int, error) {
		id, err := one(args)
		if err != nil {
			return 1, err
		}
		return 0, remove(g, id, force)
	}
}

// remove deletes a container: one that has stopped, or that was never started.
func remove(g *global, id string, force bool) error {
	c, err := load(g, id)
	if err != nil {
		if !force || checkID(id) != nil {
			return err
		}
		// What a create that was killed has left.
		return os.RemoveAll(filepath.Join(g.root, id))
	}
	if status := c.status(); status != specs.StateStopped {
		if status != specs.StateCreated && !force {
			return fmt.Errorf("cannot delete container %q: it is %s", id, status)
		}
		if status == statusPaused {
			c.freeze(false)
		}
		if err := c.signal(syscall.SIGKILL); err != nil && c.alive() {
			return err
		}
	}
	if c.OwnCgroup {
		c.signalAll(syscall.SIGKILL) // what has outlived the first process
	}
	if err := c.waitGone(10 * time.Second); err != nil {
		return err
	}
	spec, specErr := c.config()
	state := c.state()
	if err := c.remove(); err != nil {
		return fmt.Errorf("cannot delete container %q: %w", id, err)
	}
	if specErr == nil && spec.Hooks != nil {
		state.Status, state.Pid = specs.StateStopped, 0
		if err := runtime.RunHooks("poststop", spec.Hooks.Poststop, state); err != nil {
			fmt.Fprintln(os.Stderr, "moss-runtime:", err) // logged, and goes on: OCI runtime.md
		}
	}
	return nil
}

func pauseVerb(g *global, args []string) (int, error)  { return freezeVerb(g, args, true) }
func resumeVerb(g *global, args []string) (int, error) { return freezeVerb(g, args, false) }

func freezeVerb(g *global, args []string, frozen bool) (int, error) {
	id, err := one(args)
	if err != nil {
		return 1, err
	}
	c, err := load(g, id)
	if err != nil {
		return 1, err
	}
	status := c.status()
	if frozen && status != specs.StateRunning && status != specs.StateCreated {
		return 1, fmt.Errorf("cannot pause container %q: it is %s", id, status)
	}
	if !frozen && status != statusPaused {
		return 1, fmt.Errorf("cannot resume container %q: it is %s", id, status)
	}
	return 0, c.freeze(frozen)
}

// freeze freezes or thaws the cgroup, and waits until that is done.
func (c *container) freeze(frozen bool) error {
	if !c.OwnCgroup {
		return fmt.Errorf("cannot pause container %q: it has no cgroup of its own", c.ID)
	}
	value := "0"
	if frozen {
		value = "1"
	}
	if err := os.WriteFile(filepath.Join(c.Cgroup, "cgroup.freeze"), []byte(value), 0); err != nil {
		return fmt.Errorf("cannot pause container %q: %w", c.ID, err)
	}
	return waitCgroup(c.Cgroup, "frozen", value, 10*time.Second)
}
