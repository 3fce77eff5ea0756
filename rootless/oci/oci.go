// Package oci writes the OCI configuration of a container (runtime-spec 1.3).
package oci

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/record"
	"moss/rootless/container"
)

// Input is what the engine found out and the Spec cannot know.
type Input struct {
	Root string // path of the root filesystem or of the overlay's mount point
	// Mounts are the user's mounts with their sources resolved to host paths.
	Mounts []specs.Mount
	// Files are bound over the container's own: target -> host path.
	Files map[string]string
	// Join maps a namespace type to the path to join.
	Join map[specs.LinuxNamespaceType]string
	// UIDMap and GIDMap ask for a new user namespace.
	UIDMap, GIDMap []specs.LinuxIDMapping
	// Hostname as seen inside.
	Hostname string
	// NewNetwork says that the container gets a network namespace of its own.
	NewNetwork bool
	// Cgroup is the container's cgroup directory, "" for none.
	Cgroup string
	// GIDs says how many group IDs are mapped in the container's user namespace.
	GIDs int
	// KernelCaps are the capabilities that the caller's bounding set holds.
	KernelCaps []string
}

// Build turns what was asked for into an OCI configuration.
func Build(c *container.Spec, in Input) (*specs.Spec, error) {
	caps, err := ProcessCapabilities(c, in.KernelCaps)
	if err != nil {
		return nil, err
	}
	mounts, err := mounts(c, in)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:  specs.Version,
		Hostname: in.Hostname,
		Root:     &specs.Root{Path: in.Root, Readonly: c.Rootfs.ReadOnly},
		Process: &specs.Process{
			Terminal:        c.Process.TTY,
			Args:            args(c),
			Env:             c.Process.Env,
			Cwd:             c.Process.Dir,
			Capabilities:    caps,
			NoNewPrivileges: c.Security.NoNewPrivileges,
			Rlimits:         Rlimits(c.Process.Rlimits),
			OOMScoreAdj:     c.Process.OOMScoreAdj,
			ApparmorProfile: AppArmor(c),
		},
		Mounts:      mounts,
		Annotations: annotations(c),
		Linux: &specs.Linux{
			Namespaces:  Namespaces(c, in),
			UIDMappings: in.UIDMap,
			GIDMappings: in.GIDMap,
			Sysctl:      sysctls(c, in),
			CgroupsPath: in.Cgroup,
		},
	}
	s.Process.User.Umask = c.Process.Umask
	s.Linux.Personality = Personality(c)
	s.Process.SelinuxLabel, s.Linux.MountLabel = selinux(c)
	if !c.Security.Privileged {
		s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = paths(c)
	}
	return s, nil
}

// Personality is the execution domain that was asked for, nil for none.
func Personality(c *container.Spec) *specs.LinuxPersonality {
	if len(c.Process.Personality) == 0 {
		return nil
	}
	p := &specs.LinuxPersonality{Domain: specs.LinuxPersonalityDomain(c.Process.Personality[0])}
	for _, flag := range c.Process.Personality[1:] {
		p.Flags = append(p.Flags, specs.LinuxPersonalityFlag(flag))
	}
	return p
}

// args puts the reaper of --init before the program.
func args(c *container.Spec) []string {
	if c.Process.Init {
		return append([]string{Reaper, "--"}, c.Process.Args...)
	}
	return c.Process.Args
}

// Reaper is where the program of --init is bound.
const Reaper = "/run/moss-init"

// annotations are those that were asked for, and no more: an image's labels
// never become runtime configuration.
func annotations(c *container.Spec) map[string]string {
	if len(c.Annotations) == 0 {
		return nil
	}
	return c.Annotations
}

// Rlimits in the OCI configuration's words.
func Rlimits(limits []container.Rlimit) []specs.POSIXRlimit {
	var out []specs.POSIXRlimit
	for _, l := range limits {
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(l.Name), Soft: uint64(l.Soft), Hard: uint64(l.Hard)})
	}
	return out
}

// AppArmor is the profile to run under, "" for none.
func AppArmor(c *container.Spec) string {
	if c.Security.Privileged || c.Security.AppArmor == "unconfined" {
		return ""
	}
	return c.Security.AppArmor
}

// sysctls adds what every container with a network of its own gets, as podman
// does: any group may open a ping socket.
func sysctls(c *container.Spec, in Input) map[string]string {
	out := map[string]string{}
	if in.NewNetwork && in.GIDs > 0 {
		out["net.ipv4.ping_group_range"] = "0 " + strconv.Itoa(min(in.GIDs-1, 1<<31-1))
	}
	for k, v := range c.Security.Sysctls {
		out[k] = v
	}
	return out
}

// Namespaces lists the namespaces to make and to join, in an order in which
// they can be: the user namespace first.
func Namespaces(c *container.Spec, in Input) []specs.LinuxNamespace {
	var out []specs.LinuxNamespace
	if path := in.Join[specs.UserNamespace]; path != "" || len(in.UIDMap) > 0 {
		out = append(out, specs.LinuxNamespace{Type: specs.UserNamespace, Path: path})
	}
	out = append(out, specs.LinuxNamespace{Type: specs.MountNamespace})
	add := func(t specs.LinuxNamespaceType, mode string) {
		if path := in.Join[t]; path != "" {
			out = append(out, specs.LinuxNamespace{Type: t, Path: path})
		} else if mode != "host" {
			out = append(out, specs.LinuxNamespace{Type: t})
		}
	}
	add(specs.PIDNamespace, c.Namespaces.PID)
	add(specs.IPCNamespace, c.Namespaces.IPC)
	add(specs.UTSNamespace, c.Namespaces.UTS)
	add(specs.CgroupNamespace, c.Namespaces.Cgroup)
	net := ""
	if !in.NewNetwork {
		net = "host"
	}
	add(specs.NetworkNamespace, net)
	return out
}

// masked is the union of the paths that podman and Docker hide.
var masked = []string{
	"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
	"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
	"/sys/dev/block", "/sys/devices/virtual/powercap", "/sys/firmware", "/sys/fs/selinux",
}

var readonly = []string{
	"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
}

func paths(c *container.Spec) (mask, ro []string) {
	keep := func(path string) bool {
		for _, u := range c.Security.Unmask {
			if u == "ALL" || u == path {
				return false
			}
			if ok, _ := filepath.Match(u, path); ok {
				return false
			}
		}
		return true
	}
	for _, p := range masked {
		if keep(p) {
			mask = append(mask, p)
		}
	}
	// Each CPU has its own directory; only those that are there can be hidden.
	if _, err := os.Lstat("/sys/devices/system/cpu/cpu0/thermal_throttle"); err == nil && keep("/sys/devices/system/cpu") {
		throttle, _ := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
		mask = append(mask, throttle...)
	}
	mask = append(mask, c.Security.Mask...)
	for _, p := range readonly {
		if keep(p) {
			ro = append(ro, p)
		}
	}
	return mask, ro
}

// ProcessCapabilities computes the sets: podman's eleven, less and more as asked.
func ProcessCapabilities(c *container.Spec, kernel []string) (*specs.LinuxCapabilities, error) {
	bounding, added, err := Capabilities(c, kernel)
	if err != nil {
		return nil, err
	}
	sets := &specs.LinuxCapabilities{Bounding: bounding}
	user, _, _ := strings.Cut(c.Process.User, ":")
	if user == "" || user == "root" || user == "0" {
		sets.Effective, sets.Permitted = bounding, bounding
		return sets, nil
	}
	// A user other than root gets only what was added for it, as ambient.
	sets.Effective, sets.Permitted, sets.Inheritable, sets.Ambient = added, added, added, added
	return sets, nil
}

var defaultCaps = []string{
	"CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE",
	"SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
}

// AreDefaultCapabilities says whether names are those that a container has when
// nothing else is said.
func AreDefaultCapabilities(names []string) bool {
	missing := func(n string) bool { return !slices.Contains(names, n) }
	return len(names) == len(defaultCaps) && !slices.ContainsFunc(defaultCaps, missing)
}

// Capabilities returns the bounding set and those of it that were added by
// name, each with its CAP_ prefix.
func Capabilities(c *container.Spec, kernel []string) (bounding, added []string, err error) {
	set := map[string]bool{}
	if c.Security.Privileged {
		for _, n := range kernel {
			set[n] = true
		}
	} else {
		names := defaultCaps
		if c.Security.CapDefault != nil {
			names = c.Security.CapDefault
		}
		for _, n := range names {
			set["CAP_"+n] = true
		}
	}
	known := func(flag, name string) (string, error) {
		full := "CAP_" + strings.TrimPrefix(strings.ToUpper(name), "CAP_")
		if !slices.Contains(allCaps, full) {
			return "", fmt.Errorf("invalid value %q for flag %s: there is no such capability", name, flag)
		}
		return full, nil
	}
	// ALL is applied first, whichever side it is on.
	if hasAll(c.Security.CapDrop) {
		clear(set)
	}
	if hasAll(c.Security.CapAdd) {
		for _, n := range kernel {
			set[n] = true
		}
	}
	for _, name := range c.Security.CapDrop {
		if strings.EqualFold(name, "ALL") {
			continue
		}
		full, err := known("--cap-drop", name)
		if err != nil {
			return nil, nil, err
		}
		delete(set, full)
	}
	for _, name := range c.Security.CapAdd {
		if strings.EqualFold(name, "ALL") {
			continue
		}
		full, err := known("--cap-add", name)
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(kernel, full) {
			return nil, nil, fmt.Errorf("cannot add capability %q: the kernel or the caller's bounding set does not have it", full)
		}
		set[full] = true
		added = append(added, full)
	}
	for _, n := range allCaps {
		if set[n] {
			bounding = append(bounding, n)
		}
	}
	return bounding, added, nil
}

func hasAll(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, "ALL") })
}

// allCaps in the order of their numbers; see capabilities(7).
var allCaps = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER",
	"CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE", "CAP_SYS_PACCT",
	"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE", "CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
	"CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
}

// KernelCapabilities are those of the caller's bounding set; see proc_pid_status(5).
func KernelCapabilities() ([]string, error) {
	status, err := record.ReadFile("/proc/self/status")
	if err != nil {
		return nil, fmt.Errorf("cannot read capabilities: %w", err)
	}
	_, rest, _ := strings.Cut(string(status), "\nCapBnd:\t")
	line, _, _ := strings.Cut(rest, "\n")
	bits, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return nil, fmt.Errorf("cannot read capabilities: %w", err)
	}
	var out []string
	for n, name := range allCaps {
		if bits&(1<<n) != 0 {
			out = append(out, name)
		}
	}
	return out, nil
}
