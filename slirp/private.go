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
	// Options are pasta's, see passt(1). They come in place of those of moss that say another thing.
	Options []PastaOption
}

// PastaOption is an option of pasta by its long name, without dashes.
type PastaOption struct{ Name, Value string }

// pastaOption is what is known of one: its other name, whether it has a value, and whether
// it is moss's to give, which knows pasta's place, its life and the addresses.
type pastaOption struct {
	short  byte
	valued bool
	own    bool
}

// pastaOptions are those of passt(1) that pasta knows. Others are refused: one that moss does
// not know could be another way to say what is its to say.
var pastaOptions = map[string]pastaOption{
	"debug": {short: 'd'}, "trace": {}, "stats": {valued: true}, "quiet": {short: 'q'},
	"log-file": {short: 'l', valued: true}, "log-size": {valued: true}, "pcap": {short: 'p', valued: true},
	"mtu": {short: 'm', valued: true}, "mac-addr": {short: 'M', valued: true}, "ns-mac-addr": {valued: true},
	"interface": {short: 'i', valued: true}, "outbound": {short: 'o', valued: true},
	"outbound-if4": {valued: true}, "outbound-if6": {valued: true},
	"dns": {short: 'D', valued: true}, "dns-forward": {valued: true}, "dns-host": {valued: true},
	"search": {short: 'S', valued: true}, "hostname": {short: 'H', valued: true}, "fqdn": {valued: true},
	"map-gw": {}, "no-map-gw": {}, "map-host-loopback": {valued: true}, "map-guest-addr": {valued: true},
	"ipv4-only": {short: '4'}, "ipv6-only": {short: '6'}, "no-tcp": {}, "no-udp": {}, "no-icmp": {},
	"no-dhcp": {}, "no-ndp": {}, "no-dhcpv6": {}, "no-ra": {}, "no-dhcp-dns": {}, "no-dhcp-search": {},
	"dhcp-dns": {}, "dhcp-search": {}, "freebind": {}, "no-splice": {}, "host-lo-to-ns-lo": {},
	"tcp-ports": {short: 't', valued: true}, "udp-ports": {short: 'u', valued: true},
	"tcp-ns": {short: 'T', valued: true}, "udp-ns": {short: 'U', valued: true},

	"ns-ifname": {short: 'I', valued: true, own: true}, "netns": {valued: true, own: true}, "netns-only": {own: true},
	"no-netns-quit": {own: true}, "userns": {valued: true, own: true}, "foreground": {short: 'f', own: true},
	"pid": {short: 'P', valued: true, own: true}, "runas": {valued: true, own: true}, "fd": {short: 'F', valued: true, own: true},
	"socket": {short: 's', valued: true, own: true}, "vhost-user": {own: true}, "one-off": {short: '1', own: true},
	"address": {short: 'a', valued: true, own: true}, "netmask": {short: 'n', valued: true, own: true},
	"gateway": {short: 'g', valued: true, own: true}, "config-net": {own: true}, "no-copy-addrs": {own: true},
	"no-copy-routes": {own: true}, "help": {short: 'h', own: true}, "version": {own: true},
}

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

// pasta takes arguments for pasta that are separated by commas, as getopt_long(3) would, but
// for names that are cut short.
func (p *Private) pasta(options string) error {
	args := slices.DeleteFunc(strings.Split(options, ","), func(arg string) bool { return arg == "" })
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, value, hasValue := nameOf(arg)
		o, known := pastaOptions[name]
		switch {
		case !known:
			return fmt.Errorf("%q is no option of pasta that moss knows: want --OPTION or --OPTION,VALUE, separated by commas", arg)
		case o.own:
			return fmt.Errorf("pasta's option --%s is moss's to give", name)
		case !o.valued && hasValue:
			return fmt.Errorf("pasta's option --%s in %q has no value, and stands alone", name, arg)
		case o.valued && !hasValue && len(args) > 0:
			value, args = args[0], args[1:]
		}
		if o.valued && value == "" {
			return fmt.Errorf("pasta's option --%s wants a value", name)
		}
		if name != "mtu" {
			p.Options = append(p.Options, PastaOption{name, value})
			continue
		}
		var err error
		if p.MTU, err = mtu(value); err != nil {
			return fmt.Errorf("pasta's option --mtu: %w", err)
		}
	}
	return nil
}

// nameOf is the long name of an option as it is given, "" if it is none, and the value
// that is in the same word.
func nameOf(arg string) (name, value string, hasValue bool) {
	if long, ok := strings.CutPrefix(arg, "--"); ok {
		name, value, hasValue = strings.Cut(long, "=")
		return name, value, hasValue
	}
	if len(arg) < 2 || arg[0] != '-' {
		return "", "", false
	}
	for long, o := range pastaOptions {
		if o.short == arg[1] {
			return long, arg[2:], len(arg) > 2
		}
	}
	return "", "", false
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
