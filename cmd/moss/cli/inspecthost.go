package cli

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/rootless/oci"
	"moss/slirp"
	"moss/systemd/cgroup"
)

// hostConfig is what the flags asked for, as podman names it.
type hostConfig struct {
	Binds           []string
	CgroupManager   string
	CgroupMode      string
	ContainerIDFile string
	LogConfig       logConfig
	NetworkMode     string
	PortBindings    map[string][]hostPort
	RestartPolicy   restartPolicy
	AutoRemove      bool
	AutoRemoveImage bool
	Annotations     map[string]string `json:",omitempty"`
	VolumeDriver    string
	VolumesFrom     []string
	CapAdd          []string
	CapDrop         []string
	Dns             []string
	DnsOptions      []string
	DnsSearch       []string
	ExtraHosts      []string
	HostsFile       string
	GroupAdd        []string
	IpcMode         string
	Cgroup          string
	Cgroups         string
	Links           []string
	OomScoreAdj     int
	PidMode         string
	Privileged      bool
	PublishAllPorts bool
	ReadonlyRootfs  bool
	SecurityOpt     []string
	Tmpfs           map[string]string
	UTSMode         string
	UsernsMode      string
	IDMappings      *idMappings `json:",omitempty"`
	ShmSize         int64
	Runtime         string
	ConsoleSize     []uint
	Isolation       string
	limitsView
	CgroupParent string
	Devices      []deviceView
	Ulimits      []ulimitView
	Init         bool              `json:",omitempty"`
	Sysctls      map[string]string `json:",omitempty"`
	// Wake and Idle are as the flags take them.
	Wake []string `json:",omitempty"`
	Idle string   `json:",omitempty"`
}

type logConfig struct {
	Type   string
	Config map[string]string
	Path   string
	Tag    string
	Size   string
}

type restartPolicy struct {
	Name              string
	MaximumRetryCount int
}

type idMappings struct{ UidMap, GidMap []string }

type deviceView struct{ PathOnHost, PathInContainer, CgroupPermissions string }

type ulimitView struct {
	Name       string
	Soft, Hard int64
}

// cgroupManager is who has made the container's cgroup, or would.
func (r psRow) cgroupManager() string {
	switch live := r.view.Live; {
	case live != nil && live.Cgroup == "" || r.container.Spec.Resources.CgroupsMode == "disabled":
		return "none"
	case live != nil && strings.HasSuffix(live.Cgroup, ".scope"), live == nil && cgroup.ManagerSocket() != "":
		return "systemd"
	}
	return "cgroupfs"
}

func (r psRow) hostConfig() hostConfig {
	s := &r.container.Spec
	h := hostConfig{
		Binds: []string{}, CgroupManager: r.cgroupManager(), CgroupMode: or(s.Namespaces.Cgroup, "private"), ContainerIDFile: s.Lifecycle.CIDFile,
		NetworkMode: networkMode(s), PortBindings: portBindings(r.ports()), AutoRemove: s.Lifecycle.AutoRemove, Annotations: s.Annotations,
		RestartPolicy: restartPolicy{or(s.Lifecycle.Restart, "no"), s.Lifecycle.RestartMax},
		CapAdd:        prefixed(s.Security.CapAdd), CapDrop: prefixed(s.Security.CapDrop), Dns: list(s.Network.DNS),
		DnsOptions: list(s.Network.DNSOptions), DnsSearch: list(s.Network.DNSSearch), ExtraHosts: list(s.Network.AddHosts), HostsFile: s.Network.HostsFile,
		GroupAdd: list(s.Process.Groups), IpcMode: or(s.Namespaces.IPC, "shareable"), Cgroups: or(s.Resources.CgroupsMode, "default"),
		PidMode: or(s.Namespaces.PID, "private"), Privileged: s.Security.Privileged, PublishAllPorts: s.Network.PublishAll,
		ReadonlyRootfs: s.Rootfs.ReadOnly, SecurityOpt: securityOptions(&s.Security), Tmpfs: map[string]string{},
		UTSMode: or(s.Namespaces.UTS, "private"), UsernsMode: s.Namespaces.User, ShmSize: s.Rootfs.ShmSize, Runtime: "oci",
		ConsoleSize: []uint{0, 0}, limitsView: limitsOf(&s.Resources), CgroupParent: s.Resources.CgroupParent,
		Init: s.Process.Init, Sysctls: s.Security.Sysctls,
		Links: []string{}, VolumesFrom: list(s.Rootfs.VolumesFrom), Devices: deviceViews(s.Security.Devices), Ulimits: []ulimitView{},
		LogConfig: logConfig{Type: or(s.Log.Driver, "k8s-file"), Config: s.Log.Options, Path: r.container.Dir + "/ctr.log",
			Tag: s.Log.Options["tag"], Size: or(s.Log.Options["max-size"], "0B")},
	}
	if h.Wake = showWake(&s.Network); s.Network.Idle > 0 {
		h.Idle = s.Network.Idle.String()
	}
	if h.ShmSize == 0 {
		h.ShmSize = 64 << 20
	}
	if path := s.Log.Options["path"]; path != "" {
		h.LogConfig.Path = path
	}
	if s.Process.OOMScoreAdj != nil {
		h.OomScoreAdj = *s.Process.OOMScoreAdj
	}
	if len(s.Namespaces.UIDMap) > 0 {
		h.IDMappings = &idMappings{s.Namespaces.UIDMap, s.Namespaces.GIDMap}
	}
	for _, u := range s.Process.Rlimits {
		h.Ulimits = append(h.Ulimits, ulimitView{"RLIMIT_" + strings.ToUpper(u.Name), u.Soft, u.Hard})
	}
	for _, m := range s.Rootfs.Mounts {
		options := append([]string{access(m)}, m.Options...)
		switch m.Type {
		case "tmpfs":
			h.Tmpfs[m.Target] = strings.Join(append(options, "rprivate", "nosuid", "nodev", "tmpcopyup"), ",")
			continue
		case "volume":
			options = append(options, "nosuid", "nodev")
		}
		if m.Type != "bind" && m.Type != "volume" { // Mounts has those
			continue
		}
		h.Binds = append(h.Binds, m.Source+":"+m.Target+":"+strings.Join(append(options, "rprivate", "rbind"), ","))
	}
	return h
}

func access(m container.Mount) string {
	if m.ReadOnly {
		return "ro"
	}
	return "rw"
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// list is [] in JSON where there is nothing, not null.
func list(in []string) []string { return append([]string{}, in...) }

func prefixed(names []string) []string {
	out := []string{}
	for _, name := range names {
		if name != "ALL" {
			name = "CAP_" + name
		}
		out = append(out, name)
	}
	return out
}

func networkMode(s *container.Spec) string {
	if s.Network.Mode == "bridge" && len(s.Network.Networks) == 1 {
		return "bridge"
	}
	return s.Network.Mode
}

// portBindings are the published ports: with the host ports that were chosen, once
// it runs.
func portBindings(ports []slirp.Port) map[string][]hostPort {
	out := map[string][]hostPort{}
	for _, p := range ports {
		eachPort(p, func(inside, host string) {
			i := strings.LastIndexByte(host, ':')
			h := hostPort{strings.Trim(host[:i], "[]"), host[i+1:]}
			if p.HostPort == 0 {
				h.HostPort = ""
			}
			out[inside] = append(out[inside], h)
		})
	}
	return out
}

func securityOptions(sec *container.Security) []string {
	out := []string{}
	add := func(key, value string) {
		if value != "" {
			out = append(out, key+"="+value)
		}
	}
	if sec.NoNewPrivileges {
		out = append(out, "no-new-privileges")
	}
	add("seccomp", sec.Seccomp)
	add("apparmor", sec.AppArmor)
	for _, l := range sec.Label {
		add("label", l)
	}
	add("mask", strings.Join(sec.Mask, ":"))
	add("unmask", strings.Join(sec.Unmask, ":"))
	add("proc-opts", strings.Join(sec.ProcOpts, ","))
	return out
}

func deviceViews(devices []string) []deviceView {
	out := []deviceView{}
	for _, d := range devices {
		parts := strings.Split(d, ":")
		v := deviceView{parts[0], parts[0], "rwm"}
		for _, part := range parts[1:] {
			if strings.HasPrefix(part, "/") {
				v.PathInContainer = part
			} else {
				v.CgroupPermissions = part
			}
		}
		out = append(out, v)
	}
	return out
}

// capabilities are those that the program starts with, as CAP_NAMEs.
func (r psRow) capabilities() (effective, bounding []string) {
	kernel, err := oci.KernelCapabilities()
	if err != nil {
		return nil, nil
	}
	bounding, added, err := oci.Capabilities(&r.container.Spec, kernel)
	if err != nil {
		return nil, nil
	}
	switch user, _, _ := strings.Cut(r.container.Spec.Process.User, ":"); user {
	case "", "0", "root":
		return bounding, bounding
	}
	return added, bounding
}

// signalName is "SIGTERM" for 15.
func signalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("SIGRTMIN+%d", int(sig)-34)
}
