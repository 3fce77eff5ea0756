package secret

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCreateReadRemove(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	s := Open(t.TempDir())
	made, err := s.Create("a", []byte("content\x00binary\n"), Options{Labels: map[string]string{"k": "v"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(made.ID) != 25 || made.Driver != "file" {
		t.Errorf("made %+v", made)
	}
	if data, err := s.Read("a"); err != nil || string(data) != "content\x00binary\n" {
		t.Errorf("read %q, %v", data, err)
	}
	// Nobody else can read it, whatever the umask is.
	err = filepath.Walk(s.dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has the mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create("a", []byte("x"), Options{}); !errors.Is(err, ErrExists) {
		t.Errorf("a second one of that name: %v", err)
	}
	replaced, err := s.Create("a", []byte("x"), Options{Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "filedriver", made.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the old content is still there: %v", err)
	}
	if found, err := s.Find(replaced.ID[:10]); err != nil || found.Name != "a" {
		t.Errorf("by its ID: %+v, %v", found, err)
	}
	if err := s.Remove("a"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read("a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("it is removed: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, "filedriver", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestBadSecrets(t *testing.T) {
	s := Open(t.TempDir())
	for name, data := range map[string][]byte{
		"": {1}, "a/b": {1}, "../a": {1}, "a=b": {1}, "a,b": {1}, ".a": {1}, "a\nb": {1}, strings.Repeat("x", 300): {1},
		"empty": {}, "large": bytes.Repeat([]byte("x"), MaxSize+1),
	} {
		if _, err := s.Create(name, data, Options{}); !errors.Is(err, ErrInvalid) {
			t.Errorf("%.20q with %d bytes: %v", name, len(data), err)
		}
	}
	for _, o := range []Options{
		{Driver: "x"}, {Options: map[string]string{"x": "y"}}, {Options: map[string]string{"path": "relative"}},
		{Driver: "shell"}, {Driver: "shell", Options: map[string]string{"list": "true", "lookup": "true", "store": "true"}},
	} {
		if _, err := s.Create("a", []byte("x"), o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if all, err := s.List(); err != nil || len(all) > 0 {
		t.Errorf("they have left %v, %v", all, err)
	}
}

// Of many who create one name at once, one does.
func TestCreateAtOnce(t *testing.T) {
	s := Open(t.TempDir())
	var wg sync.WaitGroup
	var mu sync.Mutex
	made := 0
	for range 20 {
		wg.Go(func() {
			_, err := s.Create("a", []byte("x"), Options{})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				made++
			} else if !errors.Is(err, ErrExists) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if left, _ := filepath.Glob(filepath.Join(s.dir, "filedriver", "*")); made != 1 || len(left) != 1 {
		t.Errorf("%d were made, and %d contents are there", made, len(left))
	}
}

func TestShell(t *testing.T) {
	dir := t.TempDir()
	s := Open(t.TempDir())
	o := Options{Driver: "shell", Options: map[string]string{
		"list": "ls " + dir, "lookup": "cat " + dir + "/$SECRET_ID", "store": "cat >" + dir + "/$SECRET_ID", "delete": "rm " + dir + "/$SECRET_ID",
	}}
	if _, err := s.Create("a", []byte("content"), o); err != nil {
		t.Fatal(err)
	}
	if data, err := s.Read("a"); err != nil || string(data) != "content" {
		t.Errorf("read %q, %v", data, err)
	}
	if err := s.Remove("a"); err != nil {
		t.Error(err)
	}
	o.Options["store"] = "echo it is full >&2; exit 1"
	if _, err := s.Create("b", []byte("content"), o); err == nil || !strings.Contains(err.Error(), "it is full") {
		t.Errorf("a command that fails: %v", err)
	}
	if _, err := s.Get("b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("what could not be kept is there: %v", err)
	}
}

func TestPass(t *testing.T) {
	if _, err := exec.LookPath("gpg"); err != nil {
		t.Skip("gpg is not installed")
	}
	home, err := os.MkdirTemp("", "gpg") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	gpg := exec.Command("gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "", "--quick-generate-key", "moss@example.org", "default", "default", "never")
	if out, err := gpg.CombinedOutput(); err != nil {
		t.Fatalf("gpg: %v: %s", err, out)
	}
	defer exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
	root := t.TempDir()
	s := Open(t.TempDir())
	o := Options{Driver: "pass", Options: map[string]string{"root": root, "gpghomedir": home}}
	if _, err := s.Create("a", []byte("content"), o); err == nil || !strings.Contains(err.Error(), "no key") {
		t.Errorf("without a key: %v", err)
	}
	o.Options["key"] = "moss@example.org"
	made, err := s.Create("a", []byte("content"), o)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(root, made.ID+".gpg"))
	if err != nil || bytes.Contains(kept, []byte("content")) {
		t.Errorf("kept as %q, %v", kept, err)
	}
	if data, err := s.Read("a"); err != nil || string(data) != "content" {
		t.Errorf("read %q, %v", data, err)
	}
	if err := s.Remove("a"); err != nil {
		t.Error(err)
	}
}
