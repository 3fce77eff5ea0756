package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fake is a machine whose cgroup tree is a temporary directory.
type fake struct {
	t *testing.T
	host
	mount string
	mine  map[string]bool // paths that are delegated to the user
}

func newFake(t *testing.T, self string) *fake {
	dir := t.TempDir()
	f := &fake{t: t, mount: filepath.Join(dir, "cgroup"), mine: map[string]bool{}}
	f.host = host{
		self: filepath.Join(dir, "self"), mountinfo: filepath.Join(dir, "mountinfo"), uid: 1000,
		delegated: func(d string) bool {
			_, err := os.Stat(d)
			return err == nil && f.mine[strings.TrimPrefix(d, f.mount)]
		},
	}
	f.write(f.self, "0::"+self+"\n")
	f.write(f.mountinfo, "30 23 0:26 / "+f.mount+" rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n")
	f.group("/", false)
	path := ""
	for name := range strings.SplitSeq(strings.Trim(self, "/"), "/") {
		path += "/" + name
		f.group(path, false)
	}
	return f
}

func (f *fake) write(path, content string) {
	f.t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fake) group(path string, mine bool) {
	f.t.Helper()
	dir := filepath.Join(f.mount, path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		f.t.Fatal(err)
	}
	for file, content := range map[string]string{"cgroup.procs": "", "cgroup.subtree_control": "", "cgroup.controllers": "cpu memory pids"} {
		f.write(filepath.Join(dir, file), content)
	}
	f.mine[path] = mine
}

// TestFindPlain: without a service manager, the topmost delegated cgroup is used.
func TestFindPlain(t *testing.T) {
	f := newFake(t, "/a/b/c/d")
	f.group("/a/b", true)
	f.group("/a/b/c", true)
	p, err := f.find()
	if err != nil {
		t.Fatal(err)
	}
	if want := f.mount + "/a/b/moss"; p.Dir != want || p.Top != f.mount+"/a/b" || p.Manager != "cgroupfs" {
		t.Fatalf("got %+v, want Dir %q", p, want)
	}
	if got, want := p.path("0123456789abcdef"), p.Dir+"/0123456789ab"; got != want {
		t.Errorf("Path is %q, want %q", got, want)
	}
}

// TestFindNone: without delegation the reason is told.
func TestFindNone(t *testing.T) {
	f := newFake(t, "/a/b")
	p, err := f.find()
	var none *NoneError
	if p != nil || !errors.As(err, &none) || none.Hint() == "" || !strings.Contains(err.Error(), "is delegated to you") {
		t.Fatalf("got %v, %v", p, err)
	}

	f.write(f.self, "4:memory:/x\n1:cpu:/\n")
	if _, err := f.find(); !errors.As(err, &none) || !strings.Contains(err.Error(), "cgroup v1") {
		t.Errorf("cgroup v1: got %v", err)
	}
	f.write(f.self, "0::/a/b\n")
	f.write(f.mountinfo, "30 23 0:26 / /sys/fs/cgroup ro,nosuid - cgroup2 cgroup2 rw\n")
	if _, err := f.find(); !errors.As(err, &none) || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("read-only: got %v", err)
	}
}

// TestFindScope: below a service manager only its scope is used, and only from
// where processes can be born in it.
func TestFindScope(t *testing.T) {
	const service = "/user.slice/user-1000.slice/user@1000.service"
	const scope = service + "/moss.slice/moss.scope"
	f := newFake(t, service+"/app.slice/terminal.scope")
	f.manager = "/run/user/1000/systemd/private"
	f.group(service, true)
	if _, err := f.find(); !errors.Is(err, ErrNeedsScope) {
		t.Fatalf("no scope yet: got %v", err)
	}
	f.group(scope, true)
	p, err := f.find()
	if err != nil {
		t.Fatal(err)
	}
	if p.Dir != f.mount+service+"/moss.slice" || p.Top != f.mount+scope || p.Manager != "systemd" {
		t.Errorf("got %+v", p)
	}
	for parent, want := range map[string]string{
		"": "/moss.slice/moss-0123.scope", "ci.slice": "/ci.slice/moss-0123.scope", "/ci.slice/ci-web.slice": "/ci.slice/ci-web.slice/moss-0123.scope",
		"ci": "/moss.slice/moss.scope/ci/0123", scope + "/x": "/moss.slice/moss.scope/x/0123",
	} {
		if got, err := p.Path("0123", parent); err != nil || got != f.mount+service+want {
			t.Errorf("with parent %q: %q, %v", parent, got, err)
		}
	}
	if missing := p.SliceMissing("other-one.slice"); missing != "other-one.slice" || p.SliceMissing("ci.slice") != "" {
		t.Errorf("other-one.slice is missing: got %q", missing)
	}

	f.write(f.mount+scope+"/cgroup.procs", "77\n")
	if _, err := f.find(); !errors.Is(err, ErrNeedsScope) {
		t.Errorf("processes in the scope itself: got %v", err)
	}
	f.write(f.mount+scope+"/cgroup.procs", "")
	f.write(f.self, "0::/user.slice/user-1000.slice/session-3.scope\n")
	f.group("/user.slice/user-1000.slice/session-3.scope", false)
	if _, err := f.find(); !errors.Is(err, ErrNeedsScope) {
		t.Errorf("from a login session: got %v", err)
	}
	f.manager = ""
	var none *NoneError
	if _, err := f.find(); !errors.As(err, &none) {
		t.Errorf("from a login session without a manager: got %v", err)
	}
}

// TestCached: the kept answer is used, but not after the cgroup has changed nor
// from a place that cannot reach it.
func TestCached(t *testing.T) {
	f := newFake(t, "/a/b/c")
	f.group("/a/b", true)
	p, err := f.find()
	if err != nil {
		t.Fatal(err)
	}
	f.mine["/a/b/moss"] = true
	run := t.TempDir()
	if f.cached(run, "") != nil {
		t.Fatal("an answer before one was kept")
	}
	keep(run, "", p)
	if got := f.cached(run, ""); got == nil || *got != *p {
		t.Fatalf("got %+v, want %+v", got, p)
	}

	if f.cached(run, "systemd") != nil {
		t.Error("used for another choice")
	}
	f.write(f.self, "0::/elsewhere\n")
	if f.cached(run, "") != nil {
		t.Error("used from outside the delegated cgroup")
	}
	f.write(f.self, "0::/a/b/c\n")
	if err := os.Rename(p.Dir, p.Dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(p.Dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if f.cached(run, "") != nil {
		t.Error("used although the cgroup is another one")
	}
}

// TestTree: the mount is found in hybrid trees, under a later mount, and when
// only a part of the tree is mounted.
func TestTree(t *testing.T) {
	const v1 = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
	const unified = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	for _, test := range []struct{ name, mountinfo, path, dir string }{
		{"hybrid", v1 + unified, "/a", "/sys/fs/cgroup/unified/a"},
		{"covered", v1 + unified + "63 47 0:38 / /sys/fs/cgroup rw shared:1 - cgroup2 cgroup2 rw\n", "/a", "/sys/fs/cgroup/a"},
		{"usual place first", "63 47 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n64 47 0:38 / /mnt rw - cgroup2 cgroup2 rw\n", "/a", "/sys/fs/cgroup/a"},
		{"part", "63 47 0:38 /x/y /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/x/y/z", "/sys/fs/cgroup/z"},
		{"escaped", `63 47 0:38 / /c\040g rw - cgroup2 cgroup2 rw` + "\n", "/", "/c g"},
	} {
		file := filepath.Join(t.TempDir(), "mountinfo")
		if err := os.WriteFile(file, []byte(test.mountinfo), 0o600); err != nil {
			t.Fatal(err)
		}
		tree, err := host{mountinfo: file}.tree()
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := tree.dir(test.path); got != test.dir {
			t.Errorf("%s: %q is at %q, want %q", test.name, test.path, got, test.dir)
		}
		if got := tree.path(test.dir); got != test.path {
			t.Errorf("%s: %q is %q, want %q", test.name, test.dir, got, test.path)
		}
	}
}

// TestUnder: --cgroup-parent stays within what is delegated.
func TestUnder(t *testing.T) {
	f := newFake(t, "/a/b")
	f.group("/a", true)
	p, err := f.find()
	if err != nil {
		t.Fatal(err)
	}
	for parent, want := range map[string]string{
		"": p.Dir, "ci/job": p.Dir + "/ci/job", "/a/ci": f.mount + "/a/ci", "web.slice": p.Dir + "/web.slice",
	} {
		q, err := p.Under(parent)
		if err != nil || q.Dir != want {
			t.Errorf("Under(%q) = %v, %v; want %q", parent, q, err, want)
		}
	}
	for _, parent := range []string{"/", "/ab", "../x", "/a/../b"} {
		if q, err := p.Under(parent); err == nil {
			t.Errorf("Under(%q) = %v, want an error", parent, q)
		}
	}
}
