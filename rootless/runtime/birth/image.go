package birth

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// image is the runtime's program as it is executed: by a path that a container
// cannot write through.
//
// A process of a hostile container can open /proc/PID/exe of an init stage that
// has entered the container, or make its own program /proc/self/exe, keep that
// descriptor, and write through it when nothing executes the file any more
// (CVE-2019-5736). That the init stage is not dumpable does not suffice: a
// container with CAP_SYS_PTRACE in the user namespace of the runtime may look
// all the same, and after execve of /proc/self/exe nothing is hidden. So the
// file is executed from a private, detached, read-only clone of its directory's
// mount: every magic link leads to that mount, where opening for writing is
// EROFS, and no container can remount it, because it is in no mount namespace
// that the container has power over. Unlike the customary copy in a sealed memfd
// this costs two system calls and no page of memory. The memfd remains for a
// caller who may not clone mounts (a plain user outside the kept namespaces).
type image struct {
	path  string
	mount int
}

// openRuntime prepares the runtime's program for execution.
func openRuntime(path string) (*image, error) {
	dir, base := filepath.Split(path)
	if dir == "" {
		return nil, fmt.Errorf("cannot find runtime %q: not a path", path)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, dir, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err == nil {
		attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV}
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
		if err == nil && sameFile(fd, base, path) {
			return &image{path: "/proc/self/fd/" + strconv.Itoa(fd) + "/" + base, mount: fd}, nil
		}
		unix.Close(fd)
	}
	return sealedCopy(path)
}

// sameFile reports whether base in the cloned mount is the file at path: where it
// is a symbolic link out of it, or a mount of its own, it is not.
func sameFile(mount int, base, path string) bool {
	var a, b unix.Stat_t
	if unix.Fstatat(mount, base, &a, unix.AT_SYMLINK_NOFOLLOW) != nil || unix.Stat(path, &b) != nil {
		return false
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}

// sealedCopy copies the program into memory that nobody can write to.
func sealedCopy(path string) (*image, error) {
	src, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open runtime: %w", err)
	}
	defer src.Close()
	fd, err := unix.MemfdCreate("moss-runtime", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("cannot copy runtime %q into memory: %w", path, err)
	}
	for {
		n, err := unix.Sendfile(fd, int(src.Fd()), nil, 64<<20)
		if err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("cannot copy runtime %q into memory: %w", path, err)
		}
		if n == 0 {
			break
		}
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot seal copy of runtime %q: %w", path, err)
	}
	return &image{path: "/proc/self/fd/" + strconv.Itoa(fd), mount: fd}, nil
}

// above moves the image's descriptor out of the way of those that the child gets: the
// child puts them in their places before it executes the path.
func (i *image) above(files []uintptr) error {
	highest := len(files)
	for _, f := range files {
		highest = max(highest, int(f))
	}
	fd, err := unix.FcntlInt(uintptr(i.mount), unix.F_DUPFD_CLOEXEC, highest+len(files)+1)
	if err != nil {
		return fmt.Errorf("cannot prepare runtime: %w", err)
	}
	i.path = strings.Replace(i.path, "/fd/"+strconv.Itoa(i.mount), "/fd/"+strconv.Itoa(fd), 1)
	unix.Close(i.mount)
	i.mount = fd
	return nil
}

// Close releases the mount or the copy; a process that executes it keeps it.
func (i *image) Close() { unix.Close(i.mount) }
