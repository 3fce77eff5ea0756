package systemd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"moss/systemd/cgroup"
)

// TestCgroup: with a service manager, moss gets its scope, wherever it was
// started from; the pause process is in it; a process can be born below it;
// and the second time costs no conversation.
func TestCgroup(t *testing.T) {
	if cgroup.ManagerSocket() == "" {
		t.Skip("no user service manager here")
	}
	run := t.TempDir()
	pause := exec.Command("sleep", "600")
	if err := pause.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pause.Process.Kill(); _ = pause.Wait() }()
	line := fmt.Sprintf("1 %d 0 x\n", pause.Process.Pid)
	if err := os.WriteFile(filepath.Join(run, "pause"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile("/proc/self/cgroup")

	start := time.Now()
	p := Cgroup(context.Background(), run, "")
	t.Logf("from %s to %+v in %v, controllers %v", strings.TrimSpace(string(before)), p, time.Since(start), p.Controllers())
	if err := p.Why(); err != nil {
		t.Fatal(err)
	}
	if p.Manager != "systemd" || !strings.HasSuffix(p.Dir, "/moss.slice") {
		t.Errorf("got %+v", p)
	}
	after, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pause.Process.Pid))
	if !strings.Contains(string(after), "/moss.scope/pause") {
		t.Errorf("the pause process is in %s", after)
	}
	if _, err := cgroup.Find(run, ""); err != nil {
		t.Errorf("the second time: %v", err)
	}

	dir, err := p.Make("00moss-test-scope")
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	child := exec.Command("sleep", "600")
	child.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: fd}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	go child.Wait() // ends with Kill
	if err := cgroup.Kill(dir); err != nil {
		t.Error(err)
	}
	if err := cgroup.Remove(dir); err != nil {
		t.Error(err)
	}
	if limits, err := p.Limits(cgroup.Resources{}); err != nil {
		t.Error(err)
	} else {
		t.Logf("limits by default: %v", limits)
	}
}

// TestPausePID: a file that is not the pause process's is refused.
func TestPausePID(t *testing.T) {
	run := t.TempDir()
	for content, want := range map[string]int{"1 4711 99 sig\n": 4711, "": 0, "1": 0, "1 1 0 x": 0, "1 x 0 x": 0} {
		if err := os.WriteFile(filepath.Join(run, "pause"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := cgroup.PausePID(run); got != want || (err == nil) != (want != 0) {
			t.Errorf("%q: got %d, %v; want %d", content, got, err, want)
		}
	}
}
