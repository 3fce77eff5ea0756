package oci

import (
	"os"
	"slices"
	"strings"

	"moss/rootless/container"
)

// SELinux's usual labels of containers, where the policy names no others; see
// container_contexts(5).
const (
	processLabel = "system_u:system_r:container_t:s0"
	fileLabel    = "system_u:object_r:container_file_t:s0"
)

// selinux are the labels of the process and of its files that --security-opt label=
// asks for. Where SELinux is not in use they mean nothing, as with podman; and where
// none is asked for, the caller's own label goes on to hold.
func selinux(c *container.Spec) (process, files string) {
	wanted := slices.DeleteFunc(slices.Clone(c.Security.Label), func(l string) bool { return l == "nested" })
	if len(wanted) == 0 || c.Security.Privileged || slices.Contains(wanted, "disable") {
		return "", ""
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err != nil {
		return "", ""
	}
	p, f := strings.SplitN(processLabel, ":", 4), strings.SplitN(fileLabel, ":", 4)
	for _, l := range wanted {
		switch kind, value, _ := strings.Cut(l, ":"); kind {
		case "user":
			p[0], f[0] = value, value
		case "role":
			p[1] = value
		case "type":
			p[2] = value
		case "filetype":
			f[2] = value
		case "level":
			p[3], f[3] = value, value
		}
	}
	return strings.Join(p, ":"), strings.Join(f, ":")
}
