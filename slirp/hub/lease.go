package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"moss/record"
	"moss/slirp"
	"moss/slirp/bridge"
	"moss/slirp/dns"
)

// lease is one container's connection, and how to undo it.
type lease struct {
	hub     *Hub
	request *slirp.ConnectRequest
	status  *slirp.Status
	done    bool // it stands: Info may tell of it
	undo    []func() error
	ended   chan struct{} // closed when all is undone

	mu     sync.Mutex // guards what follows
	outlet *outlet    // nil: nothing can be published
	ports  []opened
	closed bool
}

// remembered is the file of a lease: what the container keeps when moss-net is
// started again.
type remembered struct {
	Container  string
	Interfaces []slirp.Interface
}

// Close undoes the connection, last step first.
func (l *lease) Close() error {
	var errs []error
	for _, undo := range slices.Backward(l.undo) {
		errs = append(errs, undo())
	}
	l.undo = nil
	return errors.Join(errs...)
}

// handover is how long a new lease waits for the end of the container's old
// one: a monitor that starts its container again has closed that just before.
const handover = 2 * time.Second

// register reserves the container's ID. A container has one lease.
func (h *Hub) register(ctx context.Context, l *lease) error {
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	id := l.request.Container
	l.ended = make(chan struct{})
	for {
		h.mu.Lock()
		old := h.leases[id]
		if old == nil {
			h.leases[id] = l
			h.mu.Unlock()
			break
		}
		h.mu.Unlock()
		select {
		case <-old.ended:
		case <-ctx.Done():
			return errors.New("the container is connected already")
		}
	}
	l.undo = append(l.undo, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.leases, id)
		close(l.ended)
		return nil
	})
	return nil
}

// connectBridges joins the namespace to networks.
func (l *lease) connectBridges(ctx context.Context, netns *os.File) error {
	h := l.hub
	h.out.begin() // in parallel, when it is not there yet
	guest, err := h.space.Guest(l.request.Container, netns)
	if err != nil {
		return err
	}
	defer guest.Close()

	networks, err := l.allocate(guest)
	if err != nil {
		return err
	}
	// The disk is slow, where the run directory is on one; the kernel is, too.
	remembered := make(chan error, 1)
	go func() { remembered <- l.remember() }()
	for i, n := range networks {
		if err == nil {
			err = guest.Join(n.Bridge, l.status.Interfaces[i], i == l.first(networks))
		}
	}
	if err := errors.Join(err, <-remembered); err != nil {
		return err
	}
	l.name(networks)
	if err := l.publish(networks); err != nil {
		return err
	}
	if l.status.Uplink, err = h.out.wait(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	l.done = true
	h.mu.Unlock()
	return nil
}

// first is the network that brings the default routes: the first one that
// leads out.
func (l *lease) first(networks []*network) int {
	return slices.IndexFunc(networks, func(n *network) bool { return !n.Network.Internal })
}

// allocate gives the container its addresses: those that it asks for, else
// those that it had, else free ones.
func (l *lease) allocate(guest *bridge.Guest) ([]*network, error) {
	h, id := l.hub, l.request.Container
	h.mu.Lock()
	defer h.mu.Unlock()
	had := h.readRecord(id)
	delete(h.left, id)
	l.undo = append(l.undo, func() error { // after the addresses have been given back
		h.mu.Lock()
		defer h.mu.Unlock()
		h.left[id] = true
		h.sweepSoon()
		return nil
	})
	var networks []*network
	for _, a := range l.request.Attachments {
		n, err := h.network(a.Network)
		if err != nil {
			return nil, err
		}
		wanted := a.IPs
		if len(wanted) == 0 {
			wanted = had.addresses(a)
		}
		prefixes, err := n.Pool.Take(id, wanted)
		if err != nil {
			h.sweep() // somebody's may just have become free
			prefixes, err = n.Pool.Take(id, wanted)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot give an address of network %q: %w", a.Network, err)
		}
		networks = append(networks, n)
		l.undo = append(l.undo, func() error {
			h.mu.Lock()
			defer h.mu.Unlock()
			n.Pool.Free(id)
			return nil
		})
		mac := a.MAC
		if mac == "" && len(prefixes) > 0 {
			mac = bridge.MAC(prefixes[0].Addr())
		}
		iface := slirp.Interface{Network: a.Network, Name: a.Interface, MAC: mac, IPs: prefixes, Aliases: a.Aliases}
		for _, s := range n.Network.Subnets {
			iface.Gateway = append(iface.Gateway, s.Gateway)
		}
		if n.Network.DNS {
			l.status.DNS = append(l.status.DNS, iface.Gateway...)
		}
		l.status.Interfaces = append(l.status.Interfaces, iface)
	}
	// glibc asks three servers at most, one after the other; one network's are enough.
	l.status.DNS = l.status.DNS[:min(len(l.status.DNS), 2)]
	return networks, nil
}

// remember writes the lease's record. It stays after the lease: the container
// may outlive that, and one that comes again gets its addresses again. It is
// swept when the container's interface has gone.
func (l *lease) remember() error {
	path := l.hub.leasePath(l.request.Container)
	text, err := record.Encode(remembered{l.request.Container, l.status.Interfaces})
	if err != nil {
		return err
	}
	err = writeFile(path, text)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = writeFile(path, text)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot record the lease: %w", err)
	}
	return nil
}

// writeFile writes a file atomically. The directory is on a tmpfs: there is
// nothing to sync.
func writeFile(path string, text []byte) error { return record.Replace(path, text, 0o600, false) }

func (h *Hub) readRecord(container string) (r remembered) {
	if text, err := os.ReadFile(h.leasePath(container)); err == nil {
		if err := record.Decode(text, &r); err != nil {
			h.log.Printf("lease of %s: %v", container, err)
		}
	}
	return r
}

// addresses are what the container had on a network.
func (r remembered) addresses(a slirp.Attachment) (addrs []netip.Addr) {
	for _, i := range r.Interfaces {
		if i.Network == a.Network && i.Name == a.Interface {
			for _, p := range i.IPs {
				addrs = append(addrs, p.Addr())
			}
		}
	}
	return addrs
}

// recall reserves the addresses of containers that were connected when a former
// moss-net was killed, and are still there. Their monitors connect them again.
func (h *Hub) recall() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	entries, err := os.ReadDir(filepath.Dir(h.leasePath("")))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot read the leases: %w", err)
	}
	for _, entry := range entries {
		id, isRecord := strings.CutSuffix(entry.Name(), ".json")
		if !isRecord { // half of one
			os.Remove(filepath.Join(filepath.Dir(h.leasePath("")), entry.Name()))
			continue
		}
		h.left[id] = true
		for _, i := range h.readRecord(id).Interfaces {
			if err := h.reserve(id, i); err != nil {
				h.log.Printf("lease of %s: %v", id, err)
			}
		}
	}
	return h.sweep()
}

// reserve keeps the addresses of an interface for a container until it comes
// again, or goes.
func (h *Hub) reserve(id string, i slirp.Interface) error {
	n, err := h.network(i.Network)
	if err != nil {
		return err
	}
	var addrs []netip.Addr
	for _, p := range i.IPs {
		addrs = append(addrs, p.Addr())
	}
	_, err = n.Pool.Take(id, addrs)
	n.Pool.Free(id)
	return err
}

// sweepDelay is how long the addresses of containers that have gone wait for more
// of their kind: a sweep looks at every interface, and many may end together.
const sweepDelay = 300 * time.Millisecond

// sweepSoon sweeps in a moment. h.mu is held.
func (h *Hub) sweepSoon() {
	if h.sweeping || h.closed {
		return
	}
	h.sweeping = true
	time.AfterFunc(sweepDelay, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.sweeping = false; h.closed {
			return
		}
		if err := h.sweep(); err != nil {
			h.log.Printf("cannot sweep: %v", err)
		}
	})
}

// sweep forgets the containers that have no lease and no interface any more.
// h.mu is held.
func (h *Hub) sweep() error {
	guests, err := h.space.Guests()
	if err != nil {
		return err
	}
	gone := func(id string) bool {
		return !slices.ContainsFunc(guests, func(name string) bool { return bridge.IsOf(name, id) })
	}
	for id := range h.left {
		if !gone(id) {
			continue
		}
		delete(h.left, id)
		for _, n := range h.networks {
			n.Pool.Sweep(func(owner string) bool { return owner == id })
		}
		if err := os.Remove(h.leasePath(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove a lease's record: %w", err)
		}
	}
	return nil
}

// name makes the container known to its neighbours.
func (l *lease) name(networks []*network) {
	r := l.request
	m := dns.Member{Container: r.Container, Upstream: r.DNS}
	for i, n := range networks {
		in := dns.Membership{Network: n.Network.Name}
		for _, s := range n.Network.Subnets {
			in.Subnets = append(in.Subnets, s.Prefix)
		}
		for _, p := range l.status.Interfaces[i].IPs {
			in.Addrs = append(in.Addrs, p.Addr())
		}
		in.Names = append([]string{r.Name}, r.Attachments[i].Aliases...)
		in.Names = append(in.Names, r.Container[:min(12, len(r.Container))])
		if r.Hostname != "" {
			in.Names = append(in.Names, r.Hostname)
		}
		m.Forward = m.Forward || !n.Network.Internal
		m.Networks = append(m.Networks, in)
	}
	l.hub.names.Add(m)
	l.undo = append(l.undo, func() error { l.hub.names.Remove(r.Container); return nil })
}
