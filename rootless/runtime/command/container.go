package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"moss/record"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// specVersion of the OCI runtime specification.
var specVersion = specs.Version

// kept is what stays of a container: <root>/<id>/state.json. Its status is
// derived from the process, never stored.
type kept struct {
	ID       string
	Bundle   string
	Rootfs   string
	Created  time.Time
	Owner    string
	PID      int
	PIDStart uint64 // a PID may be another process's by now
	Cgroup   string `json:",omitempty"`
	// OwnCgroup is set when we made it, and so remove it.
	OwnCgroup bool `json:",omitempty"`
}

// container is a record and where it is.
type container struct {
	kept
	dir  string
	spec *specs.Spec // as it was at create
}

// idPattern: what can be a directory's name and part of a cgroup's.
func checkID(id string) error {
	ok := id != "" && id != "." && id != ".." && len(id) <= 1024
	for _, r := range id {
		ok = ok && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_+-.", r))
	}
	if !ok {
		return fmt.Errorf("cannot use container ID %q: letters, digits and _+-. are allowed", id)
	}
	return nil
}

// load finds a container.
func load(g *global, id string) (*container, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	c := &container{dir: filepath.Join(g.root, id)}
	data, err := os.ReadFile(filepath.Join(c.dir, "state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot find container %q: container does not exist", id)
	}
	if err == nil {
		err = json.Unmarshal(data, &c.kept)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read state of container %q: %w", id, err)
	}
	return c, nil
}

// config reads the configuration as it was at create.
func (c *container) config() (*specs.Spec, error) {
	if c.spec != nil {
		return c.spec, nil
	}
	data, err := os.ReadFile(filepath.Join(c.dir, "config.json"))
	if err == nil {
		c.spec = new(specs.Spec)
		err = json.Unmarshal(data, c.spec)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration of container %q: %w", c.ID, err)
	}
	return c.spec, nil
}

// save writes the record.
func (c *container) save() error {
	return writeJSON(filepath.Join(c.dir, "state.json"), &c.kept)
}

// writeJSON writes a file that is there whole or not at all.
func writeJSON(path string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

func writeFile(path string, data []byte) error { return record.Replace(path, data, 0o600, false) }

// knock is the socket at which the init stage waits for start.
func (c *container) knock() string { return filepath.Join(c.dir, "start.sock") }

const statusPaused = "paused" // not one of the specification's, but runc's

// status derives the status from the process and its cgroup.
func (c *container) status() specs.ContainerState {
	if !c.alive() {
		return specs.StateStopped
	}
	if _, err := os.Lstat(c.knock()); err == nil {
		return specs.StateCreated
	}
	if frozen, err := os.ReadFile(filepath.Join(c.Cgroup, "cgroup.freeze")); c.Cgroup != "" && err == nil && strings.TrimSpace(string(frozen)) == "1" {
		return statusPaused
	}
	return specs.StateRunning
}

// alive reports whether the first process is there and is still ours.
func (c *container) alive() bool {
	start, zombie, err := processStart(c.PID)
	return err == nil && !zombie && start == c.PIDStart
}

// processStart reads when a process was started: field 22 of proc_pid_stat(5).
func processStart(pid int) (start uint64, zombie bool, err error) {
	if pid <= 0 {
		return 0, false, os.ErrNotExist
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false, err
	}
	// The name, in parentheses, may contain anything.
	fields := strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
	if len(fields) < 20 {
		return 0, false, fmt.Errorf("cannot read /proc/%d/stat", pid)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0] == "Z" || fields[0] == "X", err
}

// process opens a pidfd of the first process and makes sure that it is it.
func (c *container) process() (int, error) {
	fd, err := unix.PidfdOpen(c.PID, 0)
	if err != nil || !c.alive() {
		if err == nil {
			unix.Close(fd)
		}
		return -1, fmt.Errorf("cannot find process of container %q: container not running", c.ID)
	}
	return fd, nil
}

// waitGone waits until the first process is gone, for at most the time given.
func (c *container) waitGone(limit time.Duration) error {
	fd, err := unix.PidfdOpen(c.PID, 0)
	if err != nil || !c.alive() {
		if err == nil {
			unix.Close(fd)
		}
		return nil
	}
	defer unix.Close(fd)
	deadline := time.Now().Add(limit)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("cannot stop container %q: its process does not end", c.ID)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && err != unix.EINTR {
			return err
		}
		if n > 0 {
			return nil
		}
	}
}

// state is the OCI state.
func (c *container) state() *specs.State {
	s := &specs.State{Version: specVersion, ID: c.ID, Status: c.status(), Bundle: c.Bundle}
	if s.Status != specs.StateStopped {
		s.Pid = c.PID
	}
	if spec, err := c.config(); err == nil {
		s.Annotations = spec.Annotations
	}
	return s
}

// remove takes away everything that is left of a container that has ended.
func (c *container) remove() error {
	var errs []error
	if c.OwnCgroup {
		errs = append(errs, removeCgroup(c.Cgroup))
	}
	errs = append(errs, os.RemoveAll(c.dir))
	return errors.Join(errs...)
}
