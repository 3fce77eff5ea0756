package runtime

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime/birth"
)

// sourceTree clones the mount of what a bind mount is to show.
func (s *stage) sourceTree(m *specs.Mount, recursive bool) (int, error) {
	if from, ok := s.doc.Sources[m.Destination]; ok {
		return s.lentTree(birth.Message{Stage: "open", Within: from.Within, Path: from.Path, NoLinks: from.NoLinks, Recursive: recursive})
	}
	if !filepath.IsAbs(m.Source) {
		return -1, fmt.Errorf("source %q is not an absolute path", m.Source)
	}
	return s.cloneTree(m.Source, recursive)
}

// cloneTree clones the mount of a host's path.
func (s *stage) cloneTree(source string, recursive bool) (int, error) {
	return s.lentTree(birth.Message{Stage: "open", Path: source, Recursive: recursive})
}

// lentTree clones a mount of the host. In a user namespace of its own the
// container's root may not be able to walk there: the caller then does it.
func (s *stage) lentTree(m birth.Message) (int, error) {
	fd, err := birth.CloneTree(m.Within, m.Path, m.Recursive, m.NoLinks)
	// EINVAL: what another container has mounted; see birth.
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EINVAL) && strings.HasPrefix(m.Path, "/proc/") {
		if fd, asked := s.fromCaller(m); asked == nil {
			return fd, nil
		}
	}
	return fd, err
}

// bindOverlay mounts an overlay, or a path in it, where a bind mount was asked for.
func (s *stage) bindOverlay(m *specs.Mount, o *options, target string, from Source) error {
	at := s.root
	if from.Path == "" {
		fd, err := s.makeTarget(target, true)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		at = fd
	}
	tree, attached, err := s.overlay(from.Overlay, fdPath(at))
	if err == nil && from.Path != "" {
		tree, err = s.partOf(tree, attached, from.Path)
		attached = false
	}
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if attached {
		return s.finishBind(m, o, tree, -1)
	}
	fd, err := s.makeTarget(target, isDirectory(tree))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return s.finishBind(m, o, tree, fd)
}

// finishBind gives a clone its attributes before anyone can see it, and attaches
// it; target is -1 if it is attached.
func (s *stage) finishBind(m *specs.Mount, o *options, tree, target int) error {
	if o.idmap {
		if err := s.idmapped(m, o, tree); err != nil {
			return err
		}
	}
	if !o.readOnly() { // else done by a clone that is not
		if err := s.keep(m.Destination, tree); err != nil {
			return err
		}
	}
	if err := o.setAttributes(tree, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if target >= 0 && isDirectory(target) != isDirectory(tree) {
		return fmt.Errorf("%q and the path in the container must both be directories, or neither", m.Source)
	}
	if target >= 0 {
		if err := attach(tree, target); err != nil {
			return err
		}
	}
	// After attaching: in a shared mount it would become shared.
	return o.apply(tree)
}

// partOf clones what is at path in a mount, and lets go of the mount. A detached
// mount cannot be cloned before Linux 6.15: it is attached meanwhile, above the
// root directory, which is open.
func (s *stage) partOf(tree int, attached bool, path string) (int, error) {
	defer unix.Close(tree)
	if !attached {
		if err := attach(tree, s.root); err != nil {
			return -1, err
		}
	}
	defer unix.Unmount(fdPath(tree), unix.MNT_DETACH)
	at, err := birth.OpenWithin(tree, path, false)
	if err != nil {
		return -1, fmt.Errorf("cannot open %q in it: %w", path, err)
	}
	defer unix.Close(at)
	return unix.OpenTree(at, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

// copyLink makes the symbolic link that the source is, in place of mounting what
// it leads to. It reports whether the source is one.
func (s *stage) copyLink(source, target string) (bool, error) {
	var buf [unix.PathMax]byte
	n, err := unix.Readlink(source, buf[:])
	if err == unix.EINVAL {
		return false, nil // it is none
	}
	if err != nil {
		return false, fmt.Errorf("cannot read link %q: %w", source, err)
	}
	dir, err := s.makeTarget(filepath.Dir(target), true)
	if err != nil {
		return false, err
	}
	defer unix.Close(dir)
	name, link := filepath.Base(target), string(buf[:n])
	err = unix.Symlinkat(link, unix.AT_FDCWD, fdPath(dir)+"/"+name)
	if err == unix.EEXIST {
		if n, err := unix.Readlinkat(dir, name, buf[:]); err == nil && string(buf[:n]) == link {
			return true, nil // from an earlier start
		}
	}
	return true, err
}
