package uplink

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// natTable is the name of moss's table in a namespace whose uplink takes packets
// from one address only.
const natTable = "moss"

// Translate makes everything that leaves by iface come from iface's own
// addresses, in the calling thread's namespace. Where host has an address of a
// family, it also sends what is meant for the HostGateway there: for an uplink
// that cannot do so itself; but not what is exempt, which goes where the routing rules
// say. Calling it again replaces what it did before.
func Translate(iface string, host []netip.Addr, exempt []Exempt) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("cannot speak to nftables: %w", err)
	}
	// Adding a table that exists is no error, removing a missing one is; all of
	// it is one transaction.
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: natTable}
	c.AddTable(table)
	c.DelTable(table)
	table = c.AddTable(table)

	out := c.AddChain(&nftables.Chain{Name: "out", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	c.AddRule(&nftables.Rule{Table: table, Chain: out, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: interfaceName(iface)},
		&expr.Masq{},
	}})
	in := c.AddChain(&nftables.Chain{Name: "host", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	for _, e := range exempt {
		c.AddRule(&nftables.Rule{Table: table, Chain: in, Exprs: e.accept()})
	}
	for _, to := range host {
		for _, from := range HostGateway {
			if from.Is4() == to.Is4() {
				c.AddRule(&nftables.Rule{Table: table, Chain: in, Exprs: leadTo(from, to)})
			}
		}
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot set up address translation: %w", err)
	}
	return nil
}

// Exempt is what a container sends to one TCP port of the host gateway.
type Exempt struct {
	Container netip.Addr
	Gateway   netip.Addr
	Port      uint16
}

// accept is the rule "<family> saddr container daddr gateway tcp dport port accept".
func (e Exempt) accept() []expr.Any {
	family, source, destination := byte(unix.NFPROTO_IPV4), uint32(12), uint32(16)
	if e.Container.Is6() {
		family, source, destination = unix.NFPROTO_IPV6, 8, 24
	}
	size := uint32(e.Container.BitLen() / 8)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: source, Len: size},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: e.Container.AsSlice()},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: destination, Len: size},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: e.Gateway.AsSlice()},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(e.Port >> 8), byte(e.Port)}},
		&expr.Verdict{Kind: expr.VerdictAccept},
	}
}

// leadTo is the rule "<family> daddr from dnat to to".
func leadTo(from, to netip.Addr) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if from.Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(from.BitLen() / 8)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: from.AsSlice()},
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family), RegAddrMin: 1},
	}
}

// Untranslate removes what Translate made.
func Untranslate() error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("cannot speak to nftables: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: natTable}
	c.AddTable(table)
	c.DelTable(table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("cannot remove address translation: %w", err)
	}
	return nil
}

func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}
