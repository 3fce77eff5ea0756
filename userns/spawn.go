package userns

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// The steps that enter.c reports; see the drawing above its report function.
const (
	stepUnshare = 1 + iota
	stepMount
	stepFork
	stepReady
	stepUnshared
)

// spawn starts a pause process: in new namespaces with these maps, or in those
// of a survivor.
func spawn(ctx context.Context, maps *idMaps, s *survivor) (_ *process, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket: %w", err)
	}
	control, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer control.Close()

	// The constructor in this same program is the pause process.
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{"moss-pause"}
	cmd.Env = []string{pauseVar + "=1"}
	cmd.ExtraFiles = []*os.File{theirs}
	if s != nil {
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=4:%x", joinVar, s.flags))
		cmd.ExtraFiles = append(cmd.ExtraFiles, s.fd)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return nil, fmt.Errorf("cannot start the pause process: %w", err)
	}
	// The process started here ends when its child, the pause process, is ready,
	// or when the control socket closes.
	defer func() {
		control.Close()
		cmd.Wait()
		if err != nil && stderr.Len() > 0 {
			err = fmt.Errorf("%w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
	}()

	if s == nil {
		if _, err := receive(control, stepUnshared); err != nil {
			return nil, err
		}
		if err := maps.write(ctx, cmd.Process.Pid); err != nil {
			return nil, err
		}
		if _, err := control.Write([]byte("M")); err != nil {
			return nil, fmt.Errorf("cannot talk to the pause process: %w", cause(err))
		}
	}
	pid, err := receive(control, stepReady)
	if err != nil {
		return nil, err
	}
	p := openProcess(pid, 0)
	if p == nil {
		return nil, errors.New("the pause process has ended at once")
	}
	return p, nil
}

// receive reads one report of enter.c: step, errno, PID.
func receive(control *os.File, want int32) (pid int, err error) {
	var message [3]int32
	if err := binary.Read(control, binary.NativeEndian, &message); err != nil {
		return 0, errors.New("the pause process has ended before it was ready")
	}
	step, errno := message[0], unix.Errno(message[1])
	if step == want && errno == 0 {
		return int(message[2]), nil
	}
	switch step {
	case stepUnshare:
		return 0, refusal(errno)
	case stepMount:
		return 0, fmt.Errorf("cannot change mount propagation: %w", refusal(errno))
	case stepFork:
		return 0, fmt.Errorf("cannot fork the pause process: %w", errno)
	}
	return 0, fmt.Errorf("the pause process reports step %d: %w", step, errno)
}

// write gives a new user namespace its maps.
func (m idMaps) write(ctx context.Context, pid int) error {
	if m.single() {
		return m.writeOwn(pid)
	}
	gid := make(chan error, 1) // filled by the goroutine below, which ends with newgidmap
	go func() { gid <- runMap(ctx, "newgidmap", pid, m.gid) }()
	err := runMap(ctx, "newuidmap", pid, m.uid)
	// Both fail for the same reason: one line tells it.
	if errGID := <-gid; err == nil {
		err = errGID
	}
	return err
}

// writeOwn maps the user's own ID, which needs no privilege. The gid map is
// refused until setgroups is denied: user_namespaces(7), CVE-2014-8989.
// newgidmap does that for us, a map written by hand must not forget it.
func (m idMaps) writeOwn(pid int) error {
	for _, f := range [...]struct{ name, text string }{
		{"setgroups", "deny"},
		{"uid_map", fmt.Sprintf("0 %d 1", m.uid[0].Host)},
		{"gid_map", fmt.Sprintf("0 %d 1", m.gid[0].Host)},
	} {
		path := fmt.Sprintf("/proc/%d/%s", pid, f.name)
		if err := os.WriteFile(path, []byte(f.text), 0); err != nil {
			if errno, ok := cause(err).(unix.Errno); ok && errno == unix.EPERM {
				return fmt.Errorf("cannot write %q: %w", path, refusal(errno))
			}
			return fmt.Errorf("cannot write %q: %w", path, cause(err))
		}
	}
	return nil
}

// runMap runs newuidmap(1) or newgidmap(1).
func runMap(ctx context.Context, program string, pid int, maps []IDMap) error {
	path, err := findProgram(program)
	if err != nil {
		return err
	}
	args := []string{strconv.Itoa(pid)}
	for _, m := range maps {
		args = append(args, strconv.Itoa(m.Container), strconv.Itoa(m.Host), strconv.Itoa(m.Size))
	}
	cmd := exec.CommandContext(ctx, path, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		text := string(bytes.TrimSpace(stderr.Bytes()))
		if text == "" {
			text = err.Error()
		}
		return fmt.Errorf("cannot map IDs: %w", mapRefusal(path, text))
	}
	return nil
}
