package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/systemd/scope"
)

// patience bounds every wait for the kernel: freezing, killing, emptying.
const patience = 10 * time.Second

// Freeze stops every process in a cgroup and returns when they have stopped.
func Freeze(dir string) error { return freezer(dir, "1") }

// Thaw lets the processes of a frozen cgroup go on.
func Thaw(dir string) error { return freezer(dir, "0") }

func freezer(dir, value string) error {
	verb := map[string]string{"0": "thaw", "1": "freeze"}[value]
	if err := write(filepath.Join(dir, "cgroup.freeze"), value); err != nil {
		return fmt.Errorf("cannot %s cgroup %q: %w", verb, dir, err)
	}
	err := await(dir, func() bool { return event(dir, "frozen") == value })
	if err != nil && value == "1" {
		err = errors.Join(err, write(filepath.Join(dir, "cgroup.freeze"), "0"))
	}
	if err != nil {
		return fmt.Errorf("cannot %s cgroup %q: %w", verb, dir, err)
	}
	return nil
}

// AwaitFrozen waits until every process of a cgroup that is being frozen has stopped.
func AwaitFrozen(dir string) error {
	return await(dir, func() bool { return event(dir, "frozen") == "1" })
}

// Frozen says whether the processes of a cgroup have been stopped, or are being
// stopped, by Freeze.
func Frozen(dir string) bool { return first(filepath.Join(dir, "cgroup.freeze")) == "1" }

// Kill kills every process in a cgroup and below, and returns when the cgroup
// is empty. One that is not there is empty.
func Kill(dir string) error {
	err := write(filepath.Join(dir, "cgroup.kill"), "1")
	if errors.Is(err, fs.ErrNotExist) { // Linux before 5.14, or no cgroup
		err = killEach(dir)
	}
	if err == nil {
		err = await(dir, func() bool { return event(dir, "populated") != "1" })
	}
	if err != nil {
		return fmt.Errorf("cannot kill cgroup %q: %w", dir, err)
	}
	return nil
}

// killEach kills one by one. The cgroup is frozen first, so that no process
// forks away; a killed process dies although it is frozen (cgroup-v2.rst).
func killEach(dir string) error {
	if err := write(filepath.Join(dir, "cgroup.freeze"), "1"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	err := await(dir, func() bool { return event(dir, "frozen") == "1" })
	pids, listErr := Procs(dir)
	err = errors.Join(err, listErr)
	for _, pid := range pids {
		if killErr := unix.Kill(pid, unix.SIGKILL); killErr != nil && killErr != unix.ESRCH {
			err = errors.Join(err, killErr)
		}
	}
	return errors.Join(err, write(filepath.Join(dir, "cgroup.freeze"), "0"))
}

// Remove removes a cgroup and those below it. It waits a moment for processes
// that are dying; one that is not there has been removed.
func Remove(dir string) error {
	err := removeAll(dir)
	if errors.Is(err, unix.EBUSY) {
		if err = await(dir, func() bool { return event(dir, "populated") != "1" }); err == nil {
			err = removeAll(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot remove cgroup %q: %w", dir, err)
	}
	return nil
}

// Leave is Remove for the cgroup of a container whose processes have ended. One that is a
// scope the service manager removes when it has seen that: it is given a moment.
func Leave(dir string) error {
	if strings.HasSuffix(dir, ".scope") {
		scope.AwaitRemoval(dir, time.Second)
	}
	return Remove(dir)
}

func removeAll(dir string) error {
	err := unix.Rmdir(dir)
	if err == nil || err == unix.ENOENT {
		return nil
	}
	// Most have no children; only now look for them. EBUSY is the answer both
	// to processes and to children.
	children, listErr := subdirs(dir)
	if listErr != nil {
		return listErr
	}
	for _, child := range children {
		if err := removeAll(child); err != nil {
			return err
		}
	}
	if err := unix.Rmdir(dir); err != nil && err != unix.ENOENT {
		return err
	}
	return nil
}

func subdirs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var dirs []string
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, filepath.Join(dir, e.Name()))
		}
	}
	return dirs, err
}

// Procs are the IDs of the processes in a cgroup and below, in ascending order.
func Procs(dir string) ([]int, error) {
	data, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, unix.ENODEV) { // removed between open and read
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of cgroup %q: %w", dir, err)
	}
	var pids []int
	for word := range strings.FieldsSeq(string(data)) {
		// 0 is a process that this PID namespace does not see.
		if pid, err := strconv.Atoi(word); err == nil && pid > 0 {
			pids = append(pids, pid)
		}
	}
	children, err := subdirs(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot list the processes of cgroup %q: %w", dir, err)
	}
	for _, child := range children {
		more, err := Procs(child)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		pids = append(pids, more...)
	}
	slices.Sort(pids)
	return pids, nil
}

// event is one value of cgroup.events; "" when the cgroup is gone.
func event(dir, name string) string {
	return keyed(filepath.Join(dir, "cgroup.events"))[name]
}

// keyed reads a file of "key value" lines.
func keyed(path string) map[string]string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	values := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			values[key] = value
		}
	}
	return values
}

// await waits until ready says so, looking again whenever cgroup.events
// changes, which wakes poll(2) with POLLPRI.
func await(dir string, ready func() bool) error {
	deadline := time.Now().Add(patience)
	events, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		if ready() {
			return nil
		}
		return err
	}
	defer events.Close()
	var buf [256]byte
	for {
		// Reading arms the next notification; look only after it.
		_, err := unix.Pread(int(events.Fd()), buf[:], 0)
		if ready() {
			return nil
		}
		if err != nil {
			return err // ENODEV: the cgroup is gone
		}
		left := time.Until(deadline)
		if left <= 0 {
			return os.ErrDeadlineExceeded
		}
		fds := []unix.PollFd{{Fd: int32(events.Fd()), Events: unix.POLLPRI}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return err
		}
	}
}
