package slirp

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// AllowNone is the allow-list that lets nothing out.
const AllowNone = "none"

// Allowed is one entry of an allow-list: a name or addresses of the world outside, and
// which ports there.
type Allowed struct {
	// Name is a host name in lower case, "*.NAME" for all names below it, or "*" for
	// every name; "" where Prefix counts.
	Name        string
	Prefix      netip.Prefix
	Proto       string // tcp, udp; "" is every protocol, and ports are all then
	First, Last uint16 // ports; 0 is all of them
}

// ParseAllowed reads an entry: NAME|ADDRESS|CIDR[:PORT[-PORT]][/tcp|/udp]. With a port
// and no protocol it is tcp.
func ParseAllowed(s string) (Allowed, error) {
	var a Allowed
	rest, named := s, false
	for _, proto := range []string{"tcp", "udp"} {
		if cut, ok := strings.CutSuffix(rest, "/"+proto); ok {
			rest, named, a.Proto = cut, true, proto
			break
		}
	}
	if a.Prefix, _ = parsePrefix(rest); a.Prefix.IsValid() {
		return a, nil
	}
	host, ports, hasPorts := cutLast(rest, ":")
	if hasPorts {
		var err error
		if a.First, a.Last, err = parsePorts(ports); err != nil {
			return Allowed{}, err
		}
		if !named {
			a.Proto = "tcp"
		}
	}
	if a.Prefix, _ = parsePrefix(host); a.Prefix.IsValid() {
		return a, nil
	}
	a.Name = strings.ToLower(strings.TrimSuffix(host, "."))
	return a, checkPattern(a.Name)
}

// ParseAllowList reads a whole list; none is for nil, and for AllowNone alone.
func ParseAllowList(entries []string) ([]Allowed, error) {
	if len(entries) == 1 && entries[0] == AllowNone {
		return nil, nil
	}
	var list []Allowed
	for _, s := range entries {
		a, err := ParseAllowed(s)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		list = append(list, a)
	}
	return list, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

// parsePrefix reads an address or a range of them; IPv6 may stand in brackets.
func parsePrefix(s string) (netip.Prefix, error) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		address, bits, closed := strings.Cut(inner, "]")
		if !closed || !strings.Contains(address, ":") || strings.HasPrefix(bits, ":") {
			return netip.Prefix{}, errors.New("not an address")
		}
		s = address + bits
	}
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, errors.New("not an address")
	}
	a = a.Unmap()
	return netip.PrefixFrom(a, a.BitLen()), nil
}

func parsePorts(s string) (first, last uint16, err error) {
	from, to, isRange := strings.Cut(s, "-")
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := a, error(nil)
	if isRange {
		b, errB = strconv.ParseUint(to, 10, 16)
	}
	if err := cmp.Or(errA, errB); err != nil || a == 0 || b < a {
		return 0, 0, fmt.Errorf("%q is not a port, nor a range of ports", s)
	}
	return uint16(a), uint16(b), nil
}

// checkPattern looks at a name, which may begin with "*.", or be "*".
func checkPattern(name string) error {
	rest := strings.TrimPrefix(name, "*.")
	if name == "*" {
		return nil
	}
	if len(name) > 253 {
		return errors.New("the name is too long")
	}
	for label := range strings.SplitSeq(rest, ".") {
		good := label != "" && len(label) <= 63 && label[0] != '-' && label[len(label)-1] != '-'
		for _, c := range []byte(label) {
			good = good && (c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z')
		}
		if !good {
			return fmt.Errorf("%q is neither a host name, nor an address or a range of them", name)
		}
	}
	if last := rest[strings.LastIndex(rest, ".")+1:]; strings.Trim(last, "0123456789") == "" { // a mistyped address: RFC 1123 §2.1
		return fmt.Errorf("%q is neither a host name, nor an address or a range of them", name)
	}
	return nil
}

// Refusal is what a container was not let do, once or several times.
type Refusal struct {
	First, Last time.Time
	Protocol    string     // tcp, udp, icmp, another's number; dns for a question about a name
	Address     netip.Addr `json:",omitzero"`
	Name        string     `json:",omitempty"` // that had the address, or was asked for
	Port        uint16     `json:",omitempty"`
	Count       int
}
