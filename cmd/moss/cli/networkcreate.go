package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"

	"moss/cmd/moss/cli/syntax"
	"moss/slirp"
)

// NetworkCreateCmd is "moss network create".
type NetworkCreateCmd struct {
	Globals
	DisableDNS    bool     `name:"disable-dns" help:"Answer no names on this network."`
	DNS           []string `name:"dns" sep:"none" help:"Name server for the rest of the world, in place of the host's." placeholder:"IP"`
	Driver        string   `short:"d" help:"Driver; bridge is the only one." placeholder:"NAME"`
	Gateway       []string `sep:"none" help:"Gateway of the subnet; its first address if none is given." placeholder:"IP"`
	Ignore        bool     `help:"It is no error when there is a network of that name."`
	InterfaceName string   `name:"interface-name" help:"Name of the bridge in moss's network namespace." placeholder:"NAME"`
	Internal      bool     `help:"Lead nowhere: containers reach each other only."`
	IPRange       []string `name:"ip-range" sep:"none" help:"Addresses that containers are given, within the subnet." placeholder:"RANGE"`
	IPAMDriver    string   `name:"ipam-driver" help:"Who gives addresses: host-local is the only one." placeholder:"NAME"`
	IPv6          *bool    `name:"ipv6" help:"An IPv6 range too; the default where no subnet is given."`
	Label         []string `sep:"none" help:"Label of the network." placeholder:"KEY=VALUE"`
	Isolate       *bool    `help:"Refuse packets of other networks; every network of moss does."`
	Opt           []string `short:"o" sep:"none" help:"Option: mtu, metric, no_default_route, isolate." placeholder:"KEY=VALUE"`
	Route         []string `sep:"none" help:"Route that containers get." placeholder:"DESTINATION,GATEWAY[,METRIC]"`
	Subnet        []string `sep:"none" help:"Address range; a free one if none is given." placeholder:"RANGE"`
	Name          string   `arg:"" help:"Name of the network."`

	network slirp.Network
}

func (cmd *NetworkCreateCmd) prepare() error {
	n := &cmd.network
	*n = slirp.Network{
		Name: cmd.Name, Driver: "bridge", Internal: cmd.Internal, DNS: !cmd.DisableDNS, Bridge: cmd.InterfaceName,
		Labels: map[string]string{}, Options: map[string]string{},
	}
	v := &flagValues{grammar: reflect.TypeFor[NetworkCreateCmd]()}
	v.one("driver", cmd.Driver, networkDriver)
	v.one("ipam-driver", cmd.IPAMDriver, oneOf("host-local"))
	v.one("interface-name", cmd.InterfaceName, syntax.Interface)
	v.check(cmd.DisableDNS && len(cmd.DNS) > 0, "--dns cannot be combined with --disable-dns")
	v.check(len(cmd.Gateway) > 0 && len(cmd.Subnet) == 0, "--gateway needs --subnet")
	v.check(len(cmd.IPRange) > 0 && len(cmd.Subnet) == 0, "--ip-range needs --subnet")
	v.each("subnet", cmd.Subnet, cmd.subnet)
	v.each("gateway", cmd.Gateway, cmd.gateway)
	v.each("ip-range", cmd.IPRange, cmd.ipRange)
	v.each("dns", cmd.DNS, func(s string) error {
		a, err := netip.ParseAddr(s)
		n.Servers = append(n.Servers, a)
		return err
	})
	v.each("route", cmd.Route, func(s string) error {
		r, err := syntax.Route(s)
		n.Routes = append(n.Routes, r)
		if inside := func(s slirp.Subnet) bool { return s.Prefix.Contains(r.Gateway) }; err == nil && len(n.Subnets) > 0 && !slices.ContainsFunc(n.Subnets, inside) {
			err = fmt.Errorf("%s is not in a subnet of the network", r.Gateway)
		}
		return err
	})
	v.each("label", cmd.Label, func(s string) error {
		key, value, err := syntax.KeyValue(s, true)
		n.Labels[key] = value
		return err
	})
	v.each("opt", cmd.Opt, cmd.option)
	v.check(cmd.Isolate != nil && !*cmd.Isolate, "invalid value for flag --isolate: "+alwaysIsolated)
	if v.err == nil {
		return networkName(cmd.Name)
	}
	return v.err
}

const alwaysIsolated = "networks of moss are always isolated from each other"

// networkDriver says why there are no others.
func networkDriver(s string) error {
	switch s {
	case "bridge":
		return nil
	case "macvlan", "ipvlan":
		return fmt.Errorf("it gives containers addresses beside an interface of the host, which only root may do; bridge works, and publishes ports with the clients' addresses")
	}
	return fmt.Errorf("want bridge")
}

// networkName refuses names that --network has other meanings for.
func networkName(s string) error {
	if slices.Contains([]string{"bridge", "default", "host", "none", "private", "container", "ns", "pasta", "slirp4netns"}, s) {
		return usagef("cannot create network %q: --network %s means something else", s, s)
	}
	if err := syntax.Name(s); err != nil {
		return usagef("cannot create network %q: %v", s, err)
	}
	return nil
}

func (cmd *NetworkCreateCmd) subnet(s string) error {
	p, err := syntax.Subnet(s)
	if err != nil {
		return err
	}
	for _, other := range cmd.network.Subnets {
		if other.Prefix.Overlaps(p) {
			return fmt.Errorf("it overlaps %s", other.Prefix)
		}
	}
	cmd.network.Subnets = append(cmd.network.Subnets, slirp.Subnet{Prefix: p})
	return nil
}

// within is the subnet that an address is in.
func (cmd *NetworkCreateCmd) within(a netip.Addr) (*slirp.Subnet, error) {
	for i := range cmd.network.Subnets {
		if s := &cmd.network.Subnets[i]; s.Prefix.Contains(a) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("%s is not in the subnet", a)
}

func (cmd *NetworkCreateCmd) gateway(s string) error {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return fmt.Errorf("%q is not an IP address", s)
	}
	subnet, err := cmd.within(a)
	switch {
	case err != nil:
		return err
	case subnet.Gateway.IsValid():
		return fmt.Errorf("subnet %s has a gateway already", subnet.Prefix)
	case a == subnet.Prefix.Addr():
		return fmt.Errorf("%s is the subnet's own address", a)
	}
	subnet.Gateway = a
	return nil
}

func (cmd *NetworkCreateCmd) ipRange(s string) error {
	first, last, err := syntax.Range(s)
	if err != nil {
		return err
	}
	subnet, err := cmd.within(first)
	switch {
	case err != nil:
		return err
	case !subnet.Prefix.Contains(last):
		return fmt.Errorf("%s is not in the subnet", last)
	case subnet.First.IsValid():
		return fmt.Errorf("subnet %s has a range already, and each can have one", subnet.Prefix)
	}
	subnet.First, subnet.Last = first, last
	return nil
}

func (cmd *NetworkCreateCmd) option(s string) error {
	key, value, err := syntax.KeyValue(s, true)
	if err != nil {
		return err
	}
	n := &cmd.network
	switch key {
	case "mtu", "com.docker.network.driver.mtu":
		if n.MTU, err = strconv.Atoi(value); err != nil || n.MTU < 1280 || n.MTU > slirp.DefaultMTU {
			return fmt.Errorf("want an MTU from 1280 to %d", slirp.DefaultMTU)
		}
	case "metric":
		if n.Metric, err = strconv.Atoi(value); err != nil || n.Metric < 1 {
			return fmt.Errorf("want a positive number")
		}
	case "no_default_route":
		if n.NoDefault, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("want true or false")
		}
	case "isolate":
		if value != "true" && value != "1" && value != "strict" {
			return errors.New(alwaysIsolated)
		}
	case "com.docker.network.bridge.name":
		if n.Bridge != "" && n.Bridge != value {
			return fmt.Errorf("--interface-name says %q", n.Bridge)
		}
		n.Bridge = value
		err = syntax.Interface(value)
	case "com.docker.network.bridge.enable_icc":
		if value != "true" {
			return fmt.Errorf("containers of one network of moss always reach each other; give them networks of their own")
		}
	case "vlan":
		return fmt.Errorf("a VLAN is of an interface of the host, which only root may add to")
	default:
		return fmt.Errorf("unknown option %q: want mtu, metric, no_default_route or isolate", key)
	}
	n.Options[key] = value
	return err
}

// Run prints the name of the network.
func (cmd *NetworkCreateCmd) Run(ctx context.Context, c *call) error {
	if _, err := c.networks(); err != nil { // the default one is to have its range first
		return err
	}
	v6 := len(cmd.Subnet) == 0
	if cmd.IPv6 != nil {
		v6 = *cmd.IPv6
	}
	err := c.Engine.CreateNetwork(&cmd.network, v6)
	if err != nil && !(cmd.Ignore && errors.Is(err, slirp.ErrExists)) {
		return err
	}
	if err != nil {
		if n, err := c.network(cmd.Name); err == nil {
			warnKept("network", n.Name, cmd.differs(n))
		}
	}
	fmt.Fprintln(c.Out, cmd.Name)
	return nil
}
