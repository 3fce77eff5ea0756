package slirp

import (
	"reflect"
	"strings"
	"testing"
)

func TestParsePrivate(t *testing.T) {
	for text, want := range map[string]Private{
		"":                          {},
		"embedded,mtu=1500":         {Kind: "embedded", MTU: 1500},
		"pasta":                     {Kind: "pasta"},
		"pasta,-T,8080,-m,1400":     {Kind: "pasta", MTU: 1400, Options: []PastaOption{{"tcp-ns", "8080"}}},
		"pasta,-t8080:80,-m1500,-4": {Kind: "pasta", MTU: 1500, Options: []PastaOption{{"tcp-ports", "8080:80"}, {"ipv4-only", ""}}},
		"pasta,--mtu=9000,--pcap=/tmp/x,--map-gw": {Kind: "pasta", MTU: 9000, Options: []PastaOption{{"pcap", "/tmp/x"}, {"map-gw", ""}}},
		"slirp4netns,allow_host_loopback=true,mtu=1280,mtu=2000,enable_ipv6=false,outbound_addr=eth0,port_handler=rootlesskit": {
			Kind: "slirp4netns", HostLoopback: true, MTU: 2000, NoIPv6: true, Outbound: "eth0"},
	} {
		got, err := ParsePrivate(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"tun":                                      "unknown driver",
		"embedded,cidr=10.0.0.0/24":                "unknown: want mtu",
		"slirp4netns,cidr=10.0.0.0/26":             "128 addresses",
		"slirp4netns,cidr=fd00::/64":               "IPv4",
		"slirp4netns,mtu=1000":                     "1280",
		"slirp4netns,mtu=70000":                    "65520",
		"slirp4netns,enable_ipv6":                  "true or false",
		"slirp4netns,port_handler=slirp4netns":     "private:embedded",
		"slirp4netns,colour=red":                   "unknown",
		"slirp4netns,outbound_addr=":               "address or an interface",
		"pasta,auto":                               "no option",
		"pasta,--netns,/proc/1/ns/net":             "moss's",
		"pasta,--config-net":                       "moss's",
		"pasta,-T,8080,--address=10.0.0.1,--debug": "moss's",
		"pasta,-m":                                 "wants a value",
		"pasta,-m,1":                               "bytes",
		"pasta,--,sh,-c,id":                        "no option",
		"pasta,-T,1,sh":                            "no option",
		"pasta,-":                                  "no option",
		"pasta,--addr=10.0.0.1":                    "no option",
		"pasta,-a10.0.0.1":                         "moss's",
		"pasta,-P/tmp/x":                           "moss's",
		"pasta,-qf":                                "stands alone",
		"pasta,--quiet=yes":                        "stands alone",
		"pasta,--pcap=,--trace":                    "wants a value",
	} {
		if _, err := ParsePrivate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
