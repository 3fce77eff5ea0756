package hub

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"moss/slirp"
	"moss/slirp/bridge"
	"moss/slirp/dns"
	"moss/slirp/gate"
	"moss/slirp/uplink"
)

// own is a namespace like the shared one for a single container: a private network with
// an allow-list. In the container's own namespace the list would be the container's to
// change.
type own struct {
	space *bridge.Space
	guard *gate.Guard
	out   *shared
	names *dns.Names
}

// The addresses of such a network; those of the private ones are the uplink's here.
var ownNetwork = slirp.Network{Name: "private", Driver: "bridge", Bridge: "moss0", DNS: true, MTU: slirp.DefaultMTU,
	Subnets: []slirp.Subnet{
		{Prefix: netip.MustParsePrefix("10.0.3.0/24"), Gateway: netip.MustParseAddr("10.0.3.1")},
		{Prefix: netip.MustParsePrefix("fd6d:6f73:7301::/64"), Gateway: netip.MustParseAddr("fd6d:6f73:7301::1")},
	}}

var ownAddrs = []netip.Addr{netip.MustParseAddr("10.0.3.100"), netip.MustParseAddr("fd6d:6f73:7301::64")}

const ownPrefix = "private-"

// ownPath is where such a namespace is bound.
func (h *Hub) ownPath(container string) string { return filepath.Join(h.dirs.Run, ownPrefix+container) }

// space is the namespace in which the container's networks are.
func (l *lease) space() *bridge.Space {
	if l.own != nil {
		return l.own.space
	}
	return l.hub.space
}

// connectOwn connects the namespace by one of its own. What it makes goes with the lease.
func (l *lease) connectOwn(ctx context.Context, driver string, netns *os.File) error {
	h := l.hub
	path := h.ownPath(l.request.Container)
	space, err := bridge.Open(path)
	if err != nil {
		return err
	}
	l.undo = append(l.undo, func() error {
		space.Close()
		return bridge.Remove(path)
	})
	l.own = &own{space: space, out: newShared(space, cmp.Or(driver, os.Getenv(kindVariable), uplink.Embedded), h.log, h.dirs.Run)}
	l.own.out.begin()
	l.undo = append(l.undo, l.own.out.close)
	if l.own.guard, err = gate.NewGuard(space.Thread.Do, upInterface, space.Made, h.log); err != nil {
		return err
	}
	l.undo = append(l.undo, func() error { l.own.guard.Close(); return nil })

	record := ownNetwork
	b, err := space.Bridge(&record)
	if err != nil {
		return err
	}
	prefixes, err := b.Pool.Take(l.request.Container, ownAddrs)
	if err != nil {
		return err
	}
	iface := slirp.Interface{Name: privateInterface, MAC: bridge.MAC(ownAddrs[0]), IPs: prefixes}
	for _, s := range record.Subnets {
		iface.Gateway = append(iface.Gateway, s.Gateway)
	}
	l.status.Interfaces, l.status.DNS = []slirp.Interface{iface}, iface.Gateway
	if err := l.hold(l.own.guard, l.status.Interfaces); err != nil {
		return err
	}
	n := &network{Bridge: b}
	if err := l.answerNames(n); err != nil {
		return err
	}
	guest, err := space.Guest(l.request.Container, netns)
	if err != nil {
		return err
	}
	defer guest.Close()
	if err := guest.Join(b, iface, true); err != nil {
		return err
	}
	l.outlet = l.outletOf([]*network{n}, l.status.Interfaces)
	if err := l.open(); err != nil {
		return err
	}
	if l.status.Uplink, err = l.own.out.wait(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l.done = true
	return nil
}

// answerNames opens a resolver for the container alone: others have the same address.
func (l *lease) answerNames(n *network) error {
	names := dns.NewNames(hostNames, l.status.HostGateway)
	l.own.names = names
	names.Add(dns.Member{Container: l.request.Container, Upstream: l.request.DNS, Forward: true, Gate: l.gate,
		Networks: []dns.Membership{{Network: n.Network.Name, Addrs: ownAddrs}}})
	l.undo = append(l.undo, func() error {
		var errs []error
		for _, s := range n.sockets {
			errs = append(errs, s.Close())
		}
		return errors.Join(errs...)
	})
	return n.listen(l.own.space, dns.NewServer(names, l.hub.host))
}

// ownGrace is how long a container's monitor has to connect it again after the death of
// a moss-net, which left it its namespace.
const ownGrace = time.Minute

// dropOwn takes away the namespaces of containers that do not come again, later or when
// the hub ends.
func (h *Hub) dropOwn() error {
	left, err := filepath.Glob(h.ownPath("*"))
	if err != nil || len(left) == 0 {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ownLeft = left
	time.AfterFunc(ownGrace, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.closed {
			return
		}
		if err := h.removeOwn(); err != nil {
			h.log.Print(err)
		}
	})
	return nil
}

// removeOwn does that; h.mu is held.
func (h *Hub) removeOwn() error {
	var errs []error
	for _, path := range h.ownLeft {
		if h.leases[strings.TrimPrefix(filepath.Base(path), ownPrefix)] != nil {
			continue
		}
		if err := bridge.Remove(path); err != nil {
			errs = append(errs, fmt.Errorf("cannot remove a private network: %w", err))
		}
	}
	h.ownLeft = nil
	return errors.Join(errs...)
}
