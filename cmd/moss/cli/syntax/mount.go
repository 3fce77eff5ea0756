package syntax

import (
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"moss/rootless/container"
)

// Options of mount(8) that a bind mount or a volume may carry, and moss's own:
// U changes the owner, z and Z relabel for SELinux, nocopy leaves a new volume
// empty. cached, delegated and consistent are what Docker Desktop wants to know
// about a virtual machine's file sharing; on Linux every mount is consistent.
var mountOptions = []string{
	"U", "z", "Z", "copy", "nocopy", "cached", "delegated", "consistent", "bind", "rbind",
	"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable",
	"exec", "noexec", "suid", "nosuid", "dev", "nodev",
}

// Volume reads [SOURCE:]TARGET[:OPTIONS] of --volume. A SOURCE with a slash or a
// dot in front is a path, made absolute from dir; any other is a named volume.
func Volume(s, dir string) (container.Mount, error) {
	parts := strings.Split(s, ":")
	m := container.Mount{Type: "volume"}
	options := ""
	switch len(parts) {
	case 1:
		m.Target = parts[0]
	case 2:
		m.Source, m.Target = parts[0], parts[1]
		if !strings.HasPrefix(m.Target, "/") && strings.HasPrefix(m.Source, "/") && knownOptions(m.Target) {
			m.Source, m.Target, options = "", parts[0], parts[1]
		}
	case 3:
		m.Source, m.Target, options = parts[0], parts[1], parts[2]
	default:
		return m, fmt.Errorf("too many colons: want [SOURCE:]TARGET[:OPTIONS]")
	}
	if len(parts) > 1 && parts[0] == "" {
		return m, fmt.Errorf("the source before the colon is empty")
	}
	if err := setSource(&m, dir); err != nil {
		return m, err
	}
	if err := setTarget(&m, m.Target); err != nil {
		return m, err
	}
	for _, o := range strings.Split(options, ",") {
		if err := setOption(&m, o); err != nil {
			return m, err
		}
	}
	return m, nil
}

func knownOptions(s string) bool {
	for _, o := range strings.Split(s, ",") {
		if o != "ro" && o != "rw" && !slices.Contains(mountOptions, o) {
			return false
		}
	}
	return true
}

func setSource(m *container.Mount, dir string) error {
	switch {
	case m.Source == "":
		m.Anonymous = true
		return nil
	case strings.HasPrefix(m.Source, "/"), strings.HasPrefix(m.Source, "."):
		m.Type = "bind"
		if !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(dir, m.Source)
		}
		m.Source = filepath.Clean(m.Source)
		return sourceExists(m.Source)
	case strings.HasPrefix(m.Source, "~"):
		return fmt.Errorf("%q is not a path: the shell replaces ~ only at the beginning of a word; write $HOME", m.Source)
	case strings.Contains(m.Source, "/"):
		return fmt.Errorf("%q is neither a path (begin it with / or ./) nor the name of a volume", m.Source)
	}
	return Name(m.Source)
}

func sourceExists(path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("source %q: %w", path, cause(err))
	}
	return nil
}

func setTarget(m *container.Mount, target string) error {
	if target == "" {
		return fmt.Errorf("the path in the container is missing")
	}
	if !strings.HasPrefix(target, "/") {
		return fmt.Errorf("path in the container %q is not absolute", target)
	}
	m.Target = filepath.Clean(target)
	if m.Target == "/" {
		return fmt.Errorf("cannot mount over / of the container")
	}
	return nil
}

func setOption(m *container.Mount, o string) error {
	switch {
	case o == "" || o == "rw":
		m.ReadOnly = m.ReadOnly && o == ""
	case o == "ro":
		m.ReadOnly = true
	case o == "O":
		return fmt.Errorf("option O (a temporary overlay) is not supported")
	case o == "idmap" || strings.HasPrefix(o, "idmap="):
		return fmt.Errorf("option idmap is not supported: the kernel refuses it to users without root")
	case slices.Contains(mountOptions, o):
		m.Options = append(m.Options, o)
	default:
		return fmt.Errorf("unknown option %q", o)
	}
	return nil
}

// Tmpfs reads TARGET[:OPTIONS] of --tmpfs.
func Tmpfs(s string) (container.Mount, error) {
	target, options, _ := strings.Cut(s, ":")
	m := container.Mount{Type: "tmpfs"}
	if err := setTarget(&m, target); err != nil {
		return m, err
	}
	for _, o := range strings.Split(options, ",") {
		if err := setTmpfsOption(&m, o); err != nil {
			return m, err
		}
	}
	return m, nil
}

func setTmpfsOption(m *container.Mount, o string) error {
	key, value, hasValue := strings.Cut(o, "=")
	switch key {
	case "", "rw":
		m.ReadOnly = m.ReadOnly && key == ""
		return nil
	case "ro":
		m.ReadOnly = true
		return nil
	case "size", "nr_blocks", "nr_inodes":
		if !strings.HasSuffix(value, "%") {
			if _, err := Size(value); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	case "mode":
		if _, err := strconv.ParseUint(value, 8, 12); err != nil {
			return fmt.Errorf("mode %q is not an octal number up to 7777", value)
		}
	case "uid", "gid":
		if _, err := strconv.ParseUint(value, 10, 32); err != nil {
			return fmt.Errorf("%s %q is not a number", key, value)
		}
	case "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "tmpcopyup", "notmpcopyup",
		"private", "rprivate", "shared", "rshared", "slave", "rslave", "noswap":
		if hasValue {
			return fmt.Errorf("option %q takes no value", key)
		}
	default:
		return fmt.Errorf("unknown option %q", o)
	}
	m.Options = append(m.Options, o)
	return nil
}

// Mount reads the comma-separated KEY=VALUE list of --mount.
func Mount(s, dir string) (container.Mount, error) {
	r := csv.NewReader(strings.NewReader(s))
	fields, err := r.Read()
	if err != nil {
		return container.Mount{}, fmt.Errorf("not a comma-separated list: %w", err)
	}
	m := container.Mount{Type: "volume"}
	for _, field := range fields {
		if key, value, _ := strings.Cut(field, "="); key == "type" {
			m.Type = value
		}
	}
	switch m.Type {
	case "bind", "volume", "tmpfs":
	case "devpts", "glob", "image", "artifact", "ramfs", "npipe", "cluster":
		return m, fmt.Errorf("type %q is not supported: want bind, volume or tmpfs", m.Type)
	default:
		return m, fmt.Errorf("unknown type %q: want bind, volume or tmpfs", m.Type)
	}
	for _, field := range fields {
		key, value, hasValue := strings.Cut(field, "=")
		if err := setMountField(&m, key, value, hasValue); err != nil {
			return m, err
		}
	}
	return m, finishMount(&m, dir)
}

func finishMount(m *container.Mount, dir string) error {
	if err := setTarget(m, m.Target); err != nil {
		return err
	}
	switch m.Type {
	case "bind":
		if m.Source == "" {
			return fmt.Errorf("a bind mount needs source=PATH")
		}
		if !filepath.IsAbs(m.Source) {
			m.Source = filepath.Join(dir, m.Source)
		}
		return sourceExists(m.Source)
	case "volume":
		if m.Source == "" {
			m.Anonymous = true
			return nil
		}
		return Name(m.Source)
	}
	if m.Source != "" {
		return fmt.Errorf("a tmpfs has no source")
	}
	return nil
}

func setMountField(m *container.Mount, key, value string, hasValue bool) error {
	switch key {
	case "type", "consistency": // consistency: see mountOptions
		return nil
	case "src", "source":
		m.Source = value
		return nil
	case "dst", "dest", "destination", "target":
		m.Target = value
		return nil
	case "ro", "readonly", "rw":
		on, err := boolean(key, value, hasValue)
		m.ReadOnly = on == (key != "rw")
		return err
	}
	switch m.Type {
	case "tmpfs":
		return setTmpfsField(m, key, value, hasValue)
	case "bind":
		return setBindField(m, key, value, hasValue)
	}
	return setVolumeField(m, key, value, hasValue)
}

func setTmpfsField(m *container.Mount, key, value string, hasValue bool) error {
	switch key {
	case "tmpfs-size", "tmpfs-mode":
		return setTmpfsOption(m, strings.TrimPrefix(key, "tmpfs-")+"="+value)
	case "U", "chown":
		return addFlagOption(m, "U", key, value, hasValue)
	}
	o := key
	if hasValue {
		o += "=" + value
	}
	return setTmpfsOption(m, o)
}

func setBindField(m *container.Mount, key, value string, hasValue bool) error {
	switch key {
	case "bind-propagation":
		if !slices.Contains([]string{"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"}, value) {
			return fmt.Errorf("unknown propagation %q: want [r]private, [r]shared, [r]slave or [r]unbindable", value)
		}
		m.Options = append(m.Options, value)
		return nil
	case "bind-nonrecursive":
		return addFlagOption(m, "bind", key, value, hasValue)
	case "relabel":
		option, ok := map[string]string{"shared": "z", "private": "Z"}[value]
		if !ok {
			return fmt.Errorf("unknown value %q of relabel: want shared or private", value)
		}
		m.Options = append(m.Options, option)
		return nil
	}
	return setCommonField(m, key, value, hasValue)
}

func setVolumeField(m *container.Mount, key, value string, hasValue bool) error {
	switch key {
	case "volume-nocopy":
		return addFlagOption(m, "nocopy", key, value, hasValue)
	case "subpath", "volume-subpath", "volume-opt", "volume-driver", "volume-label":
		return fmt.Errorf("option %q is not supported", key)
	}
	return setCommonField(m, key, value, hasValue)
}

func setCommonField(m *container.Mount, key, value string, hasValue bool) error {
	if key == "U" || key == "chown" {
		return addFlagOption(m, "U", key, value, hasValue)
	}
	if hasValue && slices.Contains(mountOptions, key) {
		return fmt.Errorf("option %q takes no value", key)
	}
	o := key
	if hasValue {
		o += "=" + value
	}
	return setOption(m, o)
}

func addFlagOption(m *container.Mount, option, key, value string, hasValue bool) error {
	on, err := boolean(key, value, hasValue)
	if on {
		m.Options = append(m.Options, option)
	}
	return err
}

func boolean(key, value string, hasValue bool) (bool, error) {
	if !hasValue {
		return true, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, fmt.Errorf("value %q of %s is neither true nor false", value, key)
	}
	return on, nil
}

// Name checks the name of a container, a volume or a network.
func Name(s string) error {
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return fmt.Errorf("name %q does not match [a-zA-Z0-9][a-zA-Z0-9_.-]*", s)
		}
	}
	if s == "" {
		return fmt.Errorf("a name cannot be empty")
	}
	return nil
}
