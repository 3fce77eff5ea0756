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
		"/data":                 {Type: "volume", Target: "/data", Anonymous: true},
		"data:/data":            {Type: "volume", Source: "data", Target: "/data"},
		"data:/data/":           {Type: "volume", Source: "data", Target: "/data"},
		"data:/data:ro,nocopy":  {Type: "volume", Source: "data", Target: "/data", ReadOnly: true, Options: []string{"nocopy"}},
		"data:/data:rw":         {Type: "volume", Source: "data", Target: "/data"},
		dir + ":/mnt":           {Type: "bind", Source: dir, Target: "/mnt"},
		dir + "/:/mnt:Z,rslave": {Type: "bind", Source: dir, Target: "/mnt", Options: []string{"Z", "rslave"}},
		"./src:/src:U":          {Type: "bind", Source: dir + "/src", Target: "/src", Options: []string{"U"}},
		".:/here":               {Type: "bind", Source: dir, Target: "/here"},
		"./src/../src:/src":     {Type: "bind", Source: dir + "/src", Target: "/src"},
		"/data:nocopy":          {Type: "volume", Target: "/data", Anonymous: true, Options: []string{"nocopy"}},
	} {
		got, err := Volume(in, dir)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Volume(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for in, why := range map[string]string{
		":/x":               "source before the colon is empty",
		"data:x":            "not absolute",
		"data":              "not absolute",
		"data:/x:ro:z":      "too many colons",
		dir + "/nothing:/x": "no such file",
		"rel/path:/x":       "neither a path",
		"~/x:/x":            "the shell",
		"a b:/x":            "does not match",
		"data:/x:nonsense":  "unknown option",
		"data:/":            "cannot mount over /",
		"data:/x:O":         "not supported",
		"data:/x:idmap":     "not supported",
		"data:":             "missing",
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
	} {
		got, err := Mount(in, dir)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Mount(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for in, why := range map[string]string{
		"nonsense":                            "unknown option",
		"type=nonsense,dst=/x":                "unknown type",
		"type=image,dst=/x":                   "not supported",
		"type=bind,dst=/x":                    "needs source",
		"type=bind,src=/no/such,dst=/x":       "no such file",
		"type=bind,src=.":                     "path in the container is missing",
		"type=bind,src=.,dst=x":               "not absolute",
		"type=bind,src=.,dst=/x,ro=perhaps":   "neither true nor false",
		"type=bind,src=.,dst=/x,relabel=both": "unknown value",
		"type=bind,src=.,dst=/x,tmpfs-size=1": "unknown option",
		"type=tmpfs,src=/x,dst=/x":            "no source",
		"type=tmpfs,dst=/x,tmpfs-size=big":    "size",
		"type=tmpfs,dst=/x,tmpfs-mode=999":    "octal",
		"type=volume,src=a/b,dst=/x":          "does not match",
		"type=volume,src=a,dst=/x,subpath=b":  "not supported",
		`type=volume,"src=a`:                  "comma-separated",
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
