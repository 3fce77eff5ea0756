package container

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moss/record"
)

// record makes a container on disk.
func newRecord(t *testing.T) *Container {
	t.Helper()
	dir := t.TempDir()
	c := &Container{Dir: dir + "/containers/id", RunDir: dir + "/run"}
	c.Spec = Spec{Version: SpecVersion, ID: strings.Repeat("ab12", 16), Name: "web"}
	for _, d := range []string{c.Dir, c.RunDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Save(true); err != nil {
		t.Fatal(err)
	}
	return c
}

// gone is a process that has been.
func gone(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Skipf("cannot run true(1): %v", err)
	}
	return cmd.Process.Pid
}

// The status follows from the files and the processes, and from nothing else.
func TestLook(t *testing.T) {
	self := os.Getpid()
	start, err := StartTime(self)
	if err != nil {
		t.Fatal(err)
	}
	dead := gone(t)
	now := time.Now()
	boot := BootID()
	running := Live{PID: self, PIDStart: start, Monitor: self, MonitorStart: start}
	for name, c := range map[string]struct {
		live      *Live
		last      *Last
		freeze    string
		files     map[string]string // more, in Dir
		run       map[string]string // and in RunDir
		status    Status
		isLive    bool
		monitor   bool
		code      int
		hasReason string
	}{
		"never started":      {status: StatusCreated},
		"running":            {live: &running, last: &Last{Boot: boot, Started: now}, status: StatusRunning, isLive: true, monitor: true},
		"initialized":        {live: &Live{PID: self, PIDStart: start, Monitor: self, MonitorStart: start, Initialized: true}, status: StatusInitialized, isLive: true, monitor: true},
		"paused":             {live: &running, freeze: "1\n", status: StatusPaused, isLive: true, monitor: true},
		"thawed":             {live: &running, freeze: "0\n", status: StatusRunning, isLive: true, monitor: true},
		"monitor killed":     {live: &Live{PID: self, PIDStart: start, Monitor: dead, MonitorStart: 1}, status: StatusRunning, isLive: true},
		"cleaning up":        {live: &Live{PID: dead, PIDStart: 1, Monitor: self, MonitorStart: start}, status: StatusRunning, isLive: true, monitor: true},
		"waits to restart":   {live: &Live{PID: dead, PIDStart: 1, Monitor: self, MonitorStart: start, Restarting: true}, last: &Last{Boot: boot, Started: now, Finished: now, ExitCode: 3}, status: StatusRestarting, isLive: true, monitor: true, code: 3},
		"exited":             {last: &Last{Boot: boot, Started: now, Finished: now, ExitCode: 7}, status: StatusExited, code: 7},
		"all killed":         {live: &Live{PID: dead, PIDStart: 1, Monitor: dead, MonitorStart: 1}, last: &Last{Boot: boot, Started: now}, status: StatusExited, code: ExitUnknown, hasReason: "monitor was killed"},
		"pid reused":         {live: &Live{PID: self, PIDStart: start + 1, Monitor: self, MonitorStart: start + 1}, last: &Last{Boot: boot, Started: now}, status: StatusExited, code: ExitUnknown, hasReason: "monitor was killed"},
		"rebooted":           {last: &Last{Boot: "another", Started: now}, status: StatusExited, code: ExitUnknown, hasReason: "shut down"},
		"rebooted after end": {last: &Last{Boot: "another", Started: now, Finished: now, ExitCode: 2}, status: StatusExited, code: 2},
		"disk was full":      {last: &Last{Boot: boot, Started: now}, run: map[string]string{"exit.json": `{"Code":9,"At":"2100-01-01T00:00:00Z"}`}, status: StatusExited, code: 9},
		"last empty":         {files: map[string]string{"last.json": ""}, status: StatusExited, code: ExitUnknown, hasReason: "it is empty"},
		"last damaged":       {files: map[string]string{"last.json": `{"Boot":`}, status: StatusExited, code: ExitUnknown, hasReason: "it is damaged"},
		"last damaged, runs": {live: &running, files: map[string]string{"last.json": "x"}, status: StatusRunning, isLive: true, monitor: true, code: ExitUnknown},
		"live damaged":       {last: &Last{Boot: boot, Started: now, Finished: now}, run: map[string]string{"live.json": "{"}, status: StatusExited},
		"removing":           {last: &Last{Boot: boot, Started: now, Finished: now}, files: map[string]string{"removing": ""}, status: StatusRemoving},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecord(t)
			if c.live != nil {
				live := *c.live
				live.Cgroup = r.RunDir
				if err := WriteLive(r.RunDir, &live); err != nil {
					t.Fatal(err)
				}
			}
			if c.last != nil {
				if err := WriteLast(r.Dir, c.last, false); err != nil {
					t.Fatal(err)
				}
			}
			write(t, r.Dir, c.files)
			write(t, r.RunDir, c.run)
			if c.freeze != "" {
				write(t, r.RunDir, map[string]string{"cgroup.freeze": c.freeze})
			}
			v := r.Look()
			if v.Status != c.status || (v.Live != nil) != c.isLive || v.Monitor() != c.monitor {
				t.Errorf("%+v", v)
			}
			code, reason := 0, ""
			if v.Last != nil {
				code, reason = v.Last.ExitCode, v.Last.Error
			}
			if code != c.code || !strings.Contains(reason, c.hasReason) {
				t.Errorf("code %d, error %q", code, reason)
			}
		})
	}
}

func write(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// A container that is removed while somebody looks at it is being removed.
func TestLookAfterRemoval(t *testing.T) {
	c := newRecord(t)
	if err := c.MarkRemoving(); err != nil {
		t.Fatal(err)
	}
	if s := c.Look().Status; s != StatusRemoving {
		t.Error(s)
	}
	os.RemoveAll(c.Dir)
	if s := c.Look().Status; s != StatusRemoving {
		t.Error(s)
	}
}

// What each status allows.
func TestPredicates(t *testing.T) {
	type can struct{ start, stop, kill, exec, attach, pause, unpause, remove bool }
	for s, want := range map[Status]can{
		StatusCreated:     {start: true, remove: true},
		StatusInitialized: {start: true, stop: true, remove: true},
		StatusRunning:     {stop: true, kill: true, exec: true, attach: true, pause: true},
		StatusPaused:      {stop: true, kill: true, unpause: true},
		StatusRestarting:  {stop: true, attach: true},
		StatusExited:      {start: true, remove: true},
		StatusRemoving:    {remove: true},
	} {
		got := can{s.CanStart(), s.CanStop(), s.CanKill(), s.CanExec(), s.CanAttach(), s.CanPause(), s.CanUnpause(), s.CanRemove()}
		if got != want {
			t.Errorf("%s: %+v", s, got)
		}
	}
}

// A record comes back as it was saved; one that cannot be read says why.
func TestLoad(t *testing.T) {
	c := newRecord(t)
	c.Spec.Labels = map[string]string{"a": "b"}
	if err := c.Save(false); err != nil {
		t.Fatal(err)
	}
	back, err := Load(c.Dir, c.RunDir)
	if err != nil || back.Spec.Name != "web" || back.Spec.Labels["a"] != "b" {
		t.Errorf("%+v %v", back, err)
	}
	for text, want := range map[string]string{
		"": "it is empty", "{": "it is damaged", "[1]": "it is damaged", "{}": "has no ID",
		`{"Version":99,"ID":"x","Name":"n"}`: "made by a newer moss",
	} {
		write(t, c.Dir, map[string]string{"spec.json": text})
		if _, err := Load(c.Dir, c.RunDir); err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := Load(c.Dir+"/no", c.RunDir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

// Nothing but the file is left of a write, and an old one stays when it fails.
func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/x.json"
	for _, sync := range []bool{false, true} {
		if err := record.Write(path, map[string]bool{"sync": sync}, sync); err != nil {
			t.Fatal(err)
		}
	}
	if err := record.Write(path, func() {}, false); err == nil {
		t.Error("a function was written")
	}
	data, _ := os.ReadFile(path)
	entries, _ := os.ReadDir(dir)
	if string(data) != "{\"sync\":true}\n" || len(entries) != 1 {
		t.Errorf("%q, %d files", data, len(entries))
	}
	if err := record.Write(dir+"/no/x.json", 1, false); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// The second waits for the first, or until its context ends; a removed
// container cannot be locked.
func TestLock(t *testing.T) {
	c := newRecord(t)
	unlock, err := c.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Lock(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked twice: %v", err)
	}
	got := make(chan error, 1)
	go func() {
		unlock, err := c.Lock(context.Background())
		if err == nil {
			unlock()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("it did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}

	unlock, err = c.Lock(t.Context()) // also free after the wait that gave up
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_, err := c.Lock(context.Background())
		got <- err
	}()
	time.Sleep(20 * time.Millisecond) // most of the time it waits by now
	os.Rename(c.Dir, c.Dir+".trash")
	unlock()
	if err := <-got; !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a removed container was locked: %v", err)
	}
}

// A process's name can look like the end of the name.
func TestParseStat(t *testing.T) {
	tail := " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20"
	for text, want := range map[string]uint64{
		"1 (sh)" + tail: 4711, "1 (a) S 1 (b)" + tail: 4711, "1 (x y\n)" + tail: 4711, "1 (sh) S 1": 0, "": 0, "1 sh": 0,
	} {
		got, state, err := parseStat("stat", []byte(text))
		if got != want || (err == nil) != (want != 0) || err == nil && state != 'S' {
			t.Errorf("%q: %d %c %v", text, got, state, err)
		}
	}
}

// A zombie has ended.
func TestAliveZombie(t *testing.T) {
	cmd := exec.Command("cat")
	in, _ := cmd.StdinPipe()
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	pid := cmd.Process.Pid
	start, err := StartTime(pid)
	if err != nil || !Alive(pid, start) || Alive(pid, start+1) || Alive(pid, 0) || Alive(0, start) {
		t.Errorf("start %d, %v", start, err)
	}
	in.Close()
	for end := time.Now().Add(5 * time.Second); Alive(pid, start) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if Alive(pid, start) {
		t.Error("a zombie is alive")
	}
	cmd.Wait()
}
