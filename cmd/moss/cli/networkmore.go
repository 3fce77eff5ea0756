package cli

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
	"moss/slirp"
)

// NetworkRmCmd is "moss network rm".
type NetworkRmCmd struct {
	Globals
	Force   bool     `short:"f" help:"Remove the containers that use it too; say nothing of networks that are not there."`
	Time    string   `short:"t" help:"Seconds before SIGKILL of such a container, with --force." placeholder:"SECONDS"`
	Network []string `arg:"" help:"Name or ID of a network."`

	timeout *time.Duration
}

func (cmd *NetworkRmCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[NetworkRmCmd]()}
	cmd.timeout = readTimeout(v, "time", cmd.Time)
	v.check(cmd.timeout != nil && !cmd.Force, "--time needs --force")
	return v.err
}

// Run ends with exit code 1 when a network is not there, and 2 when one is used.
func (cmd *NetworkRmCmd) Run(ctx context.Context, c *call) error {
	var errs []error
	for _, name := range cmd.Network {
		err := cmd.remove(ctx, c, name)
		if cmd.Force && isNotFound(err) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, name)
	}
	return removalError(errs)
}

func (cmd *NetworkRmCmd) remove(ctx context.Context, c *call, name string) error {
	n, err := c.network(name)
	if err != nil {
		return err
	}
	if cmd.Force && n.Name != slirp.DefaultName {
		all, err := c.Engine.All()
		if err != nil {
			return err
		}
		for _, user := range rootless.NetworkUsers(all, n.Name) {
			if err := c.Engine.Remove(ctx, user, rootless.RemoveOptions{Force: true, Timeout: cmd.timeout}); err != nil && !isNotFound(err) {
				return err
			}
		}
	}
	return c.Engine.RemoveNetwork(ctx, n.Name)
}

// NetworkPruneCmd is "moss network prune".
type NetworkPruneCmd struct {
	Globals
	Filter []string `sep:"none" help:"Remove those that match: until, label or label!." placeholder:"KEY=VALUE"`
	Force  bool     `short:"f" help:"Do not ask."`

	filters filters
}

func (cmd *NetworkPruneCmd) prepare() (err error) {
	cmd.filters, err = parseFilters("filter", cmd.Filter, []string{"until", "label", "label!"})
	return err
}

// Run prints the names of the networks that it has removed.
func (cmd *NetworkPruneCmd) Run(ctx context.Context, c *call) error {
	if !cmd.Force {
		fmt.Fprintln(c.Out, "WARNING! This will remove all networks not used by at least one container.")
		if yes, err := c.confirm("Are you sure you want to continue? [y/N] "); !yes || err != nil {
			return err
		}
	}
	list, err := c.networks()
	if err != nil {
		return err
	}
	all, err := c.Engine.All()
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range list {
		if n.Name == slirp.DefaultName || !cmd.filters.network(&n, all) || len(rootless.NetworkUsers(all, n.Name)) > 0 {
			continue
		}
		if err := c.Engine.RemoveNetwork(ctx, n.Name); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, n.Name)
	}
	return errors.Join(errs...)
}

// network says whether a network is one of those that are asked for.
func (f filters) network(n *slirp.Network, all []*container.Container) bool {
	return f.any("name", func(v string) bool { return matchesName(v, n.Name) }) &&
		f.any("id", func(v string) bool { return strings.HasPrefix(n.ID, v) }) &&
		f.any("driver", func(v string) bool { return v == n.Driver }) &&
		f.all("label", func(v string) bool { return hasLabel(n.Labels, v) }) &&
		f.all("label!", func(v string) bool { return !hasLabel(n.Labels, v) }) &&
		f.any("dangling", func(v string) bool {
			return (v == "true") == (n.Name != slirp.DefaultName && len(rootless.NetworkUsers(all, n.Name)) == 0)
		}) &&
		f.all("until", func(v string) bool {
			t, err := syntax.Moment(v, time.Now())
			return err == nil && n.Created.Before(t)
		})
}

// NetworkConnectCmd is "moss network connect".
type NetworkConnectCmd struct {
	Globals
	Alias      []string `sep:"none" help:"Further name of the container on this network." placeholder:"NAME"`
	IP         string   `name:"ip" help:"IPv4 address on this network." placeholder:"IP"`
	IP6        string   `name:"ip6" help:"IPv6 address on this network." placeholder:"IP"`
	MACAddress string   `name:"mac-address" help:"Hardware address on this network." placeholder:"MAC"`
	Interface  string   `name:"interface-name" help:"Name of the interface in the container; the first free ethN if none is given." placeholder:"NAME"`
	Network    string   `arg:"" help:"Name or ID of a network."`
	Container  string   `arg:"" help:"Name, ID, or the first digits of an ID."`

	attachment container.NetworkAttachment
}

func (cmd *NetworkConnectCmd) prepare() error {
	a := &cmd.attachment
	v := &flagValues{grammar: reflect.TypeFor[NetworkConnectCmd]()}
	v.each("alias", cmd.Alias, syntax.Hostname)
	a.Aliases = cmd.Alias
	v.one("ip", cmd.IP, addressOf(true, a))
	v.one("ip6", cmd.IP6, addressOf(false, a))
	v.one("mac-address", cmd.MACAddress, func(s string) (err error) {
		a.MAC, err = syntax.MAC(s)
		return err
	})
	v.one("interface-name", cmd.Interface, syntax.Interface)
	a.Interface = cmd.Interface
	return v.err
}

// addressOf reads an address of one family into an attachment.
func addressOf(is4 bool, to *container.NetworkAttachment) func(string) error {
	return func(v string) error {
		a, err := netip.ParseAddr(v)
		if err != nil || a.Is4() != is4 {
			return fmt.Errorf("it is not an address of that kind")
		}
		to.IPs = append(to.IPs, v)
		return nil
	}
}

// Run connects a container that runs at once, another one when it is started.
func (cmd *NetworkConnectCmd) Run(ctx context.Context, c *call) error {
	n, err := c.network(cmd.Network)
	if err != nil {
		return err
	}
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	for _, ip := range cmd.attachment.IPs {
		a, _ := netip.ParseAddr(ip)
		if !slices.ContainsFunc(n.Subnets, func(s slirp.Subnet) bool { return s.Prefix.Contains(a) }) {
			return fmt.Errorf("cannot connect container %q to network %q: address %s is not in the network: %w", ctr.Spec.Name, n.Name, ip, errdefs.ErrInvalidArgument)
		}
	}
	cmd.attachment.Name = n.Name
	return c.Engine.ConnectNetwork(ctx, ctr, cmd.attachment)
}

// NetworkDisconnectCmd is "moss network disconnect".
type NetworkDisconnectCmd struct {
	Globals
	Force     bool   `short:"f" help:"It is no error when the container is not connected."`
	Network   string `arg:"" help:"Name or ID of a network."`
	Container string `arg:"" help:"Name, ID, or the first digits of an ID."`
}

// Run disconnects a container that runs at once.
func (cmd *NetworkDisconnectCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	name := cmd.Network
	if n, err := c.network(name); err == nil {
		name = n.Name
	} else if !slices.ContainsFunc(ctr.Spec.Network.Networks, func(a container.NetworkAttachment) bool { return a.Name == name }) {
		return err // one whose record is lost can be left all the same
	}
	if cmd.Force && !slices.Contains(rootless.NetworkUsers([]*container.Container{ctr}, name), ctr) {
		return nil
	}
	return c.Engine.DisconnectNetwork(ctx, ctr, name)
}

// NetworkReloadCmd is "moss network reload".
type NetworkReloadCmd struct {
	Globals
	All       bool     `short:"a" help:"All containers that run."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`
}

func (cmd *NetworkReloadCmd) selection() *Selection {
	return &Selection{All: cmd.All, Latest: cmd.Latest, Container: cmd.Container}
}

func (cmd *NetworkReloadCmd) prepare() error { return cmd.selection().prepare() }

// Run prints the IDs of the containers.
func (cmd *NetworkReloadCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.selection().containers(c, func(v container.View) bool { return v.Live != nil })
	errs := []error{err}
	for _, ctr := range list {
		if cmd.All && ctr.Spec.Network.Mode != "bridge" {
			continue
		}
		if err := c.Engine.ReloadNetworks(ctx, ctr); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, ctr.Spec.ID)
	}
	return errors.Join(errs...)
}

// NetworkUpdateCmd is "moss network update".
type NetworkUpdateCmd struct {
	Globals
	DNSAdd  []string `name:"dns-add" sep:"," help:"Name servers to ask about the rest of the world." placeholder:"IP,..."`
	DNSDrop []string `name:"dns-drop" sep:"," help:"Name servers not to ask any more." placeholder:"IP,..."`
	Network string   `arg:"" help:"Name or ID of a network."`

	add, drop []netip.Addr
}

func (cmd *NetworkUpdateCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[NetworkUpdateCmd]()}
	into := func(list *[]netip.Addr) func(string) error {
		return func(s string) error {
			a, err := netip.ParseAddr(s)
			if err != nil {
				return fmt.Errorf("%q is not an IP address", s)
			}
			*list = append(*list, a)
			return nil
		}
	}
	v.each("dns-add", cmd.DNSAdd, into(&cmd.add))
	v.each("dns-drop", cmd.DNSDrop, into(&cmd.drop))
	v.check(len(cmd.add)+len(cmd.drop) == 0, "network update wants --dns-add or --dns-drop")
	return v.err
}

// Run has containers that run ask the new servers at once.
func (cmd *NetworkUpdateCmd) Run(ctx context.Context, c *call) error {
	n, err := c.network(cmd.Network)
	if err != nil {
		return err
	}
	return c.Engine.ChangeNetwork(ctx, n.Name, func(n *slirp.Network) error {
		if !n.DNS {
			return fmt.Errorf("it was created with --disable-dns: %w", errdefs.ErrFailedPrecondition)
		}
		for _, a := range cmd.drop {
			at := slices.Index(n.Servers, a)
			if at < 0 {
				return fmt.Errorf("%s is not one of its name servers: %w", a, errdefs.ErrInvalidArgument)
			}
			n.Servers = slices.Delete(n.Servers, at, at+1)
		}
		for _, a := range cmd.add {
			if !slices.Contains(n.Servers, a) {
				n.Servers = append(n.Servers, a)
			}
		}
		return nil
	})
}
