package hub

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"moss/slirp"
	"moss/slirp/gate"
	"moss/slirp/uplink"
)

// hold holds the container to its allow-list, or lets it go if it has none, before it
// has its interfaces.
func (l *lease) hold(guard *gate.Guard, interfaces []slirp.Interface) error {
	if len(l.request.Allow) == 0 {
		return guard.Forget(l.request.Container) // of the time before
	}
	rules, err := l.rules(interfaces)
	if err != nil {
		return err
	}
	l.gate, err = guard.Open(rules)
	return err
}

// holdMore holds the container to its list with other interfaces.
func (l *lease) holdMore(interfaces []slirp.Interface) error {
	if l.gate == nil {
		return nil
	}
	rules, err := l.rules(interfaces)
	if err != nil {
		return err
	}
	return l.gate.Set(rules)
}

// rules are those of the lease's request.
func (l *lease) rules(interfaces []slirp.Interface) (gate.Rules, error) {
	r := gate.Rules{Container: l.request.Container, Denied: l.request.Denied}
	list, err := slirp.ParseAllowList(l.request.Allow)
	if err != nil {
		return r, fmt.Errorf("cannot read the allow-list: %w", err)
	}
	for _, a := range list {
		if !slices.Contains(hostNames, a.Name) {
			r.List = append(r.List, a)
			continue
		}
		a.Name = ""
		for _, host := range uplink.HostGateways() {
			a.Prefix = netip.PrefixFrom(host, host.BitLen())
			r.List = append(r.List, a)
		}
	}
	for _, i := range interfaces {
		mac, err := net.ParseMAC(i.MAC)
		if err != nil {
			return r, err
		}
		r.MACs = append(r.MACs, mac)
		for _, p := range i.IPs {
			r.Addrs = append(r.Addrs, p.Addr())
		}
	}
	named := slices.IndexFunc(r.List, func(a slirp.Allowed) bool { return a.Name != "" })
	if named >= 0 && len(interfaces) > 0 && len(l.status.DNS) == 0 {
		return r, fmt.Errorf("cannot allow %q by name: no network of the container answers names; allow its addresses", r.List[named].Name)
	}
	return r, nil
}

// SetAllow holds a container that is connected to another allow-list, to none if there
// is no entry. If that cannot be, nothing has changed.
func (h *Hub) SetAllow(r *slirp.AllowRequest) (*slirp.Status, error) {
	return h.changed(r.Container, func(l *lease) error { return l.setAllow(r) })
}

func (l *lease) setAllow(r *slirp.AllowRequest) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return errors.New("the container has just been disconnected")
	case strings.HasPrefix(l.request.Mode, "private") && (l.own == nil) != (len(r.Allow) == 0):
		return errors.New("a private network is made with an allow-list or without: stop the container first")
	}
	h, was := l.hub, l.request
	h.mu.Lock()
	defer h.mu.Unlock()
	request := *was
	request.Allow, request.Denied = r.Allow, r.Denied
	l.request = &request
	var err error
	if l.gate != nil && len(r.Allow) > 0 {
		err = l.holdMore(l.status.Interfaces)
	} else if err = l.hold(h.guard, l.status.Interfaces); err == nil && len(r.Allow) == 0 {
		l.gate = nil
	}
	if err != nil {
		l.request = was
		return err
	}
	if l.own == nil {
		l.name()
	}
	return nil
}

// forgetOthers takes away the firewalls of containers that have gone while there was no
// moss-net.
func (h *Hub) forgetOthers() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range h.guard.Stale() {
		known := false
		for left := range h.left {
			known = known || strings.HasPrefix(left, id)
		}
		if known {
			continue
		}
		if err := h.guard.Forget(id); err != nil {
			return err
		}
	}
	return nil
}
