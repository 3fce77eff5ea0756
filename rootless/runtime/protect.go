package runtime

import (
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// protect makes paths read-only, masks paths, and makes the root filesystem
// read-only where asked: the last mounts, so that no later one undoes them.
func (s *stage) protect() error {
	for _, name := range s.spec.Linux.ReadonlyPaths {
		if err := s.readOnly(name); err != nil {
			return fmt.Errorf("cannot make %q read-only: %w", name, err)
		}
	}
	for _, name := range s.spec.Linux.MaskedPaths {
		if err := s.mask(name); err != nil {
			return fmt.Errorf("cannot mask %q: %w", name, err)
		}
	}
	for i := range s.spec.Mounts {
		m := &s.spec.Mounts[i]
		if path.Clean("/"+m.Destination) != "/dev" {
			continue
		}
		o, err := parseOptions(m)
		if err != nil || o.bind || o.set&unix.MOUNT_ATTR_RDONLY == 0 {
			continue
		}
		if err := s.remount(&options{set: unix.MOUNT_ATTR_RDONLY}, "/dev"); err != nil {
			return fmt.Errorf("cannot make %q read-only: %w", "/dev", err)
		}
	}
	if s.spec.Root.Readonly {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(s.root, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return fmt.Errorf("cannot make root filesystem read-only: %w", err)
		}
	}
	return nil
}

// readOnly puts a read-only clone of a path, with all that is mounted in it, on
// the path. What is not there needs no protection.
func (s *stage) readOnly(name string) error {
	fd, err := s.target(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	tree, err := unix.OpenTree(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return err
	}
	return attach(tree, fd)
}

// mask covers a file by /dev/null and a directory by an empty, read-only tmpfs.
func (s *stage) mask(name string) error {
	fd, err := s.target(name)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if isDirectory(fd) && s.empty < 0 {
		if err := s.emptyDirectory(); err != nil {
			return err
		}
		return attach(s.empty, fd)
	}
	cover := s.empty
	if !isDirectory(fd) {
		if cover, err = s.deviceNull(); err != nil {
			return err
		}
	}
	tree, err := unix.OpenTree(cover, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	return attach(tree, fd)
}

// deviceNull is the host's /dev/null: what the image has under that name could be
// anything (CVE-2025-31133).
func (s *stage) deviceNull() (int, error) {
	if s.null >= 0 {
		return s.null, nil
	}
	fd, err := unix.Open("/dev/null", unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != unix.Mkdev(1, 3) {
		unix.Close(fd)
		return -1, errors.New("the host's /dev/null is something else")
	}
	s.null = fd
	return fd, nil
}

// emptyDirectory makes one tmpfs for all masked directories. The first of them
// gets it attached, the others clones of that: a detached mount could not be
// cloned before Linux 6.15.
func (s *stage) emptyDirectory() error {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	for _, option := range [][2]string{{"size", "4k"}, {"nr_inodes", "1"}, {"mode", "755"}} {
		if err := unix.FsconfigSetString(fs, option[0], option[1]); err != nil {
			return err
		}
	}
	if l := s.spec.Linux.MountLabel; l != "" && hostSELinux() {
		if err := unix.FsconfigSetString(fs, "context", l); err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return err
	}
	const attrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC
	s.empty, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attrs)
	return err
}
