// Package cgroup gives each container a delegated cgroup, and reads its numbers.
//
// It speaks cgroup v2 only (see the kernel's admin-guide/cgroup-v2.rst) and
// imports the standard library and golang.org/x/sys only: starting a container
// goes through it. What needs the user's service manager is in package systemd.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"moss/systemd/scope"
)

// wanted are the controllers that limits and statistics use.
var wanted = []string{"cpu", "cpuset", "io", "memory", "pids"}

// Parent is the cgroup below which the cgroups of the user's containers are
// made. One that is not Usable has no Dir, and says why.
type Parent struct {
	// Dir is its directory.
	Dir string
	// Top is the directory of the topmost cgroup that is delegated to the user;
	// processes below it can be born below Dir. Where the user's service manager runs it is
	// the scope of moss's own processes.
	Top string
	// Manager is "systemd" when Dir is a slice of the user's service
	// manager, else "cgroupfs".
	Manager string
	// Slice is the unit whose cgroup Dir is, where each container below it is to be a scope
	// of its own; "" where none is.
	Slice string

	tree tree
	none *NoneError
}

// Usable says whether containers can have cgroups here.
func (p *Parent) Usable() bool { return p.none == nil }

// Why says why p is not usable: a *NoneError; nil when it is.
func (p *Parent) Why() error {
	if p.none == nil {
		return nil
	}
	return p.none
}

// Path is the directory of the cgroup of the container with that ID, below
// parent if that is not "": see Under. Its parents are made, itself not.
func (p *Parent) Path(id, parent string) (string, error) {
	q, err := p.Under(parent)
	if err != nil {
		return "", err
	}
	return q.path(id), nil
}

// path uses the part of an ID that names run directories too, or the name of its scope.
func (p *Parent) path(id string) string {
	if p.Slice != "" {
		return filepath.Join(p.Dir, scope.Of(id))
	}
	return filepath.Join(p.Dir, id[:min(len(id), 12)])
}

// Make makes the cgroup of the container with that ID and returns its
// directory. One that a crash left behind, empty, is used again.
func (p *Parent) Make(id string) (string, error) {
	if err := p.Why(); err != nil {
		return "", err
	}
	dir := p.path(id)
	err := os.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		// The scope went away between Find and now, or Under's directory was
		// removed by a container that ended.
		if err = p.prepare(); err == nil {
			err = os.Mkdir(dir, 0o755)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot make cgroup %q: %w", dir, err)
	}
	return dir, nil
}

// Monitors makes, once, the cgroup for the processes that supervise containers
// and returns its directory. A monitor that is born there may clone containers
// into their cgroups wherever its caller came from, and outlives the caller's
// login session.
func (p *Parent) Monitors() (string, error) {
	if err := p.Why(); err != nil {
		return "", err
	}
	dir := filepath.Join(p.base(), "monitors")
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("cannot make cgroup %q: %w", dir, err)
	}
	return dir, nil
}

// Net is the path of the cgroup for the process that connects containers, which belongs to
// none of them, and makes it itself. It is "" where there are none.
func (p *Parent) Net() string {
	if p.Why() != nil {
		return ""
	}
	return filepath.Join(p.base(), "net")
}

// base is the cgroup of moss's own processes.
func (p *Parent) base() string {
	if p.Manager == managerSystemd {
		return p.Top
	}
	return filepath.Join(p.Top, "moss")
}

// Controllers are the controllers that a container's cgroup has.
func (p *Parent) Controllers() []string {
	if !p.Usable() {
		return nil
	}
	return words(filepath.Join(p.Dir, "cgroup.subtree_control"))
}

// Missing are the controllers that limits could use but that the user's
// cgroups do not have.
func (p *Parent) Missing() []string {
	have := p.Controllers()
	return slices.DeleteFunc(slices.Clone(wanted), func(c string) bool { return slices.Contains(have, c) })
}

// Under is p as --cgroup-parent asks: a slice of the user's service manager where that
// runs, and else one or more levels down. A relative name is below moss's own cgroup, an
// absolute one is a cgroup's path as /proc/PID/cgroup has it, which must be below what is
// delegated to the user.
func (p *Parent) Under(parent string) (*Parent, error) {
	if err := p.Why(); err != nil {
		return nil, err
	}
	if parent == "" {
		return p, nil
	}
	if slices.Contains(strings.Split(parent, "/"), "..") {
		return nil, fmt.Errorf("cannot use cgroup parent %q: it contains \"..\"", parent)
	}
	q := *p
	if p.Manager == managerSystemd && strings.HasSuffix(parent, ".slice") {
		q.Slice = filepath.Base(parent)
		q.Dir = filepath.Join(p.service(), slicePath(q.Slice))
		if err := q.prepare(); err != nil {
			return nil, fmt.Errorf("cannot use cgroup parent %q: %w", parent, err)
		}
		return &q, nil
	}
	q.Slice = ""
	if filepath.IsAbs(parent) {
		q.Dir = p.tree.dir(filepath.Clean(parent))
		if !below(q.Dir, p.Top) {
			return nil, fmt.Errorf("cannot use cgroup parent %q: it is not delegated to you: only what is below %q is",
				parent, p.tree.path(p.Top))
		}
	} else {
		q.Dir = filepath.Join(p.base(), parent)
	}
	if err := q.prepare(); err != nil {
		return nil, fmt.Errorf("cannot use cgroup parent %q: %w", parent, err)
	}
	return &q, nil
}

// service is the cgroup of the user's service manager, of which Top is two levels down.
func (p *Parent) service() string { return filepath.Dir(filepath.Dir(p.Top)) }

// SliceMissing is the slice that --cgroup-parent asks for, where the user's service manager has to
// be asked for it first; else "".
func (p *Parent) SliceMissing(parent string) string {
	name := filepath.Base(parent)
	if p.Manager != managerSystemd || !strings.HasSuffix(parent, ".slice") {
		return ""
	}
	if _, err := os.Stat(filepath.Join(p.service(), slicePath(name))); err == nil {
		return ""
	}
	return name
}

// slicePath is where a slice is: a-b.slice is in a.slice; see systemd.slice(5).
func slicePath(name string) string {
	path := ""
	for i, c := range strings.TrimSuffix(name, ".slice") {
		if c == '-' {
			path = filepath.Join(path, name[:i]+".slice")
		}
	}
	return filepath.Join(path, name)
}

// prepare makes the directories down to Dir and hands the controllers down
// through each, as far as the kernel lets it.
func (p *Parent) prepare() error {
	dir := p.Top
	if p.Slice != "" {
		dir = p.service()
		enable(p.Top)
	}
	rel, err := filepath.Rel(dir, p.Dir)
	if err != nil {
		return err
	}
	enable(dir)
	for name := range strings.SplitSeq(rel, "/") {
		if name == "." {
			continue
		}
		dir = filepath.Join(dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		enable(dir)
	}
	return nil
}

// enable gives the wanted controllers of a cgroup to its children. One write
// for each: a single controller that is refused (EBUSY while processes are in
// the cgroup itself: "no internal processes", cgroup-v2.rst) refuses the whole
// write. What could not be enabled shows in Controllers.
func enable(dir string) {
	control := filepath.Join(dir, "cgroup.subtree_control")
	have := words(control)
	for _, c := range words(filepath.Join(dir, "cgroup.controllers")) {
		if slices.Contains(wanted, c) && !slices.Contains(have, c) {
			_ = write(control, "+"+c)
		}
	}
}

// words reads a file of words separated by spaces; none when it cannot be read.
func words(path string) []string {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	return strings.Fields(string(data))
}

// write writes a control file in one write(2), never creating it.
func write(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// below says whether path is dir or beneath it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// delegated says whether the user may make cgroups in dir and move processes
// below it: the three files that cgroup-v2.rst names in "Model of Delegation".
// access(2) goes by the real IDs, which is right: moss is never set-uid.
func delegated(dir string) bool {
	return unix.Access(dir, unix.W_OK|unix.X_OK) == nil &&
		unix.Access(filepath.Join(dir, "cgroup.procs"), unix.W_OK) == nil &&
		unix.Access(filepath.Join(dir, "cgroup.subtree_control"), unix.W_OK) == nil
}
