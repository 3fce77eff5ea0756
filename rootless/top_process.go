package rootless

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/systemd/cgroup"
	"moss/userns"
)

// insideView sees processes as the container does: its PIDs, its IDs, its names.
type insideView struct {
	live   *container.Live
	level  int // of the container's PID namespace in NSpid lines
	now    time.Time
	uptime time.Duration

	uids, gids         []userns.IDMap // container to ours
	hostUIDs, hostGIDs []userns.IDMap // ours to the host's

	users, groups, hostUsers, hostGroups map[int]string
}

func newInsideView(live *container.Live) (*insideView, error) {
	init, err := readProcess(live.PID)
	if err != nil {
		return nil, err
	}
	v := &insideView{live: live, now: time.Now()}
	v.level = max(0, len(strings.Fields(init.status["NSpid"]))-1)
	var boot unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &boot); err != nil {
		return nil, err
	}
	v.uptime = time.Duration(boot.Nano())

	if sameNamespace(live.PID, "user") {
		one := []userns.IDMap{{Container: 0, Host: 0, Size: 1 << 32}}
		v.uids, v.gids = one, one
	} else {
		// Read from outside their namespace, the maps lead to ours.
		v.uids, _ = userns.ReadIDMap(init.file("uid_map"))
		v.gids, _ = userns.ReadIDMap(init.file("gid_map"))
	}
	v.hostUIDs, _ = userns.ReadIDMap("/proc/self/uid_map")
	v.hostGIDs, _ = userns.ReadIDMap("/proc/self/gid_map")
	v.users, v.groups = v.names("etc/passwd"), v.names("etc/group")
	v.hostUsers, v.hostGroups = namesOf("/etc/passwd"), namesOf("/etc/group")
	return v, nil
}

// sameNamespace says whether a process shares one of our namespaces.
func sameNamespace(pid int, kind string) bool {
	ours, err1 := os.Readlink("/proc/self/ns/" + kind)
	its, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
	return err1 == nil && err2 == nil && ours == its
}

// processes are the container's, in the order of its PIDs. One that ends
// meanwhile is left out.
func (v *insideView) processes() []*topProcess {
	var found []*topProcess
	for _, pid := range v.pids() {
		p, err := readProcess(pid)
		if err != nil {
			continue
		}
		p.view, p.ns = v, v.nsPID(p)
		if p.ns > 0 {
			found = append(found, p)
		}
	}
	slices.SortFunc(found, func(a, b *topProcess) int { return a.ns - b.ns })
	return found
}

// pids are the container's processes as we number them.
func (v *insideView) pids() []int {
	if v.live.Cgroup != "" {
		if pids, err := cgroup.Procs(v.live.Cgroup); err == nil {
			return pids
		}
	}
	// Without a cgroup: its first process, what is in that one's PID namespace
	// if it is not ours too, and the descendants of these.
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", v.live.PID))
	private := err == nil && !sameNamespace(v.live.PID, "pid")
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return []int{v.live.PID}
	}
	member, parent := map[int]bool{v.live.PID: true}, map[int]int{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if p, err := readProcess(pid); err == nil {
			parent[pid] = p.statInt(4)
		}
		if link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); private && err == nil && link == namespace {
			member[pid] = true
		}
	}
	var pids []int
	for pid := range parent {
		for p, ok := pid, true; ok && p > 1; p, ok = parent[p] {
			if member[p] {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// nsPID is a process's PID in the container; 0 when it has none there.
func (v *insideView) nsPID(p *topProcess) int {
	levels := strings.Fields(p.status["NSpid"])
	if len(levels) == 0 {
		return p.pid // a kernel without the line: 4.0 and older
	}
	if v.level >= len(levels) {
		return 0
	}
	pid, _ := strconv.Atoi(levels[v.level])
	return pid
}

// nobody is what an ID is that has no mapping; see user_namespaces(7).
const nobody = 65534

// into translates an ID of the right side of maps to the left side.
func into(maps []userns.IDMap, id int) int {
	for _, m := range maps {
		if id >= m.Host && id < m.Host+m.Size {
			return m.Container + id - m.Host
		}
	}
	return nobody
}

// outOf is the reverse of into.
func outOf(maps []userns.IDMap, id int) int {
	for _, m := range maps {
		if id >= m.Container && id < m.Container+m.Size {
			return m.Host + id - m.Container
		}
	}
	return nobody
}

func (v *insideView) uid(id int) int     { return into(v.uids, id) }
func (v *insideView) gid(id int) int     { return into(v.gids, id) }
func (v *insideView) hostUID(id int) int { return outOf(v.hostUIDs, id) }
func (v *insideView) hostGID(id int) int { return outOf(v.hostGIDs, id) }

func (v *insideView) userName(id int) string      { return nameOr(v.users, v.uid(id)) }
func (v *insideView) groupName(id int) string     { return nameOr(v.groups, v.gid(id)) }
func (v *insideView) hostUserName(id int) string  { return nameOr(v.hostUsers, v.hostUID(id)) }
func (v *insideView) hostGroupName(id int) string { return nameOr(v.hostGroups, v.hostGID(id)) }

func nameOr(names map[int]string, id int) string {
	if name, ok := names[id]; ok {
		return name
	}
	return strconv.Itoa(id)
}

// names reads a file like /etc/passwd of the container, in which it may be
// anything: a link to the host's, a pipe, endless.
func (v *insideView) names(path string) map[int]string {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", v.live.PID), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, path, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	return parseNames(f)
}

func namesOf(path string) map[int]string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	return parseNames(f)
}

// parseNames reads lines "name:x:ID:…", the first name of an ID winning.
func parseNames(r io.Reader) map[int]string {
	data, err := io.ReadAll(io.LimitReader(r, 4<<20))
	if err != nil {
		return nil
	}
	names := map[int]string{}
	for line := range bytes.Lines(data) {
		fields := strings.Split(string(bytes.TrimSpace(line)), ":")
		if len(fields) < 3 {
			continue
		}
		if id, err := strconv.Atoi(fields[2]); err == nil && names[id] == "" {
			names[id] = fields[0]
		}
	}
	return names
}

// topProcess is one process as /proc shows it at one moment.
type topProcess struct {
	view   *insideView
	pid    int // ours
	ns     int // the container's
	comm   string
	fields []string // of /proc/PID/stat, from the third on
	status map[string]string
}

func readProcess(pid int) (*topProcess, error) {
	p := &topProcess{pid: pid}
	data, err := os.ReadFile(p.file("stat"))
	if err != nil {
		return nil, err
	}
	// The name, in parentheses, may contain anything, parentheses too.
	begin, end := bytes.IndexByte(data, '('), bytes.LastIndexByte(data, ')')
	if begin < 0 || end < begin {
		return nil, fmt.Errorf("cannot read %q: no process name in it", p.file("stat"))
	}
	p.comm = string(data[begin+1 : end])
	p.fields = strings.Fields(string(data[end+1:]))

	status, err := os.ReadFile(p.file("status"))
	if err != nil {
		return nil, err
	}
	p.status = map[string]string{}
	for line := range bytes.Lines(status) {
		if key, value, ok := strings.Cut(string(line), ":"); ok {
			p.status[key] = strings.TrimSpace(value)
		}
	}
	return p, nil
}

func (p *topProcess) file(name string) string {
	return filepath.Join("/proc", strconv.Itoa(p.pid), name)
}

// stat is a field of /proc/PID/stat by its number in proc_pid_stat(5), from 3 on.
func (p *topProcess) stat(number int) string {
	if number-3 >= len(p.fields) {
		return "?"
	}
	return p.fields[number-3]
}

func (p *topProcess) statInt(number int) int {
	n, _ := strconv.Atoi(p.stat(number))
	return n
}

// ids is one of the real, effective, saved and file-system IDs.
func (p *topProcess) ids(key string, which int) int {
	fields := strings.Fields(p.status[key])
	if which >= len(fields) {
		return nobody
	}
	id, err := strconv.Atoi(fields[which])
	if err != nil {
		return nobody
	}
	return id
}

// inside translates the PID of a relative; 0 when it is not in the container.
func (p *topProcess) inside(pid int) int {
	if p.view.level == 0 {
		return pid
	}
	other, err := readProcess(pid)
	if err != nil {
		return 0
	}
	return p.view.nsPID(other)
}
