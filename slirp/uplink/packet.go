package uplink

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// hops is the hop limit of packets that this process makes.
const hops = 64

// ipHeader makes the header of a packet with length bytes after it.
func ipHeader(src, dst netip.Addr, protocol uint8, length int) []byte {
	if src.Is6() {
		h := make(header.IPv6, header.IPv6MinimumSize)
		h.Encode(&header.IPv6Fields{
			PayloadLength: uint16(length), TransportProtocol: tcpip.TransportProtocolNumber(protocol), HopLimit: hops,
			SrcAddr: tcpip.AddrFromSlice(src.AsSlice()), DstAddr: tcpip.AddrFromSlice(dst.AsSlice()),
		})
		return h
	}
	h := make(header.IPv4, header.IPv4MinimumSize)
	h.Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + length), TTL: hops, Protocol: protocol,
		SrcAddr: tcpip.AddrFromSlice(src.AsSlice()), DstAddr: tcpip.AddrFromSlice(dst.AsSlice()),
	})
	h.SetChecksum(^h.CalculateChecksum())
	return h
}

// pseudoChecksum is the part of a checksum that covers the addresses.
func pseudoChecksum(protocol uint8, src, dst netip.Addr, length int) uint16 {
	return header.PseudoHeaderChecksum(tcpip.TransportProtocolNumber(protocol),
		tcpip.AddrFromSlice(src.AsSlice()), tcpip.AddrFromSlice(dst.AsSlice()), uint16(length))
}

// writeUDP sends a datagram into the container's world. The kernel computes the
// checksum if it is ever needed.
func (t *tun) writeUDP(src, dst netip.AddrPort, payload []byte) error {
	length := header.UDPMinimumSize + len(payload)
	ip := ipHeader(src.Addr(), dst.Addr(), uint8(header.UDPProtocolNumber), length)
	if len(ip)+length > maxPacket {
		return nil // too large for the family: lost, as on any link
	}
	udp := make(header.UDP, header.UDPMinimumSize)
	udp.Encode(&header.UDPFields{SrcPort: src.Port(), DstPort: dst.Port(), Length: uint16(length)})
	udp.SetChecksum(pseudoChecksum(uint8(header.UDPProtocolNumber), src.Addr(), dst.Addr(), length))

	var h [virtioSize]byte
	h[0] = needsChecksum
	binary.NativeEndian.PutUint16(h[6:], uint16(len(ip)))
	binary.NativeEndian.PutUint16(h[8:], 6) // offset of UDP's checksum
	return t.write(h, ip, udp, payload)
}

// writeICMP sends an ICMP message; body begins with the type and has a zero
// where the checksum goes.
func (t *tun) writeICMP(src, dst netip.Addr, body []byte) error {
	protocol, sum := uint8(header.ICMPv4ProtocolNumber), uint16(0)
	if src.Is6() {
		protocol = uint8(header.ICMPv6ProtocolNumber)
		sum = pseudoChecksum(protocol, src, dst, len(body))
	}
	checksum.Put(body[2:], ^checksum.Checksum(body, sum))
	return t.write([virtioSize]byte{}, ipHeader(src, dst, protocol, len(body)), body)
}

// refusal is a reason for an ICMP "destination unreachable": the codes of both
// families (RFC 792, RFC 4443).
type refusal struct{ v4, v6 byte }

var (
	noRoute    = refusal{0, 0}
	noHost     = refusal{1, 3}
	noPort     = refusal{3, 4}
	prohibited = refusal{13, 1}
)

// refuse tells the sender of a packet, of which start is the beginning, that
// it has not arrived.
func (t *tun) refuse(src, dst netip.Addr, why refusal, start []byte) {
	kind, code, limit := byte(header.ICMPv4DstUnreachable), why.v4, 548 // RFC 1812 §4.3.2.3
	if src.Is6() {
		kind, code, limit = byte(header.ICMPv6DstUnreachable), why.v6, 1232
	}
	body := make([]byte, 8, 8+limit)
	body[0], body[1] = kind, code
	t.writeICMP(dst, src, append(body, start[:min(len(start), limit)]...))
}

// addresses reads the addresses of an IP packet.
func addresses(packet []byte) (src, dst netip.Addr) {
	if header.IPVersion(packet) == header.IPv6Version {
		h := header.IPv6(packet)
		return netip.AddrFrom16(h.SourceAddress().As16()), netip.AddrFrom16(h.DestinationAddress().As16())
	}
	h := header.IPv4(packet)
	return netip.AddrFrom4(h.SourceAddress().As4()), netip.AddrFrom4(h.DestinationAddress().As4())
}
