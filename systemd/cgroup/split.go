package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// supervisor is the cgroup of moss and of monitors in a split cgroup, as podman
// names it.
const supervisor = "supervisor"

// Split makes the caller's own cgroup a Parent, for containers that are to stay in
// the unit that started them, and moves what is in it below it, the caller too: a
// cgroup that hands controllers down holds no processes itself. It must be delegated to
// the user, as Delegate=yes does for a unit of systemd.
func Split() (*Parent, error) {
	h := host{self: "/proc/self/cgroup", mountinfo: "/proc/self/mountinfo"}
	self, err := ownPath(h.self)
	if err != nil {
		return nil, err
	}
	t, err := h.tree()
	if err != nil {
		return nil, err
	}
	dir := t.dir(self)
	if filepath.Base(dir) == supervisor { // of a container before this one
		dir = filepath.Dir(dir)
	}
	if !delegated(dir) {
		return nil, fmt.Errorf("cannot split cgroup %q: it is not delegated to you, as a unit with Delegate=yes would be", self)
	}
	monitors := filepath.Join(dir, supervisor)
	if err := os.Mkdir(monitors, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot split cgroup %q: %w", self, err)
	}
	var procs []string
	if dir == t.dir(self) { // else they have been moved
		procs = words(filepath.Join(dir, "cgroup.procs")) // moss-pause too, when it was made just now
	}
	for _, pid := range procs {
		if err := write(filepath.Join(monitors, "cgroup.procs"), pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, fmt.Errorf("cannot split cgroup %q: %w", self, err)
		}
	}
	enable(dir)
	return &Parent{Top: dir, Dir: dir, Manager: managerCgroupfs, tree: t}, nil
}

// Reaches says whether a process in this one's cgroup can make others in those
// below p: the kernel wants their common ancestor to be the user's too
// (cgroup-v2.rst, "Delegation Containment").
func (p *Parent) Reaches() bool {
	self, err := ownPath("/proc/self/cgroup")
	if err != nil || !p.Usable() {
		return false
	}
	for dir := p.tree.dir(self); ; dir = filepath.Dir(dir) {
		if below(p.Dir, dir) {
			return delegated(dir)
		}
		if dir == p.tree.Mount || dir == "/" {
			return false
		}
	}
}
