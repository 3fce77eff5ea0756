package dns

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func ask1(t *testing.T, at, name string, kind uint16, edit ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	for _, f := range edit {
		f(m)
	}
	answer, _, err := (&dns.Client{Timeout: 10 * time.Second}).Exchange(m, at)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return answer
}

func code(rcode int) func(*dns.Msg) *dns.Msg {
	return func(m *dns.Msg) *dns.Msg { return new(dns.Msg).SetRcode(m, rcode) }
}

// Another server is asked when one fails, and one that does not answer makes others'
// questions wait once.
func TestServers(t *testing.T) {
	for what, first := range map[string]func(*dns.Msg) *dns.Msg{
		"failure": code(dns.RcodeServerFailure), "refusal": code(dns.RcodeRefused), "silence": func(*dns.Msg) *dns.Msg { return nil },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			port := upstream(t, "127.0.0.2", 0, first)
			upstream(t, "127.0.0.3", port, one)
			_, at := served(t, "nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions timeout:1\n", port)
			if m := ask1(t, at, "a.example.", dns.TypeA); len(m.Answer) != 1 {
				t.Fatalf("no answer: %v", m)
			}
			if what != "silence" {
				return
			}
			began := time.Now()
			if m := ask1(t, at, "b.example.", dns.TypeA); len(m.Answer) != 1 || time.Since(began) > 500*time.Millisecond {
				t.Errorf("the silent one is waited for again: %s", time.Since(began))
			}
		})
	}
}

func TestAllFail(t *testing.T) {
	port := upstream(t, "127.0.0.2", 0, code(dns.RcodeRefused))
	upstream(t, "127.0.0.3", port, code(dns.RcodeServerFailure))
	_, at := served(t, "nameserver 127.0.0.2\nnameserver 127.0.0.3\n", port)
	if m := ask1(t, at, "a.example.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("want SERVFAIL: %v", m)
	}
	_, at = served(t, "nameserver 127.0.0.2\n", upstream(t, "127.0.0.2", 0, code(dns.RcodeNameError)))
	if m := ask1(t, at, "a.example.", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("want NXDOMAIN: %v", m)
	}
}

// A slow answer does not hold up others.
func TestSlow(t *testing.T) {
	_, at := served(t, "nameserver 127.0.0.1\n", upstream(t, "127.0.0.1", 0, func(m *dns.Msg) *dns.Msg {
		if strings.HasPrefix(m.Question[0].Name, "slow") {
			return nil
		}
		return one(m)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		m := new(dns.Msg)
		m.SetQuestion("slow.example.", dns.TypeA)
		(&dns.Client{Timeout: time.Second}).Exchange(m, at)
	}()
	for range 20 {
		began := time.Now()
		if ask1(t, at, "fast.example.", dns.TypeA); time.Since(began) > 500*time.Millisecond {
			t.Fatalf("took %s", time.Since(began))
		}
	}
	<-done
}

func TestRotate(t *testing.T) {
	var asked [2]atomic.Int32
	count := func(i int) func(*dns.Msg) *dns.Msg {
		return func(m *dns.Msg) *dns.Msg { asked[i].Add(1); return one(m) }
	}
	port := upstream(t, "127.0.0.2", 0, count(0))
	upstream(t, "127.0.0.3", port, count(1))
	_, at := served(t, "nameserver 127.0.0.2\nnameserver 127.0.0.3\noptions rotate\n", port)
	for range 10 {
		ask1(t, at, "a.example.", dns.TypeA)
	}
	if asked[0].Load() != 5 || asked[1].Load() != 5 {
		t.Errorf("asked %d and %d times", asked[0].Load(), asked[1].Load())
	}
}

func TestOwnNames(t *testing.T) {
	_, at := served(t, "nameserver 127.0.0.1\n", 1)
	for _, name := range []string{"web.", "WEB.", "web.web.", "Web.WEB."} {
		if m := ask1(t, at, name, dns.TypeA); len(m.Answer) != 1 || m.Answer[0].Header().Name != name {
			t.Errorf("%s: %v", name, m)
		}
	}
	if m := ask1(t, at, "web.", dns.TypeAAAA); m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 {
		t.Errorf("an address of the other family: %v", m)
	}
	m := ask1(t, at, "web.", dns.TypeA, func(m *dns.Msg) {
		m.SetEdns0(4096, true)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
	})
	if m.IsEdns0() == nil || len(m.Answer) != 1 {
		t.Errorf("with EDNS: %v", m)
	}
	m = ask1(t, at, "web.", dns.TypeA, func(m *dns.Msg) {
		m.SetEdns0(4096, false)
		m.IsEdns0().SetVersion(1)
	})
	if m.Rcode != dns.RcodeBadVers {
		t.Errorf("another version of EDNS: %v", m)
	}
}

func TestConf(t *testing.T) {
	servers, search, o := parse("# comment\nnameserver fe80::1%lo\nnameserver 192.0.2.1 # x\nnameserver bad\nsearch a b\ndomain c\n" +
		"options ndots:5 timeout:30 attempts:9 rotate edns0\noptions timeout:x timeout:1\n")
	if len(servers) != 2 || servers[0].Zone() != "lo" || strings.Join(search, " ") != "c" {
		t.Errorf("%v %v", servers, search)
	}
	if o.timeout != time.Second || o.attempts != 3 || !o.rotate {
		t.Errorf("%+v", o)
	}
}

// gate lets some names be asked.
type gate struct {
	opened atomic.Bool
	fail   atomic.Bool
}

func (g *gate) Asks(name string, _ netip.Addr) bool { return strings.HasPrefix(name, "good") }

func (g *gate) Answered(string, *dns.Msg) error {
	time.Sleep(50 * time.Millisecond)
	g.opened.Store(true)
	if g.fail.Load() {
		return errors.New("no")
	}
	return nil
}

// The answer comes when the way is open, and not without.
func TestGate(t *testing.T) {
	var leaked atomic.Bool
	s, at := served(t, "nameserver 127.0.0.1\nsearch corp.example\n", upstream(t, "127.0.0.1", 0, func(m *dns.Msg) *dns.Msg {
		leaked.Store(leaked.Load() || !strings.HasPrefix(m.Question[0].Name, "good"))
		return one(m)
	}))
	g := new(gate)
	m := *s.Names.Of("c")
	m.Gate = g
	s.Names.Add(m)
	if m := ask1(t, at, "good.example.", dns.TypeA); len(m.Answer) != 1 || !g.opened.Load() {
		t.Errorf("opened before the answer: %v; %v", g.opened.Load(), m)
	}
	edns := func(m *dns.Msg) { m.SetEdns0(1232, false) }
	for name, want := range map[string]int{"bad.example.": dns.RcodeNameError, "bad.corp.example.": dns.RcodeNameError} {
		if m := ask1(t, at, name, dns.TypeA); m.Rcode != want {
			t.Errorf("%s: %v", name, m)
		}
	}
	if m := ask1(t, at, "bad.example.", dns.TypeA, edns); m.Rcode != dns.RcodeRefused || len(m.IsEdns0().Option) != 1 {
		t.Errorf("want a refusal and why: %v", m)
	}
	if m := ask1(t, at, "bad.corp.example.", dns.TypeA, edns); m.Rcode != dns.RcodeNameError {
		t.Errorf("a search goes on: %v", m)
	}
	if m := ask1(t, at, "web.", dns.TypeA); len(m.Answer) != 1 {
		t.Errorf("a neighbour: %v", m)
	}
	g.fail.Store(true)
	if m := ask1(t, at, "good.example.", dns.TypeA); m.Rcode != dns.RcodeServerFailure {
		t.Errorf("an answer without a way: %v", m)
	}
	if leaked.Load() {
		t.Error("a refused question was passed on")
	}
}

// Sockets are used again, and not kept.
func TestSockets(t *testing.T) {
	s, at := served(t, "nameserver 127.0.0.1\n", upstream(t, "127.0.0.1", 0, one))
	for range 10 {
		ask1(t, at, "a.example.", dns.TypeA)
	}
	count := func() (n int) {
		s.sockets.mu.Lock()
		defer s.sockets.mu.Unlock()
		for _, list := range s.sockets.idle {
			n += len(list)
		}
		return n
	}
	if n := count(); n != 1 {
		t.Errorf("%d sockets for ten questions in a row", n)
	}
	for began := time.Now(); count() > 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(began) > 5*socketLife {
			t.Fatal("a socket is kept")
		}
	}
}
