package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/systemd/scope"
)

const (
	managerSystemd  = "systemd"
	managerCgroupfs = "cgroupfs"

	// Scope is the unit in which the user's service manager keeps moss's own processes, and
	// Slice the one in which it keeps that and the containers.
	Scope = scope.Own
	Slice = scope.Slice
)

// ErrNeedsScope says that the user's service manager must first be asked for a
// scope, or to move this process into the one it made: systemd.Cgroup does it.
var ErrNeedsScope = errors.New("the user's service manager has not been asked for a scope")

// NoneError says why containers cannot have cgroups here. They run without:
// no limits, no pause, no statistics.
type NoneError struct{ Reason, Mend string }

func (e *NoneError) Error() string { return "containers cannot have cgroups: " + e.Reason }

// Hint is the command that mends it, or "".
func (e *NoneError) Hint() string { return e.Mend }

// host is where Find looks; tests put a fake tree there.
type host struct {
	self      string // /proc/self/cgroup
	mountinfo string // /proc/self/mountinfo
	manager   string // the control socket of the user's service manager, or ""
	uid       int
	delegated func(dir string) bool
}

// None is a Parent that is not usable, and why.
func None(why *NoneError) *Parent { return &Parent{none: why} }

// Find returns the cgroup below which containers' cgroups are made, and makes
// it. manager is "systemd", "cgroupfs" or "none", or "" for the best there is. The answer
// is kept in <run>/cgroup.json. Where there can be none the
// Parent is not Usable. The only error is ErrNeedsScope.
func Find(run, manager string) (*Parent, error) {
	if manager == "none" {
		return None(&NoneError{Reason: "you have chosen the cgroup manager none"}), nil
	}
	h := host{self: "/proc/self/cgroup", mountinfo: "/proc/self/mountinfo", uid: HostUID(), delegated: delegated}
	if p := h.cached(run, manager); p != nil {
		return p, nil
	}
	if manager != managerCgroupfs {
		h.manager = ManagerSocket()
	}
	if manager == managerSystemd && h.manager == "" {
		return None(&NoneError{Reason: "you have chosen the cgroup manager systemd, and no service manager of yours runs", Mend: "sudo loginctl enable-linger " + userName()}), nil
	}
	p, err := h.find()
	if none, ok := errors.AsType[*NoneError](err); ok {
		return None(none), nil
	}
	if err != nil {
		return nil, err
	}
	keep(run, manager, p)
	p.takePause(run)
	return p, nil
}

// takePause moves the pause process to moss's own others, where it is not: who has made it may
// be in a unit, at whose end all that is in it is killed. One that is made from now on goes
// there at once; see userns.
func (p *Parent) takePause(run string) {
	pid, err := PausePID(run)
	if err != nil || p.Slice == "" {
		return
	}
	leaf := filepath.Join(p.Top, "pause")
	_ = os.Mkdir(leaf, 0o755)
	_ = write(filepath.Join(leaf, "cgroup.procs"), strconv.Itoa(pid))
}

// PausePID reads the ID of the pause process from <run>/pause:
// "<protocol> <pid> <starttime> <signature>".
func PausePID(run string) (int, error) {
	data, err := os.ReadFile(filepath.Join(run, "pause"))
	if err != nil {
		return 0, fmt.Errorf("the pause process is not known: %w", err)
	}
	fields := strings.Fields(string(data))
	if len(fields) < 2 {
		return 0, fmt.Errorf("cannot read %q", filepath.Join(run, "pause"))
	}
	pid, err := strconv.Atoi(fields[1])
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("cannot read %q: bad process ID %q", filepath.Join(run, "pause"), fields[1])
	}
	return pid, nil
}

// find looks the parent up in the tree.
func (h host) find() (*Parent, error) {
	self, err := ownPath(h.self)
	if err != nil {
		return nil, err
	}
	t, err := h.tree()
	if err != nil {
		return nil, err
	}
	if !below(self, t.Root) {
		return nil, &NoneError{Reason: fmt.Sprintf("%q shows only the cgroups below %q, and moss is in %q", t.Mount, t.Root, self)}
	}

	top := h.topmost(t, self)
	service := serviceOf(self, h.uid)
	if h.manager != "" && (top == "" || below(self, service)) {
		return h.scope(t, self, service)
	}
	if top == "" {
		return nil, &NoneError{
			Reason: fmt.Sprintf("none of the cgroups above this process (%s) is delegated to you, and no user service manager runs", self),
			Mend:   "sudo loginctl enable-linger " + userName(),
		}
	}
	p := &Parent{Top: top, Dir: filepath.Join(top, "moss"), Manager: managerCgroupfs, tree: t}
	if err := p.prepare(); err != nil {
		return nil, &NoneError{Reason: err.Error()}
	}
	return p, nil
}

// scope finds moss's scope below the service of the user's manager.
func (h host) scope(t tree, self, service string) (*Parent, error) {
	slice := filepath.Join(t.dir(service), Slice)
	dir := filepath.Join(slice, Scope)
	// Being born in the scope needs write access to a common ancestor, and the
	// scope itself must hold no process; see enable.
	if !below(self, service) || !h.delegated(dir) || len(words(filepath.Join(dir, "cgroup.procs"))) > 0 {
		return nil, ErrNeedsScope
	}
	p := &Parent{Top: dir, Dir: slice, Manager: managerSystemd, Slice: Slice, tree: t}
	if err := p.prepare(); err != nil {
		return nil, &NoneError{Reason: err.Error()}
	}
	return p, nil
}

// topmost is the directory of the highest cgroup above self that is delegated.
func (h host) topmost(t tree, self string) string {
	top := ""
	for dir := t.dir(self); ; dir = filepath.Dir(dir) {
		if h.delegated(dir) {
			top = dir
		}
		if dir == t.Mount || dir == "/" {
			return top
		}
	}
}

// serviceOf is the cgroup of the service manager of the user uid, as seen from a
// process in self; see user@.service(5).
func serviceOf(self string, uid int) string {
	name := fmt.Sprintf("/user-%d.slice/user@%[1]d.service", uid)
	slice := fmt.Sprintf("/user-%d.slice/", uid)
	if before, _, ok := strings.Cut(self, slice); ok {
		return before + name
	}
	return "/user.slice" + name
}

// ownPath is this process's path in the cgroup v2 tree.
func ownPath(file string) (string, error) {
	data, err := record.ReadFile(file)
	if err != nil {
		return "", &NoneError{Reason: err.Error()}
	}
	for line := range strings.Lines(string(data)) {
		if path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return path, nil
		}
	}
	return "", &NoneError{Reason: "this machine has cgroup v1 only", Mend: bootUnified}
}

const bootUnified = "sudo sed -i 's/^GRUB_CMDLINE_LINUX=\"/&systemd.unified_cgroup_hierarchy=1 /' /etc/default/grub && sudo update-grub && sudo reboot"

// tree is where the cgroup v2 tree is seen.
type tree struct {
	Mount string // the mount point
	Root  string // the cgroup that is mounted there, "/" as a rule
}

// dir is the directory of the cgroup at path in /proc/PID/cgroup.
func (t tree) dir(path string) string {
	return filepath.Join(t.Mount, strings.TrimPrefix(path, strings.TrimSuffix(t.Root, "/")))
}

// path is the reverse of dir.
func (t tree) path(dir string) string {
	return filepath.Join("/", t.Root, strings.TrimPrefix(dir, t.Mount))
}

// tree finds where cgroup2 is mounted. The last mount wins: it may cover an
// earlier one; but the usual place wins over others.
func (h host) tree() (tree, error) {
	data, err := record.ReadFile(h.mountinfo)
	if err != nil {
		return tree{}, &NoneError{Reason: err.Error()}
	}
	var t tree
	readOnly := false
	for line := range strings.Lines(string(data)) {
		// 36 35 98:0 /root /point rw,noatime shared:1 - cgroup2 cgroup2 rw: proc_pid_mountinfo(5)
		before, after, ok := strings.Cut(line, " - ")
		f := strings.Fields(before)
		if !ok || len(f) < 6 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		if t.Mount == "/sys/fs/cgroup" && f[4] != t.Mount {
			continue
		}
		t = tree{Mount: unescape(f[4]), Root: unescape(f[3])}
		readOnly = f[5] == "ro" || strings.HasPrefix(f[5], "ro,")
	}
	switch {
	case t.Mount == "":
		return t, &NoneError{Reason: "cgroup v2 is not mounted", Mend: bootUnified}
	case readOnly:
		return t, &NoneError{Reason: fmt.Sprintf("%q is mounted read-only", t.Mount)}
	}
	return t, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// ManagerSocket is the control socket of the user's service manager when it
// runs, else "". It is looked for by the user's ID as well, because moss is
// often given a runtime directory of its own.
func ManagerSocket() string {
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/run/user/" + strconv.Itoa(HostUID())} {
		path := filepath.Join(dir, "systemd", "private")
		if dir != "" && unix.Access(path, unix.W_OK) == nil {
			return path
		}
	}
	return ""
}

// HostUID is the user's ID outside moss's user namespace. A uid_map read from
// inside shows the parent's IDs; see user_namespaces(7).
func HostUID() int {
	uid := os.Getuid()
	data, err := record.ReadFile("/proc/self/uid_map")
	if err != nil {
		return uid
	}
	for line := range strings.Lines(string(data)) {
		var inside, outside, count int
		if n, _ := fmt.Sscan(line, &inside, &outside, &count); n == 3 && uid >= inside && uid < inside+count {
			return outside + uid - inside
		}
	}
	return uid
}

func userName() string {
	if name := os.Getenv("USER"); name != "" {
		return name
	}
	return strconv.Itoa(HostUID())
}

// kept is <run>/cgroup.json.
type kept struct {
	Version           int
	Asked             string
	Dir, Top, Manager string
	Slice             string
	Tree              tree
	Device, Inode     uint64
}

const keptVersion = 2

// keep writes the answer down. That it cannot costs time, not truth.
func keep(run, asked string, p *Parent) {
	k := kept{Version: keptVersion, Asked: asked, Dir: p.Dir, Top: p.Top, Manager: p.Manager, Slice: p.Slice, Tree: p.tree}
	k.Device, k.Inode = identity(p.shortLived())
	_ = record.Write(filepath.Join(run, "cgroup.json"), k, false)
}

// shortLived is that cgroup of p which ends first: a slice outlives moss's own scope.
func (p *Parent) shortLived() string {
	if p.Slice != "" {
		return p.Top
	}
	return p.Dir
}

// cached is the kept answer if it is still true for this process: the cgroup is
// the same one, writable, and shares a writable ancestor with our own.
func (h host) cached(run, asked string) *Parent {
	var k kept
	if found, err := record.Read(filepath.Join(run, "cgroup.json"), &k); !found || err != nil || k.Version != keptVersion || k.Asked != asked {
		return nil
	}
	p := &Parent{Dir: k.Dir, Top: k.Top, Manager: k.Manager, Slice: k.Slice, tree: k.Tree}
	device, inode := identity(p.shortLived())
	if inode == 0 || device != k.Device || inode != k.Inode || !h.delegated(k.Dir) {
		return nil
	}
	self, err := ownPath(h.self)
	if err != nil {
		return nil
	}
	reach := p.tree.path(p.Top)
	if p.Manager == managerSystemd {
		// Whatever is below the user's manager may be born in its scope.
		reach = serviceOf(reach, h.uid)
	}
	if !below(self, reach) {
		return nil
	}
	return p
}

// Dir is the directory of a cgroup by its path in /proc/PID/cgroup.
func Dir(path string) (string, error) {
	t, err := host{mountinfo: "/proc/self/mountinfo"}.tree()
	if err != nil {
		return "", err
	}
	if !below(path, t.Root) {
		return "", fmt.Errorf("cannot find cgroup %q: %q shows only those below %q", path, t.Mount, t.Root)
	}
	return t.dir(path), nil
}

// Name is the path of a cgroup in /proc/PID/cgroup by its directory.
func Name(dir string) string {
	if dir == "" {
		return ""
	}
	t, err := host{mountinfo: "/proc/self/mountinfo"}.tree()
	if err != nil || !below(dir, t.Mount) {
		return dir
	}
	return t.path(dir)
}

// InManager says whether this process is below the user's service manager, so
// that it may clone processes into any cgroup there.
func InManager() (bool, error) {
	self, err := ownPath("/proc/self/cgroup")
	if err != nil {
		return false, err
	}
	return below(self, serviceOf(self, HostUID())), nil
}

// identity tells a directory from another of the same name; zero when there is none.
func identity(dir string) (device, inode uint64) {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return 0, 0
	}
	return uint64(st.Dev), st.Ino
}
