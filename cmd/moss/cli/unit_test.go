package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"moss/record"
	"moss/rootless"
	"moss/rootless/container"
	"moss/systemd"
	"moss/systemd/quadlet"
	"moss/userns"
)

// unitsIn gives the test a configuration of its own, and returns the directory of its units.
func unitsIn(t *testing.T) (home string) {
	t.Helper()
	config := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", config)
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
	t.Setenv("QUADLET_UNIT_DIRS", "")
	home, err := unitHome()
	if err != nil {
		t.Fatal(err)
	}
	return home
}

func put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// planOf reads dir as apply does, into the application app.
func planOf(t *testing.T, home, dir string) (*plan, error) {
	t.Helper()
	p := &plan{to: filepath.Join(home, "app"), unused: func(string) bool { return true }}
	return p, p.read(t.Context(), &call{Err: new(bytes.Buffer)}, dir)
}

// TestApplyLeavesOthers: what apply has not put there is neither removed nor replaced.
func TestApplyLeavesOthers(t *testing.T) {
	home, dir := unitsIn(t), t.TempDir()
	put(t, filepath.Join(home, "app/backup.container"), "[Container]\nImage=localhost/x:1\n")
	put(t, filepath.Join(home, "app/certs/key.pem"), "secret")
	put(t, filepath.Join(home, "app/old.network"), "")
	put(t, filepath.Join(dir, "db.container"), "[Container]\nImage=localhost/x:1\n")
	if err := record.Write(filepath.Join(home, "app", appliedFile), []string{"old.network"}, false); err != nil {
		t.Fatal(err)
	}
	p, err := planOf(t, home, dir)
	if err != nil || !slices.Equal(p.gone, []string{"old.network"}) {
		t.Errorf("%q is to go (%v), want old.network alone", p.gone, err)
	}
	for _, u := range p.former {
		if u.Source.Name == "backup.container" {
			t.Error("backup.container counts as one of the application's")
		}
	}
	put(t, filepath.Join(dir, "backup.container"), "[Container]\nImage=localhost/y:1\n")
	if _, err := planOf(t, home, dir); err == nil || !strings.Contains(err.Error(), "apply has not put there") {
		t.Errorf("another backup.container was to be replaced: %v", err)
	}
	put(t, filepath.Join(home, "web.container"), "[Container]\nImage=localhost/x:1\n")
	put(t, filepath.Join(dir, "web.container"), "[Container]\nImage=localhost/y:1\n")
	os.Remove(filepath.Join(dir, "backup.container"))
	if _, err := planOf(t, home, dir); err == nil {
		t.Error("a second web.container was to be installed")
	}
	for _, bad := range []string{home, filepath.Dir(home), filepath.Join(home, "app")} {
		cmd := UnitApplyCmd{Dir: bad, Application: "app"}
		if err := cmd.Run(t.Context(), &call{Err: new(bytes.Buffer), Dirs: userns.Dirs{Run: t.TempDir()}}); err == nil || !strings.Contains(err.Error(), "already") {
			t.Errorf("apply %s: %v", bad, err)
		}
	}
}

// TestApplyForgets: what apply has removed is apply's no longer, and what it could not
// write never was; a file of the user's of that name stays then.
func TestApplyForgets(t *testing.T) {
	home, dir := unitsIn(t), t.TempDir()
	web, db := "[Container]\nImage=localhost/x:1\n", filepath.Join(home, "app/db.container")
	apply := func() error {
		p, err := planOf(t, home, dir)
		if err != nil {
			return err
		}
		p.decide(false)
		return p.carryOut(t.Context(), &call{Err: new(bytes.Buffer), Dirs: userns.Dirs{Root: t.TempDir(), Run: t.TempDir()}})
	}
	put(t, filepath.Join(dir, "web.container"), web)
	put(t, filepath.Join(dir, "db.container"), web)
	if err := apply(); err != nil || !exists(db) {
		t.Fatal(err, exists(db))
	}
	os.Remove(filepath.Join(dir, "db.container"))
	if err := apply(); err != nil || exists(db) {
		t.Fatal(err, exists(db))
	}
	put(t, db, "# by hand\n"+web)
	if err := apply(); err != nil || !exists(db) {
		t.Errorf("what was written by hand since is there: %t (%v)", exists(db), err)
	}

	put(t, filepath.Join(home, "app/z/in"), "in the way of z")
	put(t, filepath.Join(dir, "new.container"), web)
	p, err := planOf(t, home, dir)
	if err != nil {
		t.Fatal(err)
	}
	p.files = append(p.files, unitFile{name: "z", mode: 0o644})
	if err := p.carryOut(t.Context(), &call{Err: new(bytes.Buffer)}); err == nil {
		t.Error("a directory was replaced")
	}
	put(t, filepath.Join(home, "app/new.container"), "# by hand\n"+web)
	if err := apply(); err == nil || !strings.Contains(err.Error(), "apply has not put there") {
		t.Errorf("what was written by hand since was to be replaced: %v", err)
	}
}

// TestApplyNoStart: what nothing would start again goes on, with its socket.
func TestApplyNoStart(t *testing.T) {
	home, dir := unitsIn(t), t.TempDir()
	text := "[Container]\nImage=localhost/x:1\nPublishPort=8080:80\nSocketActivation=8080\n"
	put(t, filepath.Join(home, "app/web.container"), text)
	put(t, filepath.Join(home, "app/old.container"), strings.ReplaceAll(text, "8080", "8081"))
	put(t, filepath.Join(dir, "web.container"), text+"Environment=A=b\n")
	if err := record.Write(filepath.Join(home, "app", appliedFile), []string{"web.container", "old.container"}, false); err != nil {
		t.Fatal(err)
	}
	for noStart, want := range map[bool]string{true: "old.service", false: "old.service web.service"} {
		p, err := planOf(t, home, dir)
		if err != nil {
			t.Fatal(err)
		}
		p.decide(noStart)
		var got []string
		for _, u := range p.sockets {
			got = append(got, u.Name)
		}
		if slices.Sort(got); strings.Join(got, " ") != want {
			t.Errorf("--no-start=%t stops the sockets of %q, want %s", noStart, got, want)
		}
	}
}

// TestLinkedUnits: a directory may be a link to apply from, and one that the user has
// linked to is not removed with what it leads to.
func TestLinkedUnits(t *testing.T) {
	home, dir := unitsIn(t), quadlet.Real(t.TempDir())
	web := filepath.Join(dir, "blog/web.container")
	put(t, web, "[Container]\nImage=localhost/x:1\n")
	put(t, web+".d/10.conf", "[Container]\nEnvironment=A=b\n")
	link := filepath.Join(dir, "current")
	if err := os.Symlink("blog", link); err != nil {
		t.Fatal(err)
	}
	if p, err := planOf(t, home, link); err != nil || len(p.files) != 2 {
		t.Errorf("apply of a link: %v, %d files", err, len(p.files))
	}
	if err := os.MkdirAll(home, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "blog"), filepath.Join(home, "app")); err != nil {
		t.Fatal(err)
	}
	if _, err := planOf(t, home, filepath.Join(dir, "blog")); err == nil || !strings.Contains(err.Error(), "is a link to") {
		t.Errorf("apply through a link of the user's: %v", err)
	}
	units, err := userUnits()
	if err != nil {
		t.Fatal(err)
	}
	rm := func(cmd UnitRmCmd) error {
		var out bytes.Buffer
		return cmd.Run(t.Context(), &call{Out: &out, Err: &out, Dirs: userns.Dirs{Root: t.TempDir(), Run: t.TempDir()}})
	}
	for _, cmd := range []UnitRmCmd{{All: true}, {Name: []string{"web"}}} {
		if err := rm(cmd); err == nil || !strings.Contains(err.Error(), "moss unit rm --recursive app") {
			t.Errorf("%+v: %v", cmd, err)
		}
	}
	cmd := UnitRmCmd{Recursive: true, Name: []string{"app"}}
	if got, _, err := cmd.targets(units, home); err != nil || len(got) != 1 {
		t.Errorf("%d units would be stopped, want web.service: %v", len(got), err)
	}
	if err := rm(cmd); err != nil || exists(filepath.Join(home, "app")) || !exists(web) || !exists(web+".d/10.conf") {
		t.Errorf("%v: the link is there: %t, the file: %t", err, exists(filepath.Join(home, "app")), exists(web))
	}
}

// TestApplyNetwork: what was made is removed, not what has the new name; and nothing is
// if a container of somebody else's uses it, or if nothing would make it again.
func TestApplyNetwork(t *testing.T) {
	home, dir := unitsIn(t), t.TempDir()
	put(t, filepath.Join(home, "app/n.network"), "[Network]\nNetworkName=old\n")
	put(t, filepath.Join(dir, "n.network"), "[Network]\nNetworkName=new\n")
	if err := record.Write(filepath.Join(home, "app", appliedFile), []string{"n.network"}, false); err != nil {
		t.Fatal(err)
	}
	p, err := planOf(t, home, dir)
	if err != nil {
		t.Fatal(err)
	}
	p.states.of = map[string]systemd.UnitState{"n-network.service": {Active: "active"}}
	p.decide(true)
	if len(p.remake)+len(p.stop) > 0 {
		t.Errorf("--no-start removes %v and stops %q", p.made, p.stop)
	}
	p.stop, p.start = nil, nil
	p.decide(false)
	if len(p.remake) != 1 || p.made[p.remake[0]] != "old" {
		t.Fatalf("networks to remove: %v, want old", p.made)
	}
	user := func(unit, network string) *container.Container {
		s := container.Spec{Name: "c", Labels: map[string]string{rootless.UnitLabel: unit}}
		s.Network.Mode, s.Network.Networks = "bridge", []container.NetworkAttachment{{Name: network}}
		return &container.Container{Spec: s}
	}
	if err := p.spares([]*container.Container{user("", "new"), user("n-network.service", "old")}); err != nil {
		t.Error(err)
	}
	if err := p.spares([]*container.Container{user("other.service", "old")}); err == nil {
		t.Error("a container of another unit would lose its network")
	}
}

// TestUnitCheck: what is wrong with the named files is said, wherever it stands.
func TestUnitCheck(t *testing.T) {
	home, dir := unitsIn(t), quadlet.Real(t.TempDir())
	put(t, filepath.Join(home, "container.d/10.conf"), "[Container]\nMemroy=1g\n")
	put(t, filepath.Join(dir, "real/web.container"), "[Container]\nImage=localhost/x:1\nPortt=1\n")
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"link", "real/web.container", "link/web.container"} {
		var out, said bytes.Buffer
		err := (&UnitCheckCmd{Path: []string{filepath.Join(dir, path)}}).Run(t.Context(), &call{Out: &out, Err: &said})
		if err == nil || !strings.HasPrefix(out.String(), "1 file: 2 errors") || !strings.Contains(said.String(), "10.conf:2: ") {
			t.Errorf("check %s: %v, %s%s", path, err, said.String(), out.String())
		}
	}
}

// TestUnitFiles: what is not to be copied is refused, or said.
func TestUnitFiles(t *testing.T) {
	home, dir := unitsIn(t), t.TempDir()
	web := filepath.Join(dir, "app/web.container")
	put(t, web, "[Container]\nImage=localhost/x:1\nEnvironmentFile=.env\nEnvironmentFile=nosuch.env\n")
	put(t, filepath.Join(dir, "app/.env"), "A=b\n")
	files, err := (&UnitInstallCmd{Path: []string{filepath.Join(dir, "app")}}).files()
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	_, problems, err := unitsAsIf(files, nil, filepath.Join(home, "app"), false)
	if err != nil || len(problems) != 1 || !strings.Contains(problems[0].Message, "nosuch.env") {
		t.Errorf("want a warning of nosuch.env alone: %v, %v", problems, err)
	}
	for name, path := range map[string]string{"drop-ins": "conf.d", "a link": "link", "a device": "/dev/zero"} {
		put(t, filepath.Join(dir, "conf.d/x.container"), "")
		os.MkdirAll(filepath.Join(dir, "link"), 0o755)
		os.Symlink("../common/c.env", filepath.Join(dir, "link/c.env"))
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if got, err := (&UnitInstallCmd{Path: []string{path}}).files(); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
	for text, want := range map[string]bool{"-v /a/web:/b": true, "/a/web.container": false, "x /a/webs /a/web": true} {
		if names(text, "/a/web") != want {
			t.Errorf("%q", text)
		}
	}
}

// TestWriteAll: where one file cannot be written, those before it are as they were.
func TestWriteAll(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "a"), "old")
	put(t, filepath.Join(dir, "z/in"), "a directory")
	err := writeAll([]unitFile{{name: "a", data: []byte("new"), mode: 0o644}, {name: "b", data: []byte("new"), mode: 0o644}, {name: "z", data: []byte("new"), mode: 0o644}}, dir)
	if data, _ := os.ReadFile(filepath.Join(dir, "a")); err == nil || string(data) != "old" || exists(filepath.Join(dir, "b")) {
		t.Errorf("%v, a is %q, b: %t", err, data, exists(filepath.Join(dir, "b")))
	}
}
