package rootless

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestLayers compares what layers have of a name with what overlayfs would show: links lead
// where they do in the container, never on the host, and what is hidden is not there.
func TestLayers(t *testing.T) {
	top := t.TempDir()
	upper, lower, host := filepath.Join(top, "upper"), filepath.Join(top, "lower"), filepath.Join(top, "host")
	for _, dir := range []string{host + "/there", lower + "/run/below", lower + "/gone/x", lower + "/opaque/x", lower + "/both/x", lower + "/file/x",
		upper + "/run", upper + "/opaque/own", upper + "/both", upper + "/etc"} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"outside": host, "var": "/run", "up": "../../../run/below", "dir": "both/x", "loop": "/loop", "etc/out": "../var/below"} {
		if err := os.Symlink(target, filepath.Join(upper, link)); err != nil {
			t.Fatal(err)
		}
	}
	err := unix.Mknod(upper+"/gone", unix.S_IFCHR, 0)
	if err == nil {
		err = os.WriteFile(upper+"/file", []byte("text"), 0o600)
	}
	if err == nil {
		err = unix.Setxattr(upper+"/opaque", "user.overlay.opaque", []byte("y"), 0)
	}
	if errors.Is(err, unix.ENOTSUP) {
		t.Skip("this file system has no user attributes, by which a layer hides others")
	}
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"/": "dir", "/run/below": "dir", "/var/below": "dir", "/up": "dir", "/dir/": "dir", "/etc/out": "dir", "/both/../run": "dir", "/../run": "dir",
		"/opaque/own": "dir", "/file": "file", "/dir/../x": "dir",
		"/outside/there": "", "/outside": "", "/gone": "", "/gone/x": "", "/opaque/x": "", "/file/x": "", "/none": "", "/loop": "error",
	} {
		got := ""
		f, err := layers{upper, lower}.open(name)
		if err == nil && f != nil {
			got = "file"
			f.Close()
		}
		dir, again := layers{upper, lower}.isDirectory(name)
		if dir {
			got = "dir"
		}
		if err != nil && again != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	text, err := accountFiles{layers{upper, lower}}.read("both/../file")
	if string(text) != "text" || err != nil {
		t.Errorf("read: %q, %v", text, err)
	}
	open, _ := filepath.Glob("/proc/self/fd/*")
	for _, fd := range open {
		if path, _ := os.Readlink(fd); strings.HasPrefix(path, top) {
			t.Errorf("%s stays open", path)
		}
	}
}
