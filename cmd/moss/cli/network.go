package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
	"moss/slirp"
)

// slirpDirs is where the records of networks are.
func (c *call) slirpDirs() slirp.Dirs {
	return slirp.Dirs{Run: c.Engine.Paths.Net(), Networks: c.Engine.Paths.Networks(), Program: rootless.Helper("moss-net")}
}

// networks are all networks; the default one is made when it is first looked at.
func (c *call) networks() ([]slirp.Network, error) {
	if _, err := slirp.Default(c.slirpDirs()); err != nil {
		return nil, err
	}
	list, err := slirp.List(c.slirpDirs())
	for _, n := range c.Engine.PodmanNetworks() {
		if !slices.ContainsFunc(list, func(own slirp.Network) bool { return own.Name == n.Name }) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b slirp.Network) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// network finds a network by name, or by the first digits of its ID.
func (c *call) network(name string) (*slirp.Network, error) {
	list, err := c.networks()
	if err != nil {
		return nil, err
	}
	var found *slirp.Network
	for i := range list {
		switch {
		case list[i].Name == name:
			return &list[i], nil
		case strings.HasPrefix(list[i].ID, name):
			if found != nil {
				return nil, fmt.Errorf("cannot find network %q: more than one ID begins so: %w", name, errdefs.ErrInvalidArgument)
			}
			found = &list[i]
		}
	}
	if found == nil {
		err := fmt.Errorf("cannot find network %q: no network with that name or ID: %w", name, errdefs.ErrNotFound)
		return nil, &notFoundError{err, "moss network ls"}
	}
	return found, nil
}

// NetworkLsCmd is "moss network ls".
type NetworkLsCmd struct {
	Globals
	Filter    []string `short:"f" sep:"none" help:"List those that match: name, id, driver, label, dangling or until." placeholder:"KEY=VALUE"`
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Noheading bool     `short:"n" help:"Leave the header line out."`
	NoTrunc   bool     `help:"Show IDs in full."`
	Quiet     bool     `short:"q" help:"Show names only."`

	filters filters
}

func (cmd *NetworkLsCmd) prepare() (err error) {
	cmd.filters, err = parseFilters("filter", cmd.Filter, []string{"name", "id", "driver", "label", "label!", "dangling", "until"})
	return err
}

// Run prints a line for each network, by name.
func (cmd *NetworkLsCmd) Run(ctx context.Context, c *call) error {
	list, err := c.networks()
	if err != nil {
		return err
	}
	all, err := c.Engine.All()
	if err != nil {
		return err
	}
	rows, asJSON := []networkRow{}, []networkView{}
	for _, n := range list {
		if cmd.filters.network(&n, all) {
			rows = append(rows, networkRow{n, cmd.NoTrunc})
			asJSON = append(asJSON, newNetworkView(&n))
		}
	}
	if cmd.Quiet && cmd.Format == "" {
		for _, r := range rows {
			fmt.Fprintln(c.Out, r.Name())
		}
		return nil
	}
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "NETWORK ID", Cell: ".ID"}, {Header: "NAME", Cell: ".Name"}, {Header: "DRIVER", Cell: ".Driver"},
	}}
	return table.Print(c.Out, cmd.Format, rows, asJSON)
}

// networkRow is a network as templates of network ls see it.
type networkRow struct {
	n    slirp.Network
	full bool
}

// MarshalJSON is for {{json .}}.
func (r networkRow) MarshalJSON() ([]byte, error) { return json.Marshal(newNetworkView(&r.n)) }

func (r networkRow) ID() string {
	if r.full {
		return r.n.ID
	}
	return format.ShortID(r.n.ID)
}
func (r networkRow) Name() string       { return r.n.Name }
func (r networkRow) Driver() string     { return r.n.Driver }
func (r networkRow) Internal() bool     { return r.n.Internal }
func (r networkRow) DNSEnabled() bool   { return r.n.DNS }
func (r networkRow) Created() time.Time { return r.n.Created }
func (r networkRow) Labels() string {
	var out []string
	for key, value := range r.n.Labels {
		out = append(out, key+"="+value)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// networkView is a network as inspect shows it, with podman's names.
type networkView struct {
	Name              string                      `json:"name"`
	ID                string                      `json:"id"`
	Driver            string                      `json:"driver"`
	NetworkInterface  string                      `json:"network_interface"`
	Created           time.Time                   `json:"created"`
	Subnets           []subnetView                `json:"subnets"`
	IPv6Enabled       bool                        `json:"ipv6_enabled"`
	Internal          bool                        `json:"internal"`
	DNSEnabled        bool                        `json:"dns_enabled"`
	Labels            map[string]string           `json:"labels,omitempty"`
	Options           map[string]string           `json:"options,omitempty"`
	IPAMOptions       map[string]string           `json:"ipam_options"`
	Containers        map[string]networkContainer `json:"containers"`
	NetworkDNSServers []netip.Addr                `json:"network_dns_servers,omitempty"`
	Routes            []routeView                 `json:"routes,omitempty"`
}

type routeView struct {
	Destination string `json:"destination"`
	Gateway     string `json:"gateway"`
	Metric      int    `json:"metric,omitempty"`
}

type leaseRange struct {
	Start string `json:"start_ip"`
	End   string `json:"end_ip"`
}

type subnetView struct {
	Subnet  string `json:"subnet"`
	Gateway string `json:"gateway,omitempty"`
	// LeaseRange is what --ip-range says.
	LeaseRange *leaseRange `json:"lease_range,omitempty"`
}

type networkContainer struct {
	Name       string                     `json:"name"`
	Interfaces map[string]interfaceInside `json:"interfaces"`
}

type interfaceInside struct {
	Subnets    []subnetInside `json:"subnets"`
	MACAddress string         `json:"mac_address"`
}

type subnetInside struct {
	IPNet   string `json:"ipnet"`
	Gateway string `json:"gateway,omitempty"`
}

func newNetworkView(n *slirp.Network) networkView {
	v := networkView{
		Name: n.Name, ID: n.ID, Driver: n.Driver, NetworkInterface: n.Bridge, Created: n.Created, Internal: n.Internal,
		DNSEnabled: n.DNS, Labels: n.Labels, Options: map[string]string{"mtu": strconv.Itoa(n.MTU)},
		IPAMOptions: map[string]string{"driver": "host-local"}, Containers: map[string]networkContainer{},
	}
	for key, value := range n.Options {
		v.Options[key] = value
	}
	v.NetworkDNSServers = n.Servers
	for _, r := range n.Routes {
		v.Routes = append(v.Routes, routeView{r.Prefix.String(), r.Gateway.String(), r.Metric})
	}
	for _, s := range n.Subnets {
		view := subnetView{Subnet: s.Prefix.String(), Gateway: s.Gateway.String()}
		if s.First.IsValid() {
			view.LeaseRange = &leaseRange{s.First.String(), s.Last.String()}
		}
		v.Subnets = append(v.Subnets, view)
		v.IPv6Enabled = v.IPv6Enabled || s.Prefix.Addr().Is6()
	}
	return v
}

// inspectNetwork is a network with the containers that are connected to it.
func (c *call) inspectNetwork(name string) (any, error) {
	n, err := c.network(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.Join(errdefs.ErrNotFound, err)
	}
	if err != nil {
		return nil, err
	}
	v := newNetworkView(n)
	all, err := c.Engine.All()
	if err != nil {
		return nil, err
	}
	for _, ctr := range all {
		live := ctr.Look().Live
		if live == nil || live.Network == nil {
			continue
		}
		inside := map[string]interfaceInside{}
		for _, i := range live.Network.Interfaces {
			if i.Network == n.Name {
				inside[i.Name] = newInterfaceInside(i)
			}
		}
		if len(inside) > 0 {
			v.Containers[ctr.Spec.ID] = networkContainer{ctr.Spec.Name, inside}
		}
	}
	return v, nil
}

func newInterfaceInside(i slirp.Interface) interfaceInside {
	out := interfaceInside{MACAddress: i.MAC}
	for _, ip := range i.IPs {
		s := subnetInside{IPNet: ip.String()}
		for _, gateway := range i.Gateway {
			if ip.Contains(gateway) {
				s.Gateway = gateway.String()
			}
		}
		out.Subnets = append(out.Subnets, s)
	}
	return out
}
