// Package driver finds out by trying how a container's root can be mounted here:
// native overlay, fuse-overlayfs, or only copies.
package driver

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
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
	// Program is the path of fuse-overlayfs, if it is there and Name is not Native.
	Program string `json:",omitempty"`
	// Why says what the better ways lack; empty with Native.
	Why string `json:",omitempty"`
	// FileSystem is what the store lies on.
	FileSystem FileSystem
	// Kernel is the release, and Place the file system, for which this was found out.
	Kernel, Place string
	// Kept is set when there is a better way than VFS, and images that only VFS has.
	Kept bool `json:",omitempty"`
}

func file(root string) string { return filepath.Join(root, "storage-driver.json") }

// Read returns the outcome that Probe or Cached recorded below root, if it was
// for the kernel and the file system that are there now.
func Read(root string) (Driver, bool) {
	d := last(root)
	if d.Name == "" || d.Kernel != kernel() || d.Place != Place(root) {
		return Driver{}, false
	}
	return d, true
}

// last is what was found out last, on whatever kernel.
func last(root string) (d Driver) {
	data, err := record.ReadFile(file(root))
	if err != nil || record.Decode(data, &d) != nil {
		return Driver{}
	}
	return d
}

// Cached is Read, or else Probe and a record of its outcome, of which the user is told
// if it is news. What is worse than native is tried again when fuse-overlayfs has come
// or gone.
func Cached(root string) (Driver, error) {
	if d, ok := Read(root); ok {
		program := ""
		if d.Name != Native {
			program, _ = exec.LookPath("fuse-overlayfs")
		}
		switch {
		case d.Kept:
			if copies(root) {
				return d, nil
			}
		case d.Name == Native || program == d.Program:
			return d, nil
		}
	}
	before := last(root)
	d, err := Probe(root)
	if err != nil {
		return d, err
	}
	if d.Name != VFS && before.Name == VFS && copies(root) {
		// The library would look for the images elsewhere, and the user would miss them.
		d.Name, d.Program, d.Kept = VFS, "", true
		d.Why = "the store has images that are kept so; when they are removed, layers are shared"
	}
	if err := d.write(root); err != nil {
		return d, err
	}
	if d.Name != before.Name || d.Why != before.Why || d.FileSystem.Owners != before.FileSystem.Owners {
		d.tell()
	}
	return d, nil
}

// tell says what is worse here than elsewhere.
func (d Driver) tell() {
	switch d.Name {
	case Fuse:
		slog.Warn("images and containers use fuse-overlayfs here, which is slower: " + d.Why)
	case VFS:
		slog.Warn("images are stored as full copies of every layer (vfs), slow and large: " + d.Why)
	}
	if !d.FileSystem.Owners {
		slog.Warn("files of images all belong to root: " + d.FileSystem.Name + " does not let you give files to your subordinate IDs")
	}
}

// copies says whether the store has images that are full copies.
func copies(root string) bool {
	info, err := os.Stat(filepath.Join(root, "storage", "vfs-images", "images.json"))
	return err == nil && info.Size() > int64(len("[]\n"))
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

	if err := os.Mkdir(filepath.Join(scratch, "look"), 0o755); err != nil {
		return d, fmt.Errorf("cannot probe storage: %w", err)
	}
	if d.FileSystem, err = look(filepath.Join(scratch, "look")); err != nil {
		return d, fmt.Errorf("cannot probe storage: %w", err)
	}
	d.Place = Place(dir)
	native := try(filepath.Join(scratch, "native"), mountNative)
	if native == nil {
		d.Name = Native
		return d, nil
	}
	if lacks := d.FileSystem.lacks(); lacks != "" {
		d.Why = "no native overlay, because " + lacks
	} else {
		d.Why = fmt.Sprintf("no native overlay on %s: %v", d.FileSystem.Name, bare(native))
	}
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
	// Program says that it was tried: it is again when there is another.
	d.Name, d.Program = VFS, program
	d.Why += fmt.Sprintf("; no fuse-overlayfs: %v", bare(err))
	return d, nil
}

// bare leaves out the paths of the trial, which are gone.
func bare(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return fmt.Errorf("%s: %w", path.Op, path.Err)
	}
	return err
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
	if entries, err := os.ReadDir(merged); err != nil || len(entries) != 1 {
		return cmp.Or(err, errors.New("a removed file is still listed"))
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
