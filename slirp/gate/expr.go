package gate

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Pieces of nftables' rules, each of which lets the packet on to the next one or ends the rule.

func equal(data []byte) expr.Any   { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data} }
func unequal(data []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: data} }

func payload(base expr.PayloadBase, offset, size uint32) expr.Any {
	return &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: size}
}

func mask(bits []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: uint32(len(bits)), Mask: bits, Xor: make([]byte, len(bits))}
}

// ifname is a name as the kernel compares a whole one.
func ifname(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// family is "meta nfproto ipv4", or ipv6, as a is.
func family(a netip.Addr) []expr.Any {
	number := byte(unix.NFPROTO_IPV4)
	if a.Is6() {
		number = unix.NFPROTO_IPV6
	}
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, equal([]byte{number})}
}

func protocol(number byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{number})}
}

func ethertype(number uint16) []expr.Any {
	return []expr.Any{payload(expr.PayloadBaseLLHeader, 12, 2), equal(binary.BigEndian.AppendUint16(nil, number))}
}

// sourceIs compares the source address; the family is known.
func sourceIs(op expr.CmpOp, a netip.Addr) []expr.Any {
	offset := uint32(12)
	if a.Is6() {
		offset = 8
	}
	return []expr.Any{payload(expr.PayloadBaseNetworkHeader, offset, uint32(a.BitLen()/8)), &expr.Cmp{Op: op, Register: 1, Data: a.AsSlice()}}
}

func destination(v6 bool) []expr.Any {
	if v6 {
		return []expr.Any{payload(expr.PayloadBaseNetworkHeader, 24, 16)}
	}
	return []expr.Any{payload(expr.PayloadBaseNetworkHeader, 16, 4)}
}

// state is "ct state STATE".
func state(bit uint32) []expr.Any {
	bits := binary.NativeEndian.AppendUint32(nil, bit)
	return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: 1}, mask(bits), unequal(make([]byte, 4))}
}

// match is the protocol and the ports of a service.
func (s service) match() (out []expr.Any) {
	switch s.proto {
	case "tcp":
		out = protocol(unix.IPPROTO_TCP)
	case "udp":
		out = protocol(unix.IPPROTO_UDP)
	}
	if s.first == 0 {
		return out
	}
	return append(out, payload(expr.PayloadBaseTransportHeader, 2, 2),
		&expr.Range{Op: expr.CmpOpEq, Register: 1,
			FromData: binary.BigEndian.AppendUint16(nil, s.first), ToData: binary.BigEndian.AppendUint16(nil, s.last)})
}
