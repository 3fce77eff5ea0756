package gate

import (
	"net"
	"net/netip"
	"slices"
)

// local are ranges that are not the world's, and that netip does not know as such.
var local = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),  // RFC 6598: of carriers, and of some overlay networks
	netip.MustParsePrefix("192.0.0.0/24"),   // RFC 6890: of protocols
	netip.MustParsePrefix("198.18.0.0/15"),  // RFC 2544: of benchmarks, and of some overlay networks
	netip.MustParsePrefix("240.0.0.0/4"),    // RFC 1112: reserved
	netip.MustParsePrefix("::/96"),          // RFC 4291: IPv4 as it once was written
	netip.MustParsePrefix("64:ff9b:1::/48"), // RFC 8215: translated as the network likes
	netip.MustParsePrefix("fec0::/10"),      // RFC 3879: of a site
}

// These carry an IPv4 address: RFC 6052, from the 12th byte on, and RFC 3056, from the second.
var (
	translated = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

// ownAddresses are the machine's; nil if they cannot be had.
func ownAddresses() (own []netip.Addr) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, o := range list {
		if p, err := netip.ParsePrefix(o.String()); err == nil {
			own = append(own, p.Addr().Unmap())
		}
	}
	return own
}

// public says whether a name may open an address: whoever owns the name says what it
// is, and must not open the machine's own services or its network's that way. A machine
// whose own addresses are not known opens none.
func public(a netip.Addr, own []netip.Addr) bool {
	a = a.Unmap()
	if b := a.As16(); a.Is6() {
		switch {
		case translated.Contains(a):
			return public(netip.AddrFrom4([4]byte(b[12:])), own)
		case sixToFour.Contains(a):
			return public(netip.AddrFrom4([4]byte(b[2:6])), own)
		}
	}
	isLocal := slices.ContainsFunc(local, func(p netip.Prefix) bool { return p.Contains(a) })
	return a.IsGlobalUnicast() && !a.IsPrivate() && !isLocal && len(own) > 0 && !slices.Contains(own, a)
}
