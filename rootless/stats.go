package rootless

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/systemd/cgroup"
)

// Usage is what a container has used up to a moment. Numbers that nobody knows are
// cgroup.Unknown.
type Usage struct {
	At      time.Time
	Started time.Time
	CPU     time.Duration // of all its processes since the start; negative: unknown
	Memory  int64         // bytes
	// MemoryLimit is the container's, or the machine's memory where it has none.
	MemoryLimit        int64
	Received, Sent     int64 // bytes, over all interfaces but loopback
	Read, Written      int64 // bytes of block devices
	Pids               int64 // threads too
	PidsLimit          int64 // cgroup.NoLimit where there is none
	CPUUser, CPUSystem time.Duration
}

// Stats reads what a container uses; false when it does not run. What its cgroup
// does not count, because the controller is not delegated, is added up over its
// processes: then it is without those that have ended.
func (e *Engine) Stats(c *container.Container) (Usage, bool) {
	v := c.Look()
	if v.Live == nil || !v.Status.CanKill() {
		return Usage{}, false
	}
	u := Usage{
		At: time.Now(), Started: v.Live.Started, CPU: -1,
		Memory: cgroup.Unknown, MemoryLimit: cgroup.Unknown, Received: cgroup.Unknown, Sent: cgroup.Unknown,
		Read: cgroup.Unknown, Written: cgroup.Unknown, Pids: cgroup.Unknown, PidsLimit: cgroup.NoLimit,
	}
	if v.Live.Cgroup != "" {
		if n, err := cgroup.Stat(v.Live.Cgroup); err == nil {
			u.CPU, u.CPUUser, u.CPUSystem = n.CPU, n.CPUUser, n.CPUSystem
			u.Memory, u.MemoryLimit, u.Read, u.Written = n.Memory, n.MemoryLimit, n.Read, n.Written
			u.Pids, u.PidsLimit = n.Pids, n.PidsLimit
		}
	}
	if u.CPU < 0 || u.Memory < 0 || u.Read < 0 || u.Pids < 0 {
		u.addUp((&insideView{live: v.Live}).pids())
	}
	if total := machineMemory(); u.MemoryLimit <= 0 || total > 0 && u.MemoryLimit > total {
		u.MemoryLimit = total
	}
	if newNetwork(&c.Spec) || strings.HasPrefix(c.Spec.Network.Mode, "container:") {
		u.Received, u.Sent = traffic(v.Live.PID)
	}
	return u, true
}

// addUp fills in what is unknown from the processes.
func (u *Usage) addUp(pids []int) {
	var cpu, memory, read, written, threads int64
	readable := false
	for _, pid := range pids {
		p, err := readProcess(pid)
		if err != nil {
			continue // it has ended
		}
		for field := 14; field <= 17; field++ { // its own time, and that of children it has waited for
			cpu += int64(p.statInt(field))
		}
		threads += int64(p.statInt(20))
		memory += p.memory()
		if r, w, ok := p.blocks(); ok {
			read, written, readable = read+r, written+w, true
		}
	}
	if len(pids) == 0 {
		return
	}
	if u.CPU < 0 {
		u.CPU = time.Duration(cpu) * time.Second / userHZ
	}
	if u.Memory < 0 {
		u.Memory = memory
	}
	if u.Pids < 0 {
		u.Pids = threads
	}
	if u.Read < 0 && readable {
		u.Read, u.Written = read, written
	}
}

// userHZ is the unit of times in /proc/PID/stat, the same on all architectures
// that moss is built for; see time(7).
const userHZ = 100

// memory is the process's share in bytes: what it has with others counts in part.
func (p *topProcess) memory() int64 {
	if data, err := os.ReadFile(p.file("smaps_rollup")); err == nil {
		for line := range bytes.Lines(data) {
			if rest, ok := bytes.CutPrefix(line, []byte("Pss:")); ok {
				n, _ := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(string(rest)), " kB"), 10, 64)
				return n << 10
			}
		}
	}
	n, _ := strconv.ParseInt(strings.TrimSuffix(p.status["VmRSS"], " kB"), 10, 64)
	return n << 10
}

// blocks are the bytes that the process has moved from and to block devices.
func (p *topProcess) blocks() (read, written int64, ok bool) {
	data, err := os.ReadFile(p.file("io"))
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ": ")
		n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
		switch key {
		case "read_bytes":
			read = n
		case "write_bytes":
			written = n
		}
	}
	return read, written, true
}

// machineMemory is the memory of the machine in bytes.
func machineMemory() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return cgroup.Unknown
	}
	return int64(info.Totalram) * int64(info.Unit)
}

// traffic adds up the interfaces of a process's network; see proc_pid_net(5).
func traffic(pid int) (received, sent int64) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "net/dev"))
	if err != nil {
		return cgroup.Unknown, cgroup.Unknown
	}
	for line := range strings.Lines(string(data)) {
		name, numbers, ok := strings.Cut(line, ":")
		fields := strings.Fields(numbers)
		if !ok || strings.TrimSpace(name) == "lo" || len(fields) < 9 {
			continue
		}
		r, _ := strconv.ParseInt(fields[0], 10, 64)
		s, _ := strconv.ParseInt(fields[8], 10, 64)
		received, sent = received+r, sent+s
	}
	return received, sent
}
