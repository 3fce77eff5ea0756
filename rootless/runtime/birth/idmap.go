package birth

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// mapIDs arranges for the maps of a new user namespace, and reports whether the
// setuid helpers newuidmap and newgidmap have to write them: a caller without
// CAP_SETUID in its namespace may map its own ID only; see user_namespaces(7).
func mapIDs(c *clone, r Request) (helper bool) {
	keepCapabilities(c)
	if unix.Geteuid() != 0 && (needsHelper(r.UIDMap, unix.Geteuid()) || needsHelper(r.GIDMap, unix.Getegid())) {
		c.env = append(c.env, "_MOSS_MAP=1")
		return true
	}
	c.attr.UidMappings = sysMap(split(r.UIDMap, ownMap("/proc/self/uid_map")))
	c.attr.GidMappings = sysMap(split(r.GIDMap, ownMap("/proc/self/gid_map")))
	// Without privilege the gid map is refused until setgroups is denied; see
	// user_namespaces(7) and CVE-2014-8989.
	c.attr.GidMappingsEnableSetgroups = unix.Geteuid() == 0
	return false
}

// keepCapabilities is for a process in a user namespace whose root the caller need
// not be: execve takes every capability from others, but for ambient ones. The
// init stage becomes root when it has read what only the caller may read.
func keepCapabilities(c *clone) {
	for n := range lastCapability() + 1 {
		c.attr.AmbientCaps = append(c.attr.AmbientCaps, uintptr(n))
	}
}

// lastCapability is the highest capability that the kernel knows.
func lastCapability() int {
	data, err := os.ReadFile("/proc/sys/kernel/cap_last_cap")
	if n, bad := strconv.Atoi(string(bytes.TrimSpace(data))); err == nil && bad == nil {
		return n
	}
	return unix.CAP_LAST_CAP
}

// ownMap reads the map of the caller's namespace: host IDs are those in it, and
// Container here is what they are called.
func ownMap(file string) []IDMap {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil // nothing is split, and the kernel says what is wrong
	}
	var out []IDMap
	for line := range bytes.Lines(data) {
		var m IDMap
		if _, err := fmt.Sscan(string(line), &m.Container, &m.Host, &m.Size); err == nil {
			out = append(out, m)
		}
	}
	return out
}

// split cuts the lines of a map where a line of the parent's map ends: each must
// lie in one of them, or the kernel refuses all (map_write in
// kernel/user_namespace.c), as with a user who has two subordinate ranges.
func split(m, parent []IDMap) []IDMap {
	var out []IDMap
	for _, l := range m {
		for l.Size > 0 {
			size := l.Size
			for _, p := range parent {
				if l.Host >= p.Container && l.Host < p.Container+p.Size {
					size = min(size, p.Container+p.Size-l.Host)
				}
			}
			out = append(out, IDMap{l.Container, l.Host, size})
			l = IDMap{l.Container + size, l.Host + size, l.Size - size}
		}
	}
	return out
}

func needsHelper(m []IDMap, id int) bool {
	return len(m) != 1 || m[0].Size != 1 || m[0].Host != id
}

func sysMap(m []IDMap) []syscall.SysProcIDMap {
	out := make([]syscall.SysProcIDMap, 0, len(m))
	for _, l := range m {
		out = append(out, syscall.SysProcIDMap{ContainerID: l.Container, HostID: l.Host, Size: l.Size})
	}
	return out
}

// mapByHelper waits for the process to ask for its maps and has them written.
func (p *Process) mapByHelper(r Request) error {
	m, _, err := p.receive()
	if err != nil {
		return err
	}
	if m.Stage != "map" {
		return fmt.Errorf("cannot start process: unexpected message %q from its init stage", m.Stage)
	}
	uids := make(chan error, 1)
	go func() { uids <- runHelper("newuidmap", p.PID, r.UIDMap) }() // ends with the command
	err = runHelper("newgidmap", p.PID, r.GIDMap)
	if other := <-uids; other != nil {
		err = other
	}
	if err != nil {
		return err
	}
	return p.send('m')
}

func runHelper(program string, pid int, m []IDMap) error {
	args := []string{strconv.Itoa(pid)}
	for _, l := range m {
		args = append(args, strconv.Itoa(l.Container), strconv.Itoa(l.Host), strconv.Itoa(l.Size))
	}
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot map IDs by %s: %w: %s", program, err, bytes.TrimSpace(out))
	}
	return nil
}
