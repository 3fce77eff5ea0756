// Package slirp connects network namespaces to the outside: the nouns, and the
// client of moss-net, which does the work.
package slirp

import (
	"net/netip"
	"time"
)

// Port is one published port, or a range of them.
type Port struct {
	Proto         string     // tcp, udp
	HostIP        netip.Addr `json:",omitzero"` // invalid: every address, IPv4 and IPv6
	HostPort      uint16     // 0: any free one, chosen by moss-net
	ContainerPort uint16
	// Count is how many ports the range has; 0 and 1 mean one.
	Count uint16 `json:",omitempty"`
}

// Subnet is one address range of a network.
type Subnet struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
	// First and Last bound the addresses that containers are given when they do not
	// ask for one; invalid: the whole range.
	First netip.Addr `json:",omitzero"`
	Last  netip.Addr `json:",omitzero"`
}

// Route is a route that the containers of a network get.
type Route struct {
	Prefix  netip.Prefix
	Gateway netip.Addr
	Metric  int `json:",omitempty"`
}

// Network is the record of a network: networks/<name>.json.
type Network struct {
	ID       string
	Name     string
	Driver   string // bridge
	Bridge   string // interface name in the shared namespace
	Subnets  []Subnet
	Internal bool
	DNS      bool
	MTU      int
	Options  map[string]string `json:",omitempty"` // as they were given, but for the MTU
	Labels   map[string]string `json:",omitempty"`
	Created  time.Time
	// Servers answer the members' questions about the rest of the world; none: the host's.
	Servers []netip.Addr `json:",omitempty"`
	Routes  []Route      `json:",omitempty"`
	// NoDefault leaves the default route to other networks of the container.
	NoDefault bool `json:",omitempty"`
	Metric    int  `json:",omitempty"` // of the default route; 0 is the kernel's
}

// Attachment is one end of a network that a container asks for.
type Attachment struct {
	Network   string       // name
	Interface string       // name inside, "eth0"
	IPs       []netip.Addr `json:",omitempty"` // wished for
	MAC       string       `json:",omitempty"`
	Aliases   []string     `json:",omitempty"`
}

// ConnectRequest asks moss-net to connect a namespace. The namespace's file
// descriptor travels beside it. The connection that carried the request is the
// lease: when it closes, everything made for it is undone.
type ConnectRequest struct {
	Container string // full ID
	Name      string
	Hostname  string
	// Mode is "bridge" or "private", and what ParsePrivate reads after a colon.
	Mode        string
	Attachments []Attachment `json:",omitempty"`
	Ports       []Port       `json:",omitempty"`
	// Web are the TCP ports at which it may have a web server, the likeliest first; none:
	// unknown.
	Web []uint16 `json:",omitempty"`
	// HostAccess are TCP ports of the host's loopback that the container reaches at the
	// host gateway; in the mode bridge.
	HostAccess []uint16 `json:",omitempty"`
	// DNS are the container's own upstream servers; none: the host's.
	DNS []netip.Addr `json:",omitempty"`
	// Allow is the allow-list, as ParseAllowList reads it; none: the container may reach
	// everything.
	Allow []string `json:",omitempty"`
	// Denied is the file in which is written what the allow-list refuses.
	Denied string `json:",omitempty"`
	// Wake is set for a container that waits for clients.
	Wake *Wake `json:",omitempty"`
}

// Wake is how a container waits for clients: they are held until its program runs, which
// the holder of the lease is told of. See protocol.go.
type Wake struct {
	Ports []uint16      // TCP ports of the host, of those that are published
	Idle  time.Duration `json:",omitempty"` // without a client until the holder is told; 0: never
	Awake bool          `json:",omitempty"` // the program runs already
}

// AllowRequest asks moss-net to hold a connected container to another allow-list.
type AllowRequest struct {
	Container string   // full ID
	Allow     []string `json:",omitempty"` // as in ConnectRequest
	Denied    string   `json:",omitempty"`
}

// PortPrefix begins the names of a container's interfaces in the shared namespace.
func PortPrefix(id string) string { return "m" + id[:min(len(id), 10)] }

// PortsRequest asks moss-net to publish exactly these ports of a connected container.
type PortsRequest struct {
	Container string // full ID
	Ports     []Port
}

// NetworksRequest asks moss-net to connect a connected container to exactly these
// networks. The namespace's file descriptor travels beside it.
type NetworksRequest struct {
	Container   string // full ID
	Name        string // which may be another one than before
	Attachments []Attachment
}

// DigRequest asks how a question of a connected container is answered.
type DigRequest struct {
	Container string // full ID
	Name      string
	Type      string // A, AAAA, PTR …
}

// Dig is how a question was answered.
type Dig struct {
	Name    string
	Type    string
	Steps   []DigStep
	Code    string // NOERROR, NXDOMAIN …
	Records []string
	Took    time.Duration // nanoseconds
}

// DigStep is who was asked, and what came of it.
type DigStep struct {
	Where  string
	Result string
	Took   time.Duration // nanoseconds; 0: none
}

// Interface is one interface as it was set up.
type Interface struct {
	Network string `json:",omitempty"`
	Name    string
	MAC     string
	IPs     []netip.Prefix
	Gateway []netip.Addr `json:",omitempty"`
	Aliases []string     `json:",omitempty"`
}

// Status is what moss-net made of a ConnectRequest.
type Status struct {
	Interfaces []Interface  `json:",omitempty"`
	DNS        []netip.Addr `json:",omitempty"` // for the container's resolv.conf
	Search     []string     `json:",omitempty"`
	// HostGateway is the address at which the container reaches the host.
	HostGateway []netip.Addr `json:",omitempty"`
	Ports       []Port       `json:",omitempty"` // with the host ports chosen
	Uplink      string       `json:",omitempty"` // pasta, slirp4netns, embedded
}

// Dirs is where moss-net and its clients meet.
type Dirs struct {
	Run      string // <run>/net: net.sock, moss-net.pid, state, the namespace's bound file
	Networks string // <root>/networks: the records
	Program  string // path of moss-net, to start it when it is not there
	Cgroup   string `json:",omitempty"` // where it is to be then; "": with who starts it
}
