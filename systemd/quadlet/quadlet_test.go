package quadlet

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/good/*.services anew")

// TestGood: the services of files as projects have them, and of every key.
func TestGood(t *testing.T) {
	dirs, err := filepath.Glob("testdata/good/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no files", err)
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			continue
		}
		t.Run(filepath.Base(dir), func(t *testing.T) {
			set := Load([]string{filepath.Join(here, dir)})
			units := set.Convert("/usr/bin/moss")
			for _, p := range Problems(set, units) {
				if !p.Warning {
					t.Error(p)
				}
			}
			var got strings.Builder
			for _, u := range units {
				got.WriteString("---" + u.Name + "---\n" + strings.ReplaceAll(u.Text(), here, "HERE"))
				for _, link := range u.Links() {
					got.WriteString("→ " + link + "\n")
				}
			}
			golden := dir + ".services"
			if *update {
				if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil || got.String() != string(want) {
				t.Errorf("want what is in %s (%v), got:\n%s", golden, err, got.String())
			}
		})
	}
}

// lay writes the files of a case into a directory, and returns what is said of them.
func lay(t *testing.T, dir, body string) (says []string) {
	t.Helper()
	for _, part := range strings.Split("\n"+body, "\n-- ")[1:] {
		name, content, ok := strings.Cut(part, " --")
		if !ok {
			t.Fatalf("no file begins with %q", part)
		}
		content = strings.TrimPrefix(content, "\n")
		if name == "says" {
			return strings.Split(strings.TrimSpace(content), "\n")
		}
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return nil
}

// TestBroken: what is wrong is said with file and line, and the nearest right name.
func TestBroken(t *testing.T) {
	data, err := os.ReadFile("testdata/broken.txt")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.Split(string(data), "\n== ")[1:]
	if len(cases) < 20 {
		t.Errorf("only %d cases", len(cases))
	}
	for _, c := range cases {
		name, body, _ := strings.Cut(c, "\n")
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			want := lay(t, dir, body)
			set := Load([]string{dir})
			var got []string
			for _, p := range Problems(set, set.Convert("/usr/bin/moss")) {
				got = append(got, strings.ReplaceAll(strings.ReplaceAll(p.String(), dir+"/", ""), dir, "."))
			}
			if !slices.Equal(got, want) {
				t.Errorf("want:\n%s\ngot:\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
			}
		})
	}
}

// generateIn runs a Generator on dir, and returns the directory of the services and
// what was reported.
func generateIn(t *testing.T, dir, kept string) (out string, said []string, failed bool) {
	t.Helper()
	out = t.TempDir()
	g := Generator{Out: out, Kept: kept, Moss: "/usr/bin/moss", Report: func(service string, p Problem) {
		said = append(said, service+" "+p.String())
	}}
	failed = g.Run([]string{dir})
	return out, said, failed
}

func contents(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestLastGood: a file with an error keeps the service that it was before, one that
// was never right gets a service that says what is wrong; a file that goes takes its
// service along.
func TestLastGood(t *testing.T) {
	dir, kept := t.TempDir(), filepath.Join(t.TempDir(), "kept")
	web := filepath.Join(dir, "web.container")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(web, "[Unit]\nDescription=The web\n[Container]\nImage=localhost/web:1\n[Install]\nWantedBy=default.target\n")
	if _, said, failed := generateIn(t, dir, kept); failed || len(said) > 0 {
		t.Fatalf("a good file fails: %q", said)
	}
	write(web, "[Unit]\nDescription=The web\n[Container]\nImage=localhost/web:2\nPort=1\n")
	write(filepath.Join(dir, "new.container"), "[Container]\nImagee=localhost/x:1\n[Install]\nWantedBy=default.target\n")
	out, said, failed := generateIn(t, dir, kept)
	if !failed {
		t.Error("an error is no failure")
	}
	service := contents(t, filepath.Join(out, "web.service"))
	for _, want := range []string{"localhost/web:1", "Description=The web (as it was before an error in web.container:5)", "SourcePath=" + web} {
		if !strings.Contains(service, want) {
			t.Errorf("no %q in the former service:\n%s", want, service)
		}
	}
	if strings.Count(service, "\nDescription=") != 1 {
		t.Error("two descriptions:", service)
	}
	if _, err := os.Readlink(filepath.Join(out, "default.target.wants/web.service")); err != nil {
		t.Error("the former service is not started at login:", err)
	}
	if !slices.ContainsFunc(said, func(s string) bool { return strings.HasPrefix(s, "web.service "+web+":5: [Container] has no key") }) {
		t.Errorf("the error is not reported: %q", said)
	}
	service = contents(t, filepath.Join(out, "new.service"))
	if !strings.Contains(service, `new.container:2: [Container] has no key "Imagee"`) || !strings.Contains(service, "exit 1\" sh \""+dir+"/new.container:2: ") {
		t.Errorf("the service does not say what is wrong:\n%s", service)
	}
	if err := os.Remove(web); err != nil {
		t.Fatal(err)
	}
	if out, _, _ = generateIn(t, dir, kept); fileIsThere(filepath.Join(out, "web.service")) {
		t.Error("there is a service without its file")
	}
	if entries, _ := os.ReadDir(kept); len(entries) != 0 {
		t.Errorf("what is kept of files that are gone: %v", entries)
	}
}

func fileIsThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestDirs: where files are looked for, and that the first of a name counts.
func TestDirs(t *testing.T) {
	env := map[string]string{"XDG_RUNTIME_DIR": "/run/user/7", "HOME": "/home/ann"}
	get := func(name string) string { return env[name] }
	want := []string{"/run/user/7/containers/systemd", "/home/ann/.config/containers/systemd", "/etc/containers/systemd/users/7",
		"/etc/containers/systemd/users", "/usr/share/containers/systemd/users/7", "/usr/share/containers/systemd/users"}
	if got := Dirs(get, 7); !slices.Equal(got, want) {
		t.Errorf("want %q\ngot  %q", want, got)
	}
	first, second := t.TempDir(), t.TempDir()
	lay(t, first, "-- web.container --\n[Container]\nImage=localhost/first:1")
	lay(t, second, "-- web.container --\n[Container]\nImage=localhost/second:1\n-- more/deep/other.network --\n")
	if err := os.Symlink(second, filepath.Join(second, "more/round")); err != nil {
		t.Fatal(err)
	}
	env["QUADLET_UNIT_DIRS"] = first + ":" + second
	set := Load(Dirs(get, 7))
	if len(set.Files) != 2 || set.Files[0].Resource() == "" || set.find("other.network") == nil || set.Files[0].value("Container", "Image") != "localhost/first:1" || len(set.Problems) > 0 {
		t.Errorf("found %v, %v", set.Files, set.Problems)
	}
}

// TestDropIns: the most special one of a name counts, in the order of names.
func TestDropIns(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, `-- a-b@one.container --
[Container]
Image=localhost/x:1
-- container.d/10.conf --
[Container]
Label=from=kind
-- a-.container.d/20.conf --
[Container]
Label=from=a
-- a-b@.container.d/10.conf --
[Container]
Label=from=template
-- a-b@one.container.d/30.conf --
[Container]
Label=last=instance
`)
	units := Load([]string{dir}).Convert("moss")
	if len(units) != 1 || !strings.Contains(units[0].Text(), "--label from=a --label last=instance") || strings.Contains(units[0].Text(), "from=kind") {
		t.Errorf("%v", units[0].Text())
	}
}

// TestReferences: the name of a resource means the same in the service of another.
func TestReferences(t *testing.T) {
	dir := t.TempDir()
	lay(t, dir, `-- data.volume --
[Volume]
VolumeName=%N-x
-- each@.volume --
-- each@two.network --
-- web@.container --
[Container]
Image=localhost/x:1
Volume=data.volume:/a
Volume=each@.volume:/b
Volume=each@one.volume:/c
Network=each@two.network
`)
	set := Load([]string{dir})
	units := set.Convert("moss")
	text := units[len(units)-1].Text()
	for _, want := range []string{"data-volume-x:/a", "systemd-each-%i:/b", "systemd-each-one:/c", "--network systemd-each-two", "Requires=each-volume@one.service", "Requires=each-volume@.service"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if bad := Problems(set, units); len(bad) > 0 {
		t.Error(bad)
	}
}

// FuzzWords: any words are the same words after they were quoted.
func FuzzWords(f *testing.F) {
	for _, seed := range []string{"a b", `"`, `\`, "tab\t", "", ";", "é 'x'", "\x01\x7f", "%n $X"} {
		f.Add(seed, "next")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		if strings.ContainsRune(a+b, 0) {
			return // no argument of a program has one
		}
		got, err := words(quote(a)+" "+quote(b), true)
		if err != nil || !slices.Equal(got, []string{a, b}) {
			t.Errorf("%q, %q became %q (%v)", a, b, got, err)
		}
	})
}

// FuzzParse: no file makes the parser or the conversion panic.
func FuzzParse(f *testing.F) {
	f.Add("[Container]\nImage=a\\\n#x\nb\n", "container")
	f.Add("[Network]\nSubnet=\nGateway=1\n[", "network")
	f.Fuzz(func(t *testing.T, text, ext string) {
		file := &File{Name: "x@." + ext, Path: "/x", kind: kindOf("x@." + ext)}
		if file.kind == nil {
			return
		}
		bad := file.parse("/x", text)
		s := &Set{Files: []*File{file}, problems: map[*File][]Problem{file: bad}, byName: map[string]*File{file.Name: file}}
		_ = s.Convert("moss")
	})
}

// TestDirect: without a generator the services lie among the user's own, which stay as
// they are; what is no longer wanted goes.
func TestDirect(t *testing.T) {
	dir, home := t.TempDir(), t.TempDir()
	out, made := filepath.Join(home, "systemd/user"), filepath.Join(home, "made")
	run := func() (bool, error) {
		g := Generator{Out: out, Moss: "/usr/bin/moss", Report: func(string, Problem) {}}
		return g.Direct([]string{dir}, made)
	}
	lay(t, dir, "-- web.container --\n[Container]\nImage=localhost/web:1\n[Install]\nWantedBy=default.target\n-- own.container --\n[Container]\nImage=localhost/own:1\n")
	lay(t, out, "-- own.service --\n[Service]\nExecStart=/bin/true\n")
	failed, err := run()
	if failed || err == nil || !strings.Contains(err.Error(), "own.service") || !strings.Contains(err.Error(), "not moss's") {
		t.Errorf("a unit of the user's own: %v, %v", failed, err)
	}
	if got := contents(t, filepath.Join(out, "own.service")); !strings.HasPrefix(got, "[Service]") {
		t.Error("it was overwritten:", got)
	}
	link := filepath.Join(out, "default.target.wants/web.service")
	if target, err := os.Readlink(link); target != "../web.service" {
		t.Error(target, err)
	}
	for _, name := range []string{"web.container", "own.container"} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if failed, err = run(); failed || err != nil {
		t.Error(failed, err)
	}
	if fileIsThere(filepath.Join(out, "web.service")) || fileIsThere(link) || !fileIsThere(filepath.Join(out, "own.service")) {
		t.Error("web.service should be gone, and own.service there")
	}
	if entries, _ := os.ReadDir(home); len(entries) != 3 { // made, its lock, systemd
		t.Errorf("left behind: %v", entries)
	}
}

// TestHasGenerator: the first of a name counts, and a link to /dev/null is none.
func TestHasGenerator(t *testing.T) {
	was := generatorDirs
	defer func() { generatorDirs = was }()
	first, second := t.TempDir(), t.TempDir()
	generatorDirs = [...]string{first, second, first, second}
	if HasGenerator("g") {
		t.Error("there is none")
	}
	lay(t, second, "-- g --\n")
	if !HasGenerator("g") {
		t.Error("there is one")
	}
	if err := os.Symlink("/dev/null", filepath.Join(first, "g")); err != nil {
		t.Fatal(err)
	}
	if HasGenerator("g") {
		t.Error("it is masked")
	}
}
