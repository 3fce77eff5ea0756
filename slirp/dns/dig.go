package dns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"moss/slirp"
)

// Dig answers a question as a container would be answered, and tells how.
func (s *Server) Dig(m *Member, name, kind string) (*slirp.Dig, error) {
	qtype, known := dns.StringToType[strings.ToUpper(kind)]
	if !known {
		return nil, fmt.Errorf("there is no type %q of records", kind)
	}
	if _, ok := dns.IsDomainName(name); !ok || name == "" {
		return nil, fmt.Errorf("%q cannot be a name", name)
	}
	var question dns.Msg
	question.SetQuestion(dns.Fqdn(name), qtype)
	question.SetEdns0(maxUDP, false)
	raw, err := question.Pack()
	if err != nil {
		return nil, fmt.Errorf("%q cannot be a name: %w", name, err)
	}
	out := &slirp.Dig{Name: dns.Fqdn(name), Type: strings.ToUpper(kind)}
	step := func(took time.Duration, where, format string, args ...any) {
		out.Steps = append(out.Steps, slirp.DigStep{Where: where, Result: fmt.Sprintf(format, args...), Took: took})
	}
	from := "the host's resolv.conf"
	if len(m.Upstream) > 0 {
		from = "asked for by the container or its networks"
	}
	r := newRequest(raw, m, "udp")
	r.trace = func(server netip.Addr, answer []byte, err error, took time.Duration) {
		where := fmt.Sprintf("server %s (%s)", server, from)
		if err != nil {
			step(took, where, "%s", plain(err))
			return
		}
		step(took, where, "%s", dns.RcodeToString[int(header(answer).Bits&0xf)])
	}
	began := time.Now()
	answer := s.local(r)
	s.digNetworks(m, name, answer != nil, step)
	if answer == nil {
		answer = s.world(r)
	}
	out.Took = time.Since(began)
	var got dns.Msg
	if err := got.Unpack(answer); err != nil {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	out.Code = dns.RcodeToString[got.Rcode]
	for _, record := range got.Answer {
		out.Records = append(out.Records, strings.Join(strings.Fields(record.String()), " "))
	}
	return out, nil
}

// digNetworks tells what the container's networks know of a name.
func (s *Server) digNetworks(m *Member, name string, answered bool, step func(time.Duration, string, string, ...any)) {
	canonicalName := canonical(name)
	bearers := s.Names.bearers(m, canonicalName)
	address, isReverse := reversed(canonicalName)
	for _, in := range m.Networks {
		where := fmt.Sprintf("network %q", in.Network)
		switch names := bearers[in.Network]; {
		case len(names) > 0:
			step(0, where, "it is container %s", strings.Join(names, ", "))
		case isReverse && slices.ContainsFunc(in.Subnets, func(p netip.Prefix) bool { return p.Contains(address) }):
			step(0, where, "the address is of this network")
		case isReverse:
			step(0, where, "the address is not of this network")
		default:
			step(0, where, "no container there has that name")
		}
	}
	switch {
	case slices.Contains(s.Names.Host, canonicalName):
		step(0, "moss", "it is the host")
	case !answered:
	case len(bearers) == 0 && !m.Forward:
		step(0, "moss", "not passed on: the container is on internal networks only")
	case len(bearers) == 0 && !isReverse && m.Gate != nil:
		step(0, "moss", "not passed on: the container's allow-list does not have it")
	}
}

// plain says why a server did not answer.
func plain(err error) string {
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Sprintf("no answer within %s", attemptTimeout)
	}
	if call := (*os.SyscallError)(nil); errors.As(err, &call) {
		return call.Err.Error()
	}
	return err.Error()
}
