// Package monitor supervises one container after moss has gone: its streams,
// its log, its exit and the clean-up.
//
// One process per running container, moss-monitor, runs Main. It is the parent of
// the container's first process, and one goroutine of it does everything, from
// one epoll loop (loop.go): it holds memory for as long as the container runs,
// so it has few threads and, once the container runs, executes itself again to
// forget its start (settle.go). It must not import package net or os/signal.
//
// What the files say:
//
//	monitor.go   the state, the start conversation, the loop's round
//	run.go       one run of the program: birth, network beside it, ready
//	external.go  the same through another OCI runtime
//	stream.go    the container's streams; back-pressure
//	conn.go      the clients
//	control.go   the control socket
//	log.go       log drivers and rotation
//	network.go   the lease from moss-net, hosts and resolv.conf
//	restart.go   restart policy and back-off
//	health.go    health checks
//	oom.go       processes killed for want of memory
//	signal.go    the end of the session
//	adopt.go     the unit of the user's service manager
//	notify.go    what a service manager is told
//	scratch.go   what lasts for one run only
//	finish.go    the end of a run, and of all
//	note.go      what is recorded as events
//
// # Order at the end
//
// Reap, read the streams to their end, give the network lease back (moss-net
// confirms it by closing its side), remove the cgroup, undo mounts, write
// last.json and exit.json, remove live.json and the sockets (with AutoRemove
// instead: rename the record and the run directory away, free the name), and only
// then tell the clients Exited; then delete what was renamed. Who
// has received Exited finds the name free and the ports closed.
//
// # A monitor that is killed
//
// After kill -9 of the monitor the container goes on, with this difference: its
// output has no reader (it gets SIGPIPE or EPIPE, or SIGHUP where it has a
// terminal), its stdin is at its end, its network lease is given back (the
// addresses stay, names and published ports go), and nobody restarts it or
// cleans up. live.json remains, with a dead Monitor and a live PID: container.Look
// reports running, and View.Monitor false; the sockets refuse connections, which
// package client reports as ErrMonitorGone. Whoever stops the container then
// waits on the pidfd of Live.PID and does the clean-up in the monitor's place:
// cgroup, mounts, last.json, live.json, and with AutoRemove the record. When the
// container's process has ended too, Look reports exited, with ExitUnknown.
package monitor

import (
	"time"

	"moss/record"
	"moss/rootless/event"
	"moss/rootless/runtime/birth"
	"moss/slirp"
	"moss/storage/volume/mounted"
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

	// Connected is what moss-net has made of a change since the container was connected,
	// in a configuration that is read again; null: nothing has changed.
	Connected *slirp.Status `json:",omitempty"`

	TTY   bool `json:",omitempty"`
	Stdin bool `json:",omitempty"`
	Log   Log

	Restart    string `json:",omitempty"` // "", no, on-failure, always, unless-stopped
	RestartMax int    `json:",omitempty"`

	// StopSignal and StopTimeout are how the monitor itself ends the container; it
	// does so for Health, which is nil where there is nothing to check.
	StopSignal  int           `json:",omitempty"`
	StopTimeout time.Duration `json:",omitempty"`
	Health      *Health       `json:",omitempty"`
	// Notify is how a service manager hears of the container; nil: there is none.
	Notify *Notify `json:",omitempty"`
	// Timeout is how long a run may take, 0 for ever.
	Timeout time.Duration `json:",omitempty"`

	// Network asks moss-net for a connection; nil where there is none to make.
	Network *Network `json:",omitempty"`
	// Sockets is how many sockets that listen already go with it: descriptors after those that the
	// container inherits.
	Sockets int `json:",omitempty"`
	// Files are completed by the monitor when the addresses are known.
	HostsFile  string `json:",omitempty"` // gets HostsText and "<address>\t<HostNames>" lines
	HostsText  string `json:",omitempty"`
	HostNames  string `json:",omitempty"`
	ResolvFile string `json:",omitempty"` // gets ResolvText and nameserver lines from slirp.Status.DNS
	ResolvText string `json:",omitempty"`

	// Home is the cgroup that the monitor itself is born in; "" is the caller's. In
	// one of moss's own it outlives the caller's login session.
	Home   string            `json:",omitempty"`
	Cgroup string            `json:",omitempty"` // removed at the end
	Limits map[string]string `json:",omitempty"` // cgroup file -> value, written before the birth (after a restart too)
	// Scope is the unit that the user's service manager is to make of the cgroup; nil: none.
	Scope   *Scope   `json:",omitempty"`
	Unmount []string `json:",omitempty"` // mounts in this namespace to undo (fuse-overlayfs)
	PIDFile string   `json:",omitempty"`
	// Hooks is the runtime.HooksDocument of the hooks to run; "" where there are none.
	Hooks string `json:",omitempty"`
	// MonitorPIDFile gets this process's PID.
	MonitorPIDFile string `json:",omitempty"`
	// Leases are dropped and Scratch is removed after that; Scratch is made anew for a restart.
	Leases  []mounted.Lease `json:",omitempty"`
	Scratch []Scratch       `json:",omitempty"`

	// AutoRemove removes the container's record at the end: Dir is renamed into
	// Trash, Names (the reservation files, as long as they hold the ID; where it
	// was renamed, the new one) are deleted, the exit is reported, and then what
	// was renamed is deleted.
	AutoRemove bool     `json:",omitempty"`
	Trash      string   `json:",omitempty"`
	Names      []string `json:",omitempty"`
	Volumes    []string `json:",omitempty"` // anonymous volumes' directories, removed with it

	// Events is where to record what happens to the container; Image (by name), Pod
	// and Labels are part of it.
	Events event.Log         `json:",omitempty"`
	Image  string            `json:",omitempty"`
	Pod    string            `json:",omitempty"`
	Labels map[string]string `json:",omitempty"`

	// Extra holds what later versions add; unknown to this one.
	Extra record.Raw `json:",omitempty"`
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
	Driver  string // k8s-file, json-file, journald, none, passthrough, passthrough-tty
	Path    string
	MaxSize int64 // bytes of one file; 0 is no limit
	MaxFile int   // rotated files kept beside the current one

	Tag    string            `json:",omitempty"` // journald
	Labels map[string]string `json:",omitempty"` // journald: fields of every entry
}

// passthrough says whether the program has the monitor's own streams.
func (l Log) passthrough() bool { return l.Driver == "passthrough" || l.Driver == "passthrough-tty" }
