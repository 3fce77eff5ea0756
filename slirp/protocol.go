package slirp

// The conversation with moss-net, over one SOCK_SEQPACKET socket, <run>/net.sock
// of Dirs.Run. Each side sends one packet; both are JSON.
//
//	client                                moss-net
//	Call{connect} + netns fd, and sockets that listen already (Port.Takes)
//	                          ──▶         addresses, veth, routes, ports, names
//	                          ◀──         Reply{Status} or Reply{Error}
//	(the connection is now the lease; nothing more is said on it)
//	close                     ──▶         undoes all of it
//	                          ◀──         EOF: moss-net has died; Connect again
//
//	A container that waits for clients (ConnectRequest.Wake) has more to say, a byte a packet:
//
//	                          ◀──         WakeClient: somebody wants to connect
//	WakeRunning               ──▶         the program runs and is healthy; the clients are led there
//	   or WakeFailed          ──▶         it cannot: they are reset, and those that come before the next lease
//	                          ◀──         WakeIdle: nobody has been there for a while; from now on clients are held
//	WakeStay                  ──▶         it goes on all the same; or the lease ends, with the program
//	WakeEnd                   ──▶         when the lease ends now, the ports are to be closed
//	close                     ──▶         without WakeEnd they stay open for a moment, for the next lease:
//	                                      clients are held
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
//	Call{unpark}              ──▶         closes what waits for the next lease of a container
//	                          ◀──         Reply{}
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
	OpUnpark   = "unpark"
)

// What is said on the lease of a container that waits for clients.
const (
	WakeClient  = 'c'
	WakeIdle    = 'i'
	WakeRunning = 'r'
	WakeFailed  = 'f'
	WakeStay    = 's'
	WakeEnd     = 'e'
)

// MaxSockets is how many listening sockets may come with a connect.
const MaxSockets = 64

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
	Unpark   string           `json:",omitempty"` // a container's full ID
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
