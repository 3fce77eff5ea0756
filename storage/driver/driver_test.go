package driver

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFileSystem(t *testing.T) {
	f, err := look(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if f.Name == "" || f.Name == "unknown" || !f.DType {
		t.Errorf("a directory for tests is on %+v", f)
	}
	if got := name("/proc/self/fd"); got != "proc" {
		t.Errorf("/proc is on %q", got)
	}
	if got := name("/nowhere/at/all"); got != "unknown" {
		t.Errorf("what is not there is on %q", got)
	}
}

// TestReadAgain: what was found out counts for one kernel and one file system.
func TestReadAgain(t *testing.T) {
	root := t.TempDir()
	d := Driver{Name: Fuse, Program: "/bin/fuse-overlayfs", Why: "no", Kernel: kernel(), Place: Place(root)}
	if err := d.write(root); err != nil {
		t.Fatal(err)
	}
	if got, ok := Read(root); !ok || got != d {
		t.Errorf("read %+v, %v", got, ok)
	}
	for _, other := range []Driver{{Name: Fuse, Kernel: kernel(), Place: "1:2:3"}, {Name: Fuse, Kernel: "5.4", Place: Place(root)}} {
		if err := other.write(root); err != nil {
			t.Fatal(err)
		}
		if got, ok := Read(root); ok {
			t.Errorf("%+v counts here, as %+v", other, got)
		}
	}
}

func TestCopies(t *testing.T) {
	root := t.TempDir()
	list := filepath.Join(root, "storage/vfs-images/images.json")
	if copies(root) {
		t.Error("an empty store has copies")
	}
	if err := os.MkdirAll(filepath.Dir(list), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"[]": false, "[]\n": false, `[{"id":"a"}]`: true} {
		if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := copies(root); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
