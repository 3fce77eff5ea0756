package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

func TestOptions(t *testing.T) {
	v := Open(t.TempDir())
	for i, options := range []map[string]string{
		{"type": "tmpfs"}, {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=0700,noexec,uid=" + strconv.Itoa(os.Getuid())}, {"o": "noquota"}, {"nocopy": ""},
		{"type": "none", "device": "/x", "o": "bind,ro,nosuid"}, {"device": "/x", "o": "rbind"},
	} {
		vol, err := v.Create("ok"+string(rune('a'+i)), Options{Options: options})
		if err != nil {
			t.Errorf("%v: %v", options, err)
		} else if want := options["type"] != "" || options["device"] != ""; vol.NeedsMount() != want {
			t.Errorf("%v: is it to be mounted? %v", options, vol.NeedsMount())
		}
	}
	for _, options := range []map[string]string{
		{"x": "y"}, {"type": "ext4", "device": "/dev/sda"}, {"type": "none"}, {"device": "/x"}, {"type": "none", "device": "relative"},
		{"o": "size=1m"}, {"o": "ro"}, {"type": "tmpfs", "o": "nonsense"}, {"type": "tmpfs", "o": "bind"}, {"o": "uid=x"}, {"o": "inodes=5"},
	} {
		if _, err := v.Create("bad", Options{Options: options}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%v: %v", options, err)
		}
	}
	if _, err := v.Get("bad"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what is refused is not made: %v", err)
	}
}

// A volume is new until a container has used it, whatever is in it.
func TestNew(t *testing.T) {
	v := Open(t.TempDir())
	made, err := v.Create("a", Options{})
	if err != nil || !made.New {
		t.Fatalf("%+v, %v", made, err)
	}
	if got, err := v.Get("a"); err != nil || !got.New {
		t.Errorf("%+v, %v", got, err)
	}
	v.Used("a")
	if got, err := v.Get("a"); err != nil || got.New {
		t.Errorf("after its use: %+v, %v", got, err)
	}
}

// A lease keeps a volume mounted; what fails to be mounted leaves none.
func TestLease(t *testing.T) {
	root, run := t.TempDir(), t.TempDir()
	vol, err := Open(root).Create("a", Options{Options: map[string]string{"type": "tmpfs"}})
	if err != nil {
		t.Fatal(err)
	}
	mounts := 0
	mount := func() error { mounts++; return nil } // a mount takes privileges
	a, b := vol.Lease(run, "a"), vol.Lease(run, "b")
	if err := errors.Join(a.Take(mount), b.Take(mount), a.Take(mount)); err != nil || vol.Uses(run) != 2 {
		t.Fatalf("%v, %d uses", err, vol.Uses(run))
	}
	if err := errors.Join(a.Drop(), a.Drop()); err != nil || vol.Uses(run) != 1 {
		t.Errorf("%v, %d uses", err, vol.Uses(run))
	}
	if err := b.Drop(); err != nil || vol.Uses(run) != 0 {
		t.Errorf("%v, %d uses", err, vol.Uses(run))
	}
	failed := errors.New("no")
	if err := a.Take(func() error { return failed }); !errors.Is(err, failed) || vol.Uses(run) != 0 {
		t.Errorf("%v, %d uses", err, vol.Uses(run))
	}
	if err := os.RemoveAll(filepath.Join(root, "volumes")); err != nil {
		t.Fatal(err)
	}
	if err := a.Drop(); err != nil {
		t.Errorf("of a volume that is gone: %v", err)
	}
}
