// Package container is the record of one container: what was asked for (Spec),
// what happened (Last, Live) and what follows from them (Status).
package container

import (
	"time"

	"moss/slirp"
)

// SpecVersion is the version of Spec that this moss writes.
const SpecVersion = 1

// Spec is what the user asked for, completed from the image by create. After
// create only rename and update change it, under the container's lock.
type Spec struct {
	Version int
	ID      string // 64 hexadecimal digits
	Name    string
	Created time.Time
	// CreateCommand is the argv of the moss that created it.
	CreateCommand []string `json:",omitempty"`

	Image      Image
	Process    Process
	Rootfs     Rootfs
	Namespaces Namespaces
	Network    Network
	Security   Security
	Resources  Resources
	Lifecycle  Lifecycle
	Log        Log
	Health     *Health `json:",omitempty"` // nil: the image's, and after create none

	Labels      map[string]string `json:",omitempty"`
	Annotations map[string]string `json:",omitempty"`
	Pod         string            `json:",omitempty"`
	// HooksDirs are directories of oci-hooks(5).
	HooksDirs []string `json:",omitempty"`
	// Runtime is the OCI runtime by name or path; "" is moss-runtime.
	Runtime string `json:",omitempty"`
}

// Image is what the root filesystem comes from.
type Image struct {
	Name     string // reference as given on the command line
	ID       string // image ID as resolved: hexadecimal config digest
	Digest   string `json:",omitempty"` // manifest digest
	Platform string `json:",omitempty"` // os/arch[/variant] as asked for
}

// Process describes PID 1 of the container.
type Process struct {
	// Entrypoint is --entrypoint; nil means the image's.
	Entrypoint []string `json:",omitempty"`
	// Command is the command line after the image; nil means the image's CMD.
	Command []string `json:",omitempty"`
	// Args is the argv that runs: entry point and command, resolved by create.
	Args []string
	// Env holds NAME=value. Before create it is what the flags said, on top of
	// which create lays the image's; after create it is all of it.
	Env []string
	// UnsetEnv are names that neither the image nor moss sets.
	UnsetEnv []string `json:",omitempty"`
	Dir      string   `json:",omitempty"` // working directory, absolute; "" means the image's, then /
	// MakeDir makes Dir if it is not there: it is the image's.
	MakeDir bool `json:",omitempty"`
	// User is USER[:GROUP] by name or number; "" means the image's, then root.
	User   string   `json:",omitempty"`
	Groups []string `json:",omitempty"` // --group-add; "keep-groups" keeps the caller's
	TTY    bool     `json:",omitempty"`
	Stdin  bool     `json:",omitempty"` // -i: stdin stays open
	Umask  *uint32  `json:",omitempty"`
	// Rlimits by lower-case name without "rlimit_": "nofile".
	Rlimits     []Rlimit `json:",omitempty"`
	Init        bool     `json:",omitempty"` // --init: a minimal reaper is PID 1
	InitPath    string   `json:",omitempty"` // of the host, in place of that reaper
	OOMScoreAdj *int     `json:",omitempty"`

	// EnvMerge are NAME=value with ${NAME}s of the image's environment; create
	// uses them up.
	EnvMerge    []string `json:",omitempty"`
	UnsetEnvAll bool     `json:",omitempty"`
	// SystemdMode is "" or "true" (when the program is systemd), "false" or "always";
	// Systemd is what create made of it.
	SystemdMode string `json:",omitempty"`
	Systemd     bool   `json:",omitempty"`
	// Personality is LINUX or LINUX32 and flags of personality(2).
	Personality []string `json:",omitempty"`
	// NoPasswd is --passwd=false: nothing is added to /etc/passwd and /etc/group.
	NoPasswd    bool       `json:",omitempty"`
	PasswdEntry string     `json:",omitempty"` // the line to add, with $USERNAME, $UID, $GID, $NAME, $HOME
	GroupEntry  string     `json:",omitempty"` // likewise, with $GROUPNAME, $GID, $USERLIST
	HostUsers   []HostUser `json:",omitempty"`
	// TimeZone is a name below /usr/share/zoneinfo of the host, or local.
	TimeZone string `json:",omitempty"`
}

// HostUser is a user of the host that the container knows too.
type HostUser struct {
	Name     string
	UID, GID int
	Comment  string `json:",omitempty"`
	Home     string
}

// Rlimit is one --ulimit; -1 is unlimited.
type Rlimit struct {
	Name       string
	Soft, Hard int64
}

// Rootfs describes the root filesystem and what is mounted in it.
type Rootfs struct {
	// Path is --rootfs DIR: an exploded root filesystem in place of an image.
	Path     string  `json:",omitempty"`
	ReadOnly bool    `json:",omitempty"`
	Mounts   []Mount `json:",omitempty"`
	ShmSize  int64   `json:",omitempty"` // bytes of /dev/shm; 0 means 64 MiB, -1 no limit
	// NoReadOnlyTmpfs is --read-only-tmpfs=false.
	NoReadOnlyTmpfs bool `json:",omitempty"`
	// Secrets are files on a tmpfs, or variables that Process.Env does not show.
	Secrets []Secret `json:",omitempty"`
	// VolumesFrom are CONTAINER[:OPTIONS] whose mounts create has added to Mounts.
	VolumesFrom []string `json:",omitempty"`
	// ImageVolumes is what is done with the image's VOLUMEs: "anonymous" (""),
	// "tmpfs" or "ignore".
	ImageVolumes string `json:",omitempty"`
	// SystemdSize is the size of each tmpfs of systemd, in bytes; nil means 64 MiB, 0
	// half of the memory.
	SystemdSize *int64 `json:",omitempty"`
	// ChrootDirs are directories in the container that get the files of /etc too.
	ChrootDirs []string `json:",omitempty"`
}

// Mount is one -v, --mount, --tmpfs or image VOLUME.
type Mount struct {
	Type   string // bind, volume, tmpfs, ramfs, image, devpts; artifact before create, which makes it bind
	Source string `json:",omitempty"` // host path, volume name ("" makes an anonymous volume) or image
	Target string // absolute path in the container
	// Options as mount(8) names them, and U, z, Z, O, upperdir=, workdir=, idmap[=],
	// copy, nocopy, size=, mode= and no-dereference.
	Options  []string `json:",omitempty"`
	ReadOnly bool     `json:",omitempty"`
	// Anonymous volumes go with the container.
	Anonymous bool `json:",omitempty"`
	// SubPath is what of a volume or an image is mounted; "" is all of it.
	SubPath string `json:",omitempty"`
	// Beneath is a directory that Source is in, and out of which no symbolic link
	// may lead: what a pattern has found may have been put there by somebody else.
	Beneath string `json:",omitempty"`
	// ImageID is the image that Source meant when the container was created.
	ImageID string `json:",omitempty"`
	// Labels and DriverOptions are for a volume that is made for this mount; of an artifact
	// they are title, digest and name.
	Labels        map[string]string `json:",omitempty"`
	DriverOptions map[string]string `json:",omitempty"`
}

// Secret is one --secret: its content is a file of that ID in the container's
// directory "secrets", copied there by create.
type Secret struct {
	Name string
	ID   string
	// Env is the variable that it becomes; "" mounts it at Target.
	Env      string `json:",omitempty"`
	Target   string `json:",omitempty"` // absolute path in the container
	UID, GID uint32 `json:",omitempty"`
	Mode     uint32 `json:",omitempty"`
}

// Namespaces says for each kind: "" or "private", "host", "container:ID", or
// "ns:PATH".
type Namespaces struct {
	// User is "as:" with the value of --as before create, which turns it into one
	// of the others: "" or "host" (the user's kept namespace), "keep-id[:uid=,gid=,size=]",
	// "nomap", "auto[:size=]", "container:ID", or "map" (UIDMap, GIDMap).
	User   string   `json:",omitempty"`
	UIDMap []string `json:",omitempty"` // container:intermediate:size
	GIDMap []string `json:",omitempty"`
	// SubUIDName and SubGIDName are --subuidname and --subgidname; create turns them
	// into maps.
	SubUIDName string `json:",omitempty"`
	SubGIDName string `json:",omitempty"`
	PID        string `json:",omitempty"`
	IPC        string `json:",omitempty"` // also "none", "shareable"
	UTS        string `json:",omitempty"`
	Cgroup     string `json:",omitempty"`
}

// Network describes how the container is connected.
type Network struct {
	// Mode is "bridge" (Networks apply), "none", "host", "private[:KIND[,OPTION...]]",
	// "container:ID" or "ns:PATH".
	Mode     string
	Networks []NetworkAttachment `json:",omitempty"` // the network "moss" when empty and Mode is bridge
	// Detached says that the container has been taken off every network.
	Detached bool         `json:",omitempty"`
	Hostname string       `json:",omitempty"`
	Ports    []slirp.Port `json:",omitempty"`
	// PublishAll is -P; create turns the exposed ports into Ports.
	PublishAll bool     `json:",omitempty"`
	Exposed    []string `json:",omitempty"` // "80/tcp", from the image and --expose
	DNS        []string `json:",omitempty"`
	DNSSearch  []string `json:",omitempty"`
	DNSOptions []string `json:",omitempty"`
	AddHosts   []string `json:",omitempty"` // name:address, address may be host-gateway
	NoHosts    bool     `json:",omitempty"`
	NoHostname bool     `json:",omitempty"` // the image's /etc/hostname stays
	NoDNS      bool     `json:",omitempty"` // the image's /etc/resolv.conf stays
	// HostsFile is what /etc/hosts begins with: "" or "none", "image", or a path.
	HostsFile string `json:",omitempty"`
	// HostIP is host-gateway's address in place of the network's: "none" leaves the
	// host's names out of /etc/hosts.
	HostIP string `json:",omitempty"`
	// HostAccess are TCP ports of the host's loopback that it reaches at the host's name.
	HostAccess []uint16 `json:",omitempty"`
	// AllowOut is what it may reach outside, as slirp.ParseAllowList reads it; none: everything.
	AllowOut []string `json:",omitempty"`
	// Wake are TCP ports of the host, of those that are published: the program is started
	// when a client comes to one of them, and stopped when there has been none for Idle; 0: never.
	Wake []uint16      `json:",omitempty"`
	Idle time.Duration `json:",omitempty"`
}

// NetworkAttachment is one --network NAME[:ip=…,mac=…,alias=…].
type NetworkAttachment struct {
	Name      string
	IPs       []string `json:",omitempty"`
	MAC       string   `json:",omitempty"`
	Aliases   []string `json:",omitempty"`
	Interface string   `json:",omitempty"`
}

// Security describes what the process may do.
type Security struct {
	Privileged bool     `json:",omitempty"`
	CapAdd     []string `json:",omitempty"` // without CAP_, upper case; ALL
	// CapDefault is what CapAdd and CapDrop begin with; nil means moss's default.
	CapDefault      []string `json:",omitempty"`
	CapDrop         []string `json:",omitempty"`
	NoNewPrivileges bool     `json:",omitempty"`
	// Seccomp is "" (the default profile), "unconfined", or a profile's path.
	Seccomp string `json:",omitempty"`
	// SeccompPolicy is "" or "default", or "image": SeccompProfile is then the
	// profile of a label of the image's.
	SeccompPolicy  string   `json:",omitempty"`
	SeccompProfile string   `json:",omitempty"`
	AppArmor       string   `json:",omitempty"` // "", "unconfined" or a profile's name
	Label          []string `json:",omitempty"` // SELinux: "disable", "type:…", "level:…"
	Mask           []string `json:",omitempty"` // more paths to mask
	Unmask         []string `json:",omitempty"` // paths not to mask; "ALL"
	// ProcOpts are options of the proc mount.
	ProcOpts []string          `json:",omitempty"`
	Sysctls  map[string]string `json:",omitempty"`
	// CDI are devices by the names of the Container Device Interface, vendor/class=name,
	// looked up in CDIDirs at each start.
	CDI     []string `json:",omitempty"`
	CDIDirs []string `json:",omitempty"`
	// Devices are HOST[:CONTAINER[:rwm]].
	Devices []string `json:",omitempty"`
}

// Resources are the limits, each applied only where its controller is delegated.
type Resources struct {
	Memory     int64 `json:",omitempty"` // bytes
	MemorySwap int64 `json:",omitempty"` // bytes; -1 unlimited
	// MemoryReservation is what it may keep when memory is short, in bytes.
	MemoryReservation int64   `json:",omitempty"`
	CPUs              float64 `json:",omitempty"`
	CPUQuota          int64   `json:",omitempty"` // microseconds in each CPUPeriod, in place of CPUs; -1: no limit
	CPUPeriod         uint64  `json:",omitempty"` // microseconds; 0 means 100,000
	CPUShares         uint64  `json:",omitempty"`
	CPUSetCPUs        string  `json:",omitempty"`
	CPUSetMems        string  `json:",omitempty"`
	// DefaultPids is the limit of processes where that controller is delegated and
	// PidsLimit is nil; nil means 2048.
	DefaultPids *int64 `json:",omitempty"`
	PidsLimit   *int64 `json:",omitempty"` // nil: 2048 where delegated; 0 or -1: none
	// IOWeight is a relative weight as of cgroup v1: 10 to 1000.
	IOWeight  uint16     `json:",omitempty"`
	IODevices []IODevice `json:",omitempty"`
	// CgroupConf are control files of cgroup v2 and what to write into them.
	CgroupConf map[string]string `json:",omitempty"`
	// CgroupsMode is "" (enabled), "disabled", "no-conmon" (the monitor stays in the
	// caller's cgroup), or "split" (both live in the caller's cgroup).
	CgroupsMode string `json:",omitempty"`
	// CgroupParent is --cgroup-parent.
	CgroupParent string `json:",omitempty"`
}

// IODevice are the limits of one block device; 0 is none.
type IODevice struct {
	Path                string // of the host
	Weight              uint16 `json:",omitempty"` // as IOWeight
	ReadBps, WriteBps   uint64 `json:",omitempty"` // bytes per second
	ReadIOps, WriteIOps uint64 `json:",omitempty"` // operations per second
}

// Lifecycle describes what happens around the process.
type Lifecycle struct {
	AutoRemove  bool   `json:",omitempty"`
	Restart     string `json:",omitempty"` // "", "no", "on-failure", "always", "unless-stopped"
	RestartMax  int    `json:",omitempty"` // on-failure:N; 0 is no limit
	StopSignal  string `json:",omitempty"` // "SIGTERM" or a number; "" means the image's, then SIGTERM
	StopTimeout *int   `json:",omitempty"` // seconds; nil means 10
	// SdNotify says who tells a service manager that it is ready: "" and container, the
	// program; conmon, moss; healthy, its health check; ignore, nobody.
	SdNotify string `json:",omitempty"`
	// Timeout is how long it may run before it is killed; 0 is for ever.
	Timeout time.Duration `json:",omitempty"`
	PIDFile string        `json:",omitempty"`
	CIDFile string        `json:",omitempty"`
	// MonitorPIDFile gets the PID of the monitor.
	MonitorPIDFile string `json:",omitempty"`
	// Requires are containers that are started before this one: IDs, after create.
	Requires []string `json:",omitempty"`
	Volumes  []string `json:",omitempty"` // anonymous volumes made for it
	// UnitName is the name by which the unit that has made it knows it, where it has been
	// renamed since.
	UnitName string `json:",omitempty"`
}

// Log says where the output goes.
type Log struct {
	// Driver is "" (k8s-file), json-file, journald, none, passthrough or passthrough-tty.
	Driver string `json:",omitempty"`
	// Options are max-size in bytes (-1: no limit), max-file, path, tag, and label:
	// lines of FIELD=VALUE.
	Options map[string]string `json:",omitempty"`
	// Dir is the directory in which the log gets a directory of its own, named by the
	// container's ID, in place of the record's.
	Dir string `json:",omitempty"`
}
