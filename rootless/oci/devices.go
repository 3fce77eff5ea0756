package oci

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/container"
)

// devices are bind mounts: a user namespace cannot make nodes, and a bind mount
// may carry another name inside, for which a LinuxDevice has no word.
func devices(c *container.Spec) ([]specs.Mount, error) {
	var out []specs.Mount
	if c.Security.Privileged {
		out = hostDevices()
	}
	for _, d := range c.Security.Devices {
		host, inside, err := splitDevice(d)
		if err != nil {
			return nil, err
		}
		nodes, err := DeviceMounts(host, inside)
		if err != nil {
			return nil, err
		}
		out = append(out, nodes...)
	}
	return out, nil
}

// splitDevice parses HOST[:CONTAINER[:rwm]].
func splitDevice(d string) (host, inside string, err error) {
	parts := strings.Split(d, ":")
	host, inside = parts[0], parts[0]
	if len(parts) > 1 && strings.HasPrefix(parts[1], "/") {
		inside = parts[1]
		parts = parts[1:]
	}
	if len(parts) > 2 || !strings.HasPrefix(host, "/") {
		return "", "", fmt.Errorf("invalid value %q for flag --device: want HOST[:CONTAINER[:rwm]]", d)
	}
	// The device controller belongs to root: access cannot be narrowed here.
	if len(parts) == 2 && (!strings.Contains(parts[1], "r") || !strings.Contains(parts[1], "w")) {
		return "", "", fmt.Errorf("invalid value %q for flag --device: access %q cannot be enforced without root; the device's own permissions apply (use rwm)", d, parts[1])
	}
	return host, inside, nil
}

// DeviceMounts are the bind mounts that show a device of the host, or those of a
// directory, at a path inside.
func DeviceMounts(host, inside string) ([]specs.Mount, error) {
	info, err := os.Stat(host)
	if err != nil {
		return nil, fmt.Errorf("cannot add device %q: %w", host, err)
	}
	if !info.IsDir() {
		if info.Mode()&os.ModeDevice == 0 {
			return nil, fmt.Errorf("cannot add device %q: it is not a device", host)
		}
		return []specs.Mount{deviceMount(host, inside)}, nil
	}
	var out []specs.Mount
	err = filepath.WalkDir(host, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type()&fs.ModeDevice != 0 {
			out = append(out, deviceMount(path, filepath.Join(inside, strings.TrimPrefix(path, host))))
		}
		return nil // a directory of devices holds other things too
	})
	return out, err
}

func deviceMount(host, inside string) specs.Mount {
	return specs.Mount{Destination: inside, Type: "bind", Source: host, Options: []string{"bind", "rprivate", "nosuid", "noexec"}}
}

// hostDevices are what --privileged adds: every node of the host that is
// not one that each container has of its own, nor a terminal.
func hostDevices() []specs.Mount {
	own := map[string]bool{"null": true, "zero": true, "full": true, "random": true, "urandom": true, "tty": true, "console": true, "ptmx": true}
	entries, err := os.ReadDir("/dev")
	if err != nil {
		return nil
	}
	var out []specs.Mount
	for _, e := range entries {
		name := e.Name()
		path := "/dev/" + name
		switch {
		case own[name] || name == "pts" || name == "shm" || name == "mqueue" || strings.HasPrefix(name, "tty") || strings.HasPrefix(name, "vcs"):
		case e.IsDir():
			nodes, _ := DeviceMounts(path, path)
			out = append(out, nodes...)
		case e.Type()&fs.ModeDevice != 0:
			out = append(out, deviceMount(path, path))
		}
	}
	return out
}
