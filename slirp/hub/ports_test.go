package hub_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"moss/slirp"
)

// TestPortsOfAConnectedContainer adds and takes away ports, in each kind of network.
func TestPortsOfAConnectedContainer(t *testing.T) {
	for _, mode := range []string{"bridge", "private:embedded", "private:slirp4netns"} {
		t.Run(mode, func(t *testing.T) {
			b := connectedBox(t, func(r *slirp.ConnectRequest) {
				if r.Mode = mode; mode != "bridge" {
					r.Attachments = nil
				}
				r.Ports = []slirp.Port{{Proto: "tcp", ContainerPort: 80}}
			})
			b.listen("tcp", ":80")
			b.listen("tcp", ":81")
			first := b.status.Ports[0]
			reach := func(p slirp.Port) error {
				c, err := net.Dial("tcp", netip.AddrPortFrom(hostV4, p.HostPort).String())
				if err == nil {
					told(t, c)
				}
				return err
			}
			set := func(ports ...slirp.Port) []slirp.Port {
				t.Helper()
				st, err := slirp.SetPorts(t.Context(), dirs, slirp.PortsRequest{Container: b.req.Container, Ports: ports})
				if err != nil {
					t.Fatal(err)
				}
				return st.Ports
			}
			kept := slirp.Port{Proto: "tcp", ContainerPort: 80}
			got := set(kept, slirp.Port{Proto: "tcp", ContainerPort: 81, HostPort: 7001})
			if want := []slirp.Port{first, {Proto: "tcp", ContainerPort: 81, HostPort: 7001}}; !slices.Equal(got, want) {
				t.Fatalf("%v, want %v", got, want)
			}
			for _, p := range got {
				if err := reach(p); err != nil {
					t.Error(err)
				}
			}
			// The same port of the host leads elsewhere.
			got = set(kept, slirp.Port{Proto: "tcp", ContainerPort: 80, HostPort: 7001})
			if err := reach(got[1]); err != nil {
				t.Error(err)
			}

			// One that is in use: all is as before.
			busy, err := net.Listen("tcp4", ":7003")
			if err != nil {
				t.Fatal(err)
			}
			defer busy.Close()
			_, err = slirp.SetPorts(t.Context(), dirs, slirp.PortsRequest{Container: b.req.Container, Ports: []slirp.Port{
				{Proto: "tcp", ContainerPort: 81, HostPort: 7001}, {Proto: "tcp", ContainerPort: 81, HostPort: 7002}, {Proto: "tcp", ContainerPort: 81, HostPort: 7003},
			}})
			if err == nil || !strings.Contains(fmt.Sprint(err), "7003/tcp: address already in use") {
				t.Errorf("port in use: %v", err)
			}
			for _, p := range got {
				if err := reach(p); err != nil {
					t.Errorf("after a failure: %v", err)
				}
			}
			if err := reach(slirp.Port{HostPort: 7002}); err == nil {
				t.Error("a failure left a port open")
			}

			got = set(kept)
			if err := reach(slirp.Port{HostPort: 7001}); err == nil {
				t.Error("a port that was taken away is open")
			}
			if err := reach(got[0]); err != nil || got[0] != first {
				t.Errorf("the port that stayed: %v, %v", got, err)
			}
			b.lease.Close()
			if _, err := slirp.SetPorts(t.Context(), dirs, slirp.PortsRequest{Container: "none"}); err == nil || !strings.Contains(err.Error(), "not connected") {
				t.Errorf("no container: %v", err)
			}
		})
	}
}
