// Package mounted counts who uses a volume that has to be mounted: it is mounted for
// the first and unmounted after the last. It links little, since a monitor uses it.
package mounted

import (
	"errors"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Lease is the use of one volume by one user. Who holds it is the file User in
// Dir, which a reboot takes away, as it does the mount.
type Lease struct {
	Dir        string // <run>/v/<name>
	User       string // a container's ID
	Mountpoint string // <root>/volumes/<name>/_data
}

// Take takes the lease, and mounts if nothing is mounted. It may be taken again.
func (l Lease) Take(mount func() error) error {
	unlock, err := l.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.MkdirAll(l.Dir, 0o700); err != nil {
		return err
	}
	if !Is(l.Mountpoint) {
		if err := mount(); err != nil {
			unix.Rmdir(l.Dir)
			return err
		}
	}
	return os.WriteFile(filepath.Join(l.Dir, l.User), nil, 0o600)
}

// Drop gives the lease back, and unmounts if it was the last. Who has none drops
// nothing.
func (l Lease) Drop() error {
	unlock, err := l.lock()
	if errors.Is(err, unix.ENOENT) {
		return nil // the volume is gone
	}
	if err != nil {
		return err
	}
	defer unlock()
	err = unix.Unlink(filepath.Join(l.Dir, l.User))
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Rmdir(l.Dir); err != nil {
		if err == unix.ENOTEMPTY || err == unix.EEXIST {
			return nil // others use it
		}
		return err
	}
	return Unmount(l.Mountpoint)
}

// Users are who holds leases of the volume whose directory of leases is dir.
func Users(dir string) []string {
	entries, _ := os.ReadDir(dir)
	var out []string
	for _, entry := range entries {
		out = append(out, entry.Name())
	}
	return out
}

// Is says whether something is mounted at path.
func Is(path string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// Unmount takes away all that is mounted at path.
func Unmount(path string) error {
	for Is(path) {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if err == unix.EBUSY {
			err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil {
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	return nil
}

// lock holds the volume's directory locked: who mounts and who unmounts take turns.
func (l Lease) lock() (unlock func(), err error) {
	fd, err := unix.Open(filepath.Dir(l.Mountpoint), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for {
		if err = unix.Flock(fd, unix.LOCK_EX); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	return func() { unix.Close(fd) }, nil
}
