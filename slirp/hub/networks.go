package hub

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"moss/slirp"
	"moss/slirp/bridge"
)

// Reload reads the record of a network again: its name servers may have changed. A
// network whose record is gone is taken away; nobody may be connected to it.
func (h *Hub) Reload(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.networks[name]
	if n == nil {
		return nil
	}
	record, err := slirp.Load(h.dirs, name)
	if err == nil {
		changed := *n.Network
		changed.Servers = record.Servers
		n.Network = &changed
		for _, l := range h.leases {
			if l.done && slices.Contains(l.networks, n) {
				l.name()
			}
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, l := range h.leases {
		if slices.Contains(l.networks, n) {
			return fmt.Errorf("container %q is connected", l.request.Name)
		}
	}
	for _, s := range n.sockets {
		s.Close()
	}
	delete(h.networks, name)
	return h.space.RemoveBridge(n.Network.Bridge)
}

// Dig answers a question as a connected container's, and tells how.
func (h *Hub) Dig(r *slirp.DigRequest) (*slirp.Dig, error) {
	member := h.names.Of(r.Container)
	if member == nil {
		return nil, errors.New("the container is not on a network with names")
	}
	return h.resolver.Dig(member, r.Name, r.Type)
}

// dropBridges takes away the bridges of networks that have been removed while there was
// no moss-net.
func (h *Hub) dropBridges() error {
	records, err := slirp.List(h.dirs)
	if err != nil {
		return err
	}
	there, err := h.space.Bridges()
	if err != nil {
		return err
	}
	for _, name := range there {
		known := slices.ContainsFunc(records, func(n slirp.Network) bool { return n.Bridge == name })
		if !known {
			if err := h.space.RemoveBridge(name); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetNetworks connects a connected container, whose namespace is netns, to exactly
// these networks, and answers with its status. What it has stays as it is, but the
// default routes and the published ports go by the first network that leads out, with
// the same host ports. If a network cannot be joined, nothing has changed.
func (h *Hub) SetNetworks(r *slirp.NetworksRequest, netns *os.File) (*slirp.Status, error) {
	if err := checkAttachments(r.Attachments); err != nil {
		return nil, err
	}
	return h.changed(r.Container, func(l *lease) error { return l.setNetworks(r, netns) })
}

// members are the attachments of a lease, each with what it got.
type members struct {
	attachments []slirp.Attachment
	networks    []*network
	interfaces  []slirp.Interface
}

func (m *members) add(a slirp.Attachment, n *network, i slirp.Interface) {
	m.attachments, m.networks, m.interfaces = append(m.attachments, a), append(m.networks, n), append(m.interfaces, i)
}

func (m *members) at(a slirp.Attachment) int {
	return slices.IndexFunc(m.attachments, func(b slirp.Attachment) bool {
		return a.Network == b.Network && a.Interface == b.Interface
	})
}

func (l *lease) setNetworks(r *slirp.NetworksRequest, netns *os.File) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errors.New("the container has just been disconnected")
	case l.request.Mode != "bridge":
		return fmt.Errorf("its network mode is %q, which has no other networks", l.request.Mode)
	}
	guest, err := l.hub.space.Guest(l.request.Container, netns)
	if err != nil {
		return err
	}
	defer guest.Close()

	was, name := members{l.request.Attachments, l.networks, l.status.Interfaces}, l.request.Name
	var now, fresh members
	joined := false
	defer func() {
		if err != nil && !joined { // its addresses may be another one's as soon as it has left
			err = errors.Join(err, l.holdMore(was.interfaces), l.leave(guest, fresh))
		}
	}()
	l.awaitAddresses(context.Background(), r.Attachments)
	if now, fresh, err = l.join(guest, was, r.Attachments); err != nil {
		return err
	}
	back := func(err error) error { return errors.Join(err, l.redirect(guest, name, now, was)) }
	if err := l.redirect(guest, r.Name, was, now); err != nil {
		return back(err)
	}
	var stale members
	for i, a := range was.attachments {
		if now.at(a) < 0 {
			stale.add(a, was.networks[i], was.interfaces[i])
		}
	}
	if len(stale.networks) > 0 {
		if err := l.holdMore(now.interfaces); err != nil {
			return back(err)
		}
	}
	joined = true
	return errors.Join(l.leave(guest, stale), l.remember())
}

// join has the container on all of these networks; fresh are those that it was not on
// before, also after an error.
func (l *lease) join(guest *bridge.Guest, was members, asked []slirp.Attachment) (now, fresh members, err error) {
	for _, a := range asked {
		if i := was.at(a); i >= 0 { // with other names, perhaps
			iface := was.interfaces[i]
			iface.Aliases = a.Aliases
			now.add(a, was.networks[i], iface)
			continue
		}
		l.hub.mu.Lock()
		n, iface, err := l.take(a, remembered{})
		l.hub.mu.Unlock()
		if err != nil {
			return now, fresh, err
		}
		fresh.add(a, n, iface)
		now.add(a, n, iface)
		if err := l.holdMore(slices.Concat(was.interfaces, fresh.interfaces)); err != nil {
			return now, fresh, err
		}
		if err := guest.Join(n.Bridge, iface, false); err != nil {
			return now, fresh, err
		}
	}
	return now, fresh, nil
}

// leave takes the container off networks.
func (l *lease) leave(guest *bridge.Guest, m members) error {
	var errs []error
	for i, n := range m.networks {
		errs = append(errs, guest.Leave(m.interfaces[i].Name))
		l.hub.mu.Lock()
		n.Pool.Release(l.request.Container)
		l.hub.mu.Unlock()
	}
	return errors.Join(errs...)
}

// redirect makes the new networks those of the lease: default routes, names, ports.
func (l *lease) redirect(guest *bridge.Guest, name string, was, now members) error {
	request, status := *l.request, *l.status
	request.Name = name
	request.Attachments, status.Interfaces = now.attachments, now.interfaces
	status.DNS = servers(now.networks, now.interfaces)
	before, at := first(was.networks), first(now.networks)
	if gateway := gatewaysOf(was, before); !slices.Equal(gateway, gatewaysOf(now, at)) {
		link, metric := "", 0
		if at >= 0 {
			link, metric = now.interfaces[at].Name, now.networks[at].Network.Metric
		}
		if err := guest.Default(gateway, link, gatewaysOf(now, at), metric); err != nil {
			return err
		}
	}
	l.hub.mu.Lock()
	l.request, l.status, l.networks = &request, &status, now.networks
	l.name()
	l.hub.mu.Unlock()

	if err := errors.Join(l.closeAccess(), l.openAccess()); err != nil {
		return err
	}
	old := l.outlet
	l.outlet = l.outletOf(now.networks, now.interfaces)
	switch {
	case l.outlet != nil && old == nil:
		return l.change(l.wanted)
	case len(l.ports) == 0 || l.outlet != nil && slices.Equal(old.target.Addrs, l.outlet.target.Addrs):
		return nil
	}
	again, asked := make([]slirp.Port, len(l.ports)), make([]slirp.Port, len(l.ports))
	for i, o := range l.ports {
		again[i], asked[i] = o.again(), o.asked
	}
	l.close(l.ports)
	if l.outlet == nil { // on internal networks only: nothing is published meanwhile
		l.tell()
		return nil
	}
	err := l.change(again)
	for i := range l.ports {
		l.ports[i].asked = asked[i]
	}
	return err
}

// gatewaysOf are the gateways of one of the networks; none of number -1.
func gatewaysOf(m members, at int) []netip.Addr {
	if at < 0 {
		return nil
	}
	return m.interfaces[at].Gateway
}
