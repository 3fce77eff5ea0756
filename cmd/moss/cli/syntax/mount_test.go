package syntax

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"moss/rootless/container"
)

func TestVolume(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "src"), 0o755); err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]container.Mount{
		"/data":                            {Type: "volume", Target: "/data", Anonymous: true},
		"data:/data":                       {Type: "volume", Source: "data", Target: "/data"},
		"data:/data/":                      {Type: "volume", Source: "data", Target: "/data"},
		"data:/data:ro,nocopy":             {Type: "volume", Source: "data", Target: "/data", ReadOnly: true, Options: []string{"nocopy"}},
		"data:/data:rw":                    {Type: "volume", Source: "data", Target: "/data"},
		dir + ":/mnt":                      {Type: "bind", Source: dir, Target: "/mnt"},
		dir + "/:/mnt:Z,rslave":            {Type: "bind", Source: dir, Target: "/mnt", Options: []string{"Z", "rslave"}},
		"./src:/src:U":                     {Type: "bind", Source: dir + "/src", Target: "/src", Options: []string{"U"}},
		".:/here":                          {Type: "bind", Source: dir, Target: "/here"},
		"./src/../src:/src":                {Type: "bind", Source: dir + "/src", Target: "/src"},
		"data:/d:O":                        {Type: "volume", Source: "data", Target: "/d", Options: []string{"O"}},
		"data:/d:U,O":                      {Type: "volume", Source: "data", Target: "/d", Options: []string{"U", "O"}},
		"data:/d:O,upperdir=src,workdir=.": {Type: "volume", Source: "data", Target: "/d", Options: []string{"O", "upperdir=" + dir + "/src", "workdir=" + dir}},
		"data:/d:idmap=uids=0-1-10#10-20-5;gids=@0-1-10": {Type: "volume", Source: "data", Target: "/d", Options: []string{"idmap=uids=0-1-10#10-20-5;gids=@0-1-10"}},
		"/data:nocopy": {Type: "volume", Target: "/data", Anonymous: true, Options: []string{"nocopy"}},
	} {
		got, err := Volume(in, dir)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Volume(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for in, why := range map[string]string{
		":/x":                       "source before the colon is empty",
		"data:x":                    "not absolute",
		"data":                      "not absolute",
		"data:/x:ro:z":              "too many colons",
		dir + "/nothing:/x":         "no such file",
		"rel/path:/x":               "neither a path",
		"~/x:/x":                    "the shell",
		"a b:/x":                    "does not match",
		"data:/x:nonsense":          "unknown option",
		"data:/":                    "cannot mount over /",
		"data:/x:O,ro":              "cannot be combined with ro",
		"data:/x:O,Z":               "options O and Z",
		"data:/x:ro,rw":             "options ro and rw",
		"data:/x:rw,ro":             "options rw and ro",
		"data:/x:U,U":               "options U and U",
		"data:/x:exec,noexec":       "options exec and noexec",
		"data:/x:shared,slave":      "options shared and slave",
		"data:/x:nocopy=1":          "takes no value",
		"data:/x:upperdir=" + dir:   "for option O",
		"data:/x:O,upperdir=" + dir: "go together",
		"data:/x:O,upperdir=/no/such,workdir=" + dir: "no such file",
		"data:/x:idmap=uids=0-1;gids=0-1-1":          "not FILESYSTEM-HOST-SIZE",
		"data:/x:idmap=uids=0-1-1":                   "both uids and gids",
		"data:/x:idmap=uids=0-1-0;gids=0-1-1":        "not a number of IDs",
		"data:":                                      "missing",
	} {
		if got, err := Volume(in, dir); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Volume(%q) = %+v, %v; want an error with %q", in, got, err, why)
		}
	}
}

func TestMount(t *testing.T) {
	dir := t.TempDir()
	for in, want := range map[string]container.Mount{
		"type=bind,source=" + dir + ",target=/x":                          {Type: "bind", Source: dir, Target: "/x"},
		"type=bind,src=.,dst=/x,ro":                                       {Type: "bind", Source: dir, Target: "/x", ReadOnly: true},
		"type=bind,src=.,dst=/x,readonly=false,consistency=cached":        {Type: "bind", Source: dir, Target: "/x"},
		"type=bind,src=.,destination=/x,rw=false":                         {Type: "bind", Source: dir, Target: "/x", ReadOnly: true},
		"type=bind,src=.,dst=/x,bind-propagation=rshared,relabel=private": {Type: "bind", Source: dir, Target: "/x", Options: []string{"rshared", "Z"}},
		"type=bind,src=.,dst=/x,bind-nonrecursive=true,chown,noexec":      {Type: "bind", Source: dir, Target: "/x", Options: []string{"bind", "U", "noexec"}},
		"type=volume,src=data,dst=/x,volume-nocopy":                       {Type: "volume", Source: "data", Target: "/x", Options: []string{"nocopy"}},
		"src=data,dst=/x": {Type: "volume", Source: "data", Target: "/x"},
		"dst=/x":          {Type: "volume", Target: "/x", Anonymous: true},
		"type=tmpfs,target=/x,tmpfs-size=1m,tmpfs-mode=1777": {Type: "tmpfs", Target: "/x", Options: []string{"size=1m", "mode=1777"}},
		"type=tmpfs,target=/x,notmpcopyup,ro":                {Type: "tmpfs", Target: "/x", Options: []string{"notmpcopyup"}, ReadOnly: true},
		`type=volume,"src=data",dst=/x`:                      {Type: "volume", Source: "data", Target: "/x"},
		"type=volume,src=d,dst=/x,subpath=a/b/,volume-label=k=v,volume-opt=type=tmpfs": {Type: "volume", Source: "d", Target: "/x", SubPath: "a/b",
			Labels: map[string]string{"k": "v"}, DriverOptions: map[string]string{"type": "tmpfs"}},
		"type=image,src=img,dst=/x":                          {Type: "image", Source: "img", Target: "/x", ReadOnly: true},
		"type=image,src=img,dst=/x,rw=true,subpath=/etc":     {Type: "image", Source: "img", Target: "/x", SubPath: "etc"},
		"type=devpts,dst=/x,uid=1,gid=2,mode=620,max=10":     {Type: "devpts", Target: "/x", Options: []string{"uid=1", "gid=2", "mode=620", "max=10"}},
		"type=ramfs,dst=/x,tmpfs-mode=700,noswap":            {Type: "ramfs", Target: "/x", Options: []string{"mode=700"}},
		"type=bind,src=.,dst=/x,no-dereference,idmap":        {Type: "bind", Source: dir, Target: "/x", Options: []string{"no-dereference", "idmap"}},
		"type=bind,src=.,dst=/x,idmap=uids=0-1-1;gids=0-1-1": {Type: "bind", Source: dir, Target: "/x", Options: []string{"idmap=uids=0-1-1;gids=0-1-1"}},
	} {
		got, err := Mount(in, dir)
		if err != nil || !reflect.DeepEqual(got, []container.Mount{want}) {
			t.Errorf("Mount(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for in, why := range map[string]string{
		"nonsense":                                    "unknown option",
		"type=nonsense,dst=/x":                        "unknown type",
		"type=npipe,dst=/x":                           "not supported",
		"type=artifact,dst=/x":                        "needs source=ARTIFACT",
		"type=artifact,src=a,dst=/x,rw":               "cannot be written to",
		"type=artifact,src=a,dst=/x,name=..":          "not that of a file",
		"type=artifact,src=a,dst=/x,title=":           "needs a value",
		"type=artifact,src=a,dst=/x,title=a,digest=b": "give one",
		"type=image,dst=/x":                           "needs source",
		"type=image,src=a,dst=/x,U":                   "unknown option",
		"type=image,src=a,dst=/x,subpath=../b":        "leads upwards",
		"type=devpts,dst=/x,size=1":                   "unknown option",
		"type=devpts,dst=/x,mode=9":                   "not a number",
		"type=devpts,dst=/x,ro":                       "cannot be read-only",
		"type=ramfs,dst=/x,tmpfs-size=1m":             "no limit",
		"type=glob,dst=/x":                            "needs source",
		"type=glob,src=/no/such*":                     "no file matches",
		"type=bind,src=.,dst=/x,bind-propagation=up":  "unknown propagation",
		"type=bind,dst=/x":                            "needs source",
		"type=bind,src=/no/such,dst=/x":               "no such file",
		"type=bind,src=.":                             "path in the container is missing",
		"type=bind,src=.,dst=x":                       "not absolute",
		"type=bind,src=.,dst=/x,ro=perhaps":           "neither true nor false",
		"type=bind,src=.,dst=/x,relabel=both":         "unknown value",
		"type=bind,src=.,dst=/x,tmpfs-size=1":         "unknown option",
		"type=tmpfs,src=/x,dst=/x":                    "no source",
		"type=tmpfs,dst=/x,tmpfs-size=big":            "size",
		"type=tmpfs,dst=/x,tmpfs-mode=999":            "octal",
		"type=volume,src=a/b,dst=/x":                  "does not match",
		"type=volume,dst=/x,volume-driver=b":          "unknown driver",
		`type=volume,"src=a`:                          "comma-separated",
	} {
		if got, err := Mount(in, dir); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Mount(%q) = %+v, %v; want an error with %q", in, got, err, why)
		}
	}
}

func TestTmpfs(t *testing.T) {
	got, err := Tmpfs("/run:size=64m,mode=755,noexec,ro")
	want := container.Mount{Type: "tmpfs", Target: "/run", Options: []string{"size=64m", "mode=755", "noexec"}, ReadOnly: true}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v", got, err)
	}
	for in, why := range map[string]string{
		"":                 "missing",
		"run":              "not absolute",
		"/run:size=many":   "size",
		"/run:mode=rwx":    "octal",
		"/run:nonsense":    "unknown option",
		"/run:noexec=true": "takes no value",
		"/run:uid=root":    "not a number",
	} {
		if _, err := Tmpfs(in); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Tmpfs(%q): %v; want an error with %q", in, err, why)
		}
	}
}

// What a pattern finds may have been put there by a container: it must not be a
// way to what the user did not mean.
func TestGlob(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a.conf", "b.conf", "c.txt"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("c.txt", filepath.Join(dir, "l.conf")); err != nil {
		t.Fatal(err)
	}
	got, err := Mount("type=glob,src=*.conf,dst=/etc/x,ro", dir)
	want := []container.Mount{
		{Type: "bind", Source: dir + "/a.conf", Target: "/etc/x/a.conf", ReadOnly: true, Beneath: dir},
		{Type: "bind", Source: dir + "/b.conf", Target: "/etc/x/b.conf", ReadOnly: true, Beneath: dir},
		{Type: "bind", Source: dir + "/c.txt", Target: "/etc/x/l.conf", ReadOnly: true, Beneath: dir},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("a glob is %+v, %v; want %+v", got, err, want)
	}
	if got, err := Mount("type=glob,src=./?.txt", dir); err != nil || len(got) != 1 || got[0].Target != dir+"/c.txt" {
		t.Errorf("a glob without a destination is %+v, %v", got, err)
	}
	for _, link := range []string{"/etc/passwd", "../../etc/passwd", ".."} {
		os.Remove(filepath.Join(dir, "evil.conf"))
		if err := os.Symlink(link, filepath.Join(dir, "evil.conf")); err != nil {
			t.Fatal(err)
		}
		if got, err := Mount("type=glob,src=*.conf,dst=/x", dir); err == nil {
			t.Errorf("a link to %q is mounted: %+v", link, got)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(dir, "sub", "c.txt"), nil, 0o644)
	if _, err := Mount("type=glob,src=./*/../*.txt,dst=/x", dir); err != nil {
		t.Errorf("a pattern is cleaned: %v", err)
	}
	if _, err := Mount("type=glob,src=./{c,d}.txt,dst=/x", dir); err == nil {
		t.Error("braces are no pattern")
	}
}
