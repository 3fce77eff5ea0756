package dns

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// gated answers what may not be asked; nil is for the rest.
func (s *Server) gated(r *request) []byte {
	gate := r.member.Gate
	if gate == nil {
		return nil
	}
	if r.msg.Opcode != dns.OpcodeQuery {
		return r.failure(dns.RcodeNotImplemented)
	}
	name := canonical(r.msg.Question[0].Name)
	var about netip.Addr
	if a, ok := reversed(name); ok {
		about = a
	}
	if gate.Asks(name, about) {
		return nil
	}
	// Who speaks EDNS is told that it is refused, and why (RFC 8914 §4.19). A plain stub
	// resolver would ignore that and wait (musl), or look no further in its search list
	// (glibc), where a container's name may come next: for it there is no such name.
	below := func(domain string) bool { return strings.HasSuffix(name, "."+canonical(domain)) }
	if r.msg.IsEdns0() == nil || slices.ContainsFunc(s.Host.Search(), below) {
		return r.failure(dns.RcodeNameError)
	}
	return r.reply(dns.RcodeRefused, nil, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeProhibited, ExtraText: "not in the allow-list"})
}

// world asks the world. What the answer opens is open when it is returned.
func (s *Server) world(r *request) []byte {
	answer := s.forward(r)
	gate := r.member.Gate
	if gate == nil || len(answer) < 12 || header(answer).Bits&0xf != dns.RcodeSuccess {
		return answer
	}
	var got dns.Msg
	if err := got.Unpack(answer); err != nil {
		return r.failure(dns.RcodeServerFailure)
	}
	if err := gate.Answered(canonical(r.msg.Question[0].Name), &got); err != nil {
		return r.failure(dns.RcodeServerFailure)
	}
	return answer
}
