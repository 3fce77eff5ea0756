package runtime

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime/birth"
)

// filesystem makes the container's root filesystem and enters it.
func (s *stage) filesystem() error {
	if own, _ := has(s.spec, specs.MountNamespace); !own {
		return s.chroot()
	}
	if err := s.propagate(); err != nil {
		return err
	}
	if err := s.openRoot(); err != nil {
		return err
	}
	for _, c := range s.doc.CopyUp {
		if err := s.copyUp(c); err != nil {
			return err
		}
	}
	for i := range s.spec.Mounts {
		if err := s.mount(&s.spec.Mounts[i]); err != nil {
			return err
		}
	}
	if err := s.mountSecrets(); err != nil {
		return err
	}
	if err := s.devices(); err != nil {
		return err
	}
	if err := s.createHooks(); err != nil {
		return err
	}
	if s.doc.Console {
		if err := s.console(s.spec.Process); err != nil {
			return err
		}
		if err := s.devConsole(); err != nil {
			return err
		}
	}
	if err := s.sysctls(); err != nil {
		return err
	}
	if err := s.accounts(); err != nil {
		return err
	}
	if err := s.protect(); err != nil {
		return err
	}
	return s.pivot()
}

// chroot is for a container without a mount namespace of its own: nothing may be
// mounted.
func (s *stage) chroot() error {
	l := s.spec.Linux
	if s.doc.Overlay != nil || len(s.spec.Mounts)+len(l.MaskedPaths)+len(l.ReadonlyPaths) > 0 || s.spec.Root.Readonly || s.doc.Console {
		return errors.New("cannot mount: the container has no mount namespace of its own")
	}
	if err := s.createHooks(); err != nil {
		return err
	}
	if err := s.sysctls(); err != nil {
		return err
	}
	if err := unix.Chroot(s.spec.Root.Path); err != nil {
		return fmt.Errorf("cannot change root to %q: %w", s.spec.Root.Path, err)
	}
	return unix.Chdir("/")
}

// propagationFlags are the words of spec.Linux.RootfsPropagation.
func propagationFlags(word string) (uintptr, error) {
	recursive := uintptr(0)
	if rest, ok := strings.CutPrefix(word, "r"); ok {
		word, recursive = rest, unix.MS_REC
	}
	p, ok := propagations[word]
	if !ok {
		return 0, fmt.Errorf("cannot set propagation %q: unknown", word)
	}
	return uintptr(p) | recursive, nil
}

// propagate keeps what is mounted here from the host. By default as a slave: what
// the host unmounts is gone here too, and binds may ask for it to be passed on.
func (s *stage) propagate() error {
	flags := uintptr(unix.MS_SLAVE)
	if word := s.spec.Linux.RootfsPropagation; word != "" {
		f, err := propagationFlags(word)
		if err != nil {
			return err
		}
		if f&unix.MS_UNBINDABLE == 0 { // what could not be bound could not be the root
			flags = f
		}
	}
	if err := unix.Mount("", "/", "", flags|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("cannot set propagation of %q: %w", "/", err)
	}
	return nil
}

// openRoot mounts the root filesystem (the overlay, or the directory on itself)
// at its path: pivot_root(2) wants a mount point.
func (s *stage) openRoot() error {
	path := s.spec.Root.Path
	var tree int
	var err error
	attached := false
	if o := s.doc.Overlay; o != nil {
		tree, attached, err = s.overlay(o, path)
	} else {
		tree, err = s.cloneTree(path, true)
	}
	if err != nil {
		return fmt.Errorf("cannot mount root filesystem %q: %w", path, err)
	}
	s.root = tree
	if attached {
		return nil
	}
	// The mount below must not be shared, or everything here would be the
	// host's as well, and pivot_root(2) would refuse.
	if strings.Contains(s.spec.Linux.RootfsPropagation, "shared") {
		if err := privateParent(path); err != nil {
			return err
		}
	}
	err = unix.MoveMount(tree, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH)
	if err == unix.EACCES {
		// In a user namespace of its own, from where the container's root may
		// not walk there. Where it is mounted until pivot_root matters to hooks
		// only; absolute paths still begin at the mount below.
		err = unix.MoveMount(tree, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	if err != nil {
		return fmt.Errorf("cannot mount root filesystem %q: %w", path, err)
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Propagation: unix.MS_PRIVATE}); err != nil {
		return fmt.Errorf("cannot set propagation of root filesystem: %w", err)
	}
	return nil
}

// overlay mounts the overlay. In a user namespace of its own the container's root
// may not be able to walk to the layers: the caller then does it.
func (s *stage) overlay(o *Overlay, path string) (int, bool, error) {
	b := o.mountable()
	if l := s.spec.Linux.MountLabel; l != "" && hostSELinux() {
		b.Data = append(b.Data, "context=\""+l+"\"")
	}
	if own, _ := has(s.spec, specs.UserNamespace); own {
		fd, err := s.fromCaller(birth.Message{Stage: "overlay", Overlay: &b})
		return fd, false, err
	}
	return b.Mount(path)
}

// mountable is the overlay as birth mounts it.
func (o *Overlay) mountable() birth.Overlay {
	return birth.Overlay{
		Lower: o.Lower, DataOnly: o.DataOnly, Upper: o.Upper, Work: o.Work,
		Volatile: o.Volatile, UserXattr: o.UserXattr, UIDMap: o.UIDMap, GIDMap: o.GIDMap,
	}
}

// MountOverlay mounts an overlay at a directory, in the caller's mount namespace:
// for OCI runtimes that do not know Document.
func MountOverlay(o *Overlay, path string) error {
	b := o.mountable()
	fd, attached, err := b.Mount(path)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if attached {
		return nil
	}
	if err := unix.MoveMount(fd, "", unix.AT_FDCWD, path, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("cannot mount overlay at %q: %w", path, err)
	}
	return nil
}

// privateParent makes the mount that holds path private.
func privateParent(path string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open root filesystem: %w", err)
	}
	defer unix.Close(fd)
	for dir := path; ; dir = dir[:strings.LastIndexByte(dir, '/')] {
		if dir == "" {
			dir = "/"
		}
		err := unix.Mount("", dir, "", unix.MS_PRIVATE, "")
		if err == nil {
			return nil
		}
		if err != unix.EINVAL || dir == "/" { // EINVAL: not a mount point
			return fmt.Errorf("cannot set propagation of %q: %w", dir, err)
		}
	}
}

// pivot makes the root filesystem the root, and lets go of the host's.
func (s *stage) pivot() error {
	if err := unix.Fchdir(s.root); err != nil {
		return fmt.Errorf("cannot enter root filesystem: %w", err)
	}
	var err error
	if s.doc.NoPivot {
		err = unix.EINVAL
	} else {
		// "." for both: the old root is stacked on the new one and needs no
		// directory to be put at; see pivot_root(2).
		err = unix.PivotRoot(".", ".")
	}
	switch {
	case err == unix.EINVAL:
		if err := s.moveRoot(); err != nil {
			return err
		}
	case err != nil:
		return fmt.Errorf("cannot pivot to root filesystem: %w", err)
	default:
		// The old root: not one unmount may reach the host.
		if err := unix.Mount("", ".", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("cannot set propagation of old root: %w", err)
		}
		if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
			return fmt.Errorf("cannot unmount old root: %w", err)
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("cannot enter root filesystem: %w", err)
	}
	if word := s.spec.Linux.RootfsPropagation; word != "" {
		flags, err := propagationFlags(word)
		if err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", flags, ""); err != nil {
			return fmt.Errorf("cannot set propagation %q of root filesystem: %w", word, err)
		}
	}
	return nil
}

// moveRoot moves the root filesystem over the host's root, which pivot_root(2)
// cannot replace when it is the initial ramdisk. The host's root stays below, so
// what is dangerous to reach there is unmounted first.
func (s *stage) moveRoot() error {
	own, err := s.mountPoints()
	if err != nil {
		return err
	}
	for i := len(own) - 1; i >= 0; i-- {
		if m := own[i]; (m.fstype == "proc" || m.fstype == "sysfs") && !strings.HasPrefix(m.path+"/", s.spec.Root.Path+"/") {
			if err := unix.Unmount(m.path, unix.MNT_DETACH); err != nil && err != unix.EINVAL && err != unix.EPERM {
				return fmt.Errorf("cannot unmount %q: %w", m.path, err)
			}
		}
	}
	if err := unix.Mount(".", "/", "", unix.MS_MOVE, ""); err != nil {
		return fmt.Errorf("cannot move root filesystem: %w", err)
	}
	if err := unix.Chroot("."); err != nil {
		return fmt.Errorf("cannot change root: %w", err)
	}
	return nil
}

type mountPoint struct{ path, fstype string }

// mountPoints reads the mount table; see proc_pid_mountinfo(5).
func (s *stage) mountPoints() ([]mountPoint, error) {
	data, err := s.readProc("self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot read mount table: %w", err)
	}
	var out []mountPoint
	for line := range strings.Lines(string(data)) {
		f := strings.Fields(line)
		for i := 6; i+1 < len(f); i++ {
			if f[i] == "-" {
				out = append(out, mountPoint{unescapeMount(f[4]), f[i+1]})
				break
			}
		}
	}
	return out, nil
}

var unescapeMount = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace
