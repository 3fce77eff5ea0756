package command

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The program's output and exit code are run's, and nothing is left.
func TestRun(t *testing.T) {
	b := newBox(t).sh("echo out; echo err >&2; hostname; exit 3")
	r := b.once()
	if r.code != 3 || r.out != "out\nmoss\n" || r.err != "err\n" {
		t.Fatalf("%+v", r)
	}
	if l := b.run("list", "-q"); l.out != "" {
		t.Errorf("left behind: %s", l.out)
	}
}

// A signal that ends the program is 128 and its number.
func TestRunSignal(t *testing.T) {
	b := newBox(t).sh("kill -KILL $$")
	b.without(specs.PIDNamespace) // whose first process no signal of its own ends
	if r := b.once(); r.code != 137 {
		t.Fatalf("%+v", r)
	}
}

// What is not there is 127, what cannot be run is 126.
func TestRunFailures(t *testing.T) {
	for _, c := range []struct {
		program, says string
		code          int
	}{
		{"nope", `cannot run "nope": not found`, 127},
		{"/no/such", `cannot run "/no/such": not found`, 127},
		{"/etc", `cannot run "/etc": is a directory`, 126},
		{"/plain", `cannot run "/plain": permission denied`, 126},
		{"/script", `cannot run "/script": not found (or its interpreter is not)`, 127},
	} {
		b := newBox(t)
		os.Chmod(b.file("plain", "x"), 0o644)
		b.file("script", "#!/no/interpreter\n")
		b.spec.Process.Args = []string{c.program}
		r := b.once()
		if r.code != c.code || !strings.Contains(r.err, c.says) {
			t.Errorf("%s: %+v", c.program, r)
		}
	}
}

// The life of a container by the letter of the specification.
func TestLife(t *testing.T) {
	b := newBox(t).sh("echo started; trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done")
	b.spec.Annotations = map[string]string{"a": "b"}
	b.write()
	pidFile := filepath.Join(b.bundle, "pid")
	b.created("life", "--pid-file", pidFile)

	s := b.state("life")
	if s.Status != specs.StateCreated || s.ID != "life" || s.Bundle != b.bundle || s.Annotations["a"] != "b" {
		t.Errorf("state after create: %+v", s)
	}
	if data, _ := os.ReadFile(pidFile); string(data) != fmt.Sprint(s.Pid) {
		t.Errorf("pid file %q, pid %d", data, s.Pid)
	}
	if out := b.output("life"); out != "" {
		t.Errorf("ran before start: %s", out)
	}
	if r := b.run("create", "--bundle", b.bundle, "life"); r.code == 0 {
		t.Error("a second container of the same ID was made")
	}
	if r := b.run("start", "life"); r.code != 0 {
		t.Fatalf("start: %s", r.err)
	}
	if s := b.state("life"); s.Status != specs.StateRunning {
		t.Errorf("state after start: %+v", s)
	}
	if r := b.run("start", "life"); r.code == 0 {
		t.Error("started twice")
	}
	if r := b.run("delete", "life"); r.code == 0 {
		t.Error("a running container was deleted")
	}
	b.until("life", "started")
	b.run("exec", "life", "true") // the trap is set after
	if r := b.run("kill", "life", "TERM"); r.code != 0 {
		t.Errorf("kill: %s", r.err)
	}
	ended(t, s.Pid)
	if s := b.state("life"); s.Status != specs.StateStopped || s.Pid != 0 {
		t.Errorf("state at the end: %+v", s)
	}
	wantContains(t, "output", b.output("life"), "bye")
	if r := b.run("kill", "life"); r.code == 0 {
		t.Error("a stopped container took a signal")
	}
	if r := b.run("delete", "life"); r.code != 0 {
		t.Errorf("delete: %s", r.err)
	}
	if r := b.run("state", "life"); r.code == 0 {
		t.Error("a deleted container has a state")
	}
}

// A container that was never started can be deleted.
func TestDeleteCreated(t *testing.T) {
	b := newBox(t).sh("true")
	b.write()
	b.created("c")
	pid := b.state("c").Pid
	if r := b.run("delete", "c"); r.code != 0 {
		t.Fatal(r.err)
	}
	ended(t, pid)
}

// Nothing of the caller's environment reaches the program.
func TestEnvironment(t *testing.T) {
	b := newBox(t)
	b.spec.Process.Args = []string{"env"}
	b.spec.Process.Env = []string{"PATH=/bin", "A=1"}
	b.write()
	t.Setenv("SECRET", "x")
	if out := b.ran(); out != "PATH=/bin\nA=1\n" {
		t.Errorf("environment:\n%s", out)
	}
}

// One more process is in all the namespaces, with the container's restrictions.
func TestExec(t *testing.T) {
	b := newBox(t).sh("sleep 100")
	b.start("c")
	self := b.run("exec", "c", "sh", "-c", "cat /proc/1/cmdline | tr '\\0' ' '; hostname; for n in mnt net ipc uts pid user cgroup; do readlink /proc/self/ns/$n; done; grep -E 'NoNewPrivs|CapBnd' /proc/self/status")
	if self.code != 0 {
		t.Fatal(self.err)
	}
	pid := b.state("c").Pid
	for _, ns := range []string{"mnt", "net", "ipc", "uts", "pid", "user", "cgroup"} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, ns))
		must(t, err)
		wantContains(t, "namespaces", self.out, link)
	}
	wantContains(t, "first process", self.out, "sleep 100")
	wantContains(t, "no_new_privs", self.out, "NoNewPrivs:\t1")
	wantContains(t, "bounding set", self.out, "CapBnd:\t0000000020000420")

	if r := b.run("exec", "--user", "0", "--cwd", "/tmp", "-e", "X=y", "c", "sh", "-c", "pwd; echo $X; exit 9"); r.code != 9 || r.out != "/tmp\ny\n" {
		t.Errorf("%+v", r)
	}
	if r := b.run("exec", "c", "nope"); r.code != 127 {
		t.Errorf("%+v", r)
	}
	process := specs.Process{Args: []string{"cat", "/proc/self/comm"}, Cwd: "/", Env: []string{"PATH=/bin"}}
	data, _ := json.Marshal(process)
	file := filepath.Join(b.bundle, "process.json")
	must(t, os.WriteFile(file, data, 0o644))
	if r := b.run("exec", "--process", file, "c"); r.out != "cat\n" {
		t.Errorf("%+v", r)
	}
}

// The terminal is the container's own, and its master comes by the console socket.
func TestConsole(t *testing.T) {
	b := newBox(t).sh("tty; stty size; ls -l /dev/console | cut -c1; echo end")
	b.spec.Process.Terminal = true
	b.spec.Process.ConsoleSize = &specs.Box{Height: 33, Width: 77}
	b.write()
	master := b.console(func(socket string) { b.created("c", "--console-socket", socket) })
	b.run("start", "c")
	got := readTerminal(master)
	for _, want := range []string{"/dev/pts/0\r\n", "33 77\r\n", "c\r\n", "end\r\n"} {
		wantContains(t, "terminal", got, want)
	}
}

func TestExecConsole(t *testing.T) {
	b := newBox(t).sh("sleep 100")
	b.start("c")
	master := b.console(func(socket string) {
		if r := b.run("exec", "-d", "-t", "--console-socket", socket, "c", "sh", "-c", "tty; echo end"); r.code != 0 {
			t.Fatal(r.err)
		}
	})
	got := readTerminal(master)
	wantContains(t, "terminal", got, "/dev/pts/0\r\nend\r\n")
}

// console gives a command a console socket and takes what it sends.
func (b *box) console(run func(socket string)) *os.File {
	b.t.Helper()
	socket := filepath.Join(b.t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: socket})
	must(b.t, err)
	defer l.Close()
	got := make(chan *os.File, 1)
	go func() {
		defer close(got)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		data, oob := make([]byte, 100), make([]byte, 100)
		_, n, _, _, err := c.ReadMsgUnix(data, oob)
		if err != nil {
			return
		}
		if m, err := syscall.ParseSocketControlMessage(oob[:n]); err == nil && len(m) == 1 {
			if fds, err := syscall.ParseUnixRights(&m[0]); err == nil {
				got <- os.NewFile(uintptr(fds[0]), "master")
			}
		}
	}()
	run(socket)
	master := <-got
	if master == nil {
		b.t.Fatal("no terminal came")
	}
	b.t.Cleanup(func() { master.Close() })
	return master
}

func readTerminal(f *os.File) string {
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := f.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			return string(all)
		}
	}
}

// All six hooks run in their order and place, with the state on standard input.
func TestHooks(t *testing.T) {
	b := newBox(t).sh("echo program >>/log; cat /inside-log")
	log := b.file("log", "")
	hook := func(name string) []specs.Hook {
		return []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c",
			"echo " + name + " $(sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') $A >>" + log}, Env: []string{"A=1", "PATH=/bin:/usr/bin"}}}
	}
	inside := []specs.Hook{{Path: "/bin/sh", Args: []string{"sh", "-c", "read state; echo inside >/inside-log"}}}
	//nolint:staticcheck // deprecated, but of the specification
	//lint:ignore SA1019 the specification still has them, and wants them run
	b.spec.Hooks = &specs.Hooks{Prestart: hook("prestart"), CreateRuntime: hook("createRuntime"),
		CreateContainer: hook("createContainer"), StartContainer: inside, Poststart: hook("poststart"), Poststop: hook("poststop")}
	if out := b.ran(); out != "inside\n" {
		t.Errorf("startContainer: %q", out)
	}
	data, err := os.ReadFile(log)
	must(t, err)
	got := string(data)
	got = strings.Replace(got, "poststart stopped 1", "poststart running 1", 1) // it may have ended by then
	program, rest := 0, []string{}
	for _, line := range strings.Split(strings.TrimSpace(got), "\n") {
		if line == "program" {
			program++
			continue
		}
		rest = append(rest, line)
	}
	want := "prestart creating 1|createRuntime creating 1|createContainer creating 1|poststart running 1|poststop stopped 1"
	if strings.Join(rest, "|") != want || program != 1 {
		t.Errorf("hooks:\n%s", got)
	}
}

// A hook that fails or hangs before the start means no container.
func TestHookFailures(t *testing.T) {
	second := 1
	for says, hook := range map[string]specs.Hook{
		"no good":                         {Path: "/bin/sh", Args: []string{"sh", "-c", "echo no good; exit 1"}},
		"it did not end within 1 seconds": {Path: "/bin/sleep", Args: []string{"sleep", "100"}, Timeout: &second},
	} {
		b := newBox(t).sh("true")
		b.spec.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{hook}}
		r := b.once()
		if r.code == 0 || !strings.Contains(r.err, says) {
			t.Errorf("%+v", r)
		}
		if l := b.run("list", "-q"); l.out != "" {
			t.Errorf("left behind: %s", l.out)
		}
	}
}
