// Package storagetest gives tests a store of their own, as root or as anybody who
// may make a user namespace.
package storagetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"moss/storage"
	"moss/storage/image"
)

// inside says that Main has made the namespace.
const inside = "_MOSS_STORAGETEST"

// Main is TestMain of a package whose tests open stores. An ordinary user's tests
// run again inside a user namespace that maps that user alone.
func Main(m *testing.M) {
	if storage.Init() {
		return
	}
	if os.Geteuid() == 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		fmt.Println("without a user namespace, tests of the store are skipped:", err)
		os.Exit(m.Run())
	}
	if err := cmd.Wait(); err != nil {
		os.Exit(1)
	}
}

// Open makes a store for one test, which sees no other program's images, and the
// reader of its index.
func Open(t *testing.T) (*storage.Store, *image.Images) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root or a user namespace")
	}
	dir := t.TempDir()
	t.Setenv("XDG_DATA_HOME", filepath.Join(dir, "data"))
	t.Setenv("HOME", dir)
	t.Setenv("XDG_RUNTIME_DIR", os.TempDir()) // the library remembers the first
	root := filepath.Join(dir, "root")
	store, err := storage.Open(root, filepath.Join(dir, "run"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store, image.Open(root)
}

// Images reads every image of the store through a new index.
func Images(t *testing.T, store *storage.Store) []*image.Image {
	t.Helper()
	if err := store.Index(); err != nil {
		t.Fatal(err)
	}
	all, err := image.Open(store.Root).List()
	if err != nil {
		t.Fatal(err)
	}
	return all
}
