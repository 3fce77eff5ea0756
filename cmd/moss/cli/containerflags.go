package cli

import "moss/config"

// ContainerFlags describe a container: run and create share them. Names,
// shorthands and meanings are podman's. Spec reads them once.
type ContainerFlags struct {
	Name       string   `help:"Name of the container; one is made up when none is given." placeholder:"NAME" group:"Container"`
	Replace    bool     `help:"Remove a container of the same name first." group:"Container"`
	Label      []string `short:"l" sep:"none" help:"Label of the container." placeholder:"KEY=VALUE" group:"Container"`
	LabelFile  []string `sep:"none" help:"File of labels, one a line." placeholder:"FILE" group:"Container"`
	Annotation []string `sep:"none" help:"OCI annotation of the container." placeholder:"KEY=VALUE" group:"Container"`
	Cidfile    string   `help:"Write the container's ID to this file, which must not exist yet." placeholder:"FILE" group:"Container"`
	Pidfile    string   `help:"Write the process ID of the container's first process to this file." placeholder:"FILE" group:"Container"`
	Runtime    string   `help:"OCI runtime by name or path; moss's own when none is given." placeholder:"NAME" group:"Container"`

	Pull      string `words:"always missing never newer" help:"When to pull the image: always, missing (the default), never or newer." placeholder:"POLICY" group:"Image"`
	Platform  string `help:"Platform of the image." placeholder:"OS/ARCH[/VARIANT]" group:"Image"`
	Arch      string `help:"Architecture of the image." placeholder:"ARCH" group:"Image"`
	OS        string `name:"os" help:"Operating system of the image." placeholder:"OS" group:"Image"`
	Variant   string `help:"Variant of the image's architecture." placeholder:"VARIANT" group:"Image"`
	Quiet     bool   `short:"q" help:"Show no progress of a pull." group:"Image"`
	TLSVerify *bool  `name:"tls-verify" help:"Require HTTPS and a valid certificate of the registry." group:"Image"`
	Authfile  string `help:"File with the registry's credentials." placeholder:"FILE" group:"Image"`
	Rootfs    bool   `help:"The first argument is a directory with a root filesystem, not an image." group:"Image"`

	Entrypoint *string  `help:"Entry point in place of the image's: a command or a JSON array of words." placeholder:"COMMAND" group:"Process"`
	Env        []string `short:"e" sep:"none" help:"Environment variable; NAME alone passes moss's own on, NAME* all that begin so." placeholder:"NAME[=VALUE]" group:"Process"`
	EnvFile    []string `sep:"none" help:"File of environment variables, one a line." placeholder:"FILE" group:"Process"`
	EnvHost    bool     `help:"Pass on every environment variable of moss." group:"Process"`
	UnsetEnv   []string `name:"unsetenv" sep:"none" help:"Take away a variable that the image or moss would set." placeholder:"NAME" group:"Process"`
	HTTPProxy  *bool    `name:"http-proxy" help:"Pass on the proxy variables of moss's environment: http_proxy, https_proxy, ftp_proxy, no_proxy; on by default." group:"Process"`
	Workdir    string   `short:"w" help:"Working directory in the container." placeholder:"DIR" group:"Process"`
	User       string   `short:"u" help:"User, and group, of the program, by name or number." placeholder:"USER[:GROUP]" group:"Process"`
	GroupAdd   []string `sep:"none" help:"Further group of the user; keep-groups keeps those of the caller." placeholder:"GROUP" group:"Process"`
	Init       bool     `help:"Run a small init as process 1, which forwards signals and reaps." group:"Process"`
	Umask      string   `help:"File mode creation mask, in octal." placeholder:"MASK" group:"Process"`
	Ulimit     []string `sep:"none" help:"Limit of setrlimit(2), or host for moss's own." placeholder:"NAME=SOFT[:HARD]" group:"Process"`
	OOMScore   *int     `name:"oom-score-adj" help:"How willingly the kernel kills it when memory is short: -1000 to 1000." placeholder:"N" group:"Process"`

	Interactive bool `short:"i" help:"Keep standard input open." group:"Terminal"`
	TTY         bool `name:"tty" short:"t" help:"Give the container a terminal." group:"Terminal"`

	Volume        []string `short:"v" sep:"none" help:"Mount a host path or a named volume." placeholder:"[SOURCE:]TARGET[:OPTIONS]" group:"Files"`
	Mount         []string `sep:"none" help:"Mount as KEY=VALUE list: type=bind|volume|tmpfs|image|glob|devpts|ramfs,source=,target=,readonly…" placeholder:"LIST" group:"Files"`
	Tmpfs         []string `sep:"none" help:"Mount a file system in memory." placeholder:"TARGET[:OPTIONS]" group:"Files"`
	VolumesFrom   []string `sep:"none" help:"Mount the volumes of another container." placeholder:"CONTAINER[:ro|rw|z]" group:"Files"`
	Secret        []string `sep:"none" help:"Give the container a secret: type=mount|env,target=,uid=,gid=,mode=." placeholder:"NAME[,OPTION...]" group:"Files"`
	ImageVolume   string   `words:"anonymous bind tmpfs ignore" help:"What to do with the image's volumes: anonymous (or bind, the same), tmpfs or ignore." placeholder:"MODE" group:"Files"`
	ReadOnly      bool     `help:"Mount the root filesystem read-only." group:"Files"`
	ReadOnlyTmpfs *bool    `help:"With --read-only: writable tmpfs on /run, /tmp and /var/tmp; on by default." group:"Files"`
	ShmSize       string   `help:"Size of /dev/shm." placeholder:"SIZE" group:"Files"`
	Device        []string `sep:"none" help:"Device of the host." placeholder:"HOST[:CONTAINER][:rwm]" group:"Files"`

	Network      []string `name:"network" aliases:"net" sep:"none" help:"Network: none, host, private[:KIND[,OPTION...]], pasta[:ARG,...], slirp4netns[:OPTION,...], container:ID, ns:PATH or NAME[:ip=,mac=,alias=]; the default is moss." placeholder:"NETWORK" group:"Network"`
	Publish      []string `short:"p" sep:"none" help:"Publish a port, or a range, on the host." placeholder:"[[IP:]HOSTPORT:]PORT[/PROTO]" group:"Network"`
	PublishAll   bool     `short:"P" help:"Publish every exposed port on a free port of the host." group:"Network"`
	Expose       []string `sep:"none" help:"Expose a port, or a range, without publishing it." placeholder:"PORT[/PROTO]" group:"Network"`
	Hostname     string   `short:"h" help:"Host name in the container." placeholder:"NAME" group:"Network"`
	AddHost      []string `sep:"none" help:"Line in /etc/hosts; host-gateway is the host's address." placeholder:"NAME:IP" group:"Network"`
	NoHosts      bool     `help:"Leave /etc/hosts as the image has it." group:"Network"`
	DNS          []string `name:"dns" sep:"none" help:"Name server; none leaves /etc/resolv.conf as the image has it." placeholder:"IP" group:"Network"`
	DNSSearch    []string `name:"dns-search" sep:"none" help:"Search domain; . for none." placeholder:"DOMAIN" group:"Network"`
	DNSOption    []string `name:"dns-option" aliases:"dns-opt" sep:"none" help:"Option of resolv.conf(5)." placeholder:"OPTION" group:"Network"`
	NetworkAlias []string `name:"network-alias" sep:"none" help:"Further name on the container's networks." placeholder:"NAME" group:"Network"`
	IP           string   `name:"ip" help:"IPv4 address on the container's network." placeholder:"IP" group:"Network"`
	IP6          string   `name:"ip6" help:"IPv6 address on the container's network." placeholder:"IP" group:"Network"`
	MACAddress   string   `name:"mac-address" help:"Hardware address on the container's network." placeholder:"MAC" group:"Network"`

	Userns     string   `words:"host keep-id nomap auto" help:"User namespace: host, keep-id, nomap, auto, container:ID or ns:PATH." placeholder:"MODE" group:"Namespaces"`
	UIDMap     []string `name:"uidmap" sep:"none" help:"Map user IDs." placeholder:"CONTAINER:INTERMEDIATE[:SIZE]" group:"Namespaces"`
	GIDMap     []string `name:"gidmap" sep:"none" help:"Map group IDs." placeholder:"CONTAINER:INTERMEDIATE[:SIZE]" group:"Namespaces"`
	SubUIDName string   `name:"subuidname" help:"Map the user IDs that /etc/subuid gives to this name, which must be your own." placeholder:"NAME" group:"Namespaces"`
	SubGIDName string   `name:"subgidname" help:"Map the group IDs that /etc/subgid gives to this name, which must be your own." placeholder:"NAME" group:"Namespaces"`
	As         string   `words:"me root image" help:"User of the container that is you on the host, and runs the program: me, by the same number; root; image, the image's; or UID[:GID]." placeholder:"USER" group:"Namespaces"`
	PID        string   `words:"private host" name:"pid" help:"PID namespace: private, host, container:ID or ns:PATH." placeholder:"MODE" group:"Namespaces"`
	IPC        string   `words:"private shareable none host" name:"ipc" help:"IPC namespace: private, shareable, none, host, container:ID or ns:PATH." placeholder:"MODE" group:"Namespaces"`
	UTS        string   `words:"private host" name:"uts" help:"UTS namespace: private, host, container:ID or ns:PATH." placeholder:"MODE" group:"Namespaces"`
	Cgroupns   string   `words:"private host" help:"Cgroup namespace: private, host, container:ID or ns:PATH." placeholder:"MODE" group:"Namespaces"`

	Privileged    bool     `help:"Take away every restriction that the user namespace allows to." group:"Security"`
	CapAdd        []string `words:"ALL CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_ADMIN NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_CHROOT SYS_NICE SYS_PTRACE SYS_RESOURCE SYS_TIME" sep:"," help:"Add a capability, or ALL." placeholder:"CAPABILITY" group:"Security"`
	CapDrop       []string `words:"ALL CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_ADMIN NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID SYS_ADMIN SYS_CHROOT SYS_NICE SYS_PTRACE SYS_RESOURCE SYS_TIME" sep:"," help:"Drop a capability, or ALL." placeholder:"CAPABILITY" group:"Security"`
	SecurityOpt   []string `words:"no-new-privileges seccomp= seccomp=unconfined apparmor= label=disable mask= unmask= unmask=ALL proc-opts= systempaths=unconfined" sep:"none" help:"seccomp=, apparmor=, label=, no-new-privileges, mask=, unmask=, proc-opts=, systempaths=unconfined." placeholder:"OPTION" group:"Security"`
	SeccompPolicy string   `words:"default image" help:"Where the seccomp profile comes from: default, or image for a label of the image." placeholder:"POLICY" group:"Security"`
	Sysctl        []string `sep:"none" help:"Kernel parameter of the container's namespaces." placeholder:"KEY=VALUE" group:"Security"`

	AccountFlags
	NetworkFlags
	WakeFlags
	InitFlags
	PullFlags
	LimitFlags
	CgroupFlags

	Rm          bool     `help:"Remove the container, and its anonymous volumes, when it exits." group:"Life"`
	Restart     string   `words:"no on-failure always unless-stopped" help:"Restart policy: no, on-failure[:N], always or unless-stopped." placeholder:"POLICY" group:"Life"`
	StopSignal  string   `words:"HUP INT QUIT KILL USR1 USR2 TERM CONT STOP WINCH" help:"Signal that stops the program." placeholder:"SIGNAL" group:"Life"`
	StopTimeout *int     `help:"Seconds between that signal and SIGKILL." placeholder:"SECONDS" group:"Life"`
	LogDriver   string   `words:"k8s-file json-file journald none passthrough passthrough-tty" help:"Log: k8s-file, json-file, journald, none, passthrough or passthrough-tty." placeholder:"DRIVER" group:"Life"`
	LogOpt      []string `sep:"none" help:"Option of the log: max-size (32mb by default; -1 for none), max-file, path; of journald: tag, label." placeholder:"KEY=VALUE" group:"Life"`
	SDNotify    string   `name:"sdnotify" words:"container conmon healthy ignore" help:"Who tells the service manager of $NOTIFY_SOCKET that it is ready: container, the program (the default); conmon, moss, when it has started; healthy, its health check; ignore, nobody." placeholder:"MODE" group:"Life"`
	Timeout     uint32   `help:"Kill the container after so many seconds; 0 for never." placeholder:"SECONDS" group:"Life"`

	HealthFlags

	conf  *config.Config // what the configuration files set
	given []string       // the names of the flags that were given
}

func (f *ContainerFlags) containerFlags() *ContainerFlags { return f }
