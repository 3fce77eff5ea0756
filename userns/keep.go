package userns

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
)

// keep returns the pause process that is to be joined, under pause.lock.
func keep(ctx context.Context, dirs Dirs, u user) (*process, error) {
	sig := currentSignature()
	r, found := readRecord(dirs)
	if found {
		if p := openProcess(r.pid, r.start); p != nil {
			if r.protocol == Protocol && r.sig == sig {
				return p, nil
			}
			return renew(ctx, dirs, u, p, r, sig)
		}
	}
	if s := findSurvivor(dirs); s != nil {
		defer s.close()
		return revive(ctx, dirs, u, s, sig)
	}
	return create(ctx, dirs, u, sig)
}

// renew looks at a pause process that another version or another state of the
// host's files has made. It stays if its maps are still right, and as long as
// anything runs in its namespaces: that could not be reached from new ones.
// Then the record stays as it is too, so that the next moss looks again.
func renew(ctx context.Context, dirs Dirs, u user, p *process, r pauseRecord, sig signature) (*process, error) {
	used := inUse(dirs, p)
	want, err := wantedMaps(ctx, u)
	if err != nil {
		if used {
			return p, nil
		}
		p.close()
		return nil, err
	}
	have, err := mapsOf(p.pid)
	if err == nil && have.equal(want) && (r.protocol == Protocol || used) {
		return p, pauseRecord{Protocol, p.pid, p.start, sig}.write(dirs)
	}
	if used {
		return p, nil
	}
	defer p.close()
	if err := p.kill(); err != nil {
		return nil, err
	}
	return create(ctx, dirs, u, sig)
}

// create makes new namespaces.
func create(ctx context.Context, dirs Dirs, u user, sig signature) (*process, error) {
	maps, err := wantedMaps(ctx, u)
	if err != nil {
		return nil, err
	}
	p, err := spawn(ctx, &maps, nil)
	if err != nil {
		return nil, err
	}
	return p, commit(dirs, p, maps, sig)
}

// revive makes a new pause process in the namespaces of one that has died.
func revive(ctx context.Context, dirs Dirs, u user, s *survivor, sig signature) (*process, error) {
	p, err := spawn(ctx, nil, s)
	if err != nil {
		return nil, err
	}
	maps, err := mapsOf(p.pid)
	if err != nil {
		return nil, abandon(p, err)
	}
	if want, err := wantedMaps(ctx, u); err != nil || !maps.equal(want) {
		sig = signature{} // the next moss looks again
	}
	return p, commit(dirs, p, maps, sig)
}

// commit tells the others about a new pause process, or takes it back.
func commit(dirs Dirs, p *process, maps idMaps, sig signature) error {
	var err error
	if maps.single() {
		err = writeFile(singleIDFile(dirs), "")
	} else {
		err = remove(singleIDFile(dirs))
	}
	if err == nil {
		err = pauseRecord{Protocol, p.pid, p.start, sig}.write(dirs)
	}
	if err != nil {
		return abandon(p, err)
	}
	settle(dirs, p.pid)
	return nil
}

// settle puts a pause process where package systemd/cgroup has moss's own, if that is known and
// can be reached from here: moss may be in a unit, at whose end all that is in it is killed.
func settle(dirs Dirs, pid int) {
	var own struct{ Top, Slice string }
	found, err := record.Read(filepath.Join(dirs.Run, "cgroup.json"), &own)
	if found && err == nil && own.Slice != "" {
		_ = os.WriteFile(filepath.Join(own.Top, "pause", "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
	}
}

// abandon ends a pause process that nobody will know.
func abandon(p *process, err error) error {
	p.kill()
	p.close()
	return err
}

// inUse says whether processes other than the pause process run in its user
// namespace, or containers in one below it.
func inUse(dirs Dirs, p *process) bool {
	if s := findSurvivor(dirs); s != nil {
		s.close()
		return true
	}
	kept, ok := userNamespace(strconv.Itoa(p.pid))
	if !ok {
		return false
	}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err != nil || pid == p.pid {
			continue
		}
		if ns, ok := userNamespace(entry.Name()); ok && ns == kept {
			return true
		}
	}
	return false
}

// survivor is a way into the kept namespaces when the pause process has died.
type survivor struct {
	fd    *os.File // to be passed to setns
	flags int
}

func (s *survivor) close() { s.fd.Close() }

// findSurvivor looks for a process of ours in the kept namespaces, by what the
// monitors and moss-net have written; nil if there is none.
func findSurvivor(dirs Dirs) *survivor {
	// Monitors and moss-net are in the kept mount namespace, in which they have
	// mounts; containers are in one of their own.
	var first []*process
	if p := netProcess(dirs); p != nil {
		first = append(first, p)
	}
	var containers []*process
	files, _ := filepath.Glob(filepath.Join(dirs.Run, "c", "*", "live.json"))
	for _, file := range files {
		var live struct {
			PID, Monitor           int
			PIDStart, MonitorStart uint64
		}
		data, err := os.ReadFile(file)
		if err != nil || record.Decode(data, &live) != nil {
			continue
		}
		if p := openProcess(live.Monitor, live.MonitorStart); p != nil {
			first = append(first, p)
		}
		if p := openProcess(live.PID, live.PIDStart); p != nil {
			containers = append(containers, p)
		}
	}

	var found *survivor
	for i, p := range append(first, containers...) {
		if found == nil {
			found = wayIn(p, i < len(first))
		}
		p.close()
	}
	return found
}

// netProcess is moss-net; its file holds the PID, maybe the start time. Where the
// file is lost, or leads nowhere, the kernel says who listens.
func netProcess(dirs Dirs) *process {
	dir := filepath.Join(dirs.Run, "net")
	data, _ := os.ReadFile(filepath.Join(dir, "moss-net.pid"))
	var pid int
	var start uint64
	fmt.Sscan(string(data), &pid, &start)
	if p := netProcessOf(pid, start); p != nil {
		return p
	}
	return netProcessOf(listener(filepath.Join(dir, "net.sock")), 0)
}

// netProcessOf is the process with a PID, if it is moss-net; nil: it is not.
func netProcessOf(pid int, start uint64) *process {
	if pid <= 0 {
		return nil
	}
	p := openProcess(pid, start)
	if p == nil {
		return nil
	}
	// Without a start time only the name tells it from whoever has its PID now.
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if start == 0 && strings.TrimSpace(string(name)) != "moss-net" {
		p.close()
		return nil
	}
	return p
}

// wayIn finds the kept user namespace from a process in it or in one below it:
// it is the one whose parent is ours.
func wayIn(p *process, mounts bool) *survivor {
	path := fmt.Sprintf("/proc/%d/ns/user", p.pid)
	ns, err := os.Open(path)
	if err != nil {
		return nil
	}
	own, ok := userNamespace("self")
	for depth := 0; ok && err == nil; depth++ {
		var parent int
		if parent, err = unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_PARENT); err != nil {
			break
		}
		var st unix.Stat_t
		file := os.NewFile(uintptr(parent), "ns")
		if err = unix.Fstat(parent, &st); err == nil && own == (namespaceOf{st.Dev, st.Ino}) {
			file.Close()
			if mounts && depth == 0 {
				ns.Close()
				return dupPidfd(p)
			}
			return &survivor{fd: ns, flags: unix.CLONE_NEWUSER}
		}
		ns.Close()
		ns = file
	}
	ns.Close()
	return nil
}

func dupPidfd(p *process) *survivor {
	fd, err := unix.FcntlInt(p.fd.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil
	}
	return &survivor{fd: os.NewFile(uintptr(fd), "pidfd"), flags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS}
}

// listener is the process that listens at a socket of type SOCK_SEQPACKET, see
// SO_PEERCRED in unix(7); 0 if nobody does.
func listener(path string) int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	if unix.Connect(fd, &unix.SockaddrUnix{Name: path}) != nil {
		return 0
	}
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}
