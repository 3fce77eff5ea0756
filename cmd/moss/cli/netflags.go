package cli

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"

	"moss/rootless"
	"moss/slirp"
)

// NetworkFlags say how a container and its host reach each other, where podman has
// nothing of the kind.
type NetworkFlags struct {
	HostAccess []string `sep:"none" help:"Let the container reach a TCP port of the host's loopback, at host.containers.internal." placeholder:"[tcp:]PORT" group:"Network"`
	AllowOut   []string `sep:"none" help:"Let the container reach nothing outside but this: a name, *.NAME, an address or a range of them, with ports, /tcp or /udp; or none. Several with commas." placeholder:"NAME[:PORT],..." group:"Network"`
	LowPorts   string   `words:"refuse shift" help:"Published ports that only root may have: refuse them (the default), or shift them by 8000." placeholder:"HOW" group:"Network"`
}

func (r *specReader) reach() {
	f, n := r.f, &r.spec.Network
	r.each("host-access", f.HostAccess, func(v string) error {
		port, err := tcpPort(v)
		n.HostAccess = append(n.HostAccess, port)
		return err
	})
	r.check(len(n.HostAccess) > 0 && n.Mode != "bridge", "--host-access needs a network with a name, not --network %s", n.Mode)
	if n.AllowOut = r.allowList(f.AllowOut); len(n.AllowOut) > 0 {
		err := rootless.CheckAllow(n.Mode)
		r.check(err != nil, "--allow-out with --network %s: %v", n.Mode, err)
	}
	r.one("low-ports", f.LowPorts, oneOf("refuse", "shift"))
	if f.LowPorts == "shift" && r.err == nil {
		shiftPorts(n.Ports)
	}
}

// allowList reads the values of --allow-out, which are one list.
func (v *flagValues) allowList(given []string) []string {
	v.each("allow-out", given, func(s string) error {
		_, err := rootless.AllowList([]string{s})
		return err
	})
	if v.err != nil || len(given) == 0 {
		return nil
	}
	list, err := rootless.AllowList(given)
	v.check(err != nil, "--allow-out: %v", err)
	return list
}

// unprivilegedStart is where the kernel says which port is the first that is not root's; see ip-sysctl in its documentation.
const unprivilegedStart = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

// shift is what is added to a port that only root may have: 80 becomes 8080.
const shift = 8000

func shiftPorts(ports []slirp.Port) {
	first := 1024
	if text, err := os.ReadFile(unprivilegedStart); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil {
			first = n
		}
	}
	for i := range ports {
		p := &ports[i]
		if p.HostPort == 0 || int(p.HostPort) >= first {
			continue
		}
		was := p.HostPort
		p.HostPort += shift
		host := "localhost"
		if p.HostIP.IsValid() && !p.HostIP.IsUnspecified() {
			host = p.HostIP.String()
		}
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		scheme := "http"
		if p.ContainerPort == 443 {
			scheme = "https"
		}
		slog.Warn("a port that only root may have is published as another", "port", was, "as", p.HostPort,
			"url", fmt.Sprintf("%s://%s:%d", scheme, host, p.HostPort))
	}
}
