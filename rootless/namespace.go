package rootless

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/container"
	"moss/rootless/oci"
	"moss/userns"
)

// joins resolves container:ID and ns:PATH to paths of namespaces.
func (e *Engine) joins(spec *container.Spec) (map[specs.LinuxNamespaceType]string, error) {
	out := map[specs.LinuxNamespaceType]string{}
	for _, ns := range []struct {
		kind specs.LinuxNamespaceType
		file string
		mode string
	}{
		{specs.UserNamespace, "user", spec.Namespaces.User},
		{specs.PIDNamespace, "pid", spec.Namespaces.PID},
		{specs.IPCNamespace, "ipc", spec.Namespaces.IPC},
		{specs.UTSNamespace, "uts", spec.Namespaces.UTS},
		{specs.CgroupNamespace, "cgroup", spec.Namespaces.Cgroup},
		{specs.NetworkNamespace, "net", spec.Network.Mode},
	} {
		if path, ok := strings.CutPrefix(ns.mode, "ns:"); ok {
			out[ns.kind] = path
			continue
		}
		name, ok := strings.CutPrefix(ns.mode, "container:")
		if !ok {
			continue
		}
		other, err := e.Find(name)
		if err != nil {
			return nil, fmt.Errorf("cannot join the %s namespace: %w", ns.file, err)
		}
		if err := joinable(ns.file, &other.Spec); err != nil {
			return nil, err
		}
		v := other.Look()
		if v.Live == nil {
			return nil, fmt.Errorf("cannot join the %s namespace of container %q: it is %s: %w", ns.file, other.Spec.Name, v.Status, errdefs.ErrFailedPrecondition)
		}
		out[ns.kind] = fmt.Sprintf("/proc/%d/ns/%s", v.Live.PID, ns.file)
	}
	return out, nil
}

// joinable says why a namespace of a container is not to be joined.
func joinable(kind string, other *container.Spec) error {
	if mode := other.Namespaces.IPC; kind == "ipc" && (mode == "private" || mode == "none") {
		return fmt.Errorf("cannot join the ipc namespace of container %q: it is %s; start that container with --ipc shareable: %w", other.Name, mode, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// mapping is the container's own user namespace; nil when it runs in the user's.
func (e *Engine) mapping(spec *container.Spec) (*userns.Mapping, error) {
	if strings.HasPrefix(spec.Namespaces.User, "container:") || strings.HasPrefix(spec.Namespaces.User, "ns:") {
		return nil, nil
	}
	outer, err := userns.Self()
	if err != nil {
		return nil, err
	}
	mode := spec.Namespaces.User
	if strings.HasPrefix(mode, "map:") { // fixAuto's
		mode = ""
	}
	if strings.HasPrefix(mode, "auto") {
		outer.Taken = e.takenIDs(spec.ID)
	}
	return userns.Parse(mode, spec.Namespaces.UIDMap, spec.Namespaces.GIDMap, outer)
}

// takenIDs are the intermediate ranges of other containers with userns=auto.
func (e *Engine) takenIDs(except string) []userns.IDMap {
	all, err := e.All()
	if err != nil {
		return nil
	}
	var out []userns.IDMap
	for _, c := range all {
		if c.Spec.ID == except || !strings.HasPrefix(c.Spec.Namespaces.User, "map:auto") {
			continue
		}
		for _, line := range c.Spec.Namespaces.UIDMap {
			var m userns.IDMap
			if _, err := fmt.Sscanf(line, "%d:%d:%d", &m.Container, &m.Host, &m.Size); err == nil {
				out = append(out, m)
			}
		}
	}
	return out
}

// userNamespace adds the container's own user namespace to the OCI configuration.
func (l *launch) userNamespace(in *oci.Input) error {
	m, err := l.e.mapping(&l.c.Spec)
	if err != nil {
		return err
	}
	if other, ok := strings.CutPrefix(l.c.Spec.Namespaces.User, "container:"); ok {
		c, err := l.e.Find(other)
		if err != nil {
			return err
		}
		joined := &launch{e: l.e, c: c}
		err = joined.userNamespace(in)
		in.UIDMap, in.GIDMap = nil, nil // it is joined, not made
		return err
	}
	if m == nil {
		outer, err := userns.Self()
		if err != nil {
			return err
		}
		in.GIDs = outer.GIDs
		return nil
	}
	in.UIDMap, in.GIDMap = specMaps(m.UID), specMaps(m.GID)
	for _, line := range m.GID {
		in.GIDs = max(in.GIDs, line.Container+line.Size)
	}
	return nil
}

func specMaps(maps []userns.IDMap) []specs.LinuxIDMapping {
	var out []specs.LinuxIDMapping
	for _, m := range maps {
		out = append(out, specs.LinuxIDMapping{ContainerID: uint32(m.Container), HostID: uint32(m.Host), Size: uint32(m.Size)})
	}
	return out
}

// fixAuto turns userns=auto into the range that it was given, so that the
// container keeps its IDs over restarts.
func (e *Engine) fixAuto(spec *container.Spec) error {
	if spec.Namespaces.User != "auto" && !strings.HasPrefix(spec.Namespaces.User, "auto:") {
		return nil
	}
	m, err := e.mapping(spec)
	if err != nil {
		return err
	}
	line := func(i userns.IDMap) string {
		return strconv.Itoa(i.Container) + ":" + strconv.Itoa(i.Host) + ":" + strconv.Itoa(i.Size)
	}
	spec.Namespaces.User = "map:" + spec.Namespaces.User
	for _, i := range m.UID {
		spec.Namespaces.UIDMap = append(spec.Namespaces.UIDMap, line(i))
	}
	for _, i := range m.GID {
		spec.Namespaces.GIDMap = append(spec.Namespaces.GIDMap, line(i))
	}
	return nil
}
