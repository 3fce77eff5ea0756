// Package driver finds out by trying how a container's root can be mounted here:
// native overlay, fuse-overlayfs, or only copies.
package driver

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"moss/record"
)

// The ways to put layers together.
const (
	Native = "native" // overlay(5) of the kernel, with userxattr
	Fuse   = "fuse"   // fuse-overlayfs
	VFS    = "vfs"    // a full copy of each layer
)

// Driver is the outcome of Probe.
type Driver struct {
	Name string // Native, Fuse or VFS
	// Program is the path of fuse-overlayfs when Name is Fuse.
	Program string `json:",omitempty"`
	// Why says what the better ways lack; empty with Native.
	Why string `json:",omitempty"`
	// Kernel is the release for which this was found out.
	Kernel string
}

func file(root string) string { return filepath.Join(root, "storage-driver.json") }

// Read returns the outcome that Probe or Cached recorded below root, if it was
// for the kernel that runs now.
func Read(root string) (Driver, bool) {
	data, err := record.ReadFile(file(root))
	if err != nil {
		return Driver{}, false
	}
	var d Driver
	if record.Decode(data, &d) != nil || d.Name == "" || d.Kernel != kernel() {
		return Driver{}, false
	}
	return d, true
}

// Cached is Read, or else Probe and a record of its outcome. What is worse than
// native is tried again when fuse-overlayfs has come or gone.
func Cached(root string) (Driver, error) {
	if d, ok := Read(root); ok {
		program, _ := exec.LookPath("fuse-overlayfs")
		if d.Name == Native || (d.Name == Fuse && program == d.Program) || (d.Name == VFS && program == "") {
			return d, nil
		}
	}
	d, err := Probe(root)
	if err != nil {
		return d, err
	}
	return d, d.write(root)
}

func (d Driver) write(root string) error {
	data, err := record.Encode(d)
	if err != nil {
		return err
	}
	if err := record.Replace(file(root), append(data, '\n'), 0o644, false); err != nil {
		return fmt.Errorf("cannot record storage driver: %w", err)
	}
	return nil
}

// Probe tries each way on the file system of dir. It must run with the
// capabilities of the user namespace, in its mount namespace.
func Probe(dir string) (Driver, error) {
	d := Driver{Kernel: kernel()}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return d, fmt.Errorf("cannot probe storage: %w", err)
	}
	scratch, err := os.MkdirTemp(dir, ".probe-*")
	if err != nil {
		return d, fmt.Errorf("cannot probe storage: %w", err)
	}
	defer os.RemoveAll(scratch)

	native := try(filepath.Join(scratch, "native"), mountNative)
	if native == nil {
		d.Name = Native
		return d, nil
	}
	d.Why = fmt.Sprintf("no native overlay: %v", native)
	program, err := exec.LookPath("fuse-overlayfs")
	if err == nil {
		err = try(filepath.Join(scratch, "fuse"), func(lower, upper, work, merged string) error {
			return mountFuse(program, lower, upper, work, merged)
		})
	}
	if err == nil {
		d.Name, d.Program = Fuse, program
		return d, nil
	}
	d.Name = VFS
	d.Why += fmt.Sprintf("; no fuse-overlayfs: %v", err)
	return d, nil
}

// try mounts an overlay below dir and uses it: reading through, removing what a
// lower layer holds (a whiteout) and making a directory anew (opaque).
func try(dir string, mount func(lower, upper, work, merged string) error) error {
	var paths [4]string
	for i, name := range []string{"lower", "upper", "work", "merged"} {
		paths[i] = filepath.Join(dir, name)
		if err := os.MkdirAll(paths[i], 0o755); err != nil {
			return err
		}
	}
	lower, upper, work, merged := paths[0], paths[1], paths[2], paths[3]
	if err := os.MkdirAll(filepath.Join(lower, "d"), 0o755); err != nil {
		return err
	}
	for _, name := range []string{"f", "d/f"} {
		if err := os.WriteFile(filepath.Join(lower, name), []byte("x"), 0o644); err != nil {
			return err
		}
	}
	if err := mount(lower, upper, work, merged); err != nil {
		return err
	}
	defer syscall.Unmount(merged, syscall.MNT_DETACH)

	if _, err := record.ReadFile(filepath.Join(merged, "f")); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(merged, "f")); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(merged, "d")); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(merged, "d"), 0o755); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(merged, "d", "f")); err == nil {
		return errors.New("a removed directory shows its old files again")
	}
	return nil
}

// mountNative needs kernel 5.11 for overlay in a user namespace with userxattr;
// see Documentation/filesystems/overlayfs.rst.
func mountNative(lower, upper, work, merged string) error {
	data := "userxattr,lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	if err := syscall.Mount("overlay", merged, "overlay", 0, data); err != nil {
		return os.NewSyscallError("mount", err)
	}
	return nil
}

func mountFuse(program, lower, upper, work, merged string) error {
	data := "lowerdir=" + lower + ",upperdir=" + upper + ",workdir=" + work
	out, err := exec.Command(program, "-o", data, merged).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

func kernel() string {
	data, err := record.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil || len(data) == 0 {
		return ""
	}
	return string(data[:len(data)-1])
}
