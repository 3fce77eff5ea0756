package runtime

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime/birth"
)

// cloneFlags are the CLONE_NEW* flags of the OCI namespace types.
var cloneFlags = map[specs.LinuxNamespaceType]uintptr{
	specs.PIDNamespace: unix.CLONE_NEWPID, specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.MountNamespace: unix.CLONE_NEWNS, specs.IPCNamespace: unix.CLONE_NEWIPC,
	specs.UTSNamespace: unix.CLONE_NEWUTS, specs.UserNamespace: unix.CLONE_NEWUSER,
	specs.CgroupNamespace: unix.CLONE_NEWCGROUP, specs.TimeNamespace: unix.CLONE_NEWTIME,
}

// Request is what birth.Start needs to know of a specification: its namespaces
// and ID maps. The caller adds program, document, cgroup and descriptors. The
// init stage looks at the same Spec.Linux.Namespaces, so the two must agree.
func Request(spec *specs.Spec) (birth.Request, error) {
	var r birth.Request
	if spec.Linux == nil {
		return r, fmt.Errorf("cannot read specification: it has no linux section")
	}
	seen := map[specs.LinuxNamespaceType]bool{}
	for _, ns := range spec.Linux.Namespaces {
		flag, ok := cloneFlags[ns.Type]
		if !ok {
			return r, fmt.Errorf("cannot make namespace: unknown type %q", ns.Type)
		}
		if seen[ns.Type] {
			return r, fmt.Errorf("cannot make namespace: type %q is given twice", ns.Type)
		}
		seen[ns.Type] = true
		if ns.Path == "" {
			r.Flags |= flag
			continue
		}
		r.Join = append(r.Join, birth.Namespace{Type: string(ns.Type), Path: ns.Path})
	}
	r.UIDMap = idMap(spec.Linux.UIDMappings)
	r.GIDMap = idMap(spec.Linux.GIDMappings)
	if r.Flags&unix.CLONE_NEWUSER != 0 && (len(r.UIDMap) == 0 || len(r.GIDMap) == 0) {
		return r, fmt.Errorf("cannot make user namespace: it has no ID map")
	}
	if r.Flags&unix.CLONE_NEWUSER == 0 && !seen[specs.UserNamespace] && len(r.UIDMap)+len(r.GIDMap) > 0 {
		return r, fmt.Errorf("cannot map IDs: there is no user namespace to map them in")
	}
	return r, nil
}

func idMap(maps []specs.LinuxIDMapping) []birth.IDMap {
	var out []birth.IDMap
	for _, m := range maps {
		out = append(out, birth.IDMap{Container: int(m.ContainerID), Host: int(m.HostID), Size: int(m.Size)})
	}
	return out
}

// has reports whether the specification makes (made) or joins a namespace.
func has(spec *specs.Spec, t specs.LinuxNamespaceType) (present, made bool) {
	for _, ns := range spec.Linux.Namespaces {
		if ns.Type == t {
			return true, ns.Path == ""
		}
	}
	return false, false
}
