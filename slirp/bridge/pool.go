package bridge

import (
	"fmt"
	"net/netip"

	"moss/slirp"
)

// Pool gives out the addresses of one network. It is not safe for concurrent
// use: its network's owner is the one writer.
type Pool struct {
	subnets []slirp.Subnet
	owner   map[netip.Addr]string
	// leaving are owners that gave their addresses back, and may still use them.
	leaving map[string]bool
	last    uint32 // host number given out last; numbers come back late
}

// NewPool makes a pool in which everything but the gateways is free.
func NewPool(n *slirp.Network) *Pool {
	p := &Pool{subnets: n.Subnets, owner: map[netip.Addr]string{}, leaving: map[string]bool{}, last: 1}
	for _, s := range n.Subnets {
		p.owner[s.Gateway] = "gateway"
	}
	return p
}

// Take gives owner one address of every subnet: those of wanted where it has
// one there, else free ones, with the same host number in each subnet if that
// is free everywhere. An owner may take its own again.
func (p *Pool) Take(owner string, wanted []netip.Addr) ([]netip.Prefix, error) {
	addrs := make([]netip.Addr, len(p.subnets))
	for _, want := range wanted {
		i := p.subnetOf(want)
		if i < 0 {
			return nil, fmt.Errorf("address %s is not in the network", want)
		}
		if !p.usable(i, want) {
			return nil, fmt.Errorf("address %s cannot be a container's", want)
		}
		if other := p.owner[want]; other != "" && other != owner {
			return nil, fmt.Errorf("address %s is in use", want)
		}
		addrs[i] = want
	}
	if err := p.fill(addrs); err != nil {
		return nil, err
	}
	if p.leaving[owner] {
		p.drop(owner) // back again, perhaps with other addresses
	}
	taken := make([]netip.Prefix, len(addrs))
	for i, a := range addrs {
		p.owner[a] = owner
		taken[i] = netip.PrefixFrom(a, p.subnets[i].Prefix.Bits())
	}
	return taken, nil
}

// Free gives back what owner holds. Others get it after a Sweep that found owner
// gone: a container may outlive its lease, and keeps its address until its end.
func (p *Pool) Free(owner string) { p.leaving[owner] = true }

// Leaver is who has had an address, has given it back, and was not seen to be gone; "" for
// nobody.
func (p *Pool) Leaver(a netip.Addr) string {
	if owner := p.owner[a]; p.leaving[owner] {
		return owner
	}
	return ""
}

// Sweep forgets the owners that gave their addresses back and have gone.
func (p *Pool) Sweep(gone func(owner string) bool) {
	for owner := range p.leaving {
		if gone(owner) {
			p.drop(owner)
		}
	}
}

// drop forgets an owner.
func (p *Pool) drop(owner string) {
	delete(p.leaving, owner)
	for a, o := range p.owner {
		if o == owner {
			delete(p.owner, a)
		}
	}
}

// fill finds free addresses for those that are not set.
func (p *Pool) fill(addrs []netip.Addr) error {
	for i := range addrs {
		if addrs[i].IsValid() {
			continue
		}
		if a := nth(p.subnets[i].Prefix, p.last); i > 0 && p.offered(i, a) {
			addrs[i] = a // the number that the subnet before got
			continue
		}
		tries := uint32(1) << min(24, p.subnets[i].Prefix.Addr().BitLen()-p.subnets[i].Prefix.Bits())
		for n := p.last + 1; ; n++ {
			if tries == 0 {
				return fmt.Errorf("no address of %s is free", p.subnets[i].Prefix)
			}
			tries--
			a := nth(p.subnets[i].Prefix, n)
			if !a.IsValid() {
				n = 0 // past the end: from the start again
				continue
			}
			if p.offered(i, a) {
				addrs[i], p.last = a, n
				break
			}
		}
	}
	return nil
}

// Release is Free for an owner that has gone already.
func (p *Pool) Release(owner string) { p.drop(owner) }

// offered says whether an address may be given to somebody who did not ask for it.
func (p *Pool) offered(i int, a netip.Addr) bool {
	s := p.subnets[i]
	return p.free(i, a) && (!s.First.IsValid() || !a.Less(s.First)) && (!s.Last.IsValid() || !s.Last.Less(a))
}

func (p *Pool) free(i int, a netip.Addr) bool { return p.usable(i, a) && p.owner[a] == "" }

// usable says whether an address may be a host's: neither the subnet's own nor
// its broadcast address nor the gateway.
func (p *Pool) usable(i int, a netip.Addr) bool {
	prefix := p.subnets[i].Prefix
	if !a.IsValid() || !prefix.Contains(a) || a == p.subnets[i].Gateway || a == prefix.Masked().Addr() {
		return false
	}
	return !a.Is4() || prefix.Bits() > 30 || prefix.Contains(a.Next())
}

func (p *Pool) subnetOf(a netip.Addr) int {
	for i, s := range p.subnets {
		if s.Prefix.Contains(a) {
			return i
		}
	}
	return -1
}

// nth is the address number n of a prefix, or an invalid one past its end.
func nth(prefix netip.Prefix, n uint32) netip.Addr {
	bytes := prefix.Masked().Addr().AsSlice()
	for i, carry := len(bytes)-1, uint64(n); i >= 0 && carry > 0; i-- {
		carry += uint64(bytes[i])
		bytes[i] = byte(carry)
		carry >>= 8
	}
	a, _ := netip.AddrFromSlice(bytes)
	if !prefix.Contains(a) {
		return netip.Addr{}
	}
	return a
}
