package cli

import (
	"log/slog"
	"maps"
	"slices"
	"strings"

	"moss/slirp"
	"moss/storage/volume"
)

// warnKept says of what --ignore has found that it is not as it was asked for: a file
// whose settings do nothing is not noticed otherwise.
func warnKept(noun, name string, differs []string) {
	if len(differs) > 0 {
		slog.Warn(noun + " \"" + name + "\" is there already, and stays as it is; it differs in " + strings.Join(differs, ", ") +
			"; 'moss " + noun + " rm " + name + "' first has it made anew")
	}
}

// differs are the flags that ask for something else than the volume is.
func (cmd *VolumeCreateCmd) differs(v *volume.Volume) (out []string) {
	other := func(asked, has *int) bool { return asked != nil && (has == nil || *has != *asked) }
	for _, d := range []struct {
		flag  string
		other bool
	}{
		{"--opt", !maps.Equal(cmd.options.Options, v.Options)}, {"--label", !maps.Equal(cmd.options.Labels, v.Labels)},
		{"--uid", other(cmd.UID, v.UID)}, {"--gid", other(cmd.GID, v.GID)},
	} {
		if d.other {
			out = append(out, d.flag)
		}
	}
	return out
}

// differs are the flags that ask for something else than the network is.
func (cmd *NetworkCreateCmd) differs(n *slirp.Network) (out []string) {
	asked := &cmd.network
	for _, d := range []struct {
		flag  string
		other bool
	}{
		{"--subnet", slices.ContainsFunc(asked.Subnets, func(s slirp.Subnet) bool {
			return !slices.ContainsFunc(n.Subnets, func(has slirp.Subnet) bool { return has.Prefix == s.Prefix })
		})},
		{"--gateway", slices.ContainsFunc(asked.Subnets, func(s slirp.Subnet) bool {
			return s.Gateway.IsValid() && !slices.ContainsFunc(n.Subnets, func(has slirp.Subnet) bool { return has.Gateway == s.Gateway })
		})},
		{"--ip-range", slices.ContainsFunc(asked.Subnets, func(s slirp.Subnet) bool {
			return s.First.IsValid() && !slices.ContainsFunc(n.Subnets, func(has slirp.Subnet) bool { return has.First == s.First && has.Last == s.Last })
		})},
		{"--ipv6", cmd.IPv6 != nil && *cmd.IPv6 != slices.ContainsFunc(n.Subnets, func(s slirp.Subnet) bool { return s.Prefix.Addr().Is6() })},
		{"--interface-name", asked.Bridge != "" && asked.Bridge != n.Bridge}, {"--opt", !maps.Equal(asked.Options, n.Options)},
		{"--internal", asked.Internal != n.Internal}, {"--disable-dns", asked.DNS != n.DNS},
		{"--dns", !slices.Equal(asked.Servers, n.Servers)}, {"--route", !slices.Equal(asked.Routes, n.Routes)},
		{"--label", !maps.Equal(asked.Labels, n.Labels)},
	} {
		if d.other {
			out = append(out, d.flag)
		}
	}
	return out
}
