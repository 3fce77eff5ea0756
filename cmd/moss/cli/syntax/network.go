package syntax

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"moss/rootless/container"
	"moss/slirp"
)

// Networks reads all --network values of one container into mode and
// attachments. Several values must all be names of networks.
func Networks(values []string) (mode string, list []container.NetworkAttachment, err error) {
	for _, value := range values {
		m, attachment, err := network(value)
		if err != nil {
			return "", nil, &ValueError{value, err}
		}
		if mode != "" && (m != "bridge" || mode != "bridge") {
			return "", nil, &ValueError{value, fmt.Errorf("only names of networks can be given more than once")}
		}
		mode = m
		if attachment == nil {
			continue
		}
		for _, other := range list {
			if other.Name == attachment.Name {
				return "", nil, &ValueError{value, fmt.Errorf("network %q is given twice", other.Name)}
			}
		}
		list = append(list, *attachment)
	}
	return mode, list, nil
}

// ValueError says which of several values is wrong.
type ValueError struct {
	Value string
	Err   error
}

func (e *ValueError) Error() string { return fmt.Sprintf("%q: %v", e.Value, e.Err) }
func (e *ValueError) Unwrap() error { return e.Err }

// DefaultNetwork is the network that a container joins when none is named.
const DefaultNetwork = "moss"

func network(s string) (mode string, attachment *container.NetworkAttachment, err error) {
	name, options, hasOptions := strings.Cut(s, ":")
	switch name {
	case "":
		return "", nil, fmt.Errorf("a network needs a name")
	case "none", "host":
		if hasOptions {
			return "", nil, fmt.Errorf("%s takes no options", name)
		}
		return name, nil, nil
	case "private", "pasta", "slirp4netns":
		if name != "private" {
			options = strings.TrimSuffix(name+","+options, ",")
		}
		if _, err := slirp.ParsePrivate(options); err != nil {
			return "", nil, err
		}
		return strings.TrimSuffix("private:"+options, ":"), nil, nil
	case "container":
		if options == "" {
			return "", nil, fmt.Errorf("want container:NAME or container:ID")
		}
		return s, nil, nil
	case "ns":
		if !strings.HasPrefix(options, "/") {
			return "", nil, fmt.Errorf("want ns:PATH with an absolute path")
		}
		return s, nil, nil
	case "bridge", "default":
		name = DefaultNetwork
	}
	if err := Name(name); err != nil {
		return "", nil, err
	}
	a := &container.NetworkAttachment{Name: name}
	if !hasOptions {
		return "bridge", a, nil
	}
	for _, o := range strings.Split(options, ",") {
		if err := networkOption(a, o); err != nil {
			return "", nil, err
		}
	}
	return "bridge", a, nil
}

func networkOption(a *container.NetworkAttachment, o string) error {
	key, value, _ := strings.Cut(o, "=")
	if value == "" {
		return fmt.Errorf("option %q needs a value", key)
	}
	switch key {
	case "ip", "ip6":
		if err := Address(value); err != nil {
			return err
		}
		a.IPs = append(a.IPs, value)
	case "mac":
		mac, err := MAC(value)
		if err != nil {
			return err
		}
		a.MAC = mac
	case "alias":
		a.Aliases = append(a.Aliases, value)
	case "interface_name":
		if err := Interface(value); err != nil {
			return err
		}
		a.Interface = value
	default:
		return fmt.Errorf("unknown option %q: want ip, ip6, mac, alias or interface_name", key)
	}
	return nil
}

// Address checks an IP address.
func Address(s string) error {
	if _, err := netip.ParseAddr(s); err != nil {
		return fmt.Errorf("%q is not an IP address", s)
	}
	return nil
}

// MAC reads a hardware address of six bytes.
func MAC(s string) (string, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return "", fmt.Errorf("%q is not a MAC address such as 92:d0:c6:0a:29:33", s)
	}
	if mac[0]&1 != 0 {
		return "", fmt.Errorf("MAC address %q is a multicast address", s)
	}
	return mac.String(), nil
}

// AddHost reads NAME[;NAME…]:IP, where IP may be host-gateway, into NAME:IP entries.
func AddHost(s string) ([]string, error) {
	names, address, ok := strings.Cut(s, ":")
	if !ok || names == "" {
		return nil, fmt.Errorf("want NAME:IP")
	}
	address = strings.TrimSuffix(strings.TrimPrefix(address, "["), "]")
	if address != "host-gateway" {
		if err := Address(address); err != nil {
			return nil, err
		}
	}
	var out []string
	for _, name := range strings.Split(names, ";") {
		if name == "" || strings.ContainsAny(name, " \t") {
			return nil, fmt.Errorf("%q is not a host name", name)
		}
		out = append(out, name+":"+address)
	}
	return out, nil
}

// Hostname checks a host name; see gethostname(2) for the length.
func Hostname(s string) error {
	if len(s) > 64 {
		return fmt.Errorf("a host name has at most 64 characters")
	}
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune(".-_", r)) {
			return fmt.Errorf("a host name is made of letters, digits, dots and hyphens")
		}
	}
	return nil
}

// ShowPort writes a published port as ps and port do, given the text of an
// address that is not set.
func ShowPort(p slirp.Port) string {
	host := p.HostIP.String()
	switch {
	case !p.HostIP.IsValid():
		host = "0.0.0.0"
	case p.HostIP.Is6():
		host = "[" + host + "]"
	}
	span := func(first uint16) string {
		if p.Count > 1 {
			return fmt.Sprintf("%d-%d", first, first+p.Count-1)
		}
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%s:%s->%s/%s", host, span(p.HostPort), span(p.ContainerPort), p.Proto)
}
