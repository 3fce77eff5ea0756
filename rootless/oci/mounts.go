package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/container"
)

// mounts lists the default mounts, the files, and the user's own, which may
// replace any of the defaults; sorted so that a parent comes before its children.
func mounts(c *container.Spec, in Input) ([]specs.Mount, error) {
	out := defaultMounts(c, in)
	for target, source := range in.Files {
		out = replace(out, specs.Mount{Destination: target, Type: "bind", Source: source, Options: []string{"bind", "rprivate"}})
	}
	if c.Rootfs.ReadOnly && !c.Rootfs.NoReadOnlyTmpfs {
		for _, dir := range []string{"/tmp", "/var/tmp", "/run"} {
			out = replace(out, specs.Mount{Destination: dir, Type: "tmpfs", Source: "tmpfs", Options: []string{"rw", "rprivate", "nosuid", "nodev", "tmpcopyup"}})
		}
	}
	if c.Process.Systemd {
		for _, m := range systemdMounts(c) {
			out = replace(out, m)
		}
	}
	if c.Rootfs.ReadOnly && c.Rootfs.NoReadOnlyTmpfs {
		for i := range out {
			if out[i].Type == "tmpfs" && (out[i].Destination == "/dev" || out[i].Destination == "/dev/shm") {
				out[i].Options = append(out[i].Options, "ro")
			}
		}
	}
	nodes, err := devices(c)
	if err != nil {
		return nil, err
	}
	for _, m := range append(nodes, in.Mounts...) {
		out = replace(out, m)
	}
	sort.SliceStable(out, func(i, j int) bool {
		return depth(out[i].Destination) < depth(out[j].Destination)
	})
	return out, nil
}

func depth(path string) int {
	if path == "/" {
		return 0
	}
	return strings.Count(filepath.Clean(path), "/")
}

func replace(list []specs.Mount, m specs.Mount) []specs.Mount {
	list = slices.DeleteFunc(list, func(o specs.Mount) bool { return filepath.Clean(o.Destination) == filepath.Clean(m.Destination) })
	return append(list, m)
}

func defaultMounts(c *container.Spec, in Input) []specs.Mount {
	out := []specs.Mount{proc(c, in), {Destination: "/dev", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "noexec", "strictatime", "mode=755", "size=65536k"}}}
	pts := []string{"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"}
	if in.GIDs > 5 {
		pts = append(pts, "gid=5") // tty, where it can be mapped
	}
	out = append(out, specs.Mount{Destination: "/dev/pts", Type: "devpts", Source: "devpts", Options: pts})

	sys := specs.Mount{Destination: "/sys", Type: "sysfs", Source: "sysfs", Options: []string{"nosuid", "noexec", "nodev"}}
	if !in.NewNetwork {
		// The kernel mounts sysfs only for a network namespace of one's own.
		sys = specs.Mount{Destination: "/sys", Type: "bind", Source: "/sys", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
	}
	if !c.Security.Privileged {
		sys.Options = append(sys.Options, "ro")
	}
	out = append(out, sys)

	cgroup := specs.Mount{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup", Options: []string{"rprivate", "nosuid", "noexec", "nodev", "relatime"}}
	// systemd, as process 1, makes cgroups of its own.
	if !c.Security.Privileged && !(c.Process.Systemd && c.Namespaces.Cgroup != "host") {
		cgroup.Options = append(cgroup.Options, "ro")
	}
	out = append(out, cgroup)
	return append(out, ipc(c, in)...)
}

// proc is bound from the host when the container shares the host's PIDs: the
// kernel mounts proc only for a PID namespace that one's user namespace owns.
func proc(c *container.Spec, in Input) specs.Mount {
	if c.Namespaces.PID == "host" && in.Join[specs.PIDNamespace] == "" {
		return specs.Mount{Destination: "/proc", Type: "bind", Source: "/proc", Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}}
	}
	return specs.Mount{Destination: "/proc", Type: "proc", Source: "proc", Options: append([]string{"nosuid", "noexec", "nodev"}, c.Security.ProcOpts...)}
}

func ipc(c *container.Spec, in Input) []specs.Mount {
	if c.Namespaces.IPC == "host" {
		var out []specs.Mount
		for _, dir := range []string{"/dev/shm", "/dev/mqueue"} {
			if _, err := os.Stat(dir); err == nil {
				out = append(out, specs.Mount{Destination: dir, Type: "bind", Source: dir, Options: []string{"rbind", "rprivate", "nosuid", "noexec", "nodev"}})
			}
		}
		return out
	}
	size := c.Rootfs.ShmSize
	switch {
	case size == 0:
		size = 64 << 20
	case size < 0:
		size = 0 // no limit; tmpfs(5)
	}
	if other, ok := strings.CutSuffix(in.Join[specs.IPCNamespace], "/ns/ipc"); ok && strings.HasPrefix(c.Namespaces.IPC, "container:") {
		// POSIX shared memory, semaphores and queues are files there; see shm_overview(7).
		var out []specs.Mount
		for _, dir := range []string{"/dev/shm", "/dev/mqueue"} {
			out = append(out, specs.Mount{Destination: dir, Type: "bind", Source: other + "/root" + dir, Options: []string{"bind", "rprivate", "nosuid", "noexec", "nodev"}})
		}
		return out
	}
	out := []specs.Mount{{Destination: "/dev/mqueue", Type: "mqueue", Source: "mqueue", Options: []string{"nosuid", "noexec", "nodev"}}}
	if c.Namespaces.IPC == "none" {
		return out
	}
	return append(out, specs.Mount{Destination: "/dev/shm", Type: "tmpfs", Source: "shm", Options: []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprintf("size=%d", size)}})
}

// systemdMounts are the file systems in memory that systemd wants to find; see
// systemd.io/CONTAINER_INTERFACE.
func systemdMounts(c *container.Spec) []specs.Mount {
	options := []string{"rw", "rprivate", "nosuid", "nodev", "tmpcopyup"}
	switch size := c.Rootfs.SystemdSize; {
	case size == nil:
		options = append(options, "size=64m")
	case *size > 0: // else half of the memory, as the kernel has it; tmpfs(5)
		options = append(options, fmt.Sprintf("size=%d", *size))
	}
	var out []specs.Mount
	for _, dir := range []string{"/run", "/run/lock", "/tmp", "/var/log/journal"} {
		out = append(out, specs.Mount{Destination: dir, Type: "tmpfs", Source: "tmpfs", Options: options})
	}
	return out
}
