package slirp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// Private says how a container that has a network of its own gets out of it.
type Private struct {
	// Kind is pasta, slirp4netns, embedded, or "" for the one that suits best.
	Kind string
	MTU  int // 0: DefaultMTU
	// These are for slirp4netns: its IPv4 network, what it binds its connections to,
	// whether its gateway is the host's loopback, and whether it is without IPv6.
	CIDR                netip.Prefix
	Outbound, Outbound6 string
	HostLoopback        bool
	NoIPv6              bool
	// Args are pasta's, see passt(1). They come in place of those of moss that say another thing.
	Args []string
}

// pastaOwn are pasta's options that moss needs to give itself: its place, and its life.
var pastaOwn = []string{"-I", "--ns-ifname", "--netns", "--netns-only", "--no-netns-quit", "--userns", "-f", "--foreground",
	"-P", "--pid", "--runas", "-F", "--fd", "-s", "--socket", "--vhost-user", "-1", "--one-off", "-a", "--address", "-n", "--netmask",
	"-g", "--gateway", "--config-net", "--no-copy-addrs", "--no-copy-routes", "-h", "--help", "--version"}

// ParsePrivate reads what follows "private:" in a network mode: "[KIND][,OPTION...]".
func ParsePrivate(text string) (p Private, err error) {
	kind, options, _ := strings.Cut(text, ",")
	switch p.Kind = kind; kind {
	case "", "embedded", "slirp4netns":
	case "pasta":
		return p, p.pasta(options)
	default:
		return p, fmt.Errorf("unknown driver %q: want pasta, slirp4netns or embedded", kind)
	}
	for option := range strings.SplitSeq(options, ",") {
		if option == "" {
			continue
		}
		key, value, _ := strings.Cut(option, "=")
		if err := p.option(key, value); err != nil {
			return p, fmt.Errorf("option %q: %w", option, err)
		}
	}
	return p, nil
}

func (p *Private) option(key, value string) (err error) {
	if key == "mtu" {
		p.MTU, err = mtu(value)
		return err
	}
	if p.Kind != "slirp4netns" {
		return errors.New("unknown: want mtu=BYTES")
	}
	switch key {
	case "cidr":
		p.CIDR, err = netip.ParsePrefix(value)
		if err != nil || !p.CIDR.Addr().Is4() || p.CIDR.Bits() > 25 {
			return errors.New("want an IPv4 network of 128 addresses or more, ADDRESS/BITS")
		}
		p.CIDR = p.CIDR.Masked()
	case "allow_host_loopback":
		p.HostLoopback, err = yes(value)
	case "enable_ipv6":
		var ipv6 bool
		ipv6, err = yes(value)
		p.NoIPv6 = !ipv6
	case "outbound_addr", "outbound_addr6":
		if value == "" {
			return errors.New("want an address or an interface of the host")
		}
		if key == "outbound_addr" {
			p.Outbound = value
		} else {
			p.Outbound6 = value
		}
	case "port_handler":
		if value != "rootlesskit" {
			return errors.New("moss publishes ports itself, as rootlesskit does; clients' addresses are kept with the network private:embedded")
		}
	default:
		return errors.New("unknown: want allow_host_loopback, cidr, enable_ipv6, mtu, outbound_addr, outbound_addr6 or port_handler")
	}
	return err
}

// pasta takes arguments for pasta that are separated by commas.
func (p *Private) pasta(options string) error {
	var args []string
	for arg := range strings.SplitSeq(options, ",") {
		if arg != "" {
			args = append(args, arg)
		}
	}
	for i := 0; i < len(args); i++ {
		name, value, inOne := strings.Cut(args[i], "=")
		if slices.Contains(pastaOwn, name) {
			return fmt.Errorf("pasta's option %s is moss's to give", name)
		}
		if i == 0 && !strings.HasPrefix(name, "-") {
			return fmt.Errorf("%q is no option of pasta: want --OPTION or --OPTION,VALUE, separated by commas", name)
		}
		if name != "-m" && name != "--mtu" {
			p.Args = append(p.Args, args[i])
			continue
		}
		if !inOne {
			if i++; i < len(args) {
				value = args[i]
			}
		}
		var err error
		if p.MTU, err = mtu(value); err != nil {
			return fmt.Errorf("pasta's option %s: %w", name, err)
		}
	}
	return nil
}

func mtu(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1280 || n > DefaultMTU {
		return 0, fmt.Errorf("want bytes from 1280, which IPv6 needs, to %d", DefaultMTU)
	}
	return n, nil
}

func yes(text string) (bool, error) {
	switch text {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, errors.New("want true or false")
}
