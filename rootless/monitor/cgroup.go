package monitor

import (
	"bytes"
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

	"moss/record"
)

// group is the container's cgroup, by directory; "" where it has none.
type group string

// make makes the cgroup and sets its limits.
func (g group) make(limits map[string]string) error {
	if g == "" {
		return nil
	}
	if err := os.MkdirAll(string(g), 0o755); err != nil {
		return fmt.Errorf("cannot make cgroup %q: %w", string(g), err)
	}
	return g.limit(limits)
}

// limit sets limits, each of them anew.
func (g group) limit(limits map[string]string) error {
	files := make([]string, 0, len(limits))
	for file := range limits {
		files = append(files, file)
	}
	slices.Sort(files) // memory.max before memory.swap.max; and the same error each time
	for _, file := range files {
		for line := range strings.SplitSeq(limits[file], "\n") { // io.max takes one line at a time
			if err := g.write(file, line); err != nil {
				return fmt.Errorf("cannot set %s to %q in cgroup %q: %w", file, line, string(g), err)
			}
		}
	}
	return nil
}

func (g group) write(file, value string) error {
	fd, err := unix.Open(filepath.Join(string(g), file), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Write(fd, []byte(value))
	return err
}

// kill kills every process in the cgroup and below; kernel 5.14.
func (g group) kill() {
	if g != "" {
		g.write("cgroup.kill", "1")
	}
}

// frozen says whether the container is paused.
func (g group) frozen() bool {
	if g == "" {
		return false
	}
	data, err := record.ReadFile(filepath.Join(string(g), "cgroup.freeze"))
	return err == nil && len(data) > 0 && data[0] == '1'
}

// populated says whether a process is left there.
func (g group) populated() bool {
	data, err := record.ReadFile(filepath.Join(string(g), "cgroup.events"))
	return err == nil && bytes.Contains(data, []byte("populated 1"))
}

// thaw lets a container that is paused go on.
func (g group) thaw() {
	if g.frozen() {
		g.write("cgroup.freeze", "0")
	}
}

// parent is the cgroup above.
func (g group) parent() group {
	if g == "" {
		return ""
	}
	return group(filepath.Dir(string(g)))
}

// oomKills is how many processes the kernel has killed here, and below, for want of memory.
func (g group) oomKills() int {
	if g == "" {
		return 0
	}
	data, err := record.ReadFile(filepath.Join(string(g), "memory.events"))
	if err != nil {
		return 0
	}
	return oomKillsIn(data)
}

// oomKillsIn reads memory.events.
func oomKillsIn(data []byte) int {
	for line := range bytes.Lines(data) {
		if n, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			kills, _ := strconv.Atoi(string(bytes.TrimSpace(n)))
			return kills
		}
	}
	return 0
}

// remove kills what is left and removes the cgroup with those below it.
func (g group) remove() error {
	if g == "" {
		return nil
	}
	err := unix.Rmdir(string(g))
	if err == nil || err == unix.ENOENT {
		return nil
	}
	g.kill()
	g.waitEmpty(2 * time.Second)
	if err := removeTree(string(g)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove cgroup %q: %w", string(g), err)
	}
	return nil
}

// waitEmpty waits until no process is left: the kernel announces a change of
// cgroup.events as an exceptional condition, see cgroups(7).
func (g group) waitEmpty(limit time.Duration) {
	fd, err := unix.Open(filepath.Join(string(g), "cgroup.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	until := time.Now().Add(limit)
	for time.Now().Before(until) {
		var data [256]byte
		n, err := unix.Pread(fd, data[:], 0)
		if err != nil || bytes.Contains(data[:n], []byte("populated 0")) {
			return
		}
		unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, timeout(until))
	}
}

// removeTree removes a directory of cgroups, the deepest first. The files in
// them cannot and need not be removed.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			removeTree(filepath.Join(dir, e.Name()))
		}
	}
	return unix.Rmdir(dir)
}
