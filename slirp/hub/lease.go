package hub

import (
	"cmp"
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
	"moss/slirp/gate"
	"moss/slirp/uplink"
)

// lease is one container's connection, and how to undo it.
type lease struct {
	hub     *Hub
	request *slirp.ConnectRequest
	status  *slirp.Status
	done    bool // it stands: Info may tell of it
	undo    []func() error
	ended   chan struct{} // closed when all is undone
	// networks are those of the request's attachments; the hub's mu guards them, and gate,
	// which is nil where there is no allow-list.
	networks []*network
	private  *uplink.Link // of the mode private
	gate     *gate.Gate
	own      *own // of a private network with an allow-list

	mu     sync.Mutex // guards what follows
	outlet *outlet    // nil: nothing can be published
	ports  []opened
	access []bridge.Access
	wanted []slirp.Port // what is to be published while there is an outlet
	closed bool
	// door holds the clients of one that waits for them; spare are the open ports of its last
	// lease. The ports are to be closed with this one when that was said.
	door    *door
	spare   []opened
	sockets []*os.File // that listen already, and are the caller's: a port is opened of them again when it leads elsewhere
	forGood bool
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
	l.hub.mu.Lock()
	held := l.gate // SetAllow may be changing it
	l.hub.mu.Unlock()
	if held != nil {
		held.Denied.Flush()
	}
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

	l.awaitAddresses(ctx, l.request.Attachments)
	networks, err := l.allocate(guest)
	if err != nil {
		return err
	}
	if err := l.hold(h.guard, l.status.Interfaces); err != nil {
		return err
	}
	// The disk is slow, where the run directory is on one; the kernel is, too.
	remembered := make(chan error, 1)
	go func() { remembered <- l.remember() }()
	for i, n := range networks {
		if err == nil {
			err = guest.Join(n.Bridge, l.status.Interfaces[i], i == first(networks))
		}
	}
	if err == nil && len(networks) == 0 {
		err = guest.Loopback()
	}
	if err := errors.Join(err, <-remembered); err != nil {
		return err
	}
	h.mu.Lock()
	l.name()
	h.mu.Unlock()
	l.undo = append(l.undo, func() error { h.names.Remove(l.request.Container); return nil })
	l.undo = append(l.undo, l.closeAccess)
	if err := l.openAccess(); err != nil {
		return err
	}
	l.outlet = l.outletOf(networks, l.status.Interfaces)
	if err := l.open(); err != nil {
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

// defaultMetric is that of a network that has none of its own.
const defaultMetric = 100

// first is the network that brings the default routes: of those that lead out and want
// to, the one with the lowest metric, and of these the first one. -1 is none.
func first(networks []*network) int {
	best := -1
	metric := func(i int) int { return cmp.Or(networks[i].Network.Metric, defaultMetric) }
	for i, n := range networks {
		if !n.Network.Internal && !n.Network.NoDefault && (best < 0 || metric(i) < metric(best)) {
			best = i
		}
	}
	return best
}

// allocate gives the container its addresses: those that it asks for, else
// those that it had, else free ones.
func (l *lease) allocate(guest *bridge.Guest) ([]*network, error) {
	h, id := l.hub, l.request.Container
	h.mu.Lock()
	defer h.mu.Unlock()
	had := h.readRecord(id)
	delete(h.left, id)
	l.undo = append(l.undo, func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, n := range l.networks {
			n.Pool.Free(id)
		}
		h.left[id] = true
		h.sweepSoon()
		return nil
	})
	for _, a := range l.request.Attachments {
		n, iface, err := l.take(a, had)
		if err != nil {
			return nil, err
		}
		l.networks = append(l.networks, n)
		l.status.Interfaces = append(l.status.Interfaces, iface)
	}
	l.status.DNS = servers(l.networks, l.status.Interfaces)
	return l.networks, nil
}

// awaitAddresses waits until those who have had the addresses that the container asks for
// have gone, where they are about to.
func (l *lease) awaitAddresses(ctx context.Context, all []slirp.Attachment) {
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	for _, a := range all {
		for _, ip := range a.IPs {
			if other := l.leaver(a.Network, ip); other != "" {
				_ = l.hub.space.AwaitGone(ctx, other) // take tells
			}
		}
	}
}

// leaver is another container, whose lease has ended, that has an address yet; "" for none.
func (l *lease) leaver(network string, ip netip.Addr) string {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	n, err := l.hub.network(network)
	if err != nil {
		return ""
	}
	if other := n.Pool.Leaver(ip); other != l.request.Container {
		return other
	}
	return ""
}

// take gives the container its addresses on one network. h.mu is held.
func (l *lease) take(a slirp.Attachment, had remembered) (*network, slirp.Interface, error) {
	h, id := l.hub, l.request.Container
	n, err := h.network(a.Network)
	if err != nil {
		return nil, slirp.Interface{}, err
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
		return nil, slirp.Interface{}, fmt.Errorf("cannot give an address of network %q: %w", a.Network, err)
	}
	mac := a.MAC
	if mac == "" && len(prefixes) > 0 {
		mac = bridge.MAC(prefixes[0].Addr())
	}
	iface := slirp.Interface{Network: a.Network, Name: a.Interface, MAC: mac, IPs: prefixes, Aliases: a.Aliases}
	for _, s := range n.Network.Subnets {
		iface.Gateway = append(iface.Gateway, s.Gateway)
	}
	return n, iface, nil
}

// servers are the name servers of the container's resolv.conf. glibc asks three at most,
// one after the other; one network's are enough.
func servers(networks []*network, interfaces []slirp.Interface) (all []netip.Addr) {
	for i, n := range networks {
		if n.Network.DNS {
			all = append(all, interfaces[i].Gateway...)
		}
	}
	return all[:min(len(all), 2)]
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

// maxSweepDelay is how long it takes at most to see that one has gone that was still
// there: the kernel takes its time over a namespace, and a container may live on
// without its monitor.
const maxSweepDelay = 30 * time.Second

// sweepSoon sweeps in a moment. h.mu is held.
func (h *Hub) sweepSoon() { h.sweepIn(sweepDelay) }

// sweepIn sweeps after a delay, and again until all have gone. h.mu is held.
func (h *Hub) sweepIn(delay time.Duration) {
	if h.closed || h.sweeping && delay >= h.sweepDelay {
		return
	}
	h.sweeping, h.sweepDelay = true, delay
	time.AfterFunc(delay, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.closed || !h.sweeping || h.sweepDelay != delay {
			return // another one is nearer
		}
		h.sweeping = false
		if err := h.sweep(); err != nil {
			h.log.Printf("cannot sweep: %v", err)
		}
		if len(h.left) > 0 {
			h.sweepIn(min(2*delay, maxSweepDelay))
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
		if err := h.guard.Forget(id); err != nil {
			return err
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

// name makes the container known to its neighbours. h.mu is held.
func (l *lease) name() {
	r := l.request
	m := dns.Member{Container: r.Container, Upstream: r.DNS}
	if l.gate != nil {
		m.Gate = l.gate
	}
	for i, n := range l.networks {
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
		if len(r.DNS) == 0 {
			m.Upstream = append(m.Upstream, n.Network.Servers...)
		}
		m.Networks = append(m.Networks, in)
	}
	l.hub.names.Add(m)
}
