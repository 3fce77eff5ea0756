package cgroup

import (
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// live is a cgroup of this machine, or a skipped test.
func live(t *testing.T, id string) (*Parent, string) {
	p, err := Find(t.TempDir(), "")
	if err != nil {
		t.Skipf("no cgroup here: %v", err)
	}
	if !p.Usable() {
		t.Skipf("no cgroup here: %v", p.Why())
	}
	dir, err := p.Make(id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Kill(dir); err != nil {
			t.Error(err)
		}
		if err := Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return p, dir
}

// sleeper starts a process in dir.
func sleeper(t *testing.T, dir string) *exec.Cmd {
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd
}

// TestLife: a process is born in a cgroup, counted, frozen, thawed and killed
// with all below it, and the cgroup goes away.
func TestLife(t *testing.T) {
	_, dir := live(t, "00moss-test-life")
	child := filepath.Join(dir, "child")
	if err := unix.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	a, b := sleeper(t, dir), sleeper(t, child)

	pids, err := Procs(dir)
	if err != nil || len(pids) != 2 || pids[0] != min(a.Process.Pid, b.Process.Pid) {
		t.Fatalf("Procs = %v, %v", pids, err)
	}
	if err := Freeze(dir); err != nil {
		t.Fatal(err)
	}
	if !Frozen(dir) || event(dir, "frozen") != "1" {
		t.Error("not frozen")
	}
	if err := Thaw(dir); err != nil {
		t.Fatal(err)
	}
	if Frozen(dir) {
		t.Error("still frozen")
	}
	if n, err := Stat(dir); err != nil || n.CPU < 0 {
		t.Errorf("Stat = %+v, %v", n, err)
	}

	// Frozen processes must die as well.
	if err := Freeze(dir); err != nil {
		t.Fatal(err)
	}
	if err := Kill(dir); err != nil {
		t.Fatal(err)
	}
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
	if err := unix.Access(dir, unix.F_OK); err != unix.ENOENT {
		t.Errorf("the cgroup is still there: %v", err)
	}
	for verb, f := range map[string]func(string) error{"Kill": Kill, "Remove": Remove} {
		if err := f(dir); err != nil {
			t.Errorf("%s of a cgroup that is gone: %v", verb, err)
		}
	}
}

// TestKillEach: without cgroup.kill (Linux before 5.14) it is done one by one.
func TestKillEach(t *testing.T) {
	_, dir := live(t, "01moss-test-each")
	sleeper(t, dir)
	sleeper(t, dir)
	if err := killEach(dir); err != nil {
		t.Fatal(err)
	}
	if err := await(dir, func() bool { return event(dir, "populated") == "0" }); err != nil {
		t.Fatal(err)
	}
}

// TestRemoveWaits: a process that is just dying does not spoil the removal.
func TestRemoveWaits(t *testing.T) {
	_, dir := live(t, "02moss-test-wait")
	cmd := sleeper(t, dir)
	time.AfterFunc(50*time.Millisecond, func() { _ = cmd.Process.Kill() })
	if err := Remove(dir); err != nil {
		t.Fatal(err)
	}
}

// TestUnderLive: a parent that was asked for is made, and its cgroups work.
func TestUnderLive(t *testing.T) {
	p, _ := live(t, "03moss-test-under")
	q, err := p.Under("test-parent/job")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Remove(filepath.Dir(q.Dir)); err != nil {
			t.Error(err)
		}
	})
	dir, err := q.Make("04")
	if err != nil {
		t.Fatal(err)
	}
	sleeper(t, dir)
	if err := Kill(dir); err != nil {
		t.Fatal(err)
	}
}

func BenchmarkFind(b *testing.B) {
	run := b.TempDir()
	for b.Loop() {
		if _, err := Find(run, ""); err != nil {
			b.Skip(err)
		}
	}
}
