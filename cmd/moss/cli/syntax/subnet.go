package syntax

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"moss/slirp"
)

// Subnet reads an address range, "10.89.1.0/24".
func Subnet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%q is not an address range like 10.89.1.0/24", s)
	}
	switch size := p.Addr().BitLen() - p.Bits(); {
	case size < 2:
		return p, fmt.Errorf("%s has no room for a gateway and a container", p)
	case p.Addr().Is6() && p.Bits() < 64:
		return p, fmt.Errorf("%s is larger than a /64", p)
	}
	return p.Masked(), nil
}

// Range reads the addresses that containers are given: "FIRST-LAST", or a prefix.
func Range(s string) (first, last netip.Addr, err error) {
	if from, to, ok := strings.Cut(s, "-"); ok {
		first, err1 := netip.ParseAddr(from)
		last, err2 := netip.ParseAddr(to)
		if err1 != nil || err2 != nil || last.Less(first) || first.Is4() != last.Is4() {
			return first, last, fmt.Errorf("%q is not a range of addresses like 10.89.1.10-10.89.1.20", s)
		}
		return first, last, nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return first, last, fmt.Errorf("%q is not a range of addresses like 10.89.1.128/25 or 10.89.1.10-10.89.1.20", s)
	}
	return p.Masked().Addr(), lastOf(p), nil
}

// lastOf is the last address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Route reads a route, "DESTINATION,GATEWAY[,METRIC]".
func Route(s string) (r slirp.Route, err error) {
	parts := strings.Split(s, ",")
	if len(parts) < 2 || len(parts) > 3 {
		return r, fmt.Errorf("want DESTINATION,GATEWAY[,METRIC]")
	}
	if r.Prefix, err = netip.ParsePrefix(parts[0]); err != nil {
		return r, fmt.Errorf("%q is not an address range like 10.1.0.0/16", parts[0])
	}
	if r.Gateway, err = netip.ParseAddr(parts[1]); err != nil || r.Gateway.Is4() != r.Prefix.Addr().Is4() {
		return r, fmt.Errorf("%q is not an address of the same family", parts[1])
	}
	r.Prefix = r.Prefix.Masked()
	if len(parts) == 3 {
		if r.Metric, err = strconv.Atoi(parts[2]); err != nil || r.Metric < 1 {
			return r, fmt.Errorf("%q is not a metric", parts[2])
		}
	}
	return r, nil
}

// Interface checks the name of a network interface.
func Interface(s string) error {
	if s == "" || len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/ :\t\n") {
		return fmt.Errorf("%q is not a name of an interface: at most 15 characters, no /, : or space", s)
	}
	return nil
}
