package bridge

import (
	"net/netip"
	"testing"

	"moss/slirp"
)

func poolOf(prefixes ...string) *Pool {
	n := &slirp.Network{}
	for _, text := range prefixes {
		p := netip.MustParsePrefix(text)
		n.Subnets = append(n.Subnets, slirp.Subnet{Prefix: p, Gateway: p.Addr().Next()})
	}
	return NewPool(n)
}

func TestPool(t *testing.T) {
	p := poolOf("10.1.0.0/29", "fd01::/64")
	seen := map[netip.Addr]bool{}
	for _, owner := range []string{"a", "b", "c", "d", "e"} { // .2 to .6
		got, err := p.Take(owner, nil)
		if err != nil {
			t.Fatal(err)
		}
		if seen[got[0].Addr()] || seen[got[1].Addr()] {
			t.Errorf("%v is given twice", got)
		}
		seen[got[0].Addr()], seen[got[1].Addr()] = true, true
		if got[0].Addr().As4()[3] != got[1].Addr().As16()[15] {
			t.Errorf("%v have different numbers", got)
		}
	}
	if got, err := p.Take("f", nil); err == nil {
		t.Errorf("a full range gave %v", got)
	}
	if owner := p.Leaver(netip.MustParseAddr("10.1.0.4")); owner != "" {
		t.Errorf("%q is said to leave, and stays", owner)
	}
	p.Free("c")
	p.Sweep(func(string) bool { return false })
	if owner := p.Leaver(netip.MustParseAddr("10.1.0.4")); owner != "c" {
		t.Errorf("%q is said to leave, and c does", owner)
	}
	if got, err := p.Take("f", nil); err == nil {
		t.Errorf("a container that is still there lost its address: %v", got)
	}
	p.Sweep(func(string) bool { return true })
	if got, err := p.Take("f", nil); err != nil || got[0].Addr() != netip.MustParseAddr("10.1.0.4") {
		t.Errorf("after one came back: %v, %v", got, err)
	}
}

func TestPoolWishes(t *testing.T) {
	p := poolOf("10.1.0.0/24")
	for _, bad := range []string{"10.1.0.0", "10.1.0.1", "10.1.0.255", "10.2.0.5", "fd00::1"} {
		if got, err := p.Take("a", []netip.Addr{netip.MustParseAddr(bad)}); err == nil {
			t.Errorf("%s was given: %v", bad, got)
		}
	}
	five := []netip.Addr{netip.MustParseAddr("10.1.0.5")}
	for range 2 { // its own again
		if _, err := p.Take("a", five); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.Take("b", five); err == nil {
		t.Error("another's address was given")
	}
}

// TestPoolLate gives a returned address out as late as possible: neighbours may
// still know it as the old one's.
func TestPoolLate(t *testing.T) {
	p := poolOf("10.1.0.0/24")
	last := netip.Addr{}
	for range 100 {
		got, err := p.Take("a", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got[0].Addr() == last {
			t.Fatalf("%s came back at once", last)
		}
		last = got[0].Addr()
		p.Free("a")
		p.Sweep(func(string) bool { return true })
	}
}
