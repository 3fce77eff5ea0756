package runtime

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// defaultDevices are those that every container has; see OCI config-linux.md,
// "Default Devices".
var defaultDevices = []specs.LinuxDevice{
	{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
	{Path: "/dev/zero", Type: "c", Major: 1, Minor: 5},
	{Path: "/dev/full", Type: "c", Major: 1, Minor: 7},
	{Path: "/dev/random", Type: "c", Major: 1, Minor: 8},
	{Path: "/dev/urandom", Type: "c", Major: 1, Minor: 9},
	{Path: "/dev/tty", Type: "c", Major: 5, Minor: 0},
}

// deviceLinks are the links of a container's /dev.
var deviceLinks = [][2]string{
	{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"},
	{"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"},
	{"pts/ptmx", "ptmx"},
}

// devices fills /dev, unless it is the host's.
func (s *stage) devices() error {
	private := true
	for i := range s.spec.Mounts {
		m := &s.spec.Mounts[i]
		if path.Clean("/"+m.Destination) == "/dev" {
			o, err := parseOptions(m)
			private = err == nil && !o.bind
		}
	}
	if !private {
		return nil
	}
	seen := map[string]bool{}
	for i := range s.spec.Linux.Devices {
		d := &s.spec.Linux.Devices[i]
		seen[d.Path] = true
		if err := s.device(d); err != nil {
			return err
		}
	}
	for i := range defaultDevices {
		if d := &defaultDevices[i]; !seen[d.Path] {
			if err := s.device(d); err != nil {
				return err
			}
		}
	}
	dev, err := openIn(s.root, "/dev", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("cannot open %q: %w", "/dev", err)
	}
	defer unix.Close(dev)
	for _, link := range deviceLinks {
		if err := symlink(dev, link[0], link[1]); err != nil {
			return err
		}
	}
	if s.inProc("kcore") {
		return symlink(dev, "/proc/kcore", "core")
	}
	return nil
}

// symlink makes a link. What the image has there stays, but for ptmx, which must
// be that of the container's own devpts.
func symlink(dir int, to, name string) error {
	err := unix.Symlinkat(to, dir, name)
	if err == unix.EEXIST && name == "ptmx" {
		if err = unix.Unlinkat(dir, name, 0); err == nil {
			err = unix.Symlinkat(to, dir, name)
		}
	}
	if err != nil && err != unix.EEXIST {
		return fmt.Errorf("cannot make %q: %w", "/dev/"+name, err)
	}
	return nil
}

// inProc reports whether the host's /proc has an entry.
func (s *stage) inProc(name string) bool {
	var st unix.Stat_t
	return unix.Fstatat(s.proc, name, &st, unix.AT_SYMLINK_NOFOLLOW) == nil
}

// deviceMode is the file type of an OCI device type.
func deviceMode(d *specs.LinuxDevice) (uint32, error) {
	mode := uint32(0o666)
	if d.FileMode != nil {
		mode = uint32(d.FileMode.Perm())
	}
	switch d.Type {
	case "c", "u":
		return mode | unix.S_IFCHR, nil
	case "b":
		return mode | unix.S_IFBLK, nil
	case "p":
		return mode | unix.S_IFIFO, nil
	}
	return 0, fmt.Errorf("unknown type %q", d.Type)
}

// device makes one device node. Only the host's root may make nodes: where
// mknod(2) is refused, the host's node is bound.
func (s *stage) device(d *specs.LinuxDevice) error {
	mode, err := deviceMode(d)
	if err != nil {
		return fmt.Errorf("cannot make device %q: %w", d.Path, err)
	}
	dir, name := path.Split(path.Clean("/" + d.Path))
	if name == "" {
		return fmt.Errorf("cannot make device %q: not a path", d.Path)
	}
	err = unix.EPERM
	if s.mayMknod || mode&unix.S_IFMT == unix.S_IFIFO {
		err = s.makeNode(d, dir, name, mode)
	}
	if err == unix.EPERM {
		s.mayMknod = false
		err = s.bindDevice(d, mode)
	}
	if err != nil {
		return fmt.Errorf("cannot make device %q: %w", d.Path, err)
	}
	return nil
}

func (s *stage) makeNode(d *specs.LinuxDevice, dir, name string, mode uint32) error {
	parent, err := s.makeTarget(dir, true)
	if err != nil {
		return err
	}
	defer unix.Close(parent)
	dev := unix.Mkdev(uint32(d.Major), uint32(d.Minor))
	err = unix.Mknodat(parent, name, mode, int(dev))
	if err == unix.EEXIST {
		var st unix.Stat_t
		if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != mode&unix.S_IFMT || st.Rdev != dev {
			if err = unix.Unlinkat(parent, name, 0); err == nil {
				err = unix.Mknodat(parent, name, mode, int(dev))
			}
		} else {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	uid, gid := 0, 0
	if d.UID != nil {
		uid = int(*d.UID)
	}
	if d.GID != nil {
		gid = int(*d.GID)
	}
	return unix.Fchownat(parent, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

// bindDevice binds the host's node of the same path, if it is that device. A node
// of a default device is taken from a path that is known to have it.
func (s *stage) bindDevice(d *specs.LinuxDevice, mode uint32) error {
	tree, err := s.cloneTree(d.Path, false)
	if err != nil {
		if tree, err = s.findDevice(d, mode, err); err != nil {
			return err
		}
	}
	defer unix.Close(tree)
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != mode&unix.S_IFMT || st.Rdev != unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
		other, err := s.findDevice(d, mode, errors.New("the host's file of that name is another one, and only the host's root may make device nodes"))
		if err != nil {
			return err
		}
		unix.Close(tree)
		tree = other
	}
	fd, err := s.makeTarget(d.Path, false)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return attach(tree, fd)
}

// findDevice finds the host's node of a device by its number: where it appears
// in the container under another name.
func (s *stage) findDevice(d *specs.LinuxDevice, mode uint32, cause error) (int, error) {
	kind := "char"
	if mode&unix.S_IFMT == unix.S_IFBLK {
		kind = "block"
	}
	// The uevent of a device names its node; see sysfs(5).
	data, err := readFile(fmt.Sprintf("/sys/dev/%s/%d:%d/uevent", kind, d.Major, d.Minor))
	if err != nil {
		return -1, cause
	}
	for line := range strings.Lines(string(data)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
			tree, err := s.cloneTree("/dev/"+name, false)
			if err != nil {
				return -1, cause
			}
			var st unix.Stat_t
			if unix.Fstat(tree, &st) == nil && st.Rdev == unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
				return tree, nil
			}
			unix.Close(tree)
		}
	}
	return -1, cause
}
