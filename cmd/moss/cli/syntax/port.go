package syntax

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"moss/slirp"
)

// Port reads [[IP:][HOSTPORT]:]PORT[/PROTO]. Ports may be ranges of equal
// length, an IPv6 address stands in brackets, and PROTO is tcp or udp.
func Port(s string) (slirp.Port, error) {
	var p slirp.Port
	rest, proto, err := protocol(s)
	if err != nil {
		return p, err
	}
	p.Proto = proto
	host, rest, hasIP, err := hostAddress(rest)
	if err != nil {
		return p, err
	}
	hostPart, containerPart, hasHost := strings.Cut(rest, ":")
	if !hasHost {
		hostPart, containerPart = "", rest
		if hasIP {
			return p, fmt.Errorf("an address needs a container port after it, as in 127.0.0.1:8080:80")
		}
	}
	if strings.Contains(containerPart, ":") {
		return p, fmt.Errorf("too many colons: want [[IP:][HOSTPORT]:]PORT[/PROTO], an IPv6 address in brackets")
	}
	p.HostIP = host
	first, last, err := portRange(containerPart)
	if err != nil {
		return p, fmt.Errorf("container port %w", err)
	}
	p.ContainerPort = first
	if last > first {
		p.Count = last - first + 1
	}
	if hostPart == "" {
		return p, nil
	}
	if hostPart == "0" { // any free one
		return p, nil
	}
	hostFirst, hostLast, err := portRange(hostPart)
	if err != nil {
		return p, fmt.Errorf("host port %w", err)
	}
	if hostLast-hostFirst != last-first {
		return p, fmt.Errorf("host range %s and container range %s differ in length", hostPart, containerPart)
	}
	p.HostPort = hostFirst
	return p, nil
}

// protocol takes /PROTO from the end of s.
func protocol(s string) (rest, proto string, err error) {
	rest, proto, ok := strings.Cut(s, "/")
	if !ok {
		return s, "tcp", nil
	}
	switch proto = strings.ToLower(proto); proto {
	case "tcp", "udp":
		return rest, proto, nil
	case "sctp":
		return "", "", fmt.Errorf("protocol sctp is not supported: want tcp or udp")
	}
	return "", "", fmt.Errorf("unknown protocol %q: want tcp or udp", proto)
}

// hostAddress takes an address and its colon from the beginning of s.
func hostAddress(s string) (addr netip.Addr, rest string, ok bool, err error) {
	text := ""
	switch {
	case strings.HasPrefix(s, "["):
		text, rest, ok = strings.Cut(s[1:], "]:")
		if !ok {
			return addr, "", false, fmt.Errorf("an IPv6 address stands in brackets, followed by a colon: [::1]:8080:80")
		}
	case strings.Count(s, ":") == 2:
		text, rest, _ = strings.Cut(s, ":")
	default:
		return addr, s, false, nil
	}
	if text == "" {
		return addr, rest, true, nil
	}
	if addr, err = netip.ParseAddr(text); err != nil {
		return addr, "", false, fmt.Errorf("%q is not an IP address", text)
	}
	return addr, rest, true, nil
}

func portRange(s string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(s, "-")
	if first, err = portNumber(from); err != nil || !isRange {
		return first, first, err
	}
	if last, err = portNumber(to); err != nil {
		return 0, 0, err
	}
	if last < first {
		return 0, 0, fmt.Errorf("range %s ends before it begins", s)
	}
	return first, last, nil
}

func portNumber(s string) (uint16, error) {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number", s)
	}
	if n < 1 || n > 65535 {
		return 0, fmt.Errorf("%d is not between 1 and 65535", n)
	}
	return uint16(n), nil
}

// Expose reads PORT[-PORT][/PROTO] into one "80/tcp" for each port.
func Expose(s string) ([]string, error) {
	rest, proto, err := protocol(s)
	if err != nil {
		return nil, err
	}
	first, last, err := portRange(rest)
	if err != nil {
		return nil, fmt.Errorf("port %w", err)
	}
	var out []string
	for n := int(first); n <= int(last); n++ {
		out = append(out, fmt.Sprintf("%d/%s", n, proto))
	}
	return out, nil
}

// PortOverlap says which two published ports want the same host port; "" if none do.
func PortOverlap(ports []slirp.Port) string {
	for i, a := range ports {
		for _, b := range ports[:i] {
			if a.HostPort == 0 || b.HostPort == 0 || a.Proto != b.Proto || !sameAddress(a.HostIP, b.HostIP) {
				continue
			}
			aEnd, bEnd := int(a.HostPort)+int(max(a.Count, 1)), int(b.HostPort)+int(max(b.Count, 1))
			if int(a.HostPort) < bEnd && int(b.HostPort) < aEnd {
				return fmt.Sprintf("host port %d/%s is published twice", max(a.HostPort, b.HostPort), a.Proto)
			}
		}
	}
	return ""
}

func sameAddress(a, b netip.Addr) bool {
	return !a.IsValid() || !b.IsValid() || a == b ||
		a.IsUnspecified() && a.Is4() == b.Is4() || b.IsUnspecified() && a.Is4() == b.Is4()
}
