package quadlet

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLines: which lines a backslash joins, as systemd reads them.
func TestLines(t *testing.T) {
	for text, want := range map[string][]string{
		"A=b \\\n# no\n; no\n  c\nD=e": {"A=b  c", "D=e"},
		"A=C:\\\\\nB=c":                {`A=C:\\`, "B=c"},
		"A=C:\\\\\\\nB=c":              {`A=C:\\ B=c`},
		"A=b\\":                        {"A=b"},
		"A=b\\\n":                      {"A=b"},
		"A=b\\\n\nC=d":                 {"A=b", "C=d"},
	} {
		f := &File{}
		if bad := f.parse("x", "[S]\n"+text); len(bad) > 0 {
			t.Errorf("%q: %v", text, bad)
		}
		var got []string
		for _, l := range f.section("S").lines {
			got = append(got, l.Key+"="+l.Value)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: want %q, got %q", text, want, got)
		}
	}
	f := &File{}
	if bad := f.parse("x", "[S]\nA=\xff\n"); len(bad) != 1 || bad[0].Line != 2 {
		t.Errorf("what is not UTF-8: %v", bad)
	}
}

// TestLongFile: a file as long as may be is read at once, whatever is in it.
func TestLongFile(t *testing.T) {
	for _, line := range []string{"\\\n", "x", "A=\\\n", "[S]\nK=1\n"} {
		before := time.Now()
		f := &File{Name: "x.container", Path: "/x.container", kind: &containers}
		bad := f.parse("x", "[Container]\n"+strings.Repeat(line, maxFile/len(line))+"=1\n")
		s := &Set{Files: []*File{f}, problems: map[*File][]Problem{f: bad}, byName: map[string]*File{f.Name: f}}
		s.Convert("moss")
		if took := time.Since(before); took > 20*time.Second {
			t.Errorf("%q: %s", line, took)
		}
	}
}

// TestStrangeWords: what would have systemd ignore a line is written as an escape, and
// what the path of a file has in it is neither a specifier nor a variable.
func TestStrangeWords(t *testing.T) {
	if got := quote("é\xff"); got != `"é\xff"` {
		t.Errorf("got %s", got)
	}
	dir := filepath.Join(t.TempDir(), "50%h $HOME")
	lay(t, dir, "-- web.container --\n[Container]\nImage=localhost/x:1\nVolume=./conf:/conf\nEnvironmentFile=env\n"+
		"-- app.build --\n[Build]\nImageTag=localhost/x:1\nSetWorkingDirectory=unit\n")
	units := Load([]string{dir}).Convert("/opt/50%h/moss")
	quoted, in := strings.Replace(dir, "50%h $HOME", "50%%h $$HOME", 1), strings.Replace(dir, "50%h", "50%%h", 1)
	texts := units[0].Text() + units[1].Text()
	for _, want := range []string{`"` + quoted + `/conf:/conf"`, `"` + quoted + `/env"`, "RequiresMountsFor=\"" + in + "/conf\"", "WorkingDirectory=" + in + "\n", `"` + quoted + "\"\n", "ExecStart=/opt/50%%h/moss "} {
		if !strings.Contains(texts, want) {
			t.Errorf("no %s in\n%s", want, texts)
		}
	}
}

// TestLinks: a link to /dev/null masks a file, and one on the way to the directories of
// all users does not make others' files one's own.
func TestLinks(t *testing.T) {
	first, etc := t.TempDir(), t.TempDir()
	lay(t, etc, "-- real/users/1001/other.container --\n[Container]\nImage=localhost/x:1\n-- real/users/web.container --\n[Container]\nImage=localhost/x:1\n")
	for link, to := range map[string]string{filepath.Join(first, "web.container"): "/dev/null", filepath.Join(etc, "users"): "real/users"} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	set := Load([]string{first, filepath.Join(etc, "users")})
	for _, f := range set.Files {
		t.Errorf("%s is read", f.Path)
	}
	if len(set.Problems) > 0 {
		t.Error(set.Problems)
	}
}

// TestBackslash: where it means nothing, and where it hides a semicolon.
func TestBackslash(t *testing.T) {
	got, err := words(`a\b "c\" d`, false)
	if err != nil || !slices.Equal(got, []string{`a\b`, `c\`, "d"}) {
		t.Errorf("%q (%v)", got, err)
	}
	dir := t.TempDir()
	lay(t, dir, "-- web.container --\n[Container]\nImage=localhost/x:1\nExec=find / -exec ls {} \\; -print\nVolume=/a b'c:/d\n")
	text := Load([]string{dir}).Convert("moss")[0].Text()
	for _, want := range []string{`ls {} ";" -print`, "RequiresMountsFor=\"/a b'c\"\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
