//go:build podman

package quadlet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestAsPodman holds what is made of testdata/good against what podman's generator
// makes of it, where MOSS_PODMAN_QUADLET names that: test/compat/quadlet gets Debian
// 13's. What is meant to differ is in differences, which docs/compat.md
// explains.
func TestAsPodman(t *testing.T) {
	generator := os.Getenv("MOSS_PODMAN_QUADLET")
	if generator == "" {
		t.Fatal("MOSS_PODMAN_QUADLET names no generator: run test/compat/quadlet")
	}
	version, err := exec.Command(generator, "-version").Output()
	if err != nil {
		t.Fatal(err)
	}
	list, old := differences, strings.HasPrefix(string(version), "5.4.")
	if old {
		list = slices.Concat(list, since54)
	}
	dirs, err := filepath.Glob("testdata/good/*")
	if err != nil || len(dirs) == 0 {
		t.Fatal("no files to compare with", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			dir, _ = filepath.Abs(dir)
			cmd := exec.Command(generator, "-dryrun", "-user")
			cmd.Env = append(os.Environ(), "QUADLET_UNIT_DIRS="+dir, "PODMAN=/usr/bin/moss")
			out, err := cmd.Output()
			if err != nil {
				t.Logf("podman's generator: %v\n%s", err, err.(*exec.ExitError).Stderr)
			}
			theirs := map[string][]string{}
			for _, part := range strings.Split("\n"+string(out), "\n---")[1:] {
				name, body, _ := strings.Cut(part, "---\n")
				theirs[filepath.Base(name)] = facts(t, body)
			}
			for _, u := range Load([]string{dir}).Convert("/usr/bin/moss") {
				for _, p := range u.Problems {
					t.Log(p)
				}
				if theirs[u.Name] == nil {
					if !old || !slices.Contains(newKeys, u.Name) {
						t.Errorf("moss makes %s, podman does not", u.Name)
					}
					continue
				}
				compare(t, u.Name, facts(t, u.Text()), theirs[u.Name], list)
				delete(theirs, u.Name)
			}
			for name := range theirs {
				if old && name == "spool@-volume.service" { // no template for systemd
					continue
				}
				t.Errorf("podman makes %s, moss does not", name)
			}
		})
	}
}

// facts are the assignments of a service, command lines by their options.
func facts(t *testing.T, body string) (out []string) {
	var f File
	if bad := f.parse("podman", body); len(bad) > 0 {
		t.Fatal(bad)
	}
	for _, s := range f.sections {
		if strings.HasPrefix(s.name, "X-") {
			continue
		}
		for _, l := range s.lines {
			if !strings.HasPrefix(l.Key, "Exec") {
				out = append(out, s.name+" "+l.Key+"="+l.Value)
				continue
			}
			list, err := words(l.Value, true)
			if err != nil {
				t.Error(l.Value, err)
			}
			for i, w := range list {
				if (strings.HasPrefix(w, "--") || w == "-v") && !strings.Contains(w, "=") && i+1 < len(list) && !strings.HasPrefix(list[i+1], "-") {
					w += " " + list[i+1]
				}
				out = append(out, fmt.Sprintf("%s %q", l.Key, w))
			}
		}
	}
	return out
}

// difference is a fact that is meant to differ; docs/compat.md says why.
type difference struct {
	ours bool
	has  string // what the fact contains
}

var differences = []difference{
	{true, "Unit Description="},
	{false, "podman-user-wait-network-online.service"},
	{false, "Unit RequiresMountsFor=%t/containers"},
}

// since54 are what podman has learnt, or mended, after 5.4.
var since54 = []difference{
	{false, "--cidfile=%t/%N.cid"}, {false, `"-i"`}, {true, `-i`}, {true, `ExecStop "`}, {true, `ExecStopPost "`},
	{true, `--health-cmd`}, {false, `--health-cmd`}, {true, `node -e`}, {false, `node -e`}, // the last quotation mark was lost
	{true, "Unit Requires=blog-db.service"}, {true, "Unit After=blog-db.service"}, {false, "=blog-db.container"}, // only networks, volumes… were translated
	{false, "Unit Before=job.container all.container"}, {true, "Unit Before=job.service everything.service"},
	{true, "--entrypoint="},
	{false, "shop-pod.pod-id"}, {true, "--pod shop"}, {true, `"shop"`}, // pods were known by a file
	{true, "RequiresMountsFor=/srv/shared"},
	{false, "--rootfs"}, {true, "docker.io/library/mysql:8.4"}, // of the .image file with a new key
}

// newKeys are the files with keys that 5.4 does not know.
var newKeys = []string{"mysql-image.service", "proxy.service", "everything.service", "shop-pod.service", "worker@.service", "worker@print.service", "spool-volume@.service"}

func meant(fact string, ours bool, list []difference) bool {
	return slices.ContainsFunc(list, func(d difference) bool { return d.ours == ours && strings.Contains(fact, d.has) })
}

func compare(t *testing.T, name string, ours, theirs []string, list []difference) {
	for _, o := range ours {
		if !slices.Contains(theirs, o) && !meant(o, true, list) {
			t.Errorf("%s: only moss: %s", name, o)
		}
	}
	for _, o := range theirs {
		if !slices.Contains(ours, o) && !meant(o, false, list) {
			t.Errorf("%s: only podman: %s", name, o)
		}
	}
}
