package birth

import (
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// Whoever can write to a volume changes, as fast as he can, a directory on the way
// into a link to the host's: what is opened never lies outside.
func TestOpenWithinRace(t *testing.T) {
	top := t.TempDir()
	volume, outside := filepath.Join(top, "volume"), filepath.Join(top, "outside")
	for _, dir := range []string{filepath.Join(volume, "a", "b"), filepath.Join(outside, "b")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("../../../../../.."+outside, filepath.Join(volume, "link")); err != nil {
		t.Fatal(err)
	}
	var secret unix.Stat_t
	if err := unix.Stat(filepath.Join(outside, "b"), &secret); err != nil {
		t.Fatal(err)
	}
	stop, done := exchange(volume, "a", "link")
	defer func() { stop(); <-done }()

	dir, err := unix.Open(volume, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	opened := 0
	for range 20000 {
		fd, err := OpenWithin(dir, "a/b", false)
		if err != nil {
			continue // the link leads nowhere in the volume
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		unix.Close(fd)
		if err != nil {
			t.Fatal(err)
		}
		if st.Ino == secret.Ino && st.Dev == secret.Dev {
			t.Fatal("a directory outside of the volume was opened")
		}
		opened++
	}
	if opened == 0 {
		t.Error("nothing was opened at all")
	}
}

// exchange swaps two names until it is stopped.
func exchange(dir, a, b string) (stop func(), done chan struct{}) {
	var over atomic.Bool
	done = make(chan struct{})
	go func() {
		defer close(done)
		for !over.Load() {
			unix.Renameat2(unix.AT_FDCWD, filepath.Join(dir, a), unix.AT_FDCWD, filepath.Join(dir, b), unix.RENAME_EXCHANGE)
		}
	}()
	return func() { over.Store(true) }, done
}

func TestOpenWithin(t *testing.T) {
	top := t.TempDir()
	if err := os.MkdirAll(filepath.Join(top, "v", "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"ok": "in", "abs": "/in", "out": "../..", "host": "/etc/passwd", "magic": "/proc/self/root"} {
		if err := os.Symlink(to, filepath.Join(top, "v", name)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := unix.Open(filepath.Join(top, "v"), unix.O_PATH, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(dir)
	for _, c := range []struct {
		path    string
		noLinks bool
		want    error
	}{
		{"in", false, nil}, {"ok", false, nil}, {"abs", false, nil}, {"../../../in", false, nil}, {".", true, nil}, {"in", true, nil},
		{"host", false, unix.ENOENT}, {"out/etc", false, unix.ENOENT}, {"magic", false, unix.ENOENT}, {"ok", true, unix.ELOOP},
	} {
		fd, err := OpenWithin(dir, c.path, c.noLinks)
		if !errors.Is(err, c.want) {
			t.Errorf("OpenWithin(%q, %v) = %v; want %v", c.path, c.noLinks, err, c.want)
		}
		if err == nil {
			unix.Close(fd)
		}
	}
}
