package syntax

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
)

// mountOptions are the options of mount(8) that a bind mount or a volume may
// carry, and moss's own: U changes the owner, z and Z relabel for SELinux, O lays
// a temporary overlay over it, nocopy leaves a new volume empty. Of each line no
// more than one is meant; cached, delegated and consistent are what Docker Desktop
// wants to know about a virtual machine's file sharing: on Linux every mount is
// consistent.
var mountOptions = [...][]string{
	{"ro", "rw"},
	{"z", "Z", "O"},
	{"U"},
	{"copy", "nocopy"},
	{"bind", "rbind"},
	{"private", "rprivate", "shared", "rshared", "slave", "rslave", "unbindable", "runbindable"},
	{"exec", "noexec"},
	{"suid", "nosuid"},
	{"dev", "nodev"},
	{"no-dereference"},
	{"cached", "delegated", "consistent"},
}

// optionGroup is the line of mountOptions that an option stands in, or -1.
func optionGroup(o string) int {
	return slices.IndexFunc(mountOptions[:], func(group []string) bool { return slices.Contains(group, o) })
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
		return m, fmt.Errorf("too many colons: want [SOURCE:]TARGET[:OPTIONS]; --mount takes paths with colons")
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
	for o := range strings.SplitSeq(options, ",") {
		if o == "" {
			continue
		}
		if err := setOption(&m, o, dir); err != nil {
			return m, err
		}
	}
	return m, checkOptions(&m)
}

func knownOptions(s string) bool {
	for o := range strings.SplitSeq(s, ",") {
		if key, _, _ := strings.Cut(o, "="); optionGroup(o) < 0 && key != "idmap" && key != "upperdir" && key != "workdir" {
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
		m.Source = absolute(m.Source, dir)
		return sourceExists(m.Source)
	case strings.HasPrefix(m.Source, "~"):
		return fmt.Errorf("%q is not a path: the shell replaces ~ only at the beginning of a word; write $HOME", m.Source)
	case strings.Contains(m.Source, "/"):
		return fmt.Errorf("%q is neither a path (begin it with / or ./) nor the name of a volume", m.Source)
	}
	return Name(m.Source)
}

// absolute makes a path of the host absolute, from dir, and clean.
func absolute(path, dir string) string {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return filepath.Clean(path)
}

// sourceExists wants what is to be mounted to be there: what docker would make,
// as a directory of root's, is more often a mistake in writing.
func sourceExists(path string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return fmt.Errorf("statfs %s: %w", path, err)
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

// setOption adds one option of a bind mount or a volume.
func setOption(m *container.Mount, o, dir string) error {
	key, value, hasValue := strings.Cut(o, "=")
	switch key {
	case "idmap":
		if hasOptionKey(m, key) {
			return fmt.Errorf("option idmap is there twice")
		}
		if _, _, err := container.ParseIDMapOption(o); err != nil {
			return err
		}
		m.Options = append(m.Options, o)
		return nil
	case "upperdir", "workdir":
		switch {
		case value == "":
			return fmt.Errorf("option %s needs a directory", key)
		case hasOptionKey(m, key):
			return fmt.Errorf("option %s is there twice", key)
		}
		path := absolute(value, dir)
		m.Options = append(m.Options, key+"="+path)
		return sourceExists(path)
	}
	group := optionGroup(o)
	switch {
	case group < 0 && hasValue && optionGroup(key) >= 0:
		return fmt.Errorf("option %q takes no value", key)
	case group < 0:
		return fmt.Errorf("unknown option %q", o)
	}
	if m.ReadOnly && group == 0 {
		return fmt.Errorf("options ro and %s: no more than one can be meant", o)
	}
	for _, other := range m.Options {
		if optionGroup(other) == group {
			return fmt.Errorf("options %s and %s: no more than one can be meant", other, o)
		}
	}
	if m.ReadOnly = m.ReadOnly || o == "ro"; o != "ro" {
		m.Options = append(m.Options, o)
	}
	return nil
}

// hasOptionKey looks for KEY=….
func hasOptionKey(m *container.Mount, key string) bool {
	return slices.ContainsFunc(m.Options, func(o string) bool { return o == key || strings.HasPrefix(o, key+"=") })
}

// checkOptions refuses options that contradict each other, and forgets what is
// the default.
func checkOptions(m *container.Mount) error {
	upper, work := hasOptionKey(m, "upperdir"), hasOptionKey(m, "workdir")
	if !slices.Contains(m.Options, "O") {
		if upper || work {
			return fmt.Errorf("upperdir and workdir are for option O")
		}
		if m.Options = slices.DeleteFunc(m.Options, func(o string) bool { return o == "rw" }); len(m.Options) == 0 {
			m.Options = nil
		}
		return nil
	}
	if upper != work {
		return fmt.Errorf("upperdir and workdir go together")
	}
	for _, o := range m.Options {
		if key, _, _ := strings.Cut(o, "="); !slices.Contains([]string{"O", "U", "upperdir", "workdir"}, key) {
			return fmt.Errorf("option O cannot be combined with %s", o)
		}
	}
	if m.ReadOnly {
		return fmt.Errorf("option O cannot be combined with ro")
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
	for o := range strings.SplitSeq(options, ",") {
		if err := setTmpfsOption(&m, o); err != nil {
			return m, err
		}
	}
	return m, nil
}
