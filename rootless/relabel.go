package rootless

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/runtime"
)

// relabel gives what is mounted with z or Z the SELinux label by which containers
// may use it: with Z that of the container's own level. Where SELinux is not on
// there is nothing to do.
func relabel(spec *container.Spec, m *container.Mount, source string) error {
	shared, own := slices.Contains(m.Options, "z"), slices.Contains(m.Options, "Z")
	if !shared && !own || unix.Access("/sys/fs/selinux/enforce", unix.F_OK) != nil {
		return nil
	}
	if err := mayRelabel(source); err != nil {
		return err
	}
	level := "s0"
	for _, option := range spec.Security.Label {
		if value, ok := strings.CutPrefix(option, "level:"); ok && own {
			level = value
		}
		if option == "disable" {
			return nil
		}
	}
	return relabelTree(source, "system_u:object_r:container_file_t:"+level)
}

// mayRelabel refuses what the host's own programs could not use afterwards.
func mayRelabel(path string) error {
	host := slices.Contains([]string{"/", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/var"}, path)
	for _, dir := range []string{"/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/sbin", "/sys", "/usr"} {
		host = host || path == dir || strings.HasPrefix(path, dir+"/")
	}
	if host {
		return fmt.Errorf("options z and Z: %q belongs to the host and is not relabelled; --security-opt label=disable does without: %w", path, errdefs.ErrInvalidArgument)
	}
	return nil
}

// relabelTree sets the label of everything in the mount, following no link.
func relabelTree(path, label string) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot relabel %q: %w", path, err)
	}
	defer unix.Close(fd)
	set := func(name string) error {
		err := unix.Lsetxattr(name, "security.selinux", []byte(label), 0)
		if err == unix.EOPNOTSUPP { // a file system without labels
			return nil
		}
		return err
	}
	own := fmt.Sprintf("/proc/self/fd/%d", fd)
	if err = unix.Setxattr(own, "security.selinux", []byte(label), 0); err == unix.EOPNOTSUPP {
		return nil
	}
	if err == nil {
		err = runtime.EachBelow(fd, func(dir int, name string) error {
			return set(fmt.Sprintf("/proc/self/fd/%d/%s", dir, name))
		})
	}
	if err != nil {
		return fmt.Errorf("cannot relabel %q: %w", path, err)
	}
	return nil
}
