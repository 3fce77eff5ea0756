package logs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"moss/rootless/container"
	"moss/rootless/monitor"
)

// print1 prints the log of one container.
func print1(ctx context.Context, c *container.Container, o Options) error {
	driver := c.Spec.Log.Driver
	if driver == "" {
		driver = "k8s-file"
	}
	return Print(ctx, []Log{{Container: c, Log: monitor.Log{Driver: driver, Path: filepath.Join(c.Dir, "ctr.log"), MaxFile: 3}}}, o)
}

// logged is a container whose log files have that content: newest first.
func logged(t *testing.T, driver string, files ...string) *container.Container {
	c := &container.Container{Dir: t.TempDir(), RunDir: t.TempDir()}
	c.Spec.Name, c.Spec.Log.Driver = "web", driver
	for i, content := range files {
		path := filepath.Join(c.Dir, "ctr.log")
		if i > 0 {
			path += fmt.Sprintf(".%d", i)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func at(second int, rest string) string {
	return fmt.Sprintf("2030-01-02T03:04:%02d.000000000+00:00 %s\n", second, rest)
}

// TestLogs: streams, partial lines, rotated files, tail and times.
func TestLogs(t *testing.T) {
	newest := at(5, "stdout F five") + at(6, "stderr F bad") + at(7, "stdout P sev") + at(7, "stdout F en") + at(8, "stdout P prompt> ")
	older := at(3, "stdout F three") + at(4, "stdout F four")
	oldest := at(1, "stdout F one") + "half a li"
	when := func(second int) time.Time { return time.Date(2030, 1, 2, 3, 4, second, 0, time.UTC) }
	for _, test := range []struct {
		name     string
		o        Options
		out, err string
	}{
		{"all", Options{Tail: -1}, "one\nthree\nfour\nfive\nseven\nprompt> ", "bad\n"},
		{"tail 0", Options{Tail: 0}, "", ""},
		{"tail 1", Options{Tail: 1}, "prompt> ", ""},
		{"tail 2", Options{Tail: 2}, "seven\nprompt> ", ""},
		{"tail 4", Options{Tail: 4}, "five\nseven\nprompt> ", "bad\n"},
		{"tail into the rotated", Options{Tail: 5}, "four\nfive\nseven\nprompt> ", "bad\n"},
		{"tail of more than there is", Options{Tail: 99}, "one\nthree\nfour\nfive\nseven\nprompt> ", "bad\n"},
		{"since", Options{Tail: -1, Since: when(6)}, "seven\nprompt> ", "bad\n"},
		{"until", Options{Tail: -1, Until: when(3)}, "one\nthree\n", ""},
		{"times", Options{Tail: 3, Timestamps: true, Names: true},
			"web 2030-01-02T03:04:07.000000000Z seven\nweb 2030-01-02T03:04:08.000000000Z prompt> ", "web 2030-01-02T03:04:06.000000000Z bad\n"},
		{"times", Options{Tail: 1, Color: true, Names: true}, "\x1b[37mweb prompt> \x1b[0m", ""},
	} {
		var out, err bytes.Buffer
		test.o.Out, test.o.Err = &out, &err
		c := logged(t, "", newest, older, oldest)
		if failed := print1(t.Context(), c, test.o); failed != nil {
			t.Errorf("%s: %v", test.name, failed)
		}
		if out.String() != test.out || err.String() != test.err {
			t.Errorf("%s: got %q and %q, want %q and %q", test.name, &out, &err, test.out, test.err)
		}
	}
}

// TestLogsLong: the last lines are found when they and what is before them are
// larger than what is read at once.
func TestLogsLong(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	content := strings.Repeat(at(1, "stdout F early"), 5000) + at(2, "stdout F "+long) + at(3, "stdout F end")
	var out bytes.Buffer
	c := logged(t, "k8s-file", content)
	if err := print1(t.Context(), c, Options{Tail: 3, Out: &out}); err != nil {
		t.Fatal(err)
	}
	if want := "early\n" + long + "\nend\n"; out.String() != want {
		t.Errorf("got %d bytes, want %d", out.Len(), len(want))
	}
}

// TestLogsJSON reads Docker's format.
func TestLogsJSON(t *testing.T) {
	c := logged(t, "json-file", `{"log":"a\u003cb\n","stream":"stdout","time":"2030-01-02T03:04:05.5Z"}
{"log":"par","stream":"stderr","time":"2030-01-02T03:04:06Z"}
{"log":"tial\n","stream":"stderr","time":"2030-01-02T03:04:06Z"}
`)
	var out, err bytes.Buffer
	if failed := print1(t.Context(), c, Options{Tail: 1, Out: &out, Err: &err}); failed != nil {
		t.Fatal(failed)
	}
	if out.String() != "" || err.String() != "partial\n" {
		t.Errorf("tail: got %q and %q", &out, &err)
	}
	if failed := print1(t.Context(), c, Options{Tail: -1, Timestamps: true, Out: &out}); failed != nil {
		t.Fatal(failed)
	}
	if want := "2030-01-02T03:04:05.500000000Z a<b\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
}

// TestLogsNone: a container without a log says so.
func TestLogsNone(t *testing.T) {
	err := print1(t.Context(), logged(t, "none"), Options{Tail: -1})
	if err == nil || !strings.Contains(err.Error(), "this container is using the 'none' log driver") {
		t.Errorf("got %v", err)
	}
}

// said collects what is written and tells when it contains something.
type said struct {
	text chan string
	all  strings.Builder
}

func (s *said) Write(p []byte) (int, error) { s.text <- string(p); return len(p), nil }

func (s *said) wait(t *testing.T, want string) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for !strings.HasSuffix(s.all.String(), want) {
		select {
		case text := <-s.text:
			s.all.WriteString(text)
		case <-timeout:
			t.Fatalf("got %q, want %q at the end", &s.all, want)
		}
	}
}

// TestLogsFollow: what comes is printed, across rotations, each line once, until
// the monitor ends.
func TestLogsFollow(t *testing.T) {
	c := logged(t, "", at(1, "stdout F one")+at(2, "stdout F two"))
	monitor := exec.Command("sleep", "600")
	if err := monitor.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = monitor.Process.Kill(); _ = monitor.Wait() }()
	writeLive(t, c, monitor.Process.Pid)

	path := filepath.Join(c.Dir, "ctr.log")
	log, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	say := func(second int, rest string) { fmt.Fprint(log, at(second, rest)) }
	rotate := func() {
		_ = os.Rename(path+".1", path+".2")
		if err := os.Rename(path, path+".1"); err != nil {
			t.Fatal(err)
		}
		if log, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	out := &said{text: make(chan string, 100)}
	ended := make(chan error, 1)
	go func() { // ends with the monitor
		ended <- print1(context.Background(), c, Options{Follow: true, Tail: 1, Out: out})
	}()
	out.wait(t, "two\n")
	say(3, "stdout F three")
	out.wait(t, "two\nthree\n")
	say(4, "stdout F four")
	rotate()
	say(5, "stdout F five")
	rotate()
	say(6, "stdout P si")
	out.wait(t, "three\nfour\nfive\nsi")
	say(7, "stdout F x")
	if err := monitor.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	out.wait(t, "two\nthree\nfour\nfive\nsix\n")
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("does not end with the monitor")
	}
}

// TestLogsFollowStops: until its time, and at once when the container does not run.
func TestLogsFollowStops(t *testing.T) {
	var out bytes.Buffer
	c := logged(t, "", at(1, "stdout F one"))
	if err := print1(context.Background(), c, Options{Follow: true, Tail: -1, Out: &out}); err != nil || out.String() != "one\n" {
		t.Errorf("exited: got %q, %v", &out, err)
	}
	writeLive(t, c, os.Getpid())
	out.Reset()
	until := time.Now().Add(50 * time.Millisecond)
	if err := print1(context.Background(), logged(t, ""), Options{Follow: true, Tail: -1, Out: &out, Until: until}); err != nil {
		t.Errorf("until: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(50*time.Millisecond, cancel)
	if err := print1(ctx, c, Options{Follow: true, Tail: -1, Out: &out}); err != nil {
		t.Errorf("cancelled: %v", err)
	}
}

// writeLive makes c look as if it ran under that monitor.
func writeLive(t *testing.T, c *container.Container, pid int) {
	t.Helper()
	start, err := container.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	live := container.Live{PID: pid, PIDStart: start, Monitor: pid, MonitorStart: start}
	if err := container.WriteLive(c.RunDir, &live); err != nil {
		t.Fatal(err)
	}
}

// TestSeveral: lines of several logs are whole and in order of time; a container that
// has ended in the middle of a line leaves none open.
func TestSeveral(t *testing.T) {
	a := logged(t, "k8s-file", at(1, "stdout F a1")+at(3, "stdout P a")+at(5, "stdout F 3")+at(6, "stdout P open")+at(6, "stdout F:end ")+at(8, "stdout F again"))
	b := logged(t, "k8s-file", at(2, "stdout F b2")+at(4, "stdout F b4")+at(7, "stdout P rest"))
	a.Spec.ID, b.Spec.ID = "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb"
	var list []Log
	for _, c := range []*container.Container{a, b} {
		list = append(list, Log{Container: c, Log: monitor.Log{Driver: "k8s-file", Path: filepath.Join(c.Dir, "ctr.log"), MaxFile: 3}})
	}
	var out bytes.Buffer
	if err := Print(t.Context(), list, Options{Tail: -1, Out: &out}); err != nil {
		t.Fatal(err)
	}
	const x, y = "aaaaaaaaaaaa ", "bbbbbbbbbbbb "
	if want := x + "a1\n" + y + "b2\n" + y + "b4\n" + x + "a3\n" + x + "open\n" + x + "again\n" + y + "rest\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}

	// Alone, the bytes are the container's own.
	out.Reset()
	if err := Print(t.Context(), list[:1], Options{Tail: 2, Out: &out}); err != nil || out.String() != "open\nagain\n" {
		t.Errorf("got %q, %v", &out, err)
	}
}

// TestTailInterleaved: parts of a line that lie between lines of the other stream's
// belong to it.
func TestTailInterleaved(t *testing.T) {
	log := at(1, "stdout F old") + at(1, "stdout P be") + at(2, "stderr F err1") + at(2, "stderr F err2") + at(3, "stdout F gin")
	for n, want := range []string{"|", "begin\n|", "begin\n|err2\n", "begin\n|err1\nerr2\n", "old\nbegin\n|err1\nerr2\n"} {
		var out, err bytes.Buffer
		if failed := print1(t.Context(), logged(t, "k8s-file", log), Options{Tail: n, Out: &out, Err: &err}); failed != nil {
			t.Fatal(failed)
		}
		if got := out.String() + "|" + err.String(); got != want {
			t.Errorf("tail %d: got %q, want %q", n, got, want)
		}
	}
}
