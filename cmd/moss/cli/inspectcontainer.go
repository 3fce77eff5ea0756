package cli

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"moss/rootless"
	"moss/rootless/container"
	"moss/slirp"
	"moss/storage/image"
	"moss/systemd/cgroup"
)

// containerView is a container as inspect shows it. The names and types of all
// fields here and below are podman's, which are for the most part Docker's.
type containerView struct {
	Id              string
	Created         time.Time
	Path            string
	Args            []string
	State           stateView
	Image           string
	ImageDigest     string
	ImageName       string
	Rootfs          string
	Pod             string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	StaticDir       string
	OCIConfigPath   string `json:",omitempty"`
	OCIRuntime      string
	ConmonPidFile   string
	PidFile         string
	Name            string
	RestartCount    int
	Driver          string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	EffectiveCaps   []string
	BoundingCaps    []string
	ExecIDs         []string
	GraphDriver     driverView
	SizeRw          *int64 `json:",omitempty"`
	SizeRootFs      int64  `json:",omitempty"`
	Mounts          []mountView
	Dependencies    []string
	NetworkSettings networkSettings
	Namespace       string
	IsInfra         bool
	IsService       bool
	// KubeExitCodePropagation and lockNumber are of podman's insides: "invalid", and 0.
	KubeExitCodePropagation string
	LockNumber              uint32 `json:"lockNumber"`
	Config                  configView
	HostConfig              hostConfig
	UseImageHosts           bool
	UseImageHostname        bool
}

// ID lets templates of podman's own field name work.
func (v containerView) ID() string { return v.Id }

type stateView struct {
	OciVersion     string
	Status         string
	Running        bool
	Paused         bool
	Restarting     bool
	OOMKilled      bool
	Dead           bool
	Pid            int
	ConmonPid      int `json:",omitempty"`
	ExitCode       int
	Error          string
	StartedAt      time.Time
	FinishedAt     time.Time
	Health         *container.HealthState `json:",omitempty"`
	CgroupPath     string                 `json:",omitempty"`
	Checkpointed   bool                   `json:",omitempty"`
	CheckpointedAt time.Time
	RestoredAt     time.Time
	Restored       bool   `json:",omitempty"`
	CheckpointLog  string `json:",omitempty"`
	CheckpointPath string `json:",omitempty"`
	RestoreLog     string `json:",omitempty"`
	StoppedByUser  bool   `json:",omitempty"`
	// SessionEnded is set for one that a service manager has ended.
	SessionEnded bool `json:",omitempty"`
	// Waiting is set for one that a client will start.
	Waiting bool `json:",omitempty"`
}

// Healthcheck is what Health was called once.
func (v stateView) Healthcheck() *container.HealthState { return v.Health }

type driverView struct {
	Name string
	Data map[string]string
}

type mountView struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string
	Mode        string
	Options     []string
	RW          bool
	Propagation string
}

type networkSettings struct {
	EndpointID             string
	Gateway                string
	IPAddress              string
	IPPrefixLen            int
	IPv6Gateway            string
	GlobalIPv6Address      string
	GlobalIPv6PrefixLen    int
	MacAddress             string
	Bridge                 string
	SandboxID              string
	HairpinMode            bool
	LinkLocalIPv6Address   string
	LinkLocalIPv6PrefixLen int
	Ports                  map[string][]hostPort
	SandboxKey             string
	Networks               map[string]endpointView `json:",omitempty"`
}

type hostPort struct{ HostIp, HostPort string }

// HostIP lets templates of podman's own field name work.
func (p hostPort) HostIP() string { return p.HostIp }

type endpointView struct {
	EndpointID          string
	Gateway             string
	IPAddress           string
	IPPrefixLen         int
	IPv6Gateway         string
	GlobalIPv6Address   string
	GlobalIPv6PrefixLen int
	MacAddress          string
	NetworkID           string
	DriverOpts          map[string]string
	IPAMConfig          map[string]string
	Links               []string
	Aliases             []string `json:",omitempty"`
}

type configView struct {
	Hostname      string
	Domainname    string
	User          string
	AttachStdin   bool
	AttachStdout  bool
	AttachStderr  bool
	Tty           bool
	OpenStdin     bool
	StdinOnce     bool
	Env           []string
	Cmd           []string
	Image         string
	Volumes       map[string]struct{}
	WorkingDir    string
	Entrypoint    []string
	OnBuild       *string
	Labels        map[string]string
	Annotations   map[string]string
	StopSignal    string
	CreateCommand []string     `json:",omitempty"`
	Timezone      string       `json:",omitempty"`
	SystemdMode   bool         `json:",omitempty"`
	Umask         string       `json:",omitempty"`
	Secrets       []secretView `json:",omitempty"`
	Timeout       int          // seconds
	StopTimeout   int
	Passwd        bool
	ChrootDirs    []string            `json:",omitempty"`
	SdNotifyMode  string              `json:"sdNotifyMode,omitempty"`
	ExposedPorts  map[string]struct{} `json:",omitempty"`

	Healthcheck                *healthView  `json:",omitempty"`
	StartupHealthCheck         *startupView `json:",omitempty"`
	HealthcheckOnFailureAction string       `json:",omitempty"`
	HealthLogDestination       string       `json:",omitempty"`
	HealthMaxLogCount          int          `json:"HealthcheckMaxLogCount,omitempty"`
	HealthMaxLogSize           int          `json:"HealthcheckMaxLogSize,omitempty"`
}

// healthView is a health check; durations are nanoseconds.
type healthView struct {
	Test        []string      `json:",omitempty"`
	StartPeriod time.Duration `json:",omitempty"`
	Interval    time.Duration `json:",omitempty"`
	Timeout     time.Duration `json:",omitempty"`
	Retries     int           `json:",omitempty"`
}

type startupView struct {
	healthView
	Successes int `json:",omitempty"`
}

// secretView is a secret that the container is given.
type secretView struct {
	Name, ID string
	UID, GID uint32
	Mode     uint32
}

// inspectContainer looks at one container, once.
func (c *call) inspectContainer(name string, size bool) (any, error) {
	ctr, err := c.Engine.Find(name)
	if err != nil {
		return nil, err
	}
	images := imageCache{c: c}
	r := psRow{row: &row{ctr, ctr.Look()}, images: &images, full: true, size: size}
	s := &ctr.Spec
	v := containerView{
		Id: s.ID, Created: s.Created, State: r.stateView(), Image: s.Image.ID, ImageDigest: s.Image.Digest, ImageName: r.Image(),
		Rootfs: s.Rootfs.Path, Pod: s.Pod, StaticDir: ctr.Dir, OCIRuntime: s.Runtime, PidFile: s.Lifecycle.PIDFile,
		Name: s.Name, RestartCount: r.Restarts(), Driver: "overlay", AppArmorProfile: s.Security.AppArmor, ExecIDs: c.Engine.Sessions(ctr),
		Mounts: c.mountViews(s), Dependencies: rootless.Dependencies(s), NetworkSettings: r.networkSettings(), Config: r.config(),
		HostConfig: r.hostConfig(), KubeExitCodePropagation: "invalid", UseImageHosts: s.Network.NoHosts, UseImageHostname: s.Network.NoHostname,
	}
	if v.OCIRuntime == "" {
		v.OCIRuntime = "moss-runtime"
	}
	if len(s.Process.Args) > 0 {
		v.Path, v.Args = s.Process.Args[0], append([]string{}, s.Process.Args[1:]...)
	}
	v.GraphDriver = driverView{Name: "overlay", Data: map[string]string{
		"UpperDir": filepath.Join(ctr.Dir, "upper"), "WorkDir": filepath.Join(ctr.Dir, "work"),
	}}
	if img := images.get(s.Image.ID); img != nil {
		v.GraphDriver.Data["LowerDir"] = strings.Join(img.Lower, ":")
	}
	if r.view.Live != nil {
		v.ResolvConfPath, v.HostnamePath = filepath.Join(ctr.RunDir, "resolv.conf"), filepath.Join(ctr.RunDir, "hostname")
		v.HostsPath, v.ConmonPidFile = filepath.Join(ctr.RunDir, "hosts"), filepath.Join(ctr.RunDir, "monitor.pid")
	}
	v.EffectiveCaps, v.BoundingCaps = r.capabilities()
	if size {
		sizes := r.sizes()
		v.SizeRw, v.SizeRootFs = &sizes.rw, sizes.rw+sizes.image
	}
	return v, nil
}

func (r psRow) stateView() stateView {
	v := stateView{
		OciVersion: "1.3.0", Status: r.State(), Restarting: r.view.Status == container.StatusRestarting,
		Running: r.view.Status == container.StatusRunning, Paused: r.view.Status == container.StatusPaused,
		Pid: r.Pid(), ExitCode: r.ExitCode(), StartedAt: r.started(), Waiting: r.view.Waiting(),
	}
	v.Health, _ = rootless.Health(r.container, r.view)
	if live := r.view.Live; live != nil {
		v.ConmonPid, v.CgroupPath = live.Monitor, cgroup.Name(live.Cgroup)
	}
	if last := r.view.Last; last != nil {
		v.FinishedAt = last.Finished
		if r.view.Live == nil {
			v.OOMKilled, v.Error, v.StoppedByUser, v.SessionEnded = last.OOMKilled, last.Error, last.StoppedByUser, last.SessionEnded
		}
	}
	return v
}

func (c *call) mountViews(s *container.Spec) []mountView {
	out := []mountView{}
	for _, m := range s.Rootfs.Mounts {
		if m.Type == "tmpfs" { // HostConfig.Tmpfs has those
			continue
		}
		v := mountView{Type: m.Type, Source: m.Source, Destination: m.Target, RW: !m.ReadOnly, Propagation: "rprivate", Options: []string{"rbind"}}
		if m.Type != "bind" && m.Type != "volume" {
			v.Options = []string{}
		}
		if m.Type == "volume" {
			v.Name, v.Source, v.Driver = m.Source, c.Engine.Volumes.Path(m.Source), "local"
			v.Options = []string{"nosuid", "nodev", "rbind"}
		}
		for _, o := range m.Options {
			switch o {
			case "shared", "rshared", "slave", "rslave", "private", "rprivate", "unbindable", "runbindable":
				v.Propagation = o
			case "z", "Z":
				v.Mode = o
			default:
				v.Options = append(v.Options, o)
			}
		}
		out = append(out, v)
	}
	return out
}

func (r psRow) networkSettings() networkSettings {
	s := &r.container.Spec
	v := networkSettings{Ports: map[string][]hostPort{}}
	for _, port := range s.Network.Exposed {
		v.Ports[port] = nil
	}
	for _, p := range r.ports() {
		for n := range max(p.Count, 1) {
			inside := fmt.Sprintf("%d/%s", p.ContainerPort+n, p.Proto)
			host := hostPort{HostIp: "0.0.0.0", HostPort: strconv.Itoa(int(p.HostPort + n))}
			if p.HostIP.IsValid() {
				host.HostIp = p.HostIP.String()
			}
			if p.HostPort == 0 { // chosen when it starts
				host.HostPort = ""
			}
			v.Ports[inside] = append(v.Ports[inside], host)
		}
	}
	names := networkNames(s)
	if len(names) > 0 {
		v.Networks = map[string]endpointView{}
	}
	for _, name := range names {
		v.Networks[name] = r.endpoint(name)
	}
	if live := r.view.Live; live != nil {
		v.SandboxKey = fmt.Sprintf("/proc/%d/ns/net", r.Pid())
		if live.Network != nil && len(live.Network.Interfaces) > 0 {
			e := newEndpoint(live.Network.Interfaces[0])
			v.Gateway, v.IPAddress, v.IPPrefixLen, v.MacAddress = e.Gateway, e.IPAddress, e.IPPrefixLen, e.MacAddress
			v.IPv6Gateway, v.GlobalIPv6Address, v.GlobalIPv6PrefixLen = e.IPv6Gateway, e.GlobalIPv6Address, e.GlobalIPv6PrefixLen
		}
	}
	return v
}

// endpoint is the container's end of one network: empty while it does not run.
func (r psRow) endpoint(network string) endpointView {
	if live := r.view.Live; live != nil && live.Network != nil {
		for _, i := range live.Network.Interfaces {
			if i.Network == network {
				e := newEndpoint(i)
				e.NetworkID = network
				return e
			}
		}
	}
	e := endpointView{NetworkID: network}
	for _, a := range r.container.Spec.Network.Networks {
		if a.Name == network {
			e.Aliases = a.Aliases
		}
	}
	return e
}

func newEndpoint(i slirp.Interface) endpointView {
	e := endpointView{MacAddress: i.MAC, Aliases: i.Aliases}
	for _, ip := range i.IPs {
		switch {
		case ip.Addr().Is4() && e.IPAddress == "":
			e.IPAddress, e.IPPrefixLen = ip.Addr().String(), ip.Bits()
		case ip.Addr().Is6() && !ip.Addr().IsLinkLocalUnicast() && e.GlobalIPv6Address == "":
			e.GlobalIPv6Address, e.GlobalIPv6PrefixLen = ip.Addr().String(), ip.Bits()
		}
	}
	for _, gateway := range i.Gateway {
		if gateway.Is4() {
			e.Gateway = gateway.String()
		} else {
			e.IPv6Gateway = gateway.String()
		}
	}
	return e
}

func (r psRow) config() configView {
	s := &r.container.Spec
	p := s.Process
	v := configView{
		Hostname: s.Network.Hostname, User: p.User, AttachStdin: p.Stdin, AttachStdout: true, AttachStderr: true, Tty: p.TTY,
		OpenStdin: p.Stdin, Env: p.Env, Cmd: r.command(), Image: r.Image(), WorkingDir: p.Dir, Entrypoint: entrypointOf(s, r.images.get),
		Labels: s.Labels, Annotations: s.Annotations, StopSignal: stopSignalName(s), CreateCommand: s.CreateCommand, Umask: "0022",
		StopTimeout: 10, Passwd: !p.NoPasswd, SystemdMode: p.Systemd, Timezone: p.TimeZone, ChrootDirs: s.Rootfs.ChrootDirs,
		SdNotifyMode: cmp.Or(s.Lifecycle.SdNotify, "container"),
	}
	if v.Annotations == nil {
		v.Annotations = map[string]string{}
	}
	if v.Labels == nil {
		v.Labels = map[string]string{}
	}
	v.health(s.Health)
	v.Timeout = int(s.Lifecycle.Timeout / time.Second)
	if p.Umask != nil {
		v.Umask = fmt.Sprintf("%04o", *p.Umask)
	}
	if s.Lifecycle.StopTimeout != nil {
		v.StopTimeout = *s.Lifecycle.StopTimeout
	}
	if img := r.images.get(s.Image.ID); img != nil {
		v.Volumes = img.Config.Volumes
	}
	for _, secret := range s.Rootfs.Secrets {
		if secret.Env == "" {
			v.Secrets = append(v.Secrets, secretView{secret.Name, secret.ID, secret.UID, secret.GID, secret.Mode})
		}
	}
	for _, port := range s.Network.Exposed {
		if v.ExposedPorts == nil {
			v.ExposedPorts = map[string]struct{}{}
		}
		v.ExposedPorts[port] = struct{}{}
	}
	return v
}

// health shows the health check, if there is one.
func (v *configView) health(h *container.Health) {
	if h.Disabled() {
		return
	}
	v.Healthcheck = &healthView{h.Test, h.StartPeriod, max(0, h.Interval), h.Timeout, h.Retries}
	if s := h.Startup; s != nil {
		v.StartupHealthCheck = &startupView{healthView{s.Test, 0, max(0, s.Interval), s.Timeout, s.Retries}, s.Successes}
	}
	v.HealthcheckOnFailureAction, v.HealthLogDestination, v.HealthMaxLogCount, v.HealthMaxLogSize = "none", "local", 5, 500
	if h.OnFailure != "" {
		v.HealthcheckOnFailureAction = h.OnFailure
	}
	if h.LogDestination != "" {
		v.HealthLogDestination = h.LogDestination
	}
	if h.MaxLogCount != nil {
		v.HealthMaxLogCount = *h.MaxLogCount
	}
	if h.MaxLogSize != nil {
		v.HealthMaxLogSize = *h.MaxLogSize
	}
}

// entrypointOf is the part of the arguments that commandOf leaves out.
func entrypointOf(s *container.Spec, get func(string) *image.Image) []string {
	if s.Process.Entrypoint != nil {
		return s.Process.Entrypoint
	}
	if img := get(s.Image.ID); img != nil {
		return img.Config.Entrypoint
	}
	return nil
}

// stopSignalName is the signal's name whether the user gave a name or a number.
func stopSignalName(s *container.Spec) string {
	if s.Lifecycle.StopSignal == "" {
		return "SIGTERM"
	}
	sig, err := rootless.ParseSignal(s.Lifecycle.StopSignal)
	if err != nil {
		return s.Lifecycle.StopSignal
	}
	return signalName(sig)
}
