package syntax

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"moss/slirp"
)

func TestPort(t *testing.T) {
	v4, v6 := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")
	for in, want := range map[string]slirp.Port{
		"80":                        {Proto: "tcp", ContainerPort: 80},
		"8080:80":                   {Proto: "tcp", HostPort: 8080, ContainerPort: 80},
		"8080:80/udp":               {Proto: "udp", HostPort: 8080, ContainerPort: 80},
		"8080:80/TCP":               {Proto: "tcp", HostPort: 8080, ContainerPort: 80},
		"127.0.0.1:8080:80":         {Proto: "tcp", HostIP: v4, HostPort: 8080, ContainerPort: 80},
		"127.0.0.1::80":             {Proto: "tcp", HostIP: v4, ContainerPort: 80},
		"[::1]:8080:80":             {Proto: "tcp", HostIP: v6, HostPort: 8080, ContainerPort: 80},
		"[::1]::80":                 {Proto: "tcp", HostIP: v6, ContainerPort: 80},
		"0:80":                      {Proto: "tcp", ContainerPort: 80},
		":80":                       {Proto: "tcp", ContainerPort: 80},
		"8000-8002:80-82":           {Proto: "tcp", HostPort: 8000, ContainerPort: 80, Count: 3},
		"80-82":                     {Proto: "tcp", ContainerPort: 80, Count: 3},
		"127.0.0.1:1-65535:1-65535": {Proto: "tcp", HostIP: v4, HostPort: 1, ContainerPort: 1, Count: 65535},
	} {
		got, err := Port(in)
		if err != nil || got != want {
			t.Errorf("Port(%q) = %+v, %v; want %+v", in, got, err, want)
		}
	}
	for in, why := range map[string]string{
		"":                  "not a number",
		"80:x":              `container port "x" is not a number`,
		"x:80":              `host port "x" is not a number`,
		"80:0":              "not between",
		"80:65536":          "not between",
		"8000-8002:80":      "differ in length",
		"82-80":             "ends before it begins",
		"80/sctp":           "sctp is not supported",
		"80/ftp":            "unknown protocol",
		"1.2.3:80:80":       "not an IP address",
		"[::1]80:80":        "brackets",
		"::1:80:80":         "colons",
		"127.0.0.1:80:80:9": "colons",
		"-1:80":             "not a number",
	} {
		if got, err := Port(in); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("Port(%q) = %+v, %v; want an error with %q", in, got, err, why)
		}
	}
}

func TestExpose(t *testing.T) {
	got, err := Expose("80-82/udp")
	if err != nil || !slices.Equal(got, []string{"80/udp", "81/udp", "82/udp"}) {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := Expose("web"); err == nil {
		t.Error("a name was taken for a port")
	}
}

// Two flags that want the same host port are found before either is bound.
func TestPortOverlap(t *testing.T) {
	for _, c := range []struct {
		ports   []string
		overlap bool
	}{
		{[]string{"8080:80", "8081:80"}, false},
		{[]string{"8080:80", "8080:81"}, true},
		{[]string{"8080:80", "8080:80/udp"}, false},
		{[]string{"127.0.0.1:8080:80", "127.0.0.2:8080:80"}, false},
		{[]string{"127.0.0.1:8080:80", "8080:80"}, true},
		{[]string{"0.0.0.0:8080:80", "127.0.0.1:8080:80"}, true},
		{[]string{"0.0.0.0:8080:80", "[::1]:8080:80"}, false},
		{[]string{"8000-8010:80-90", "8005:1"}, true},
		{[]string{"8000-8010:80-90", "8011:1"}, false},
		{[]string{"80", "80"}, false},
	} {
		var ports []slirp.Port
		for _, s := range c.ports {
			p, err := Port(s)
			if err != nil {
				t.Fatal(err)
			}
			ports = append(ports, p)
		}
		if got := PortOverlap(ports) != ""; got != c.overlap {
			t.Errorf("%v: overlap %v, want %v", c.ports, got, c.overlap)
		}
	}
}
