package rootless

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"moss/record"
	"moss/slirp"
	"moss/systemd/cgroup"
)

// podmanNetwork is podman's record of a network, as netavark reads it.
type podmanNetwork struct {
	Name     string            `json:"name"`
	ID       string            `json:"id"`
	Driver   string            `json:"driver"`
	Created  time.Time         `json:"created"`
	Subnets  []podmanSubnet    `json:"subnets"`
	IPv6     bool              `json:"ipv6_enabled"`
	Internal bool              `json:"internal"`
	DNS      bool              `json:"dns_enabled"`
	Servers  []netip.Addr      `json:"network_dns_servers"`
	Labels   map[string]string `json:"labels"`
	Options  map[string]string `json:"options"`
}

type podmanSubnet struct {
	Subnet  netip.Prefix `json:"subnet"`
	Gateway netip.Addr   `json:"gateway"`
	Range   *struct {
		First netip.Addr `json:"start_ip"`
		Last  netip.Addr `json:"end_ip"`
	} `json:"lease_range"`
}

// PodmanNetworks are the networks that podman of the same user has, with podman's IDs,
// but for its default one and those that moss could not make.
func (e *Engine) PodmanNetworks() (list []slirp.Network) {
	dir := e.Config.PodmanNetworks(cgroup.HostUID)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".json" {
			continue
		}
		var p podmanNetwork
		found, err := record.Read(filepath.Join(dir, entry.Name()), &p)
		if err != nil || !found || p.Driver != "bridge" || p.Name == "podman" || CheckName(p.Name) != nil {
			continue
		}
		list = append(list, p.network())
	}
	return list
}

func (p *podmanNetwork) network() slirp.Network {
	n := slirp.Network{
		ID: p.ID, Name: p.Name, Driver: p.Driver, Internal: p.Internal, DNS: p.DNS, Servers: p.Servers,
		Labels: p.Labels, Created: p.Created, MTU: slirp.DefaultMTU,
	}
	if mtu, err := strconv.Atoi(p.Options["mtu"]); err == nil {
		n.MTU = mtu
	}
	for _, s := range p.Subnets {
		subnet := slirp.Subnet{Prefix: s.Subnet, Gateway: s.Gateway}
		if s.Range != nil {
			subnet.First, subnet.Last = s.Range.First, s.Range.Last
		}
		n.Subnets = append(n.Subnets, subnet)
	}
	return n
}

// AdoptNetwork makes sure that there is a network of that name: moss's own, or one with
// the ranges of podman's.
func (e *Engine) AdoptNetwork(name string) error {
	if lexists(filepath.Join(e.Paths.Networks(), name+".json")) {
		return nil
	}
	list := e.PodmanNetworks()
	at := slices.IndexFunc(list, func(n slirp.Network) bool { return n.Name == name })
	if at < 0 {
		return fmt.Errorf("cannot use network %q: %w", name, slirp.ErrNoNetwork)
	}
	n := list[at]
	wanted := n.Subnets
	err := e.CreateNetwork(&n, false)
	if errors.Is(err, slirp.ErrOverlap) { // podman's first range is in moss's default one
		n.Subnets = nil
		if err = e.CreateNetwork(&n, len(wanted) > 1); err == nil {
			slog.Warn("podman's network has another range here: its own is in use", "network", name, "podman", wanted[0].Prefix, "moss", n.Subnets[0].Prefix)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot use podman's network %q: %w", name, err)
	}
	return nil
}
