package gate

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"moss/slirp"
)

func gateOf(t *testing.T, entries ...string) *Gate {
	t.Helper()
	list, err := slirp.ParseAllowList(entries)
	if err != nil {
		t.Fatal(err)
	}
	return &Gate{rules: Rules{List: list}, Denied: openRecord("", nil),
		learned: map[opening]*lesson{}, aliases: map[string]alias{}, names: map[netip.Addr]string{}}
}

func TestAsks(t *testing.T) {
	g := gateOf(t, "good.example:443", "*.sub.example", "10.0.0.0/8")
	for name, want := range map[string]bool{
		"good.example": true, "a.sub.example": true, "a.b.sub.example": true,
		"sub.example": false, "xsub.example": false, "a.good.example": false, "good.example.evil.example": false, "example": false,
		`x\.sub.example`: false, `a.x\.sub.example`: false, `a\.b.sub.example`: true, `good\.example`: false,
	} {
		if g.Asks(name, netip.Addr{}) != want {
			t.Errorf("%s may be asked: want %v", name, want)
		}
	}
	if !g.Asks("1.2.3.10.in-addr.arpa", netip.MustParseAddr("10.3.2.1")) || g.Asks("1.2.3.11.in-addr.arpa", netip.MustParseAddr("11.3.2.1")) {
		t.Error("reverse questions go by the addresses that are open")
	}
	if n := len(g.Denied.known); n != 9 {
		t.Errorf("%d refusals are recorded, want 9", n)
	}
}

func answerOf(t *testing.T, records ...string) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	for _, r := range records {
		rr, err := dns.NewRR(r)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func TestFollow(t *testing.T) {
	g := gateOf(t, "good.example:443")
	found, ttl := g.follow("good.example", "good.example", answerOf(t,
		"other.example. 5 A 192.0.2.9", // nobody asked
		"cdn.example. 60 A 192.0.2.1", "cdn.example. 30 AAAA 2001:db8::1",
		"GOOD.example. 300 CNAME edge.example.", "edge.example. 300 CNAME cdn.example.",
	))
	if len(found) != 2 || found[0] != netip.MustParseAddr("192.0.2.1") || ttl != 30 {
		t.Errorf("found %v for %d s", found, ttl)
	}
	for _, alias := range []string{"edge.example", "cdn.example"} {
		if !g.Asks(alias, netip.Addr{}) {
			t.Errorf("%s is an alias of an allowed name, and may not be asked", alias)
		}
	}
	if found, _ := g.follow("good.example", "good.example", answerOf(t,
		`good.example. 60 HTTPS 1 . alpn="h2" ipv4hint=192.0.2.3 ipv6hint=2001:db8::3`)); len(found) != 2 {
		t.Errorf("hints: found %v", found)
	}
	if found, _ := g.follow("good.example", "good.example", answerOf(t, "good.example. 1 CNAME good.example.")); len(found) != 0 {
		t.Errorf("a circle: found %v", found)
	}
}

func TestPublic(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("192.0.2.77")}
	for a, want := range map[string]bool{
		"192.0.2.1": true, "2001:db8::1": true, "64:ff9b::192.0.2.1": true, "2002:c000:0201::1": true,
		"127.0.0.1": false, "0.0.0.0": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.0.1": false, "100.64.0.1": false,
		"169.254.1.2": false, "224.0.0.1": false, "255.255.255.255": false, "::1": false, "::": false, "fe80::1": false,
		"fd6d:6f73:7300::fe": false, "ff02::1": false, "64:ff9b::10.0.0.1": false, "2002:0a00:0001::1": false,
		"64:ff9b:1::1": false, "fec0::1": false, "::192.0.2.1": false, "::ffff:10.0.0.1": false, "::ffff:192.0.2.1": true, "198.19.0.1": false,
		"192.0.0.170": false, "0.1.2.3": false, "100.127.255.255": false, "240.0.0.1": false, "fc00::1": false, "239.1.2.3": false,
		"192.0.2.77": false, "64:ff9b::192.0.2.77": false,
	} {
		if public(netip.MustParseAddr(a), own) != want {
			t.Errorf("%s may be opened by a name: want %v", a, want)
		}
	}
	if public(netip.MustParseAddr("192.0.2.1"), nil) {
		t.Error("whose addresses are the machine's own is not known, and one may be opened")
	}
	if got := ownAddresses(); !slices.Contains(got, netip.MustParseAddr("127.0.0.1")) {
		t.Errorf("the machine's own addresses are %v", got)
	}
}

func TestLifetime(t *testing.T) {
	for ttl, want := range map[uint32]time.Duration{0: time.Minute, 59: time.Minute, 300: 5 * time.Minute, 1 << 31: maxLifetime} {
		if got := lifetime(ttl); got != want+grace {
			t.Errorf("%d s: open for %s, want %s", ttl, got, want+grace)
		}
	}
}

func TestRecord(t *testing.T) {
	path := t.TempDir() + "/denied.json"
	r := openRecord(path, nil)
	a := netip.MustParseAddr("192.0.2.1")
	r.Add(slirp.Refusal{Protocol: "tcp", Address: a, Port: 80, Name: "x.example"})
	r.Add(slirp.Refusal{Protocol: "tcp", Address: a, Port: 80})
	r.Add(slirp.Refusal{Protocol: "udp", Address: a, Port: 80})
	for range 2 {
		for port := range uint16(maxRefusals) {
			r.Add(slirp.Refusal{Protocol: "tcp", Address: netip.IPv6Loopback(), Port: port})
		}
		r.Add(slirp.Refusal{Protocol: "tcp", Address: a, Port: 80})
	}
	r.Flush()
	again := openRecord(path, nil)
	if len(again.known) != maxRefusals {
		t.Errorf("%d are kept, want %d", len(again.known), maxRefusals)
	}
	got := again.known[refusalKey{proto: "tcp", addr: a, port: 80}]
	if got == nil || got.Count < 1 || got.Last.Before(got.First) {
		t.Errorf("the last one: %+v", got)
	}
}

func TestDissect(t *testing.T) {
	v4 := append([]byte{0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 192, 0, 2, 1}, 0x80, 0, 0, 80)
	if r, ok := dissect(v4); !ok || r.Protocol != "tcp" || r.Port != 80 || r.Address.String() != "192.0.2.1" {
		t.Errorf("IPv4: %+v", r)
	}
	v6 := make([]byte, 40)
	v6[0], v6[6], v6[39] = 0x60, 0, 1
	v6 = append(v6, 17, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 53)
	if r, ok := dissect(v6); !ok || r.Protocol != "udp" || r.Port != 53 {
		t.Errorf("IPv6: %+v", r)
	}
	for n := range len(v6) {
		dissect(v6[:n])
	}
	for n := range len(v4) {
		dissect(v4[:n])
	}
	dissect([]byte{0x4f, 19: 0})
}
