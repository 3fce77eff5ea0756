package monitor

import (
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/rootless/event"
)

// oomWatch hears of processes that the kernel kills in the container's cgroup for
// want of memory: it announces a change of memory.events as an exceptional
// condition, as of every file of cgroupfs that has events. fd is -1 where the
// cgroup has no memory controller.
type oomWatch struct {
	m    *monitor
	fd   int
	told int // oomKills that events tell of
}

// watchOOM begins with it, for a run that has just begun.
func (m *monitor) watchOOM() {
	m.oom = oomWatch{m: m, fd: -1, told: m.kills}
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
	var data [512]byte // that it has been read is what ends the condition
	n, _ := unix.Pread(w.fd, data[:], 0)
	if n <= 0 { // the cgroup is gone
		w.close()
		return
	}
	w.tell(oomKillsIn(data[:n]))
}

// tell records that there are so many by now.
func (w *oomWatch) tell(kills int) {
	if kills > w.told {
		w.told = kills
		w.m.note(nil, event.OOM)
	}
}

func (w *oomWatch) close() {
	if w.fd >= 0 {
		w.m.loop.close(w.fd)
		w.fd = -1
	}
}
