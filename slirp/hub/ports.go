package hub

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"moss/slirp"
	"moss/slirp/bridge"
	"moss/slirp/port"
)

// outlet is where the published ports of a container lead to.
type outlet struct {
	target port.Target
	// bridge is the one that answers come through, "" where the clients' addresses
	// need no rule.
	bridge string
}

// opened is one port, or range, that is published.
type opened struct {
	asked slirp.Port
	*port.Published
	answers []bridge.Answers // the rules that it needs, alone or with others
}

// outletOf is where the container's ports lead to: its first network that leads out.
// There is none on internal networks.
func (l *lease) outletOf(networks []*network, interfaces []slirp.Interface) *outlet {
	at := first(networks)
	if at < 0 {
		at = slices.IndexFunc(networks, func(n *network) bool { return !n.Network.Internal })
	}
	if at < 0 {
		return nil
	}
	iface := interfaces[at]
	target := port.Target{Dial: l.space().Thread.Dial, Gateways: iface.Gateway}
	for _, p := range iface.IPs {
		target.Addrs = append(target.Addrs, p.Addr())
		target.Subnets = append(target.Subnets, p.Masked())
	}
	return &outlet{target, networks[at].Network.Bridge}
}

// open opens the ports of the request.
func (l *lease) open() error {
	l.openDoor()
	l.undo = append(l.undo, l.closePorts)
	if err := l.setPorts(l.request.Ports); err != nil {
		return err
	}
	l.dropSpare()
	return nil
}

// SetPorts publishes exactly these ports of a container that is connected, and
// answers with its status. Those that are published already stay as they are, with
// their connections. If one cannot be opened, nothing has changed.
func (h *Hub) SetPorts(r *slirp.PortsRequest) (*slirp.Status, error) {
	return h.changed(r.Container, func(l *lease) error { return l.setPorts(r.Ports) })
}

// setPorts publishes exactly these ports.
func (l *lease) setPorts(asked []slirp.Port) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.change(asked)
	if err == nil {
		l.wanted = asked
	}
	return err
}

// change is setPorts for who holds l.mu.
func (l *lease) change(asked []slirp.Port) error {
	switch {
	case l.closed:
		return errors.New("the container has just been disconnected")
	case len(asked) > 0 && l.outlet == nil:
		return errors.New("cannot publish ports: the container is on internal networks only")
	}
	before := l.ports
	stale := slices.Clone(before)
	ports := make([]opened, len(asked))
	for i, p := range asked {
		if at := slices.IndexFunc(stale, func(o opened) bool { return o.asked == p }); at >= 0 {
			ports[i] = stale[at]
			stale = slices.Delete(stale, at, at+1)
		}
	}
	// What stands in the way of a new one goes first, the rest when those are there.
	first := slices.DeleteFunc(slices.Clone(stale), func(o opened) bool {
		return !slices.ContainsFunc(asked, func(p slirp.Port) bool { return collide(p, o.Ports[0]) })
	})
	l.close(first)
	err := l.fill(ports, asked)
	if err != nil {
		for i := range before {
			if slices.ContainsFunc(first, before[i].same) {
				asked := before[i].asked
				o, again := l.openOne(before[i].again())
				o.asked = asked
				before[i], err = o, errors.Join(err, again)
			}
		}
		l.ports = slices.DeleteFunc(before, func(o opened) bool { return o.Published == nil })
	} else {
		l.close(slices.DeleteFunc(stale, func(o opened) bool { return slices.ContainsFunc(first, o.same) }))
		l.ports = ports
	}
	l.tell()
	return err
}

// publisher names the container that has a port of the host.
func (h *Hub) publisher(used *port.InUseError) string {
	wanted := used.Port
	wanted.HostPort, wanted.Count = used.Number, 1
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.leases {
		for _, p := range l.status.Ports {
			if l.done && collide(wanted, p) {
				return fmt.Sprintf("container %q", l.request.Name)
			}
		}
	}
	return ""
}

// fill opens the ports that are not open yet, all or none.
func (l *lease) fill(ports []opened, asked []slirp.Port) error {
	var fresh []opened
	for i := range ports {
		if ports[i].Published != nil {
			continue
		}
		o, err := l.openOne(asked[i])
		if err != nil {
			l.ports = append(slices.Clone(l.ports), fresh...)
			l.close(fresh)
			return err
		}
		ports[i] = o
		fresh = append(fresh, o)
	}
	return nil
}

func (o opened) same(p opened) bool { return o.Published == p.Published }

// again is the port with the number that it has had.
func (o opened) again() slirp.Port {
	p := o.asked
	p.HostPort = o.Ports[0].HostPort
	return p
}

// collide says whether two published ports may want the same port of the host.
func collide(a, b slirp.Port) bool {
	end := func(p slirp.Port) int { return int(p.HostPort) + int(max(p.Count, 1)) }
	return a.HostPort != 0 && a.Proto == b.Proto && int(a.HostPort) < end(b) && int(b.HostPort) < end(a)
}

// tell puts the ports into the status. l.mu is held.
func (l *lease) tell() {
	status := *l.status
	status.Ports = nil
	for _, o := range l.ports {
		status.Ports = append(status.Ports, o.Ports...)
	}
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.status = &status
}

// closePorts closes all of them, for good.
func (l *lease) closePorts() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.request.Wake == nil {
		return l.close(l.ports)
	}
	l.door.end()
	if l.forGood {
		l.dropSpare()
		return l.close(l.ports)
	}
	var errs []error
	for _, o := range l.ports {
		for _, a := range o.answers {
			errs = append(errs, l.space().RemoveAnswers(a))
		}
		o.answers = nil
		o.Lead(port.Target{})
		l.spare = append(l.spare, o)
	}
	l.ports = nil
	l.hub.park(l.request.Container, l.door, l.spare)
	return errors.Join(errs...)
}

// openOne opens one port, and adds the rules that bring answers to its clients home.
func (l *lease) openOne(p slirp.Port) (o opened, err error) {
	o.asked = p
	var gate port.Gate
	if l.door != nil {
		gate = l.door
	}
	if before := l.adopt(p); before != nil {
		o = *before
	} else {
		o.Published, err = port.Publish([]slirp.Port{p}, l.outlet.target, port.Options{Gate: gate, Sockets: l.sockets})
	}
	if err != nil || l.outlet.bridge == "" {
		if used := (*port.InUseError)(nil); errors.As(err, &used) {
			used.Holder = l.hub.publisher(used)
		}
		return o, err
	}
	proto := unix.IPPROTO_TCP
	if p.Proto == "udp" {
		proto = unix.IPPROTO_UDP
	}
	for _, a := range l.outlet.target.Addrs {
		o.answers = append(o.answers, l.answers(a, proto, p))
	}
	for _, a := range o.answers {
		if _, err := l.space().AddAnswers(a); err != nil {
			l.close([]opened{o})
			return opened{}, err
		}
	}
	return o, nil
}

func (l *lease) answers(container netip.Addr, proto int, p slirp.Port) bridge.Answers {
	return bridge.Answers{Bridge: l.outlet.bridge, Container: container, Proto: proto, Port: p.ContainerPort, Count: p.Count}
}

// close closes ports, and removes the rules that no other of the container needs.
func (l *lease) close(ports []opened) error {
	var errs []error
	for _, o := range ports {
		errs = append(errs, o.Close())
		l.ports = slices.DeleteFunc(slices.Clone(l.ports), o.same)
		for _, a := range o.answers {
			if slices.ContainsFunc(l.ports, func(other opened) bool { return slices.Contains(other.answers, a) }) {
				continue
			}
			errs = append(errs, l.space().RemoveAnswers(a))
		}
	}
	err := errors.Join(errs...)
	if err != nil {
		err = fmt.Errorf("cannot close ports: %w", err)
		l.hub.log.Print(err)
	}
	return err
}
