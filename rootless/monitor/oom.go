package monitor

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/rootless/event"
)

// oomWatch hears of processes that the kernel kills in the container's cgroup for
// want of memory: it announces a change of memory.events as an exceptional
// condition, as of every file of cgroupfs that has events. fd is -1 where the
// cgroup has no memory controller. Each run has a cgroup of its own: it counts from zero.
type oomWatch struct {
	m      *monitor
	fd     int
	told   int // kills that events tell of
	around int // kills in the parent, and below it, when the run began; -1: nobody else removes the cgroup
}

// watchOOM begins with it, for a run that has just begun.
func (m *monitor) watchOOM() {
	m.oom.m, m.oom.fd, m.oom.told = m, -1, 0
	if m.group == "" {
		return
	}
	fd, err := unix.Open(filepath.Join(string(m.group), "memory.events"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		m.oom.fd = fd
		m.loop.watch(fd, unix.EPOLLPRI, &m.oom)
	}
}

func (w *oomWatch) ready(uint32) {
	if !w.look() {
		w.close()
	}
}

// look tells of what there is to tell; false: the cgroup is gone, or never had it.
func (w *oomWatch) look() bool {
	if w.fd < 0 {
		return false
	}
	var data [512]byte // that it has been read is what ends the condition
	n, _ := unix.Pread(w.fd, data[:], 0)
	if n <= 0 {
		return false
	}
	w.tell(oomKillsIn(data[:n]))
	return true
}

// tell records that there are so many by now.
func (w *oomWatch) tell(kills int) {
	if kills > w.told {
		w.told = kills
		w.m.note(nil, event.OOM)
	}
}

// lookAround notes the kills around a cgroup that the service manager will remove.
func (w *oomWatch) lookAround() {
	w.around = -1
	if w.m.cfg.Scope != nil {
		w.around = w.m.group.parent().oomKills()
	}
}

// guess is for a run that was killed, by nobody whom the monitor knows of, and whose cgroup
// the service manager had removed before the monitor has looked there: what was counted there
// is counted in the parent too.
func (w *oomWatch) guess() {
	if w.around >= 0 && w.m.group.parent().oomKills() > w.around {
		w.tell(w.told + 1)
	}
}

func (w *oomWatch) close() {
	if w.fd >= 0 {
		w.m.loop.close(w.fd)
		w.fd = -1
	}
}
