package volume

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// A volume is there with its files until it is removed, and then nothing is.
func TestLife(t *testing.T) {
	root := t.TempDir()
	v := Open(root)
	made, err := v.Create("data", Options{Labels: map[string]string{"a": "b"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(made.Mountpoint, "f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := v.Get("data")
	if err != nil || got.Labels["a"] != "b" || got.Mountpoint != v.Path("data") {
		t.Fatalf("Get: %+v, %v", got, err)
	}
	anonymous, err := v.Create("", Options{})
	if err != nil || len(anonymous.Name) != 64 || !anonymous.Anonymous {
		t.Fatalf("anonymous: %+v, %v", anonymous, err)
	}
	if all, err := v.List(); err != nil || len(all) != 2 {
		t.Fatalf("List: %v, %v", all, err)
	}
	if found, err := v.Find(anonymous.Name[:10]); err != nil || found.Name != anonymous.Name {
		t.Fatalf("Find: %v, %v", found, err)
	}
	for _, name := range []string{"data", anonymous.Name} {
		if err := v.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"volumes", "trash"} {
		if left, _ := os.ReadDir(filepath.Join(root, dir)); len(left) != 0 {
			t.Errorf("%s still holds %v", dir, left)
		}
	}
	if err := v.Remove("data"); !errors.Is(err, ErrNotFound) {
		t.Errorf("second Remove: %v", err)
	}
}

// Of many who want a name at once, one gets it.
func TestCreateOnce(t *testing.T) {
	v := Open(t.TempDir())
	var made, refused int
	var mu sync.Mutex
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			_, err := v.Create("one", Options{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			}
			if errors.Is(err, ErrExists) {
				refused++
			}
		})
	}
	group.Wait()
	if made != 1 || refused != 15 {
		t.Errorf("%d made, %d refused", made, refused)
	}
}

// Names that would leave the directory, hide in it, or mislead are refused, and
// options that could not be obeyed.
func TestInvalid(t *testing.T) {
	v := Open(t.TempDir())
	for _, name := range []string{".", "..", "a/b", ".new-1", "-x", "a b", "ä"} {
		if _, err := v.Create(name, Options{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("Create(%q): %v", name, err)
		}
		if _, err := v.Get(name); !errors.Is(err, ErrNotFound) {
			t.Errorf("Get(%q): %v", name, err)
		}
	}
	for _, o := range []Options{{Driver: "nfs"}, {Options: map[string]string{"type": "ext4"}}, {Options: map[string]string{"x": "y"}}} {
		if _, err := v.Create("v", o); !errors.Is(err, ErrInvalid) {
			t.Errorf("Create with %+v: %v", o, err)
		}
	}
}
