package slirp

// The conversation with moss-net, over one SOCK_SEQPACKET socket, <run>/net.sock
// of Dirs.Run. Each side sends one packet; both are JSON.
//
//	client                                moss-net
//	Call{connect} + netns fd  ──▶         addresses, veth, routes, ports, names
//	                          ◀──         Reply{Status} or Reply{Error}
//	(the connection is now the lease; nothing more is said on it)
//	close                     ──▶         undoes all of it
//	                          ◀──         EOF: moss-net has died; Connect again
//
//	Call{ports}               ──▶         opens and closes ports of a container with a lease
//	                          ◀──         Reply{Status} or Reply{Error}
//
//	Call{networks} + netns fd ──▶         joins a container with a lease to networks, and
//	                          ◀──         Reply{Status} or Reply{Error}         takes it off others
//
//	Call{allow}               ──▶         holds a container with a lease to an allow-list
//	                          ◀──         Reply{Status} or Reply{Error}
//
//	Call{network}             ──▶         reads the record of a network again, or forgets it
//	                          ◀──         Reply{} or Reply{Error}
//
//	Call{dig}                 ──▶         answers a question as the container's
//	                          ◀──         Reply{Dig} or Reply{Error}
//
//	Call{web}                 ──▶         listens where LoadWeb says
//	                          ◀──         Reply{} or Reply{Error}
//
//	Call{info}                ──▶
//	                          ◀──         Reply{Info}
const (
	OpConnect = "connect"
	OpInfo    = "info"
	OpPorts   = "ports"
	// OpNetworks changes the networks of a container, OpNetwork tells that the record of
	// one has changed.
	OpNetworks = "networks"
	OpNetwork  = "network"
	OpAllow    = "allow"
	OpDig      = "dig"
	OpWeb      = "web"
)

// MaxPacket is the largest packet of either side in bytes.
const MaxPacket = 128 * 1024

// Call is what a client sends; the descriptor of the network namespace of a
// connect travels beside it.
type Call struct {
	Op       string
	Connect  *ConnectRequest  `json:",omitempty"`
	Ports    *PortsRequest    `json:",omitempty"`
	Networks *NetworksRequest `json:",omitempty"`
	Allow    *AllowRequest    `json:",omitempty"`
	Network  string           `json:",omitempty"` // name
	Dig      *DigRequest      `json:",omitempty"`
}

// Reply is what moss-net answers. Error is "" when the call was done.
type Reply struct {
	Error  string       `json:",omitempty"`
	Status *Status      `json:",omitempty"`
	Info   *Information `json:",omitempty"`
	Dig    *Dig         `json:",omitempty"`
}

// Information is what moss-net tells about itself.
type Information struct {
	PID       int
	Uplink    string // pasta, slirp4netns, embedded; "" before the first bridged container
	Why       string // why this uplink and not a better one
	Networks  []string
	Connected []Connected `json:",omitempty"`
}

// Connected is one container that holds a lease.
type Connected struct {
	Container string
	Name      string
	Mode      string
	Status    Status
}
