package slirp

import (
	"net/netip"

	"golang.org/x/sys/unix"
)

// Listening tells where a socket listens that was passed by a service manager: tcp, or
// udp for one that is bound; ok is false for any other descriptor.
func Listening(fd int) (proto string, at netip.AddrPort, ok bool) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return "", at, false
	}
	address, err := unix.Getsockname(fd)
	if err != nil {
		return "", at, false
	}
	switch a := address.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port))
	default:
		return "", at, false
	}
	if kind == unix.SOCK_DGRAM {
		return "udp", at, at.Port() != 0
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return "tcp", at, err == nil && kind == unix.SOCK_STREAM && listens == 1
}

// Takes says whether a socket that listens there is used for the port, in place of a
// socket of moss's own: where the port names no address, the socket says where it is published.
func (p Port) Takes(proto string, at netip.AddrPort) bool {
	return p.Proto == proto && p.HostPort != 0 && p.HostPort <= at.Port() && int(at.Port()) < int(p.HostPort)+int(max(p.Count, 1)) &&
		(!p.HostIP.IsValid() || p.HostIP.Unmap() == at.Addr().Unmap())
}
