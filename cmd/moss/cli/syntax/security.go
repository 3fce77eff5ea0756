package syntax

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"moss/rootless/container"
)

// SecurityOption reads one --security-opt into sec. Keys and values are parted
// by = or, as Docker once had it, by a colon.
func SecurityOption(s string, sec *container.Security, dir string) error {
	sep := "="
	if !strings.Contains(s, "=") {
		sep = ":"
	}
	key, value, hasValue := strings.Cut(s, sep)
	if !hasValue && key != "no-new-privileges" {
		return fmt.Errorf("want KEY=VALUE")
	}
	if hasValue && value == "" {
		return fmt.Errorf("%s needs a value", key)
	}
	switch key {
	case "no-new-privileges":
		on, err := boolean(key, value, hasValue)
		sec.NoNewPrivileges = on
		return err
	case "seccomp":
		return seccomp(value, sec, dir)
	case "apparmor":
		sec.AppArmor = value
	case "label":
		return label(value, sec)
	case "mask":
		paths, err := paths(value)
		sec.Mask = append(sec.Mask, paths...)
		return err
	case "unmask":
		if value == "ALL" || value == "all" {
			sec.Unmask = append(sec.Unmask, "ALL")
			return nil
		}
		paths, err := paths(value)
		sec.Unmask = append(sec.Unmask, paths...)
		return err
	case "proc-opts":
		return procOptions(value, sec)
	case "systempaths":
		if value != "unconfined" {
			return fmt.Errorf("unknown value %q of systempaths: want unconfined", value)
		}
		sec.Unmask = append(sec.Unmask, "ALL")
	default:
		return fmt.Errorf("unknown option %q", key)
	}
	return nil
}

func seccomp(value string, sec *container.Security, dir string) error {
	if value == "unconfined" {
		sec.Seccomp = value
		return nil
	}
	if !filepath.IsAbs(value) {
		value = filepath.Join(dir, value)
	}
	info, err := os.Stat(value)
	if err != nil {
		return fmt.Errorf("profile %q: %w", value, cause(err))
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("profile %q is not a file", value)
	}
	sec.Seccomp = value
	return nil
}

func label(value string, sec *container.Security) error {
	kind, rest, ok := strings.Cut(value, ":")
	switch {
	case value == "disable":
	case value == "nested": // for containers in the container, with SELinux
	case slices.Contains([]string{"user", "role", "type", "level", "filetype"}, kind) && ok && rest != "":
	default:
		return fmt.Errorf("unknown label %q: want disable, nested, or one that begins with user:, role:, type:, level: or filetype: and goes on", value)
	}
	sec.Label = append(sec.Label, value)
	return nil
}

func paths(value string) ([]string, error) {
	var out []string
	for _, path := range strings.Split(value, ":") {
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("path %q is not absolute", path)
		}
		out = append(out, path)
	}
	return out, nil
}

func procOptions(value string, sec *container.Security) error {
	for _, o := range strings.Split(value, ",") {
		key, arg, _ := strings.Cut(o, "=")
		switch key {
		case "hidepid", "gid", "subset":
			if arg == "" {
				return fmt.Errorf("proc option %q needs a value", key)
			}
		case "ro", "rw", "nosuid", "nodev", "noexec":
		default:
			return fmt.Errorf("unknown proc option %q", o)
		}
		sec.ProcOpts = append(sec.ProcOpts, o)
	}
	return nil
}

// capabilities are those of capabilities(7), without CAP_.
const capabilities = ` CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
 LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
 SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
 AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
 BPF CHECKPOINT_RESTORE `

// Capability reads the name of a capability, with or without CAP_, or ALL.
func Capability(s string) (string, error) {
	name := strings.TrimPrefix(strings.ToUpper(s), "CAP_")
	if name == "ALL" || slices.Contains(strings.Fields(capabilities), name) {
		return name, nil
	}
	return "", fmt.Errorf("unknown capability")
}

// Sysctl reads KEY=VALUE where KEY belongs to a namespace, so that setting it
// concerns the container alone. It returns the kind of that namespace too.
func Sysctl(s string) (key, value, namespace string, err error) {
	key, value, err = KeyValue(s, false)
	if err != nil {
		return "", "", "", err
	}
	switch {
	case strings.HasPrefix(key, "net."):
		return key, value, "network", nil
	case strings.HasPrefix(key, "fs.mqueue."), slices.Contains([]string{
		"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
		"kernel.shmmni", "kernel.shm_rmid_forced",
	}, key):
		return key, value, "ipc", nil
	case key == "kernel.domainname":
		return key, value, "uts", nil
	case key == "kernel.hostname":
		return "", "", "", fmt.Errorf("the host name is given by --hostname")
	}
	return "", "", "", fmt.Errorf("sysctl %q belongs to the whole machine, not to a namespace", key)
}

// Namespace checks private, host, container:ID or ns:PATH, and the words in more.
func Namespace(s string, more ...string) error {
	kind, arg, _ := strings.Cut(s, ":")
	switch {
	case s == "private", s == "host", slices.Contains(more, s):
	case kind == "container" && arg != "":
	case kind == "ns" && strings.HasPrefix(arg, "/"):
	default:
		return fmt.Errorf("want %s, container:ID or ns:PATH", strings.Join(append([]string{"private", "host"}, more...), ", "))
	}
	return nil
}

// As checks --as: me, root, image or UID[:GID].
func As(s string) error {
	switch s {
	case "me", "root", "image":
		return nil
	}
	uid, gid, hasGID := strings.Cut(s, ":")
	_, err := strconv.ParseUint(uid, 10, 31)
	if hasGID && err == nil {
		_, err = strconv.ParseUint(gid, 10, 31)
	}
	if err != nil {
		return fmt.Errorf("want me, root, image or UID[:GID]")
	}
	return nil
}

// UserNamespace checks --userns.
func UserNamespace(s string) error {
	mode, options, hasOptions := strings.Cut(s, ":")
	allowed := []string{}
	switch mode {
	case "host", "nomap", "":
	case "keep-id":
		allowed = []string{"uid", "gid", "size"}
	case "auto":
		allowed = []string{"size"}
	case "container":
		if options == "" {
			return fmt.Errorf("want container:ID")
		}
		return nil
	case "ns":
		if !strings.HasPrefix(options, "/") {
			return fmt.Errorf("want ns:PATH with an absolute path")
		}
		return nil
	default:
		return fmt.Errorf("want host, keep-id[:uid=N,gid=N,size=N], nomap, auto[:size=N], container:ID or ns:PATH")
	}
	if !hasOptions {
		return nil
	}
	for _, o := range strings.Split(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		if !slices.Contains(allowed, key) {
			return fmt.Errorf("%s takes no option %q", mode, key)
		}
		if n, err := strconv.ParseUint(value, 10, 31); err != nil || key == "size" && n == 0 {
			return fmt.Errorf("%s %q is not a number", key, value)
		}
	}
	return nil
}

// IDMap checks CONTAINER:INTERMEDIATE[:SIZE] and completes its size.
func IDMap(s string) (string, error) {
	if strings.ContainsAny(s, "+@ug") {
		return "", fmt.Errorf("the prefixes +, @, u and g are not supported: want CONTAINER:INTERMEDIATE[:SIZE]")
	}
	parts := strings.Split(s, ":")
	if len(parts) == 2 {
		parts = append(parts, "1")
	}
	if len(parts) != 3 {
		return "", fmt.Errorf("want CONTAINER:INTERMEDIATE[:SIZE]")
	}
	for i, part := range parts {
		if n, err := strconv.ParseUint(part, 10, 32); err != nil || i == 2 && n == 0 {
			return "", fmt.Errorf("%q is not a number of an ID", part)
		}
	}
	return strings.Join(parts, ":"), nil
}

// Platform checks OS/ARCH[/VARIANT].
func Platform(s string) error {
	parts := strings.Split(s, "/")
	if len(parts) > 3 || slices.Contains(parts, "") || len(parts) < 2 {
		return fmt.Errorf("want OS/ARCH[/VARIANT]")
	}
	if parts[0] != "linux" {
		return fmt.Errorf("only linux images can be run")
	}
	return nil
}
