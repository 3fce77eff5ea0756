package quadlet

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A container with SocketActivation= has a socket unit beside its service: the first
// client has the service manager start the service with the socket, and waits until the
// program listens. The container then waits for clients itself (--wake), so that it can be
// stopped for want of them (IdleStop=) and no client is lost.

// sockets adds --wake for each [ADDRESS:]PORT, and the socket unit that listens there.
func sockets(m *maker, key, flag string) {
	var listen []*Line
	m.lines(key, func(l *Line) {
		for _, at := range m.split(l) {
			port, ok := portOf(at)
			if !ok {
				m.errorAt(l, key+"="+at+": want [ADDRESS:]PORT")
				continue
			}
			hosts := m.published(port)
			if len(hosts) == 0 {
				m.errorAt(l, key+"="+at+": no PublishPort= is for this port of the host; want PublishPort="+at+":PORT")
				continue
			}
			// The socket is handed to the container as the published port: it listens at the
			// same address, and at no other.
			asked := strings.TrimSuffix(strings.TrimSuffix(at, port), ":")
			switch {
			case slices.Contains(hosts, anyHost):
				hosts = []string{asked}
			case asked == "":
			case slices.Contains(hosts, asked):
				hosts = []string{asked}
			case hosts[0] == "":
				m.errorAt(l, key+"="+at+": its PublishPort= is for all addresses; want PublishPort="+at+":PORT")
				continue
			default:
				m.errorAt(l, key+"="+at+": its PublishPort= has another address; want "+key+"="+hosts[0]+":"+port)
				continue
			}
			m.flag(flag, "tcp:"+port)
			for _, host := range hosts {
				listen = append(listen, &Line{Key: "ListenStream", Value: strings.TrimPrefix(host+":"+port, ":")})
			}
		}
	})
	if len(listen) == 0 {
		return
	}
	l := m.file.last(m.section, key)
	if t := m.file.last("Service", "Type"); t.text() == "oneshot" {
		m.errorAt(l, key+" and Type=oneshot exclude each other")
	}
	name, isService := strings.CutSuffix(m.unit.Name, ".service")
	if _, _, is := template(m.file.Name); is || !isService {
		m.errorAt(l, key+": a template has no socket")
		return
	}
	m.requires(name + ".socket")
	m.unit.Socket = &Unit{Name: name + ".socket", Source: m.file, sections: []*section{
		{name: "Unit", lines: []*Line{
			{Key: "Description", Value: "Ports of moss: " + escape(m.file.Name)},
			{Key: "SourcePath", Value: escape(m.file.Path)},
		}},
		{name: "Socket", lines: listen},
		{name: "Install", lines: []*Line{{Key: "WantedBy", Value: "sockets.target"}}},
	}}
}

// portOf is the port of [ADDRESS:]PORT.
func portOf(at string) (string, bool) {
	port := at
	if i := strings.LastIndexByte(at, ':'); i >= 0 {
		if _, err := netip.ParseAddrPort(at); err != nil {
			return "", false
		}
		port = at[i+1:]
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return port, err == nil && n > 0
}

// anyHost is the address of a PublishPort= that is only known when it runs.
const anyHost = "?"

// published are the addresses at which a port of the host is published, "" for all. One that
// is written in another way than [ADDRESS:]HOST:CONTAINER is left to run.
func (m *maker) published(port string) (hosts []string) {
	for _, l := range m.file.all(m.section, "PublishPort") {
		value, proto, _ := strings.Cut(l.Value, "/")
		value, _, two := cutLast(value, ":")
		if proto == "udp" || !two {
			continue
		}
		host, at, three := cutLast(value, ":")
		if !three {
			host, at = "", value
		}
		if strings.ContainsAny(value, "-%$") {
			host, at = anyHost, port
		}
		if at == port && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// idleStop adds --idle.
func idleStop(m *maker, key, flag string) {
	l := m.file.last(m.section, key)
	if l.text() == "" {
		return
	}
	if d, err := time.ParseDuration(l.text()); err != nil || d <= 0 {
		m.errorAt(l, key+"="+l.Value+": want a duration such as 5m or 90s")
	}
	if m.file.value(m.section, "SocketActivation") == "" {
		m.errorAt(l, key+" needs SocketActivation: nobody would start it again")
	}
	m.from = l
	m.flag(flag, l.text())
}
