package uplink

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"moss/slirp"
)

// What pasta is told, and what of it the container is told.
func TestPastaArguments(t *testing.T) {
	for options, want := range map[string]struct{ has, hasNot, host, dns string }{
		"":                                {"--no-map-gw --tcp-ns=none", "", "[]", "[10.0.2.3]"},
		"-T,80":                           {"--tcp-ns=80 --udp-ns=none", "--tcp-ns=none", "[]", "[10.0.2.3]"},
		"--map-gw":                        {"", "--map-gw --no-map-gw", "[]", "[10.0.2.3]"},
		"--map-host-loopback,169.254.1.3": {"--no-map-gw --map-host-loopback=169.254.1.3", "", "[]", "[10.0.2.3]"},
		"-4,--map-guest-addr,10.9.9.9":    {"--map-guest-addr=10.9.9.9 --ipv4-only", "--map-guest-addr=169.254.1.2", "[10.9.9.9]", "[10.0.2.3]"},
		"--ipv6-only":                     {"--ipv6-only", "--netmask=24 --dns-forward=10.0.2.3", "[fd6d:6f73:7300::fe]", "[]"},
		"--dns-forward,10.1.1.1,--dns-forward,10.1.1.2,--dns-forward,fd00::53": {"--dns-forward=10.1.1.1", "--dns-forward=10.0.2.3", "[]", "[10.1.1.2 fd00::53]"},
	} {
		private, err := slirp.ParsePrivate("pasta," + options)
		if err != nil {
			t.Fatal(err)
		}
		o := Options{Interface: "eth0", MTU: 65520, Private: private}
		args, link := o.pasta("/netns")
		for _, arg := range strings.Fields(want.has) {
			if !slices.Contains(args, arg) {
				t.Errorf("%q: no %s in %q", options, arg, args)
			}
		}
		for _, arg := range strings.Fields(want.hasNot) {
			if slices.Contains(args, arg) {
				t.Errorf("%q: %s in %q", options, arg, args)
			}
		}
		if got := fmt.Sprint(link.Host); got != want.host {
			t.Errorf("%q: the host is at %s, want %s", options, got, want.host)
		}
		if got := fmt.Sprint(link.DNS); got != want.dns {
			t.Errorf("%q: the resolvers are %s, want %s", options, got, want.dns)
		}
	}
}
