package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Aside lets a program that is executed in a container see more files than the
// container does, in a mount namespace of its own: the container sees nothing of it.
type Aside struct {
	// FD is the descriptor of a detached mount, with the tools.
	FD int
	// Root makes the tools the root, with the container's at ContainerDir, its /proc,
	// /sys and /dev, hosts and resolv.conf; else the container's root is the root,
	// and the tools are at ToolsDir.
	Root bool `json:",omitempty"`
}

// Where the other root is.
const (
	ToolsDir     = "/.moss-tools"
	ContainerDir = "/container"
)

// aside leaves the container's mount namespace for a copy, and makes the new root.
func (s *stage) aside(a *Aside) error {
	if a == nil {
		return nil
	}
	if err := s.newRoot(a); err != nil {
		return fmt.Errorf("cannot show the tools beside the container: %w", err)
	}
	return nil
}

func (s *stage) newRoot(a *Aside) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	old, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(old)
	root := a.FD
	if !a.Root {
		if root, err = frame(); err != nil {
			return err
		}
		defer unix.Close(root)
	}
	// Before something is mounted on it.
	whole, err := unix.OpenTree(old, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(whole)
	// Mounts may be put into it when it is attached: before Linux 6.15, then only.
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, "/", unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	if a.Root {
		err = furnish(old, root, whole)
	} else {
		err = collect(old, root, a.FD)
	}
	if err != nil {
		return err
	}
	if err := unix.Fchdir(root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("umount", err)
	}
	return unix.Chdir("/")
}

// frame is an empty file system for a root directory.
func frame() (int, error) {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fs)
	for _, o := range [][2]string{{"mode", "755"}, {"size", "1m"}} {
		if err := unix.FsconfigSetString(fs, o[0], o[1]); err != nil {
			return -1, err
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, err
	}
	return unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
}

// collect puts everything in the container's root directory into the frame, and the
// tools beside it. What is in / is then the container's own; / itself is read-only:
// a file that was made there would not be the container's.
func collect(old, root, tools int) error {
	dir, err := unix.Openat(old, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	list := os.NewFile(uintptr(dir), "/")
	names, err := list.Readdirnames(-1)
	list.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := bring(old, root, name, name); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%q: %w", "/"+name, err)
		}
	}
	name := strings.TrimPrefix(ToolsDir, "/")
	if err := unix.Mkdirat(root, name, 0o755); err != nil && err != unix.EEXIST {
		return err
	}
	if err := unix.MoveMount(tools, "", root, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	return unix.MountSetattr(root, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY})
}

// furnish puts the container's root into the tools', and what tools look for.
func furnish(old, root, whole int) error {
	for _, name := range []string{"proc", "sys", "dev"} {
		if err := bring(old, root, name, name); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%q: %w", "/"+name, err)
		}
	}
	name := strings.TrimPrefix(ContainerDir, "/")
	if err := unix.Mkdirat(root, name, 0o755); err != nil && err != unix.EEXIST {
		return err
	}
	if err := unix.MoveMount(whole, "", root, name, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("move_mount", err)
	}
	for _, name := range []string{"hosts", "resolv.conf", "hostname"} {
		etc, err := openIn(root, "etc", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return nil // tools without /etc
		}
		from, err := openIn(old, "etc", unix.O_PATH|unix.O_DIRECTORY, 0)
		if err == nil {
			bring(from, etc, name, name) // better without than not at all
			unix.Close(from)
		}
		unix.Close(etc)
	}
	return nil
}

// bring shows an entry of one directory in another: a link by a copy, all else, with
// what is mounted below, by a mount on an entry that is made for it.
func bring(from, to int, name, as string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(from, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		var target [unix.PathMax]byte
		n, err := unix.Readlinkat(from, name, target[:])
		if err == nil {
			err = unix.Symlinkat(string(target[:n]), to, as)
		}
		if err == unix.EEXIST {
			err = nil
		}
		return err
	case unix.S_IFDIR:
		if err := unix.Mkdirat(to, as, 0o755); err != nil && err != unix.EEXIST {
			return err
		}
	default:
		fd, err := unix.Openat(to, as, unix.O_WRONLY|unix.O_CREAT|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644)
		if err != nil {
			return err
		}
		unix.Close(fd)
	}
	return graft(from, name, to, as)
}

// graft mounts a copy of the tree at name.
func graft(from int, name string, to int, as string) error {
	tree, err := unix.OpenTree(from, name, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return os.NewSyscallError("open_tree", err)
	}
	defer unix.Close(tree)
	return os.NewSyscallError("move_mount", unix.MoveMount(tree, "", to, as, unix.MOVE_MOUNT_F_EMPTY_PATH))
}
