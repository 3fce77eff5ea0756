package uplink

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// HostGateway are the addresses at which containers reach the host: link-local
// (RFC 3927) and unique local ones that mean nothing anywhere else. IPv4's is
// the one that pasta maps by default in podman, too.
var HostGateway = []netip.Addr{
	netip.AddrFrom4([4]byte{169, 254, 1, 2}),
	netip.MustParseAddr("fd6d:6f73:7300::fe"),
}

// HostGateways are those of HostGateway behind which there is a host now: one
// without an IPv6 address cannot be reached by IPv6. IPv4's is always one of them: files
// that it is written to now are read when the host has got its address, too.
func HostGateways() []netip.Addr {
	out := []netip.Addr{HostGateway[0]}
	for _, a := range HostGateway[1:] {
		// slirp4netns takes fd00::/64 for its own network: a host with an address
		// there would not be reached through it.
		if host, err := Primary(a.Is6()); err == nil && !netip.MustParsePrefix("fd00::/64").Contains(host) {
			out = append(out, a)
		}
	}
	return out
}

// Way says where containers may go by the embedded stack.
type Way struct {
	// Loopback lets the host gateway lead to the host's loopback addresses.
	Loopback bool
	// Serve says which addresses are answered here, by ServeTCP and ServeUDP.
	Serve    func(netip.AddrPort) bool
	ServeTCP func(net.Conn)
	ServeUDP func(query []byte, reply func([]byte))
}

// errBlocked is for what containers may not reach.
var errBlocked = errors.New("containers have no way to this address")

// Target is the address that the host connects to when a container wants to
// reach to. The host gateway is the host's own primary address; the host's
// loopback is nobody's.
func (w Way) Target(to netip.AddrPort) (netip.AddrPort, error) {
	addr := to.Addr().Unmap()
	if slices.Contains(HostGateway, addr) {
		if w.Loopback {
			return netip.AddrPortFrom(loopback(addr), to.Port()), nil
		}
		host, err := Primary(addr.Is6())
		return netip.AddrPortFrom(host, to.Port()), err
	}
	// connect(2) takes the unspecified address for this machine.
	if addr.IsLoopback() || addr.IsUnspecified() || addr.IsMulticast() || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return netip.AddrPort{}, errBlocked
	}
	return netip.AddrPortFrom(addr, to.Port()), nil
}

func loopback(as netip.Addr) netip.Addr {
	if as.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// sourceAddress is where packets to the world would come from; invalid if none can
// be sent. It is asked with every connection, hence by plain system calls.
func sourceAddress(v6 bool) netip.Addr {
	if v6 {
		return sourceTo(netip.AddrPortFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 1}), 9)) // RFC 3849
	}
	return sourceTo(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), 9)) // nothing is sent there: RFC 5737
}

// sourceTo is where packets to an address would come from; invalid if none can be sent.
func sourceTo(to netip.AddrPort) netip.Addr {
	addr := to.Addr().Unmap()
	family, far := unix.AF_INET, unix.Sockaddr(nil)
	if addr.Is4() {
		far = &unix.SockaddrInet4{Port: int(to.Port()), Addr: addr.As4()}
	} else {
		family, far = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: addr.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.Addr{}
	}
	defer unix.Close(fd)
	if unix.Connect(fd, far) != nil {
		return netip.Addr{}
	}
	switch own, _ := unix.Getsockname(fd); own := own.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrFrom4(own.Addr)
	case *unix.SockaddrInet6:
		return netip.AddrFrom16(own.Addr)
	}
	return netip.Addr{}
}

// Primary is the host's own address in its way to the world, as it is now; on a
// host without such a way, the first address that is not loopback.
func Primary(v6 bool) (netip.Addr, error) {
	if a := sourceAddress(v6); a.IsValid() {
		return a, nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a.String())
		if err == nil && prefix.Addr().Is6() == v6 && prefix.Addr().IsGlobalUnicast() {
			return prefix.Addr(), nil
		}
	}
	return netip.Addr{}, syscall.ENETUNREACH
}
