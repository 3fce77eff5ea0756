package usage_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"moss/storage/usage"
)

// What is measured is what du says: names that share a file count once, holes not.
func TestTreeIsDu(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, size int) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("a/one", 100_000)
	write("a/b/two", 5_000)
	write("c/three", 70_000)
	for _, err := range []error{
		os.Link(filepath.Join(dir, "a/one"), filepath.Join(dir, "c/again")),
		os.Truncate(filepath.Join(dir, "c/three"), 50<<20),
		os.Symlink("/", filepath.Join(dir, "a/root")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("du", "-s", "-B1", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	want, err := strconv.ParseInt(strings.Fields(string(out))[0], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := new(usage.Meter).Tree(dir); err != nil || got != want {
		t.Errorf("Tree: %d, %v; du says %d", got, err, want)
	}
	var m usage.Meter
	sizes, err := m.Trees([]string{filepath.Join(dir, "a"), filepath.Join(dir, "c"), filepath.Join(dir, "none")})
	if err != nil || sizes[0]+sizes[1] > want || sizes[0]+sizes[1] < want-8192 || sizes[2] != 0 {
		t.Errorf("Trees: %v, %v; du says %d for all", sizes, err, want)
	}
}
