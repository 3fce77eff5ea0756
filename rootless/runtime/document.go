// Package runtime is moss's own OCI runtime: the init stages that turn a cloned
// process into a container's program, and the OCI command line over them.
package runtime

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/runtime/birth"
)

// Document is what the init process of a container reads: the OCI configuration
// and what the OCI configuration has no words for.
type Document struct {
	Spec *specs.Spec
	// Overlay is mounted at Spec.Root.Path, in the container's own mount
	// namespace, before anything else; it dies with that namespace.
	Overlay *Overlay `json:",omitempty"`
	// SeccompBPF is a file of ready BPF instructions (struct sock_filter, native
	// endian); when set, Spec.Linux.Seccomp is not looked at.
	SeccompBPF string `json:",omitempty"`
	// CopyUp fills empty volumes from the root filesystem before they are mounted.
	CopyUp []CopyUp `json:",omitempty"`
	// Sources say for some of Spec.Mounts, by destination, what is mounted where a
	// path of the host cannot say it.
	Sources map[string]Source `json:",omitempty"`
	// Chown are destinations of mounts that are given, with all that is in them, to
	// the user of the program.
	Chown []string `json:",omitempty"`
	// Secrets are given to the program as files and variables.
	Secrets []Secret `json:",omitempty"`
	// User is USER[:GROUP] by name or number, looked up in the container's own
	// /etc/passwd and /etc/group; "" uses Spec.Process.User.
	User string `json:",omitempty"`
	// Groups are more groups by name or number, looked up likewise.
	Groups []string `json:",omitempty"`
	// Passwd and Group are lines for the container's /etc/passwd and /etc/group,
	// where it has those files.
	Passwd []Entry `json:",omitempty"`
	Group  []Entry `json:",omitempty"`
	// KeepGroups leaves the caller's supplementary groups as they are.
	KeepGroups bool `json:",omitempty"`
	// SetHome adds HOME from /etc/passwd when the environment has none.
	SetHome bool `json:",omitempty"`
	// ListenPID makes the variable LISTEN_PID the program's process ID, as the program
	// knows it; see sd_listen_fds(3).
	ListenPID bool `json:",omitempty"`
	// MakeCwd creates the working directory when it is missing.
	MakeCwd bool `json:",omitempty"`
	// Console allocates a pseudoterminal in the container's devpts and sends
	// its master over the sync socket with the ready message.
	Console bool `json:",omitempty"`
	// StartFD is a listening socket among the inherited descriptors: the program
	// is executed when somebody connects there. The OCI command line separates
	// create from start by it.
	StartFD int `json:",omitempty"`
	// State is what the hooks that the init stage runs (createContainer,
	// startContainer) read; they run only when it is set.
	State *specs.State `json:",omitempty"`
	// NoPivot moves the root filesystem in place of pivot_root(2), which does not
	// work on an initial ramdisk.
	NoPivot bool `json:",omitempty"`
}

// Entry is a line that is added to /etc/passwd or /etc/group unless there is one
// of its name, or with ByID of its number. $GID in it is the group of User.
type Entry struct {
	Line string
	ByID bool `json:",omitempty"`
}

// Overlay is an overlay mount.
type Overlay struct {
	Lower     []string // uppermost first
	DataOnly  []string `json:",omitempty"` // layers that Lower redirects to
	Upper     string   `json:",omitempty"`
	Work      string   `json:",omitempty"`
	Volatile  bool     `json:",omitempty"` // no sync: what --rm throws away
	UserXattr bool     `json:",omitempty"`
	// UIDMap and GIDMap shift the owners of Lower, where the kernel can.
	UIDMap []birth.IDMap `json:",omitempty"`
	GIDMap []birth.IDMap `json:",omitempty"`
}

// CopyUp makes a volume that was never used what the image has at Target: its
// content, unless NoCopy, and its owner and mode. Where the image has nothing, the
// volume becomes the program's user's. A volume that is not empty stays as it is.
type CopyUp struct {
	Target, Source string
	NoCopy         bool `json:",omitempty"`
	// KeepOwner: somebody has chosen the volume's owner.
	KeepOwner bool `json:",omitempty"`
}

// Source is what a bind mount shows in place of Mount.Source: an overlay, or what
// Path leads to in the directory Within, or both.
type Source struct {
	Overlay *Overlay `json:",omitempty"`
	// Within is a directory of the host.
	Within string `json:",omitempty"`
	// Path is relative, in Within or in the overlay. Symbolic links on it cannot
	// lead out of there: they are resolved as if that were the root directory.
	Path string `json:",omitempty"`
	// NoLinks refuses symbolic links on Path.
	NoLinks bool `json:",omitempty"`
}

// Secret is one file of the host's, which only its owner can read, that the
// program gets: as a file on a tmpfs that nobody can write to, or as a variable.
type Secret struct {
	File string
	// Env is the variable's name; "" makes the file Target.
	Env    string `json:",omitempty"`
	Target string `json:",omitempty"`
	// UID, GID and Mode of Target.
	UID, GID, Mode uint32 `json:",omitempty"`
}

// ExecDocument is what one more process in a running container reads.
type ExecDocument struct {
	PID     int // of the container's first process, as the caller sees it
	Process *specs.Process
	User    string   `json:",omitempty"` // as in Document
	Groups  []string `json:",omitempty"`
	SetHome bool     `json:",omitempty"`
	// SeccompBPF, as in Document.
	SeccompBPF string              `json:",omitempty"`
	Seccomp    *specs.LinuxSeccomp `json:",omitempty"`
	Cgroup     string              `json:",omitempty"`
	Console    bool                `json:",omitempty"`
	// Bound: the program is killed when its caller is.
	Bound bool `json:",omitempty"`
	// Personality of the container.
	Personality *specs.LinuxPersonality `json:",omitempty"`
	// Aside, if set, is what the program sees and the container does not.
	Aside *Aside `json:",omitempty"`
}
