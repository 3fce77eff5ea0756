package runtime

import (
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// A directory that becomes a link to elsewhere while it is walked through is not
// followed: nothing outside is touched.
func TestEachBelowRace(t *testing.T) {
	top := t.TempDir()
	volume, outside := filepath.Join(top, "volume"), filepath.Join(top, "outside")
	for _, dir := range []string{filepath.Join(volume, "a"), outside} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, path := range map[string]string{"inside": filepath.Join(volume, "a"), "victim": outside} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(outside, filepath.Join(volume, "b")); err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			unix.Renameat2(unix.AT_FDCWD, filepath.Join(volume, "a"), unix.AT_FDCWD, filepath.Join(volume, "b"), unix.RENAME_EXCHANGE)
		}
	}()
	defer func() { over.Store(true); <-done }()

	fd, err := unix.Open(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	seen := map[string]int{}
	for range 5000 {
		err := EachBelow(fd, func(dir int, name string) error {
			seen[name]++
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen["victim"] > 0 {
		t.Errorf("what is outside of the volume was walked through %d times", seen["victim"])
	}
	if seen["inside"] == 0 || seen["a"] == 0 || seen["b"] == 0 {
		t.Errorf("the volume was not walked through: %v", seen)
	}
}

// What belongs to the user already is left alone: chown(2) would take its
// set-group-ID bit away.
func TestChownOnlyWhereNeeded(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tool")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Chmod(path, 0o2755); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	var before, after unix.Stat_t
	if err := unix.Stat(path, &before); err != nil {
		t.Fatal(err)
	}
	if err := EachBelow(fd, func(dir int, name string) error { return chownEntry(dir, name, os.Getuid(), int(before.Gid)) }); err != nil {
		t.Fatal(err)
	}
	if err := unix.Stat(path, &after); err != nil {
		t.Fatal(err)
	}
	if after.Mode != before.Mode || after.Ctim != before.Ctim {
		t.Errorf("mode %o became %o, or the file was changed", before.Mode, after.Mode)
	}
}
