package slirp

import (
	"fmt"
	"testing"
)

func TestParseAllowed(t *testing.T) {
	for text, want := range map[string]string{
		"github.com:443":        `github.com invalid Prefix tcp 443-443`,
		"GitHub.com.:443":       `github.com invalid Prefix tcp 443-443`,
		"*.debian.org":          `*.debian.org invalid Prefix  0-0`,
		"*:443":                 `* invalid Prefix tcp 443-443`,
		"a_b.example:53/udp":    `a_b.example invalid Prefix udp 53-53`,
		"x.example/udp":         `x.example invalid Prefix udp 0-0`,
		"x.example:8000-8100":   `x.example invalid Prefix tcp 8000-8100`,
		"10.1.2.3":              ` 10.1.2.3/32  0-0`,
		"10.1.2.3:80":           ` 10.1.2.3/32 tcp 80-80`,
		"10.1.2.3/8:5432":       ` 10.0.0.0/8 tcp 5432-5432`,
		"10.0.0.0/8:53/udp":     ` 10.0.0.0/8 udp 53-53`,
		"fd00::/8":              ` fd00::/8  0-0`,
		"[fd00::]/8":            ` fd00::/8  0-0`,
		"[fd00::]/8:443":        ` fd00::/8 tcp 443-443`,
		"[fd00::1]:53/udp":      ` fd00::1/128 udp 53-53`,
		"fd00::1":               ` fd00::1/128  0-0`,
		"[::ffff:10.1.2.3]:443": ` 10.1.2.3/32 tcp 443-443`,
		"none":                  `none invalid Prefix  0-0`,
	} {
		a, err := ParseAllowed(text)
		if got := fmt.Sprintf("%s %s %s %d-%d", a.Name, a.Prefix, a.Proto, a.First, a.Last); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", ":443", "x:0", "x:70000", "x:9-8", "x:a", "a b", "a..b", "-a", "*x", "a.*.b", "x/sctp",
		"10.0.0.0/33", "1.2.3", "10.0.0.300:443", "[fd00::", "[10.0.0.1]:80", "fe80::1%eth0", "münchen.example", "http://x"} {
		if a, err := ParseAllowed(text); err == nil {
			t.Errorf("%q is taken as %+v", text, a)
		}
	}
}
