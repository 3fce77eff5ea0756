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
		proto, number, ok := strings.Cut(v, ":")
		if !ok {
			proto, number = "tcp", v
		}
		port, err := strconv.ParseUint(number, 10, 16)
		switch {
		case proto != "tcp":
			return fmt.Errorf("protocol %q cannot be: want tcp", proto)
		case err != nil || port == 0:
			return fmt.Errorf("%q is not a port", number)
		}
		n.HostAccess = append(n.HostAccess, uint16(port))
		return nil
	})
	r.check(len(n.HostAccess) > 0 && n.Mode != "bridge", "--host-access needs a network with a name, not --network %s", n.Mode)
	r.each("allow-out", f.AllowOut, func(v string) error {
		_, err := rootless.AllowList([]string{v})
		return err
	})
	if r.err == nil && len(f.AllowOut) > 0 {
		list, err := rootless.AllowList(f.AllowOut)
		r.check(err != nil, "--allow-out: %v", err)
		n.AllowOut = list
		if err := rootless.CheckAllow(n.Mode); len(list) > 0 {
			r.check(err != nil, "--allow-out with --network %s: %v", n.Mode, err)
		}
	}
	r.one("low-ports", f.LowPorts, oneOf("refuse", "shift"))
	if f.LowPorts == "shift" && r.err == nil {
		shiftPorts(n.Ports)
	}
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
