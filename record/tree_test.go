package record

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A tree goes whole, however many files are in it; what links lead to stays.
func TestRemoveTree(t *testing.T) {
	base := t.TempDir()
	outside := filepath.Join(base, "outside")
	os.MkdirAll(filepath.Join(outside, "kept"), 0o755)
	tree := filepath.Join(base, "tree")
	for i := range 600 {
		dir := filepath.Join(tree, fmt.Sprint("d", i%7), "deep")
		os.MkdirAll(dir, 0o755)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("a file with a long name, so that many do not fit into one reading ", i)), nil, 0o444); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink(outside, filepath.Join(tree, "link"))
	os.Symlink(outside, filepath.Join(tree, "d1", "link"))
	if err := RemoveTree(tree); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(tree); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(outside, "kept")); err != nil {
		t.Error("it has followed a link")
	}
	for _, path := range []string{tree, filepath.Join(base, "no", "such", "place")} {
		if err := RemoveTree(path); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	file := filepath.Join(base, "file")
	os.WriteFile(file, nil, 0o600)
	if err := RemoveTree(file); err != nil {
		t.Error(err)
	}
	if left, _ := os.ReadDir(base); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
