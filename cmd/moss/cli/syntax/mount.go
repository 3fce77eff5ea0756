package syntax

import (
	"encoding/csv"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"moss/rootless/container"
)

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
		if m.Type == "ramfs" {
			return fmt.Errorf("%s: a ramfs has no limit; a tmpfs has one", key)
		}
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
		if m.Type == "ramfs" {
			return fmt.Errorf("%s: a ramfs belongs to the container's root; U gives it to the user", key)
		}
		if _, err := strconv.ParseUint(value, 10, 32); err != nil {
			return fmt.Errorf("%s %q is not a number", key, value)
		}
	case "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "tmpcopyup", "notmpcopyup",
		"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable", "noswap", "U":
		if hasValue {
			return fmt.Errorf("option %q takes no value", key)
		}
		if key == "noswap" && m.Type == "ramfs" {
			return nil // it never swaps
		}
	default:
		return fmt.Errorf("unknown option %q", o)
	}
	m.Options = append(m.Options, o)
	return nil
}

// mountTypes are the types of --mount.
var mountTypes = [...]string{"artifact", "bind", "devpts", "glob", "image", "ramfs", "tmpfs", "volume"}

// Mount reads the comma-separated KEY=VALUE list of --mount. It is more than one
// mount when the type is glob.
func Mount(s, dir string) ([]container.Mount, error) {
	r := csv.NewReader(strings.NewReader(s))
	fields, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("not a comma-separated list: %w", err)
	}
	m := container.Mount{Type: "volume"}
	for _, field := range fields {
		if key, value, _ := strings.Cut(field, "="); key == "type" {
			m.Type = value
		}
	}
	m.ReadOnly = m.Type == "image" || m.Type == "artifact" // unless it is told rw
	switch {
	case slices.Contains(mountTypes[:], m.Type):
	case m.Type == "npipe", m.Type == "cluster":
		return nil, fmt.Errorf("type %q is not supported: want %s", m.Type, strings.Join(mountTypes[:], ", "))
	default:
		return nil, fmt.Errorf("unknown type %q: want %s", m.Type, strings.Join(mountTypes[:], ", "))
	}
	for _, field := range fields {
		key, value, hasValue := strings.Cut(field, "=")
		if err := setMountField(&m, dir, key, value, hasValue); err != nil {
			return nil, err
		}
	}
	if m.Type == "glob" {
		return globMounts(m, dir)
	}
	return []container.Mount{m}, finishMount(&m, dir)
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
		m.Source = absolute(m.Source, dir)
		if !slices.Contains(m.Options, "no-dereference") {
			if err := sourceExists(m.Source); err != nil {
				return err
			}
		}
		return checkOptions(m)
	case "volume":
		if m.Source == "" {
			m.Anonymous = true
		} else if err := Name(m.Source); err != nil {
			return err
		}
		return checkOptions(m)
	case "artifact":
		if m.Source == "" {
			return fmt.Errorf("an artifact mount needs source=ARTIFACT")
		}
		if !m.ReadOnly {
			return fmt.Errorf("an artifact cannot be written to")
		}
		return nil
	case "image":
		if m.Source == "" {
			return fmt.Errorf("an image mount needs source=IMAGE")
		}
		return nil
	}
	if m.Source != "" {
		return fmt.Errorf("a %s has no source", m.Type)
	}
	return nil
}

func setMountField(m *container.Mount, dir, key, value string, hasValue bool) error {
	switch key {
	case "type", "consistency": // consistency: see mountOptions
		return nil
	case "src", "source":
		m.Source = value
		return nil
	case "dst", "dest", "destination", "target":
		m.Target = value
		return nil
	case "ro", "readonly", "rw", "readwrite":
		if m.Type == "devpts" {
			return fmt.Errorf("a devpts cannot be read-only")
		}
		on, err := boolean(key, value, hasValue)
		m.ReadOnly = on == (key == "ro" || key == "readonly")
		return err
	}
	switch m.Type {
	case "tmpfs", "ramfs":
		return setTmpfsField(m, key, value, hasValue)
	case "bind", "glob":
		return setBindField(m, dir, key, value, hasValue)
	case "artifact":
		return setArtifactField(m, key, value)
	case "image":
		return setImageField(m, key, value, hasValue)
	case "devpts":
		return setDevptsField(m, key, value)
	}
	return setVolumeField(m, dir, key, value, hasValue)
}

func setTmpfsField(m *container.Mount, key, value string, hasValue bool) error {
	switch key {
	case "tmpfs-size", "tmpfs-mode":
		return setTmpfsOption(m, strings.TrimPrefix(key, "tmpfs-")+"="+value)
	case "U", "chown":
		return addFlagOption(m, "U", key, value, hasValue)
	case "tmpcopyup", "notmpcopyup":
		on, err := boolean(key, value, hasValue)
		if err != nil || on {
			return firstError(err, setTmpfsOption(m, key))
		}
		return setTmpfsOption(m, map[string]string{"tmpcopyup": "notmpcopyup", "notmpcopyup": "tmpcopyup"}[key])
	}
	return setTmpfsOption(m, join(key, value, hasValue))
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// join undoes strings.Cut.
func join(key, value string, hasValue bool) string {
	if hasValue {
		return key + "=" + value
	}
	return key
}

func setBindField(m *container.Mount, dir, key, value string, hasValue bool) error {
	switch key {
	case "bind-propagation":
		if !slices.Contains(mountOptions[5], value) {
			return fmt.Errorf("unknown propagation %q: want [r]private, [r]shared, [r]slave or [r]unbindable", value)
		}
		return setOption(m, value, dir)
	case "bind-nonrecursive":
		return addFlagOption(m, "bind", key, value, hasValue)
	case "no-dereference":
		return addFlagOption(m, key, key, value, hasValue)
	}
	return setCommonField(m, dir, key, value, hasValue)
}

func setVolumeField(m *container.Mount, dir, key, value string, hasValue bool) error {
	pair := func(to *map[string]string) error {
		k, v, err := KeyValue(value, true)
		if err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
		if *to == nil {
			*to = map[string]string{}
		}
		(*to)[k] = v
		return nil
	}
	switch key {
	case "volume-nocopy":
		return addFlagOption(m, "nocopy", key, value, hasValue)
	case "subpath", "volume-subpath":
		return setSubPath(m, value)
	case "volume-label":
		return pair(&m.Labels)
	case "volume-opt":
		return pair(&m.DriverOptions)
	case "volume-driver":
		if value != "local" {
			return fmt.Errorf("unknown driver %q of a volume: want local", value)
		}
		return nil
	}
	return setCommonField(m, dir, key, value, hasValue)
}

func setImageField(m *container.Mount, key, value string, hasValue bool) error {
	switch key {
	case "subpath":
		return setSubPath(m, value)
	case "idmap":
		return setIDMapField(m, value, hasValue)
	}
	return fmt.Errorf("unknown option %q of an image mount: want rw, subpath or idmap", key)
}

// setArtifactField says which file of an artifact is mounted, or what it is called.
func setArtifactField(m *container.Mount, key, value string) error {
	switch key {
	case "title", "digest":
	case "name":
		if value == "." || value == ".." || strings.Contains(value, "/") {
			return fmt.Errorf("name %q is not that of a file", value)
		}
	default:
		return fmt.Errorf("unknown option %q of an artifact mount: want title, digest or name", key)
	}
	if value == "" {
		return fmt.Errorf("%s needs a value", key)
	}
	if m.DriverOptions == nil {
		m.DriverOptions = map[string]string{}
	}
	m.DriverOptions[key] = value
	if m.DriverOptions["title"] != "" && m.DriverOptions["digest"] != "" {
		return fmt.Errorf("title and digest each name a file: give one")
	}
	return nil
}

func setDevptsField(m *container.Mount, key, value string) error {
	bits, base := 32, 10
	switch key {
	case "uid", "gid", "max":
	case "mode":
		bits, base = 12, 8
	default:
		return fmt.Errorf("unknown option %q of a devpts: want uid, gid, mode or max", key)
	}
	if _, err := strconv.ParseUint(value, base, bits); err != nil {
		return fmt.Errorf("value %q of %s is not a number", value, key)
	}
	m.Options = append(m.Options, key+"="+value)
	return nil
}

// setSubPath takes what is below the top of a volume or an image. Where it leads
// is found out when it is mounted, and never out of there.
func setSubPath(m *container.Mount, value string) error {
	m.SubPath = strings.TrimPrefix(filepath.Clean("/"+value), "/")
	if value == "" {
		return fmt.Errorf("subpath needs a path")
	}
	if slices.Contains(strings.Split(value, "/"), "..") {
		return fmt.Errorf("subpath %q leads upwards", value)
	}
	return nil
}

func setIDMapField(m *container.Mount, value string, hasValue bool) error {
	if hasValue && !strings.Contains(value, "=") {
		return addFlagOption(m, "idmap", "idmap", value, hasValue)
	}
	return setOption(m, join("idmap", value, hasValue), "")
}

func setCommonField(m *container.Mount, dir, key, value string, hasValue bool) error {
	switch key {
	case "U", "chown":
		return addFlagOption(m, "U", key, value, hasValue)
	case "idmap":
		return setIDMapField(m, value, hasValue)
	case "relabel":
		option, ok := map[string]string{"shared": "z", "private": "Z"}[value]
		if !ok {
			return fmt.Errorf("unknown value %q of relabel: want shared or private", value)
		}
		return setOption(m, option, dir)
	}
	return setOption(m, join(key, value, hasValue), dir)
}

func addFlagOption(m *container.Mount, option, key, value string, hasValue bool) error {
	on, err := boolean(key, value, hasValue)
	if err != nil || !on || slices.Contains(m.Options, option) {
		return err
	}
	m.Options = append(m.Options, option)
	return nil
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

// globMounts makes a bind mount of each file that the pattern finds: below the
// target by its base name, or in the place that it has on the host. What is found
// is named by whoever may write there, so that a symbolic link which leads out of
// the pattern's directory is refused.
func globMounts(m container.Mount, dir string) ([]container.Mount, error) {
	if m.Source == "" {
		return nil, fmt.Errorf("a glob mount needs source=PATTERN")
	}
	pattern := absolute(m.Source, dir)
	found, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", m.Source, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no file matches the pattern %q", pattern)
	}
	m.Type = "bind"
	if err := checkOptions(&m); err != nil {
		return nil, err
	}
	base, err := filepath.EvalSymlinks(fixedPart(pattern))
	if err != nil {
		return nil, err
	}
	var out []container.Mount
	targets := map[string]string{}
	for _, path := range found {
		one := m
		one.Options, one.Beneath = slices.Clone(m.Options), base
		target := path
		if m.Target != "" {
			target = filepath.Join("/", m.Target, filepath.Base(path))
			if !strings.HasPrefix(m.Target, "/") {
				return nil, fmt.Errorf("path in the container %q is not absolute", m.Target)
			}
		}
		if err := setTarget(&one, target); err != nil {
			return nil, err
		}
		if other, twice := targets[one.Target]; twice {
			return nil, fmt.Errorf("%q and %q would both be mounted on %q", other, path, one.Target)
		}
		targets[one.Target] = path
		if one.Source, err = beneath(base, path, slices.Contains(m.Options, "no-dereference")); err != nil {
			return nil, err
		}
		out = append(out, one)
	}
	return out, nil
}

// fixedPart is the directory of a pattern before its first wildcard.
func fixedPart(pattern string) string {
	if i := strings.IndexAny(pattern, `*?[\`); i >= 0 {
		pattern = pattern[:i]
	}
	return filepath.Dir(pattern)
}

// beneath is the real path of what was found; it must lie in base.
func beneath(base, path string, keepLink bool) (string, error) {
	head, last := path, ""
	if keepLink {
		head, last = filepath.Dir(path), filepath.Base(path)
	}
	real, err := filepath.EvalSymlinks(head)
	if err != nil {
		return "", err
	}
	real = filepath.Join(real, last)
	if base != "/" && !strings.HasPrefix(real, base+"/") {
		return "", fmt.Errorf("%q is a symbolic link that leads out of %q, to %q; mount that by its own name", path, base, real)
	}
	return real, nil
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
