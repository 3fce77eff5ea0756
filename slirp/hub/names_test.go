package hub_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"moss/slirp"
)

// ask asks the box's first resolver from inside it.
func (b *box) ask(network, name string, kind uint16) *dns.Msg {
	b.t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), kind)
	return b.exchange(network, b.status.DNS[0], q)
}

func (b *box) exchange(network string, server netip.Addr, q *dns.Msg) *dns.Msg {
	b.t.Helper()
	c, err := b.dial(network, netip.AddrPortFrom(server, 53).String())
	if err != nil {
		b.t.Fatal(err)
	}
	defer c.Close()
	client := dns.Client{Net: network, Timeout: 5 * time.Second}
	answer, _, err := client.ExchangeWithConn(q, &dns.Conn{Conn: c, UDPSize: dns.MaxMsgSize - 1})
	if err != nil {
		b.t.Fatalf("%s: %v", q.Question[0].Name, err)
	}
	return answer
}

// data are the answers of a message, without their heads.
func data(m *dns.Msg) []string {
	var all []string
	for _, r := range m.Answer {
		fields := strings.Fields(r.String())
		all = append(all, fields[len(fields)-1])
	}
	slices.Sort(all)
	return all
}

// upstream serves names on the test host.
func upstream(t *testing.T, at string, handle dns.HandlerFunc) {
	t.Helper()
	packets, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{PacketConn: packets, Handler: handle}, {Listener: listener, Handler: handle}} {
		go s.ActivateAndServe()
		t.Cleanup(func() { s.Shutdown() })
	}
}

// says answers every A question with addr, in a number of records.
func says(addr string, records int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		if strings.HasPrefix(q.Question[0].Name, "missing.") {
			m.Rcode = dns.RcodeNameError
		} else {
			for range records {
				m.Answer = append(m.Answer, &dns.A{A: net.ParseIP(addr),
					Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}})
			}
		}
		if _, udp := w.LocalAddr().(*net.UDPAddr); udp {
			size := dns.MinMsgSize
			if opt := q.IsEdns0(); opt != nil {
				size = int(opt.UDPSize())
			}
			m.Truncate(size)
		}
		w.WriteMsg(m)
	}
}

func TestContainerNames(t *testing.T) {
	web := connectedBox(t, func(r *slirp.ConnectRequest) {
		r.Name, r.Hostname, r.Attachments[0].Aliases = "Web", "web-host", []string{"www", "shared"}
	})
	other := connectedBox(t, func(r *slirp.ConnectRequest) { r.Attachments[0].Aliases = []string{"shared"} })
	v4, v6 := []string{web.addr(0).String()}, []string{web.addr(1).String()}
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{"web", "WEB", "web-host", "www", web.req.Container[:12]} {
			if got := data(other.ask(network, name, dns.TypeA)); !slices.Equal(got, v4) {
				t.Errorf("%s A is %v, not %v", name, got, v4)
			}
			if got := data(other.ask(network, name, dns.TypeAAAA)); !slices.Equal(got, v6) {
				t.Errorf("%s AAAA is %v, not %v", name, got, v6)
			}
		}
	}
	if m := other.ask("udp", "web", dns.TypeMX); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
		t.Errorf("web MX: %v", m)
	}
	if got := data(other.ask("udp", "shared", dns.TypeA)); len(got) != 2 {
		t.Errorf("an alias of two is %v", got)
	}
	for i := range 2 {
		name, _ := dns.ReverseAddr(web.addr(i).String())
		if got := data(other.ask("udp", name, dns.TypePTR)); !slices.Equal(got, []string{"web."}) {
			t.Errorf("%s is %v", name, got)
		}
	}
	for _, name := range []string{"host.containers.internal", "host.docker.internal", "host.moss.internal"} {
		if got := data(other.ask("udp", name, dns.TypeA)); !slices.Equal(got, []string{web.status.HostGateway[0].String()}) {
			t.Errorf("%s is %v", name, got)
		}
	}

	upstream(t, "127.0.0.53:53", says("203.0.113.7", 1))
	web.end()
	if got := data(other.ask("udp", "web", dns.TypeA)); slices.Equal(got, v4) {
		t.Error("web is still known after its end")
	}
}

func TestForwarded(t *testing.T) {
	b := connectedBox(t, nil)
	upstream(t, "127.0.0.53:53", says("203.0.113.7", 1))
	for _, network := range []string{"udp", "tcp"} {
		if got := data(b.ask(network, "www.example.test", dns.TypeA)); !slices.Equal(got, []string{"203.0.113.7"}) {
			t.Errorf("%s: %v", network, got)
		}
	}
	if m := b.ask("udp", "missing.example.test", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("a missing name: %v", m)
	}
	if !slices.Equal(b.status.Search, []string{"example.test"}) {
		t.Errorf("search is %v", b.status.Search)
	}

	// The host's resolver changes: the next question goes to the new one.
	upstream(t, "127.0.0.54:53", says("203.0.113.8", 1))
	old, err := os.ReadFile(resolvConf)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(resolvConf, old, 0o644)
	if err := os.WriteFile(resolvConf, []byte("nameserver 127.0.0.54\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := data(b.ask("udp", "www.example.test", dns.TypeA)); !slices.Equal(got, []string{"203.0.113.8"}) {
		t.Errorf("after the change: %v", got)
	}
}

func TestLargeAnswers(t *testing.T) {
	b := connectedBox(t, nil)
	upstream(t, "127.0.0.53:53", says("203.0.113.7", 100)) // 1600 bytes and more
	if m := b.ask("udp", "big.example.test", dns.TypeA); !m.Truncated {
		t.Error("not truncated over UDP")
	}
	if m := b.ask("tcp", "big.example.test", dns.TypeA); len(m.Answer) != 100 {
		t.Errorf("%d records over TCP", len(m.Answer))
	}
	q := new(dns.Msg)
	q.SetQuestion("big.example.test.", dns.TypeA)
	q.SetEdns0(4096, false)
	if m := b.exchange("udp", b.status.DNS[0], q); len(m.Answer) != 100 || m.IsEdns0() != nil {
		t.Errorf("%d records over UDP with EDNS", len(m.Answer))
	}
}

func TestOwnServers(t *testing.T) {
	upstream(t, "192.0.2.2:53", says("203.0.113.9", 1))
	b := connectedBox(t, func(r *slirp.ConnectRequest) { r.DNS = []netip.Addr{hostV4} })
	if got := data(b.ask("udp", "www.example.test", dns.TypeA)); !slices.Equal(got, []string{"203.0.113.9"}) {
		t.Errorf("with a server of its own: %v", got)
	}
}

func TestPrivateNames(t *testing.T) {
	upstream(t, "127.0.0.53:53", says("203.0.113.7", 1))
	b := connectedBox(t, func(r *slirp.ConnectRequest) { r.Mode, r.Attachments = "private:embedded", nil })
	for _, network := range []string{"udp", "tcp"} {
		if got := data(b.ask(network, "www.example.test", dns.TypeA)); !slices.Equal(got, []string{"203.0.113.7"}) {
			t.Errorf("%s: %v", network, got)
		}
		if got := data(b.ask(network, "host.moss.internal", dns.TypeA)); !slices.Equal(got, []string{"169.254.1.2"}) {
			t.Errorf("%s: %v", network, got)
		}
	}
}
