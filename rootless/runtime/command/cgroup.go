package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// cgroupRoot is where cgroup2 is mounted: alone, or beside version 1.
func cgroupRoot() (string, error) {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && int64(st.Type) == unix.CGROUP2_SUPER_MAGIC {
			return dir, nil
		}
	}
	return "", errors.New("cgroup version 2 is not mounted")
}

// ownCgroup is the cgroup of this process, below the root.
func ownCgroup() (string, error) {
	data, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path, nil
		}
	}
	return "", errors.New("this process is in no cgroup of version 2")
}

// makeCgroup makes the container's cgroup with its limits, and returns its
// directory and whether it is ours to remove. An absolute cgroupsPath is below
// the root of the hierarchy, a relative one (and none: the ID) below the cgroup
// of the caller. Who may not make it runs the container in the caller's own,
// unless limits are asked for, which would then not hold.
func makeCgroup(spec *specs.Spec, id string) (dir string, made bool, err error) {
	values, err := limitFiles(spec.Linux.Resources)
	if err != nil {
		return "", false, err
	}
	dir, err = cgroupPath(spec.Linux.CgroupsPath, id)
	if err == nil {
		made, err = makeDirectory(dir)
	}
	if err == nil {
		err = applyLimits(dir, values)
	}
	if err == nil {
		err = limitDevices(dir, spec.Linux.Resources)
	}
	if err == nil {
		return dir, made, nil
	}
	if made {
		removeCgroup(dir)
	}
	if len(values) == 0 && os.Geteuid() != 0 || len(values) == 0 && inUserNamespace() {
		return "", false, nil
	}
	return "", false, fmt.Errorf("cannot make cgroup of container %q: %w", id, err)
}

// inUserNamespace reports whether this is a user namespace below the first.
func inUserNamespace() bool {
	data, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(data)), " ") != "0 0 4294967295"
}

func cgroupPath(path, id string) (string, error) {
	root, err := cgroupRoot()
	if err != nil {
		return "", err
	}
	if strings.Count(path, ":") == 2 && !strings.Contains(path, "/") {
		return "", fmt.Errorf("cgroupsPath %q is for the systemd cgroup manager, which is not supported", path)
	}
	if filepath.IsAbs(path) {
		return filepath.Join(root, filepath.Clean(path)), nil
	}
	own, err := ownCgroup()
	if err != nil {
		return "", err
	}
	if path == "" {
		// The same ID may be in use below another --root.
		path = fmt.Sprintf("moss-runtime-%s-%d", id, os.Getpid())
	}
	// Processes and controllers do not go together in one cgroup: beside ours.
	return filepath.Join(root, filepath.Dir(own), filepath.Clean("/"+path)), nil
}

// makeDirectory makes a cgroup and what is missing above it.
func makeDirectory(dir string) (made bool, err error) {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return false, err
	}
	err = os.Mkdir(dir, 0o755)
	if !errors.Is(err, os.ErrExist) {
		return err == nil, err
	}
	// What a crash has left is taken over; what others are in is not.
	pids, err := cgroupProcesses(dir)
	if err == nil && len(pids) > 0 {
		err = fmt.Errorf("cgroup %q is in use by process %d", dir, pids[0])
	}
	return err == nil, err
}

// applyLimits writes the files of a cgroup, having its parents pass the
// controllers on.
func applyLimits(dir string, values map[string]string) error {
	controllers := map[string]bool{}
	for file := range values {
		if name, _, ok := strings.Cut(file, "."); ok && name != "cgroup" {
			controllers[name] = true
		}
	}
	passControllers(dir, controllers)
	files := make([]string, 0, len(values))
	for file := range values {
		files = append(files, file)
	}
	sort.Strings(files)
	for _, file := range files {
		if err := writeCgroup(dir, file, values[file]); err != nil {
			return err
		}
	}
	return nil
}

// passControllers enables controllers from the top down, as far as they are
// delegated; what is missing then is noticed when the limit is written.
func passControllers(dir string, controllers map[string]bool) {
	root, err := cgroupRoot()
	if err != nil || len(controllers) == 0 {
		return
	}
	at := root
	for part := range strings.SplitSeq(strings.Trim(strings.TrimPrefix(filepath.Dir(dir), root), "/"), "/") {
		for name := range controllers {
			os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+name), 0)
		}
		at = filepath.Join(at, part)
	}
	for name := range controllers {
		os.WriteFile(filepath.Join(at, "cgroup.subtree_control"), []byte("+"+name), 0)
	}
}

// writeCgroup writes one file; one that is not there is a controller that is not
// delegated.
func writeCgroup(dir, file, value string) error {
	if strings.ContainsRune(file, '/') {
		return fmt.Errorf("cannot set %q: not a file of a cgroup", file)
	}
	for line := range strings.SplitSeq(value, "\n") {
		f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
		if errors.Is(err, os.ErrNotExist) && line == "max" {
			continue // no limit is what there is
		}
		if errors.Is(err, os.ErrNotExist) {
			controller, _, _ := strings.Cut(file, ".")
			return fmt.Errorf("cannot set limit %s: the %s controller is not delegated to this cgroup", file, controller)
		}
		if err != nil {
			return fmt.Errorf("cannot set limit %s: %w", file, err)
		}
		_, err = f.WriteString(line)
		err = errors.Join(err, f.Close())
		if err != nil {
			return fmt.Errorf("cannot set limit %s to %q: %w", file, line, err)
		}
	}
	return nil
}

// removeCgroup removes a cgroup and those below it, deepest first.
func removeCgroup(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeCgroup(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	err = unix.Rmdir(dir)
	if err == unix.EBUSY {
		// A killed process is in it until it is reaped: wait for the event.
		if err := waitCgroup(dir, "populated", "0", 5*time.Second); err != nil {
			return err
		}
		err = unix.Rmdir(dir)
	}
	if err != nil && err != unix.ENOENT {
		return fmt.Errorf("cannot remove cgroup %q: %w", dir, err)
	}
	return nil
}

// waitCgroup waits until a key of cgroup.events has a value: the file signals its
// changes by POLLPRI; see the kernel's cgroup-v2.rst.
func waitCgroup(dir, key, want string, limit time.Duration) error {
	f, err := os.Open(filepath.Join(dir, "cgroup.events"))
	if err != nil {
		return err
	}
	defer f.Close()
	deadline := time.Now().Add(limit)
	for {
		data := make([]byte, 256)
		n, err := f.ReadAt(data, 0)
		if n == 0 && err != nil {
			return err
		}
		for line := range strings.Lines(string(data[:n])) {
			if strings.TrimSpace(line) == key+" "+want {
				return nil
			}
		}
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("cannot wait for cgroup %q: it did not become %s %s", dir, key, want)
		}
		unix.Poll([]unix.PollFd{{Fd: int32(f.Fd()), Events: unix.POLLPRI}}, int(left.Milliseconds())+1)
	}
}

// cgroupProcesses lists the processes of a cgroup and those below it.
func cgroupProcesses(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return err
		}
		for _, word := range strings.Fields(string(data)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	sort.Ints(pids)
	return pids, err
}
