package monitor_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
)

// on-failure:2 means three runs in all; the record counts them.
func TestRestart(t *testing.T) {
	b := newBox(t, "echo run; exit 5")
	b.cfg.Restart, b.cfg.RestartMax = "on-failure", 2
	if e := b.pump(b.start(), client.Streams{}); e.Code != 5 || !e.Restarting {
		t.Errorf("first exit %+v", e)
	}
	eventually(t, "it has given up", func() bool { return b.container().Look().Status == container.StatusExited })
	if v := b.container().Look(); v.Last.Restarts != 2 || v.Last.ExitCode != 5 {
		t.Errorf("last %+v", v.Last)
	}
	if n := strings.Count(b.log(), "F run"); n != 3 {
		t.Errorf("%d runs", n)
	}
}

// cgroupFor is a cgroup that may be made here.
func cgroupFor(t *testing.T) string {
	t.Helper()
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) < 3 || f[2] != "cgroup2" {
			continue
		}
		own, _ := os.ReadFile("/proc/self/cgroup")
		_, path, ok := strings.Cut(string(own), "0::")
		if !ok {
			continue
		}
		path, _, _ = strings.Cut(path, "\n")
		for _, dir := range []string{filepath.Dir(path), path} {
			dir = filepath.Join(f[1], dir, fmt.Sprintf("moss-test-%d", os.Getpid()))
			if os.Mkdir(dir, 0o755) == nil {
				t.Cleanup(func() { os.Remove(dir) })
				return filepath.Join(dir, "box")
			}
		}
	}
	t.Skip("no cgroup can be made here: not cgroup v2, or none is delegated")
	return ""
}

// Each run has a cgroup of its own, whatever the last one left in it, and it is
// gone at the end.
func TestCgroup(t *testing.T) {
	b := newBox(t, `cat /proc/self/cgroup; sleep 100 & exit 5`)
	b.cfg.Cgroup = cgroupFor(t)
	b.cfg.Birth.Cgroup = b.cfg.Cgroup
	b.cfg.Restart, b.cfg.RestartMax = "on-failure", 2
	b.start().Close()
	eventually(t, "it has given up", func() bool { return b.container().Look().Status == container.StatusExited })
	v := b.container().Look()
	if v.Last.Restarts != 2 || v.Last.ExitCode != 5 || v.Last.Error != "" {
		t.Errorf("last %+v", v.Last)
	}
	if n := strings.Count(b.log(), "/box\n"); n != 3 {
		t.Errorf("%d runs in the cgroup: %s", n, b.log())
	}
	if _, err := os.Stat(b.cfg.Cgroup); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cgroup is left: %v", err)
	}
}

// A stream that somebody outside the container holds does not hold up the end.
func TestHeldStream(t *testing.T) {
	b := newBox(t, `setsid sleep 5 & echo $!; exit 6`)
	conn := b.start()
	var out bytes.Buffer
	began := time.Now()
	e := b.pump(conn, client.Streams{Out: &out})
	if pid, err := strconv.Atoi(strings.TrimSpace(out.String())); err == nil {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	if took := time.Since(began); e.Code != 6 || took > 4*time.Second {
		t.Errorf("exit %+v after %v", e, took)
	}
}

// What the caller of moss has open is neither the monitor's nor the container's.
func TestInheritsNothing(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	unix.FcntlInt(w.Fd(), unix.F_SETFD, 0) // as a script's redirection is
	b := newBox(t, "ls -l /proc/self/fd; read x")
	b.cfg.Stdin = true
	conn := b.start()
	w.Close()
	unix.SetNonblock(int(r.Fd()), true)
	eventually(t, "nobody holds it", func() bool {
		n, err := unix.Read(int(r.Fd()), make([]byte, 1))
		return n == 0 && err == nil
	})
	conn.Close()
}

// A log that takes nothing loses lines; the container and its clients notice
// nothing.
func TestFullDisk(t *testing.T) {
	b := newBox(t, "seq 1000; exit 3")
	b.cfg.Log.Path = "/dev/full"
	var out bytes.Buffer
	if e := b.pump(b.start(), client.Streams{Out: &out}); e.Code != 3 || strings.Count(out.String(), "\n") != 1000 {
		t.Errorf("exit %+v, %d lines", e, strings.Count(out.String(), "\n"))
	}
}

// A stop ends a container that waits to be restarted, too.
func TestStopRestarting(t *testing.T) {
	b := newBox(t, "exit 1")
	b.cfg.Restart = "always"
	b.start().Close()
	eventually(t, "it waits", func() bool { return b.container().Look().Status == container.StatusRestarting })
	waiting := make(chan error, 1)
	go func() {
		for {
			e, err := client.Wait(t.Context(), b.cfg.RunDir)
			if err != nil || !e.Restarting {
				waiting <- err
				return
			}
		}
	}()
	if err := client.Control(t.Context(), b.cfg.RunDir, monitor.ControlRequest{Op: "stop"}); err != nil {
		t.Fatal(err)
	}
	if err := <-waiting; err != nil && !errors.Is(err, client.ErrMonitorGone) {
		t.Error(err)
	}
	v := b.container().Look()
	if v.Status != container.StatusExited || !v.Last.StoppedByUser || v.Last.ExitCode != 1 {
		t.Errorf("view %+v %+v", v, v.Last)
	}
}

// Requests that cannot be done are refused, and the container goes on.
func TestControlRefuses(t *testing.T) {
	b := newBox(t, "read x")
	b.cfg.Stdin = true
	b.start()
	for _, r := range []monitor.ControlRequest{{Op: "dance"}, {Op: "resize", Rows: 1, Cols: 1}} {
		if err := client.Control(t.Context(), b.cfg.RunDir, r); err == nil || errors.Is(err, client.ErrMonitorGone) {
			t.Errorf("%+v: %v", r, err)
		}
	}
	for _, r := range []monitor.ControlRequest{{Op: "ping"}, {Op: "reopen-log"}, {Op: "reload"}} {
		if err := client.Control(t.Context(), b.cfg.RunDir, r); err != nil {
			t.Errorf("%+v: %v", r, err)
		}
	}
}

// A monitor whose terminal hangs up stays; one that is killed leaves a container that
// is still seen.
func TestSignals(t *testing.T) {
	b := newBox(t, "while :; do sleep 1; done")
	b.start().Close()
	live, _ := container.ReadLive(b.cfg.RunDir)
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGPIPE} {
		syscall.Kill(live.Monitor, sig)
	}
	if err := client.Control(t.Context(), b.cfg.RunDir, monitor.ControlRequest{Op: "ping"}); err != nil {
		t.Fatal(err)
	}
	if sigs := inSet(t, live.PID, "SigIgn"); len(sigs) > 0 {
		t.Errorf("the container ignores %v", sigs)
	}

	syscall.Kill(live.Monitor, syscall.SIGKILL)
	eventually(t, "the monitor is gone", func() bool { return !container.Alive(live.Monitor, live.MonitorStart) })
	if v := b.container().Look(); v.Status != container.StatusRunning || v.Monitor() {
		t.Errorf("view %+v", v)
	}
	if err := client.Control(t.Context(), b.cfg.RunDir, monitor.ControlRequest{Op: "ping"}); !errors.Is(err, client.ErrMonitorGone) {
		t.Errorf("control: %v", err)
	}
	syscall.Kill(live.PID, syscall.SIGKILL)
	eventually(t, "the end is seen", func() bool { return b.container().Look().Status == container.StatusExited })
	if v := b.container().Look(); v.Last.ExitCode != container.ExitUnknown {
		t.Errorf("last %+v", v.Last)
	}
}

// A monitor that is told to end ends its container, with the stop signal, whatever the
// restart policy, also one that waits to be restarted or that has executed itself again.
func TestTerminated(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		ready  func(v container.View) bool
	}{
		"running": {"trap 'exit 7' USR1; while :; do sleep 0.1; done", func(v container.View) bool { return v.Status == container.StatusRunning }},
		"settled": {"trap 'exit 7' USR1; while :; do sleep 0.1; done", func(v container.View) bool { return v.Live != nil && settled(v.Live.Monitor) }},
		// At once: the new image has hardly begun.
		"settling": {"trap 'exit 7' USR1; while :; do sleep 0.1; done", func(v container.View) bool {
			for v.Live != nil && container.Alive(v.Live.Monitor, v.Live.MonitorStart) {
				if settled(v.Live.Monitor) {
					return true
				}
			}
			return false
		}},
		"restarting": {"exit 7", func(v container.View) bool {
			return v.Status == container.StatusRestarting && v.Last != nil && v.Last.Restarts > 2 // the pause is long by then
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, c.script)
			b.cfg.Restart, b.cfg.StopSignal, b.cfg.StopTimeout = "always", int(syscall.SIGUSR1), time.Minute
			b.start().Close()
			live, _ := container.ReadLive(b.cfg.RunDir)
			eventually(t, "it is "+name, func() bool { return c.ready(b.container().Look()) })
			if name == "running" || name == "settled" {
				time.Sleep(100 * time.Millisecond) // the shell's trap
			}
			sig := syscall.SIGTERM
			if name == "settling" {
				sig = 40 // what its unit is stopped with
			}
			syscall.Kill(live.Monitor, sig)
			eventually(t, "it has ended", func() bool { return b.container().Look().Status == container.StatusExited })
			if last := b.container().Look().Last; last.ExitCode != 7 || !last.SessionEnded || last.StoppedByUser {
				t.Errorf("last %+v", last)
			}
		})
	}
}

// settled says whether a monitor has executed itself again.
func settled(pid int) bool {
	env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return bytes.Contains(env, []byte("_MOSS_MONITOR="))
}

// inSet are those signals of a set in /proc/PID/status that a monitor may have there and a
// process has. What our own caller ignores is for moss-runtime to reset, which is not in play here.
func inSet(t *testing.T, pid int, set string) (sigs []syscall.Signal) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, field, _ := strings.Cut(string(status), set+":\t")
	field, _, _ = strings.Cut(field, "\n")
	mask, err := strconv.ParseUint(field, 16, 64)
	if err != nil {
		t.Fatalf("no %s in %q", set, status)
	}
	for _, sig := range []syscall.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGPIPE, 40} {
		if mask&(1<<(sig-1)) != 0 {
			sigs = append(sigs, sig)
		}
	}
	return sigs
}

// passthrough: the container has our own streams, and there is no log.
func TestPassthrough(t *testing.T) {
	b := newBox(t, "cat; echo err >&2")
	b.cfg.Log = monitor.Log{Driver: "passthrough"}
	in, inW, _ := os.Pipe()
	outR, out, _ := os.Pipe()
	fmt.Fprint(inW, "hello\n")
	inW.Close()
	conn := b.start(in, out, out)
	b.pump(conn, client.Streams{})
	out.Close()
	got, _ := io.ReadAll(outR)
	if string(got) != "hello\nerr\n" {
		t.Errorf("output %q", got)
	}
}

// After a second of rest the monitor is small; it is the same process and does
// all that it did before.
func TestSettled(t *testing.T) {
	b := newBox(t, "while read x; do echo $x; done; exit 9")
	b.cfg.Stdin = true
	b.cfg.Restart, b.cfg.RestartMax = "on-failure", 1
	conn := b.start()
	live, _ := container.ReadLive(b.cfg.RunDir)
	settled := func() bool {
		env, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", live.Monitor))
		return bytes.Contains(env, []byte("_MOSS_MONITOR="))
	}
	conn.Send(monitor.Stdin, []byte("before\n"))
	eventually(t, "it has settled", settled)
	if !container.Alive(live.Monitor, live.MonitorStart) {
		t.Fatal("it is another process now")
	}
	eventually(t, "it has its name again", func() bool {
		comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", live.Monitor))
		return string(comm) == "moss-monitor\n"
	})
	other, err := client.Attach(t.Context(), b.cfg.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	other.Send(monitor.Stdin, []byte("after\n"))
	other.Send(monitor.StdinEOF, nil)
	var out bytes.Buffer
	if e := b.pump(conn, client.Streams{Out: &out}); e.Code != 9 || !e.Restarting || out.String() != "before\nafter\n" {
		t.Errorf("exit %+v, output %q", e, out.String())
	}
	eventually(t, "it runs again", func() bool {
		v := b.container().Look()
		return v.Live != nil && v.Live.Restarts == 1 && v.Status == container.StatusRunning
	})
	for _, set := range []string{"SigIgn", "SigBlk"} {
		if sigs := inSet(t, b.container().Look().Live.PID, set); len(sigs) > 0 {
			t.Errorf("%s of the container has %v", set, sigs)
		}
	}
	if log := b.log(); log != "stdout F before\nstdout F after\n" {
		t.Errorf("log %q", log)
	}
}
