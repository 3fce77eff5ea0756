// Package monitor supervises one container after moss has gone: its streams,
// its log, its exit and the clean-up.
package monitor

import (
	"encoding/json"

	"moss/rootless/runtime/birth"
	"moss/slirp"
)

// Config is everything that a monitor needs to know. moss writes it to
// <run>/c/<id12>/monitor.json before it starts the monitor.
type Config struct {
	ID, Name string
	RunDir   string // <run>/c/<id12>
	Dir      string // <root>/containers/<id>

	// Birth clones the container's first process through moss-runtime's own
	// init. When Runtime is set, that OCI runtime is driven by its command line
	// instead, over the bundle <RunDir>/bundle.
	Birth   birth.Request
	Runtime *Runtime `json:",omitempty"`

	TTY   bool `json:",omitempty"`
	Stdin bool `json:",omitempty"`
	Log   Log

	Restart    string `json:",omitempty"` // "", no, on-failure, always, unless-stopped
	RestartMax int    `json:",omitempty"`

	// Network asks moss-net for a connection; nil where there is none to make.
	Network *Network `json:",omitempty"`
	// Files are completed by the monitor when the addresses are known.
	HostsFile  string `json:",omitempty"` // gets "<address>\t<HostNames>" lines
	HostNames  string `json:",omitempty"`
	ResolvFile string `json:",omitempty"` // gets nameserver lines from slirp.Status.DNS

	Cgroup  string            `json:",omitempty"` // removed at the end
	Limits  map[string]string `json:",omitempty"` // cgroup file -> value, written before the birth (after a restart too)
	Unmount []string          `json:",omitempty"` // mounts in this namespace to undo (fuse-overlayfs)
	PIDFile string            `json:",omitempty"`

	// AutoRemove removes the container's record at the end: Dir is renamed into
	// Trash, Names (the reservation files) are deleted, the exit is reported,
	// and then the trash is emptied.
	AutoRemove bool     `json:",omitempty"`
	Trash      string   `json:",omitempty"`
	Names      []string `json:",omitempty"`
	Volumes    []string `json:",omitempty"` // anonymous volumes' directories, removed with it

	// Extra holds what later versions add; unknown to this one.
	Extra json.RawMessage `json:",omitempty"`
}

// Runtime is an OCI runtime driven by its command line.
type Runtime struct {
	Path string
	Args []string // global options, before the verb
}

// Network is how the monitor reaches moss-net.
type Network struct {
	Dirs    slirp.Dirs
	Request slirp.ConnectRequest
}

// Log says where the output goes.
type Log struct {
	Driver  string // k8s-file, json-file, none, passthrough
	Path    string
	MaxSize int64 // bytes of one file; 0 is no limit
	MaxFile int   // rotated files kept beside the current one
}
