package rootless

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moss/storage/image"
	"moss/storage/volume"
	"moss/userns"
)

// TestInfo: what scripts for podman read is there and true.
func TestInfo(t *testing.T) {
	dir := t.TempDir()
	e := &Engine{
		Paths:  Paths{userns.Dirs{Root: filepath.Join(dir, "root"), Run: filepath.Join(dir, "run")}},
		Images: image.Open(filepath.Join(dir, "root")), Volumes: volume.Open(filepath.Join(dir, "root")),
	}
	t.Setenv("XDG_CONFIG_HOME", dir)
	t.Setenv("PATH", dir) // outside of moss's namespaces fuse-overlayfs mounts what nobody can unmount
	for _, d := range []string{e.Paths.Root, e.Paths.Run} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	info, err := e.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(info)
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		t.Fatal(err)
	}
	for _, path := range strings.Fields(`host.arch host.cgroupVersion host.cpus host.kernel host.memTotal host.ociRuntime.path
		host.security.seccompEnabled host.distribution.distribution host.idMappings.uidmap host.uptime store.graphDriverName
		store.graphRoot store.runRoot store.volumePath store.imageStore.number store.containerStore.running version.OsArch`) {
		var at any = tree
		for name := range strings.SplitSeq(path, ".") {
			at, _ = at.(map[string]any)[name]
		}
		if at == nil || at == "" {
			t.Errorf("%s is missing", path)
		}
	}
	if h := info.Host; h.CgroupManager == "none" && h.CgroupWhy == "" {
		t.Error("no cgroups, and no reason")
	}
	if u := info.Host.CPUUtilization; u.User+u.System+u.Idle < 50 || u.User+u.System+u.Idle > 100.1 {
		t.Errorf("utilization %+v", u)
	}
}
