package monitor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
	"moss/rootless/runtime/birth"
)

// The test binary is all the programs: the monitor, and the init stage that
// birth executes as moss-runtime.
func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case "moss-monitor":
		os.Exit(monitor.Main(os.Args))
	case "moss-runtime":
		fakeInit(os.Args[2])
	}
	os.Exit(m.Run())
}

// document is what fakeInit is told: an init stage without a root file system.
type document struct {
	Args    []string
	Console bool
	Fail    *birth.Message
}

// fakeInit speaks the init stage's side of birth.
func fakeInit(path string) {
	say := func(m birth.Message, rights []byte) {
		data, _ := json.Marshal(m)
		unix.Sendmsg(3, data, rights, nil, 0)
	}
	unix.CloseOnExec(3)
	var doc document
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	if err != nil {
		say(birth.Message{Error: err.Error(), Code: 125}, nil)
		os.Exit(1)
	}
	if doc.Fail != nil {
		say(*doc.Fail, nil)
		os.Exit(1)
	}
	var rights []byte
	if doc.Console {
		master, _ := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY, 0)
		unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0)
		n, _ := unix.IoctlGetInt(master, unix.TIOCGPTN)
		unix.Setsid()
		slave, _ := unix.Open("/dev/pts/"+strconv.Itoa(n), unix.O_RDWR, 0)
		unix.IoctlSetInt(slave, unix.TIOCSCTTY, 0)
		for fd := range 3 {
			unix.Dup3(slave, fd, 0)
		}
		rights = unix.UnixRights(master)
	}
	say(birth.Message{Stage: "ready"}, rights)
	var b [1]byte
	if n, _ := unix.Read(3, b[:]); n != 1 || b[0] != 'g' {
		os.Exit(1)
	}
	os.Setenv("PATH", "/usr/bin:/bin")
	program, err := exec.LookPath(doc.Args[0])
	if err != nil {
		say(birth.Message{Error: fmt.Sprintf("cannot run %q: not found", doc.Args[0]), Code: 127}, nil)
		os.Exit(1)
	}
	syscall.Exec(program, doc.Args, []string{"PATH=/usr/bin:/bin"})
	os.Exit(1)
}

// box is a container to be started.
type box struct {
	t       testing.TB
	cfg     monitor.Config
	doc     document
	program string
}

func newBox(t testing.TB, script string) *box {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes: not with -short")
	}
	dir, err := os.MkdirTemp("/tmp", "mon") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Repeat("ab12", 16)
	b := &box{t: t, program: self, doc: document{Args: []string{"sh", "-c", script}}}
	b.cfg = monitor.Config{
		ID: id, Name: "box", RunDir: dir + "/run", Dir: dir + "/containers/" + id, Trash: dir + "/trash",
		Log:     monitor.Log{Driver: "k8s-file", Path: dir + "/containers/" + id + "/ctr.log"},
		Names:   []string{dir + "/names/box"},
		PIDFile: dir + "/pid",
		Birth:   birth.Request{Runtime: self, Document: dir + "/run/init.json"},
	}
	for _, d := range []string{b.cfg.RunDir, b.cfg.Dir, dir + "/names"} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c := b.container()
	c.Spec = container.Spec{Version: container.SpecVersion, ID: id, Name: "box"}
	if err := c.Save(false); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.cfg.Names[0], []byte(id), 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *box) container() *container.Container {
	return &container.Container{Dir: b.cfg.Dir, RunDir: b.cfg.RunDir}
}

func (b *box) spawn(stdio ...*os.File) *client.Conn {
	b.t.Helper()
	b.doc.Console = b.cfg.TTY
	if err := record.Write(b.cfg.Birth.Document, b.doc, false); err != nil {
		b.t.Fatal(err)
	}
	conn, err := client.Spawn(b.t.Context(), b.program, b.cfg, false, stdio)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { // whatever a failed test has left
		if live, _ := container.ReadLive(b.cfg.RunDir); live != nil && container.Alive(live.PID, live.PIDStart) {
			client.Control(context.Background(), b.cfg.RunDir, monitor.ControlRequest{Op: "stop"})
			syscall.Kill(live.PID, syscall.SIGKILL)
		}
	})
	return conn
}

func (b *box) start(stdio ...*os.File) *client.Conn {
	b.t.Helper()
	conn := b.spawn(stdio...)
	if err := conn.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { conn.Close() })
	return conn
}

// pump copies to the end, for ten seconds at most.
func (b *box) pump(c *client.Conn, s client.Streams) monitor.Exit {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 10*time.Second)
	defer cancel()
	e, err := client.Pump(ctx, c, s)
	if err != nil {
		b.t.Fatalf("Pump: %v", err)
	}
	return e
}

func (b *box) log() string {
	b.t.Helper()
	data, err := os.ReadFile(b.cfg.Log.Path)
	if err != nil {
		b.t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(data)) {
		_, rest, _ := strings.Cut(line, " ")
		out.WriteString(rest)
	}
	return out.String()
}

// eventually waits for something that no descriptor tells.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("not in ten seconds: %s", what)
}

// A container's output, exit code and record are what it said and did, and
// nothing is left that says it runs.
func TestRun(t *testing.T) {
	b := newBox(t, "echo out; echo err >&2; printf rest; exit 3")
	var out, errs bytes.Buffer
	e := b.pump(b.start(), client.Streams{Out: &out, Err: &errs})
	if out.String() != "out\nrest" || errs.String() != "err\n" || e.Code != 3 || e.Error != "" {
		t.Errorf("out %q, err %q, exit %+v", out.String(), errs.String(), e)
	}
	of := map[string]string{}
	for line := range strings.Lines(b.log()) {
		stream, rest, _ := strings.Cut(line, " ")
		of[stream] += rest
	}
	if of["stdout"] != "F out\nP rest\nF:end \n" || of["stderr"] != "F err\n" {
		t.Errorf("log %q", of)
	}
	v := b.container().Look()
	if v.Status != container.StatusExited || v.Last == nil || v.Last.ExitCode != 3 || v.Last.Finished.IsZero() || v.Last.Error != "" {
		t.Errorf("view %+v %+v", v, v.Last)
	}
	entries, _ := os.ReadDir(b.cfg.RunDir)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if got := strings.Join(names, " "); got != "exit.json init.json monitor.json" {
		t.Errorf("left in the run directory: %s", got)
	}
	if text, err := os.ReadFile(b.cfg.PIDFile); err != nil || len(text) == 0 {
		t.Errorf("the PID file does not stay, as podman's does: %q, %v", text, err)
	}
}

// With --rm the name is free and the record is gone when the exit is reported;
// also when the container was renamed meanwhile.
func TestAutoRemove(t *testing.T) {
	for _, renamed := range []bool{false, true} {
		b := newBox(t, "read line; kill -9 $$")
		b.cfg.AutoRemove, b.cfg.Stdin = true, true
		volume := filepath.Join(b.cfg.Dir, "../../volume")
		if err := os.MkdirAll(volume+"/_data/x", 0o700); err != nil {
			t.Fatal(err)
		}
		b.cfg.Volumes = []string{volume}
		conn := b.start()
		name := b.cfg.Names[0]
		if renamed {
			c := b.container()
			c.Spec = container.Spec{Version: 1, ID: b.cfg.ID, Name: "other"}
			c.Save(false)
			os.WriteFile(filepath.Dir(name)+"/other", []byte(b.cfg.ID), 0o600)
			os.WriteFile(name, []byte("somebody else"), 0o600)
		}
		if v := b.container().Look(); v.Status != container.StatusRunning || !v.Monitor() {
			t.Errorf("view %+v", v)
		}
		conn.Send(monitor.Stdin, []byte("go\n"))
		e := b.pump(conn, client.Streams{})
		if e.Code != 137 || e.Signal != 9 {
			t.Errorf("exit %+v", e)
		}
		for _, path := range []string{b.cfg.RunDir, b.cfg.Dir, volume, filepath.Dir(name) + "/other"} {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is still there: %v", path, err)
			}
		}
		if _, err := os.Lstat(name); (err == nil) != renamed {
			t.Errorf("renamed %v: name: %v", renamed, err)
		}
		eventually(t, "the trash is empty", func() bool { left, _ := os.ReadDir(b.cfg.Trash); return len(left) == 0 })
	}
}

// A start that fails says why, with moss's exit code, and leaves nothing.
func TestFailedStart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*box)
		code   int
		text   string
	}{
		"no program": {func(b *box) { b.doc.Args = []string{"/no/such"} }, 127, `cannot run "/no/such": not found`},
		"init fails": {func(b *box) { b.doc.Fail = &birth.Message{Error: "cannot mount", Code: 126} }, 126, "cannot mount"},
		"log":        {func(b *box) { b.cfg.Log.Path = "/no/such/dir/log" }, 125, `cannot open log "/no/such/dir/log"`},
		"driver":     {func(b *box) { b.cfg.Log.Driver = "carrier-pigeon" }, 125, "carrier-pigeon"},
		"policy":     {func(b *box) { b.cfg.Restart = "sometimes" }, 125, "sometimes"},
		"cgroup":     {func(b *box) { b.cfg.Cgroup = "/proc/no/such" }, 125, "cannot make cgroup"},
		"pidfile":    {func(b *box) { b.cfg.PIDFile = "/proc/no/such" }, 125, "cannot write PID file"},
		"runtime":    {func(b *box) { b.cfg.Birth.Runtime = "/no/such" }, 125, "/no/such"},
		"terminal":   {func(b *box) { b.cfg.Runtime = &monitor.Runtime{Path: "/no/such"} }, 125, `cannot run OCI runtime "/no/such"`},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBox(t, "true")
			c.change(b)
			conn := b.spawn()
			defer conn.Close()
			err := conn.Start(t.Context())
			var failed *client.Failed
			if !errors.As(err, &failed) || failed.Code != c.code || !strings.Contains(failed.Message, c.text) {
				t.Errorf("error %v", err)
			}
			if v := b.container().Look(); v.Status != container.StatusCreated {
				t.Errorf("view %+v", v)
			}
			for _, file := range []string{"live.json", "attach.sock", "ctl.sock", "monitor.pid"} {
				if _, err := os.Lstat(filepath.Join(b.cfg.RunDir, file)); err == nil {
					t.Errorf("%s is left", file)
				}
			}
		})
	}
}

// When moss goes before the start, the container goes too.
func TestMossLeavesBeforeStart(t *testing.T) {
	b := newBox(t, "touch ran")
	conn := b.spawn()
	kind, _, err := conn.Recv()
	if err != nil || kind != monitor.Created {
		t.Fatalf("%q %v", kind, err)
	}
	live, err := container.ReadLive(b.cfg.RunDir)
	if err != nil || live == nil {
		t.Fatal(live, err)
	}
	conn.Close()
	eventually(t, "container and monitor are gone", func() bool {
		return !container.Alive(live.PID, live.PIDStart) && !container.Alive(live.Monitor, live.MonitorStart)
	})
	if v := b.container().Look(); v.Status != container.StatusCreated {
		t.Errorf("view %+v", v)
	}
}

// Several clients see the same output, each can type, and the end of one's
// input is the container's.
func TestAttach(t *testing.T) {
	b := newBox(t, "cat; echo end")
	b.cfg.Stdin = true
	first := b.start()
	second, err := client.Attach(t.Context(), b.cfg.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	waiting := make(chan monitor.Exit, 1)
	go func() {
		e, err := client.Wait(t.Context(), b.cfg.RunDir)
		if err != nil {
			t.Error(err)
		}
		waiting <- e
	}()

	first.Send(monitor.Stdin, []byte("one\n"))
	var out [2]bytes.Buffer
	in, w, _ := os.Pipe()
	fmt.Fprint(w, "two\n")
	w.Close()
	var wg sync.WaitGroup
	wg.Go(func() { b.pump(first, client.Streams{Out: &out[0]}) })
	wg.Go(func() { b.pump(second, client.Streams{In: in, Out: &out[1]}) })
	wg.Wait()
	for i := range out {
		if got := out[i].String(); got != "one\ntwo\nend\n" {
			t.Errorf("client %d saw %q", i, got)
		}
	}
	if e := <-waiting; e.Code != 0 {
		t.Errorf("waiter: %+v", e)
	}
	if _, err := client.Attach(t.Context(), b.cfg.RunDir); !errors.Is(err, client.ErrMonitorGone) {
		t.Errorf("attach afterwards: %v", err)
	}
}

// A slow client loses nothing, however much the container says, and holds the
// container back; the log has it all.
func TestSlowClient(t *testing.T) {
	const lines = 200000
	b := newBox(t, "seq "+strconv.Itoa(lines))
	conn := b.start()
	time.Sleep(200 * time.Millisecond)
	if v := b.container().Look(); v.Status != container.StatusRunning {
		t.Errorf("it did not wait for its reader: %+v", v)
	}
	var out bytes.Buffer
	b.pump(conn, client.Streams{Out: &out})
	if n := strings.Count(out.String(), "\n"); n != lines || !strings.HasSuffix(out.String(), "\n200000\n") {
		t.Errorf("%d lines", n)
	}
	data, _ := os.ReadFile(b.cfg.Log.Path)
	if n := bytes.Count(data, []byte(" F ")); n != lines {
		t.Errorf("%d lines in the log", n)
	}
}

// A client that dies while it is behind does not hold the container back.
func TestDeadClient(t *testing.T) {
	b := newBox(t, "seq 200000")
	b.start().Close()
	eventually(t, "it has exited", func() bool { return b.container().Look().Status == container.StatusExited })
}

// Much input through a container that reads slowly arrives whole, after its
// writer has gone, too.
func TestMuchInput(t *testing.T) {
	b := newBox(t, "sleep 0.3; wc -c")
	b.cfg.Stdin = true
	conn := b.start()
	sender, err := client.Attach(t.Context(), b.cfg.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	const size = 20
	go func() {
		defer sender.Close()
		for range size {
			sender.Send(monitor.Stdin, make([]byte, monitor.MaxData))
		}
		sender.Send(monitor.StdinEOF, nil)
	}()
	var out bytes.Buffer
	b.pump(conn, client.Streams{Out: &out})
	if got := strings.TrimSpace(out.String()); got != strconv.Itoa(size*monitor.MaxData) {
		t.Errorf("it read %s bytes", got)
	}
}

// A terminal: size, change of size, interrupt, end of file.
func TestTerminal(t *testing.T) {
	b := newBox(t, `trap 'stty size; exit 7' WINCH; trap 'echo interrupted' INT; stty size; echo ready; while :; do read x || echo eof; done`)
	b.cfg.TTY, b.cfg.Stdin = true, true
	conn := b.spawn()
	defer conn.Close()
	if kind, _, err := conn.Recv(); kind != monitor.Created {
		t.Fatalf("%q %v", kind, err)
	}
	size := func(rows, cols uint16) []byte {
		data, _ := json.Marshal(monitor.ResizeMessage{Rows: rows, Cols: cols})
		return data
	}
	conn.Send(monitor.Resize, size(11, 22))
	conn.Send(monitor.Start, nil)
	var out bytes.Buffer
	wait := func(want string) {
		t.Helper()
		for !strings.Contains(out.String(), want) {
			kind, data, err := conn.Recv()
			if err != nil || kind == monitor.Failed || kind == monitor.Exited {
				t.Fatalf("no %q in %q: %q %s %v", want, out.String(), kind, data, err)
			}
			if kind == monitor.Stdout {
				out.Write(data)
			}
		}
	}
	wait("11 22\r\nready\r\n")
	conn.Send(monitor.Stdin, []byte{3})
	wait("interrupted")
	conn.Send(monitor.StdinEOF, nil)
	wait("eof")
	if err := client.Control(t.Context(), b.cfg.RunDir, monitor.ControlRequest{Op: "resize", Rows: 33, Cols: 44}); err != nil {
		t.Error(err)
	}
	e := b.pump(conn, client.Streams{Out: &out})
	if e.Code != 7 || !strings.Contains(out.String(), "33 44\r\n") {
		t.Errorf("exit %+v, output %q", e, out.String())
	}
}

// A program that closes its terminal for a while is not the end of it.
func TestTerminalClosedForAWhile(t *testing.T) {
	b := newBox(t, `exec <&- >&- 2>&-; sleep 0.3; exec >/dev/tty; echo back`)
	b.cfg.TTY = true
	var out bytes.Buffer
	b.pump(b.start(), client.Streams{Out: &out})
	if out.String() != "back\r\n" {
		t.Errorf("output %q", out.String())
	}
}

// The detach keys leave the container running, and it can be joined again.
func TestDetach(t *testing.T) {
	b := newBox(t, "read x; exit 4")
	b.cfg.Stdin = true
	conn := b.start()
	in, w, _ := os.Pipe()
	w.Write([]byte{'a', 16, 17})
	_, err := client.Pump(t.Context(), conn, client.Streams{In: in, Terminal: true, DetachKeys: []byte{16, 17}})
	if !errors.Is(err, client.ErrDetached) {
		t.Fatalf("error %v", err)
	}
	conn.Close()
	again, err := client.Attach(t.Context(), b.cfg.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	again.Send(monitor.Stdin, []byte("\n"))
	if e := b.pump(again, client.Streams{}); e.Code != 4 {
		t.Errorf("exit %+v", e)
	}
}

// A client that has joined and does not read holds the container up for a moment only,
// and is told what it has missed; the starter misses nothing.
func TestClientThatDoesNotRead(t *testing.T) {
	b := newBox(t, "read x; head -c 3000000 /dev/zero; exit 5")
	b.cfg.Stdin = true
	conn := b.start()
	slow, err := client.Attach(t.Context(), b.cfg.RunDir)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	conn.Send(monitor.Stdin, []byte("\n"))
	var out bytes.Buffer
	if e := b.pump(conn, client.Streams{Out: &out}); e.Code != 5 || out.Len() != 3000000 {
		t.Errorf("exit %+v, %d bytes", e, out.Len())
	}
	var late bytes.Buffer
	var lost int64
	e := b.pump(slow, client.Streams{Out: &late, Lost: func(n int64) { lost += n }})
	if e.Code != 5 || lost == 0 || int64(late.Len())+lost != 3000000 {
		t.Errorf("exit %+v, %d bytes read, %d lost", e, late.Len(), lost)
	}
}
