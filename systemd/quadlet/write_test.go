package quadlet

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAlias: an alias does not take the place of another unit's service.
func TestAlias(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, `-- a.container --
[Container]
Image=localhost/a:1
[Install]
Alias=b.service
-- b.container --
[Container]
Image=localhost/b:1
-- c.container --
[Container]
Image=localhost/c:1
[Install]
Alias=see.service
`)
	out, said, failed := generateIn(t, dir, "")
	if !failed || !slices.ContainsFunc(said, func(s string) bool {
		return strings.Contains(s, "a.container:4: Alias=b.service is the name of another")
	}) {
		t.Errorf("nothing is said of the alias: %q", said)
	}
	if got := contents(t, filepath.Join(out, "b.service")); !strings.Contains(got, "localhost/b:1") {
		t.Errorf("b.service is of another file:\n%s", got)
	}
	if got := contents(t, filepath.Join(out, "see.service")); !strings.Contains(got, "localhost/c:1") {
		t.Errorf("see.service is not c.service:\n%s", got)
	}
}

// TestStandIn: what stands in for a service that cannot be made fails with what is wrong,
// also where the file alone looks right.
func TestStandIn(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, "-- a.container --\n[Container]\nImage=localhost/a:1\nContainerName=same\n-- b.container --\n[Container]\nImage=localhost/b:1\nContainerName=same\n"+
		"-- c.container --\n[Container]\nImage=localhost/c:1\nRunInit="+strings.Repeat("x%$'\"", 20000)+"\n")
	out, _, _ := generateIn(t, dir, "")
	for name, want := range map[string]string{"b": `b.container:3: the name "same" is used by`, "c": "c.container:3: RunInit"} {
		text := contents(t, filepath.Join(out, name+".service"))
		if len(text) > 8000 {
			t.Errorf("%s.service has %d bytes", name, len(text))
		}
		_, line, _ := strings.Cut(text, "\nExecStart=")
		line, _, _ = strings.Cut(line, "\n")
		args, err := words(line, true)
		if err != nil {
			t.Fatal(err)
		}
		for i := range args {
			args[i] = strings.ReplaceAll(strings.ReplaceAll(args[i], "%%", "%"), "$$", "$")
		}
		said, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput()
		if err == nil || !strings.Contains(string(said), want) {
			t.Errorf("%s.service: %v, and says %q", name, err, said)
		}
	}
}

// TestLastGoodName: the service stays where it was when its name is what is wrong.
func TestLastGoodName(t *testing.T) {
	dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "kept")
	lay(t, dir, "-- a.container --\n[Container]\nImage=localhost/a:1\nServiceName=web\n")
	generateIn(t, dir, kept)
	lay(t, dir, "-- a.container --\n[Container]\nImage=localhost/a:1\nServiceNam=web\n")
	out, _, failed := generateIn(t, dir, kept)
	if got := contents(t, filepath.Join(out, "web.service")); !failed || !strings.Contains(got, "as it was before") {
		t.Errorf("web.service:\n%s", got)
	}
	if fileIsThere(filepath.Join(out, "a.service")) {
		t.Error("there is a service of another name too")
	}
}

// TestLastGoodSocket: the socket of before stays with the service of before, and only
// that one.
func TestLastGoodSocket(t *testing.T) {
	dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "kept")
	text := func(port, more string) string {
		return "-- web.container --\n[Container]\nImage=localhost/a:1\nPublishPort=" + port + ":80\n" + more
	}
	lay(t, dir, text("8080", "SocketActivation=8080\n"))
	generateIn(t, dir, kept)
	for name, broken := range map[string]string{"another key": text("9090", "SocketActivation=9090\nMemroy=1\n"), "its own": text("8080", "SocketActivation=9090\n"), "gone": text("8080", "Memroy=1\n")} {
		lay(t, dir, broken)
		out, _, failed := generateIn(t, dir, kept)
		if !failed || !strings.Contains(contents(t, filepath.Join(out, "web.service")), "as it was before") {
			t.Fatalf("%s: there is no stand-in", name)
		}
		if got := contents(t, filepath.Join(out, "web.socket")); !strings.Contains(got, "ListenStream=8080") || strings.Contains(got, "9090") {
			t.Errorf("an error in %s: web.socket:\n%s", name, got)
		}
		if !fileIsThere(filepath.Join(out, "sockets.target.wants/web.socket")) {
			t.Errorf("an error in %s: the socket is not started", name)
		}
	}
	lay(t, dir, text("8080", "")) // it has no socket any more
	generateIn(t, dir, kept)
	lay(t, dir, text("9090", "SocketActivation=9090\nMemroy=1\n"))
	out, _, _ := generateIn(t, dir, kept)
	if fileIsThere(filepath.Join(out, "web.socket")) {
		t.Error("there is a socket for a service that knows none")
	}
}

// TestDirectDamaged: what is made is found again when the list of it is damaged.
func TestDirectDamaged(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	out, made := filepath.Join(home, "systemd/user"), filepath.Join(home, "made")
	run := func() error {
		g := Generator{Out: out, Moss: "/usr/bin/moss", Report: func(string, Problem) {}}
		_, err := g.Direct([]string{dir}, made)
		return err
	}
	lay(t, dir, "-- web.container --\n[Container]\nImage=localhost/web:1\n[Install]\nWantedBy=default.target\n-- more.container --\n[Container]\nImage=localhost/web:1\n")
	lay(t, out, "-- own.service --\n[Service]\nExecStart=/bin/true\n")
	if err := run(); err != nil {
		t.Fatal(err)
	}
	lay(t, home, "-- made --\nnonsense")
	if err := os.Remove(filepath.Join(dir, "web.container")); err != nil {
		t.Fatal(err)
	}
	if err := run(); err != nil {
		t.Error(err)
	}
	for name, want := range map[string]bool{"web.service": false, "default.target.wants/web.service": false, "own.service": true, "more.service": true} {
		if fileIsThere(filepath.Join(out, name)) != want {
			t.Errorf("%s: want %t", name, want)
		}
	}
}
