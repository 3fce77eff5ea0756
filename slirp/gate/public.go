package gate

import (
	"net"
	"net/netip"
)

// shared is RFC 6598's, of carriers and of some overlay networks.
var shared = netip.MustParsePrefix("100.64.0.0/10")

// These carry an IPv4 address: RFC 6052, from the 12th byte on, and RFC 3056, from the second.
var (
	translated = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

// public says whether a name may open an address: whoever owns the name says what it
// is, and must not open the machine's own services or its network's that way.
func public(a netip.Addr) bool {
	if b := a.As16(); a.Is6() {
		switch {
		case translated.Contains(a):
			return public(netip.AddrFrom4([4]byte(b[12:])))
		case sixToFour.Contains(a):
			return public(netip.AddrFrom4([4]byte(b[2:6])))
		}
	}
	if !a.IsGlobalUnicast() || a.IsPrivate() || shared.Contains(a) || a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240) {
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, o := range own {
		if p, err := netip.ParsePrefix(o.String()); err == nil && p.Addr().Unmap() == a {
			return false
		}
	}
	return true
}
