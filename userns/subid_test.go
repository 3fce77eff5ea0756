package userns

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestParseSubIDs(t *testing.T) {
	alice := user{name: "alice", uid: 1000}
	got, err := parseSubIDs("f", "# comment\nbob:1\nalice:100000:65536\n\n1000:300000:5\nalice:1:0\nbob:x:y\n", alice.owns)
	if want := []Range{{100000, 65536}, {300000, 5}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	for _, bad := range []string{"alice:1", "alice:x:1", "alice:1:-1", "1000:4294967290:100", "alice:b:c:d"} {
		if got, err := parseSubIDs("f", "ok:1:1\n"+bad, alice.owns); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%q: got %v, %v", bad, got, err)
		}
	}
	if got, err := parseSubIDs("f", "", (user{uid: 5}).owns); got != nil || err != nil {
		t.Errorf("an unnamed user has %v, %v", got, err)
	}
}

func TestParseGetSubIDs(t *testing.T) {
	got := parseGetSubIDs("0: alice 100000 65536\n1: alice 300000 10\n")
	if want := []Range{{100000, 65536}, {300000, 10}}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := parseGetSubIDs("Error fetching ranges\n"); got != nil {
		t.Errorf("got %v", got)
	}
}

func TestCheckRanges(t *testing.T) {
	a, b := Range{100000, 65536}, Range{300000, 10}
	if got, err := checkRanges("f", 1000, []Range{a, b, a}); err != nil || !slices.Equal(got, []Range{a, b}) {
		t.Errorf("the same range by name and by number: %v, %v", got, err)
	}
	var overlap *OverlapError
	if _, err := checkRanges("f", 1000, []Range{a, {165535, 5}}); !errors.As(err, &overlap) || overlap.Own {
		t.Errorf("overlapping ranges: %v", err)
	}
	if _, err := checkRanges("f", 165535, []Range{b, a}); !errors.As(err, &overlap) || !overlap.Own || overlap.A != a {
		t.Errorf("own ID in a range: %v", err)
	}
}

func TestFirstFreeAvoidsEveryone(t *testing.T) {
	for _, c := range []struct {
		taken []Range
		start int
	}{
		{nil, 100000},
		{[]Range{{1000, 1}, {100000, 65536}}, 165536},
		{[]Range{{400000, 65536}, {100000, 65536}}, 165536},
		{[]Range{{200000, 65536}, {100000, 65536}, {265536, 1}}, 265537},
		{[]Range{{120000, 1}}, 120001},
	} {
		if got := firstFree(c.taken); got != (Range{c.start, 65536}) {
			t.Errorf("%v: %v", c.taken, got)
		}
	}
}

func TestHints(t *testing.T) {
	e := &NoSubIDError{User: "alice", UID: 1000, File: "/etc/subgid", local: true}
	if h := e.Hint(); !strings.Contains(h, "usermod --add-subgids ") || strings.Contains(h, "subuids") {
		t.Error(h)
	}
	e.local = false
	if h := e.Hint(); !strings.Contains(h, "alice:") || !strings.Contains(h, "tee -a /etc/subgid") {
		t.Error(h)
	}
	for _, h := range []Hinter{
		&OverlapError{File: "/etc/subuid", A: Range{1, 2}, B: Range{2, 3}},
		&MissingProgramError{"newuidmap"},
		&NotSetuidError{"/usr/bin/newuidmap"},
		&UsernsDisabledError{Sysctl: sysctlMax, Value: "0"},
		&AppArmorError{errors.New("x")},
	} {
		if h.Hint() == "" || h.Error() == "" {
			t.Errorf("%T has no hint", h)
		}
	}
}

func TestNormal(t *testing.T) {
	got := normal([]IDMap{{10, 20, 5}, {0, 1000, 1}, {1, 11, 9}})
	if want := []IDMap{{0, 1000, 1}, {1, 11, 14}}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestRecordSurvivesTheFile(t *testing.T) {
	dirs := Dirs{Run: t.TempDir()}
	want := pauseRecord{Protocol, 42, 77, signature{1, 2, 3, 4, 5, 6}}
	if err := want.write(dirs); err != nil {
		t.Fatal(err)
	}
	if got, ok := readRecord(dirs); !ok || got != want {
		t.Errorf("got %v, %v", got, ok)
	}
	for _, bad := range []string{"", "hello", "1 2"} {
		os.WriteFile(pauseFile(dirs), []byte(bad), 0o600)
		if got, ok := readRecord(dirs); ok {
			t.Errorf("%q is taken for %v", bad, got)
		}
	}
}

func TestFindDirs(t *testing.T) {
	base := t.TempDir()
	join := func(names ...string) string { return filepath.Join(append([]string{base}, names...)...) }
	for _, name := range []string{"xdg", "closed"} {
		if err := os.Mkdir(join(name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	os.WriteFile(join("file"), nil, 0o600)
	os.Mkdir(join("open"), 0o700)
	os.Chmod(join("open"), 0o755)
	os.Symlink(join("closed"), join("link"))

	for _, c := range []struct {
		name, root, data, home, run, xdg string
		want                             Dirs
		err                              string
	}{
		{name: "named", root: join("r"), run: join("new", "deep"), want: Dirs{join("r"), join("new", "deep")}},
		{name: "xdg", data: join("d"), xdg: join("xdg"), want: Dirs{join("d", "moss"), join("xdg", "moss")}},
		{name: "relative xdg is ignored", data: "d", home: join("h"), xdg: join("xdg"), want: Dirs{join("h", ".local/share/moss"), join("xdg", "moss")}},
		{name: "relative", root: "r", run: join("closed"), err: `cannot use MOSS_ROOT "r": it is not an absolute path`},
		{name: "relative run", root: join("r"), run: "r", err: "MOSS_RUN"},
		{name: "file", root: join("r"), run: join("file"), err: "not a directory"},
		{name: "open", root: join("r"), run: join("open"), err: "mode is 0755, not 0700"},
		{name: "link", root: join("r"), run: join("link"), err: "not a directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("MOSS_ROOT", c.root)
			t.Setenv("MOSS_RUN", c.run)
			t.Setenv("XDG_DATA_HOME", c.data)
			t.Setenv("XDG_RUNTIME_DIR", c.xdg)
			t.Setenv("HOME", c.home)
			got, err := FindDirs()
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %v, %v", got, err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Fatalf("got %v, %v", got, err)
			}
			if info, err := os.Stat(got.Run); err != nil || info.Mode().Perm() != 0o700 {
				t.Errorf("run directory: %v, %v", info, err)
			}
		})
	}
}

func TestReusedPIDIsNotOurs(t *testing.T) {
	self := openProcess(os.Getpid(), 0)
	if self == nil {
		t.Fatal("cannot open ourselves")
	}
	defer self.close()
	if p := openProcess(self.pid, self.start+1); p != nil {
		t.Error("a process with another start time is taken for ours")
	}
	if p := openProcess(self.pid, self.start); p == nil {
		t.Error("our own start time is not ours")
	}
}

// Single-ID mode is told once for each kept namespace.
func TestNewsOfSingleID(t *testing.T) {
	dirs := Dirs{Run: t.TempDir()}
	if NewsOfSingleID(dirs) {
		t.Error("it is told without being so")
	}
	for range 2 { // of two namespaces, one after the other
		if err := writeFile(singleIDFile(dirs), ""); err != nil {
			t.Fatal(err)
		}
		if !NewsOfSingleID(dirs) || NewsOfSingleID(dirs) || !SingleID(dirs) {
			t.Error("it is not told once")
		}
	}
}
