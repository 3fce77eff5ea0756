// Package hub is what moss-net does: it connects containers' namespaces, one
// lease for each, and undoes a connection when its lease ends.
package hub

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"moss/slirp"
	"moss/slirp/bridge"
	"moss/slirp/dns"
	"moss/slirp/gate"
	"moss/slirp/uplink"
)

// hostNames are what containers call the host.
var hostNames = []string{"host.containers.internal", "host.docker.internal", "host.moss.internal"}

// Hub holds everything that the containers of one user share.
type Hub struct {
	dirs     slirp.Dirs
	log      *log.Logger
	space    *bridge.Space
	host     *dns.Conf
	names    *dns.Names
	resolver *dns.Server
	guard    *gate.Guard
	out      *shared
	unfollow context.CancelFunc // the host's network is followed until then

	mu       sync.Mutex // guards what follows, and the networks' pools
	networks map[string]*network
	leases   map[string]*lease // by container
	web      *web
	parked   map[string]*parkedPorts // of containers between two leases
	// loopbacks are the ports of the host's loopback that some container may reach.
	loopbacks map[uint16]*loopback
	// ownLeft are the namespaces of private networks that a former moss-net has left.
	ownLeft []string
	// left are containers that have no lease any more, and may still be there.
	left     map[string]bool
	sweeping bool
	// sweepDelay is that of the next sweep, if one is to come.
	sweepDelay time.Duration
	closed     bool
}

// network is a bridge with its resolver's sockets.
type network struct {
	*bridge.Bridge
	sockets []interface{ Close() error }
}

// Open makes the shared namespace, or takes over the one that a former moss-net
// left with the containers that are still in it.
func Open(d slirp.Dirs, logger *log.Logger) (*Hub, error) {
	space, err := bridge.Open(d.Netns())
	if err != nil {
		return nil, err
	}
	h := &Hub{dirs: d, log: logger, space: space, host: &dns.Conf{Path: "/etc/resolv.conf"},
		networks: map[string]*network{}, leases: map[string]*lease{}, parked: map[string]*parkedPorts{}, left: map[string]bool{}, loopbacks: map[uint16]*loopback{}}
	h.names = dns.NewNames(hostNames, uplink.HostGateways())
	h.resolver = dns.NewServer(h.names, h.host)
	h.out = newShared(space, os.Getenv(kindVariable), logger, h.dirs.Run)
	var follow context.Context
	follow, h.unfollow = context.WithCancel(context.Background())
	if err := uplink.Follow(follow, h.hostChanged); err != nil {
		h.log.Print(err) // a host that does not move needs it not
	}
	h.guard, err = gate.NewGuard(space.Thread.Do, upInterface, space.Made, logger)
	if err == nil {
		err = h.recall()
	}
	if err == nil {
		err = h.forgetOthers()
	}
	if err == nil {
		err = h.dropOwn()
	}
	if err == nil && !space.Made {
		err = h.dropBridges()
	}
	if err != nil {
		h.Close()
		return nil, err
	}
	if err := h.Web(); err != nil { // no reason to have no networks
		h.log.Print(err)
	}
	return h, nil
}

// hostChanged has everything follow the host's network that has to.
func (h *Hub) hostChanged() {
	h.names.SetHostAddrs(uplink.HostGateways())
	h.out.hostChanged()
	h.mu.Lock()
	var stacks []*uplink.Stack
	var owns []*own
	for _, l := range h.leases {
		if l.done && l.own != nil {
			owns = append(owns, l.own)
		}
		if l.done && l.private != nil && l.private.Stack != nil {
			stacks = append(stacks, l.private.Stack)
		}
	}
	h.mu.Unlock()
	for _, s := range stacks {
		s.HostChanged()
	}
	for _, o := range owns {
		o.names.SetHostAddrs(uplink.HostGateways())
		o.out.hostChanged()
	}
}

// Close ends uplinks and resolvers. Namespace, bridges and the containers'
// interfaces stay for the next moss-net; when no container is left, they go.
func (h *Hub) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.unfollow()
	h.web.close()
	for _, p := range h.parked {
		p.timer.Stop()
		p.close()
	}
	for _, n := range h.networks {
		for _, s := range n.sockets {
			s.Close()
		}
	}
	err := h.out.close()
	if h.guard != nil {
		h.guard.Close()
	}
	err = errors.Join(err, h.removeOwn())
	guests, listErr := h.space.Guests()
	h.space.Close()
	if err = errors.Join(err, listErr); err == nil && len(guests) == 0 {
		err = errors.Join(bridge.Remove(h.dirs.Netns()), os.RemoveAll(filepath.Dir(h.leasePath(""))))
	}
	return err
}

// Connect connects the namespace netns as r says. Of sockets those are used that listen at
// a port of it; they stay the caller's, and open until the lease ends. The lease's Close undoes it.
func (h *Hub) Connect(ctx context.Context, r *slirp.ConnectRequest, netns *os.File, sockets []*os.File) (*lease, error) {
	if err := check(r); err != nil {
		return nil, err
	}
	mode, options, _ := strings.Cut(r.Mode, ":")
	l := &lease{hub: h, request: r, sockets: sockets, status: &slirp.Status{HostGateway: uplink.HostGateways(), Search: h.host.Search()}}
	if err := h.register(ctx, l); err != nil {
		return nil, err
	}
	var err error
	switch mode {
	case "bridge":
		err = l.connectBridges(ctx, netns)
	case "private":
		err = l.connectPrivate(ctx, options, netns)
	default:
		err = fmt.Errorf("network mode %q is not known", r.Mode)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// connected returns the lease of a container.
func (h *Hub) connected(id string) (*lease, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l := h.leases[id]; l != nil && l.done {
		return l, nil
	}
	return nil, errors.New("the container is not connected")
}

// changed changes a container that is connected, and returns its status then.
func (h *Hub) changed(id string, change func(*lease) error) (*slirp.Status, error) {
	l, err := h.connected(id)
	if err != nil {
		return nil, err
	}
	if err := change(l); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return l.status, nil
}

// check looks at what a request has to have.
func check(r *slirp.ConnectRequest) error {
	if r.Container == "" || strings.ContainsAny(r.Container, "/.") {
		return fmt.Errorf("%q is no container's ID", r.Container)
	}
	return checkAttachments(r.Attachments)
}

// checkAttachments looks at what attachments have to have.
func checkAttachments(list []slirp.Attachment) error {
	for i, a := range list {
		if a.MAC != "" {
			if _, err := net.ParseMAC(a.MAC); err != nil {
				return err
			}
		}
		same := func(b slirp.Attachment) bool { return b.Network == a.Network || b.Interface == a.Interface }
		if slices.ContainsFunc(list[:i], same) {
			return fmt.Errorf("network %q or interface %q is asked for twice", a.Network, a.Interface)
		}
	}
	return nil
}

// Info tells about the hub.
func (h *Hub) Info() *slirp.Information {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := &slirp.Information{PID: os.Getpid()}
	i.Uplink, i.Why = h.out.kind()
	for name := range h.networks {
		i.Networks = append(i.Networks, name)
	}
	slices.Sort(i.Networks)
	for _, l := range h.leases {
		if l.done {
			i.Connected = append(i.Connected, slirp.Connected{
				Container: l.request.Container, Name: l.request.Name, Mode: l.request.Mode, Status: *l.status})
		}
	}
	slices.SortFunc(i.Connected, func(a, b slirp.Connected) int { return strings.Compare(a.Name, b.Name) })
	return i
}

// network returns the network of a name, made at its first use. h.mu is held.
func (h *Hub) network(name string) (*network, error) {
	if n := h.networks[name]; n != nil {
		return n, nil
	}
	load := slirp.Load
	if name == slirp.DefaultName {
		load = func(d slirp.Dirs, _ string) (*slirp.Network, error) { return slirp.Default(d) }
	}
	record, err := load(h.dirs, name)
	if err != nil {
		return nil, err
	}
	if record.Driver != "bridge" {
		return nil, fmt.Errorf("network %q is of driver %q, which is not one of moss-net's", name, record.Driver)
	}
	b, err := h.space.Bridge(record)
	if err != nil {
		return nil, err
	}
	n := &network{Bridge: b}
	if record.DNS {
		if err := n.listen(h.space, h.resolver); err != nil {
			return nil, err
		}
	}
	h.networks[name] = n
	return n, nil
}

// listen opens the resolver's sockets on a network's gateway addresses. The
// goroutines end with the sockets.
func (n *network) listen(space *bridge.Space, resolver *dns.Server) error {
	for _, subnet := range n.Network.Subnets {
		at := net.JoinHostPort(subnet.Gateway.String(), "53")
		var packets net.PacketConn
		var listener net.Listener
		err := space.Thread.Do(func() (err error) {
			var config net.ListenConfig
			config.SetMultipathTCP(false)
			if packets, err = config.ListenPacket(context.Background(), "udp", at); err != nil {
				return err
			}
			n.sockets = append(n.sockets, packets)
			if listener, err = config.Listen(context.Background(), "tcp", at); err != nil {
				return err
			}
			n.sockets = append(n.sockets, listener)
			return nil
		})
		if err != nil {
			return fmt.Errorf("cannot answer names on network %q: %w", n.Network.Name, err)
		}
		go resolver.ServeUDP(packets.(*net.UDPConn))
		go resolver.ServeTCP(listener)
	}
	return nil
}

// leasePath is the record of what a container has been given.
func (h *Hub) leasePath(container string) string {
	return filepath.Join(h.dirs.Run, "leases", container+".json")
}
