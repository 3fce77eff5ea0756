package cli

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
)

func (r *specReader) network() {
	f, n := r.f, &r.spec.Network
	mode, networks, err := syntax.Networks(r.networkNames())
	if err != nil && r.err == nil {
		r.err = networkError(r.flagValues, err)
	}
	n.Mode, n.Networks = mode, networks
	if mode == "" {
		n.Mode = "bridge"
	}
	r.attachment()
	r.one("hostname", f.Hostname, syntax.Hostname)
	r.check(f.Hostname != "" && f.UTS == "host", "--hostname cannot be combined with --uts host")
	n.Hostname = f.Hostname
	r.each("add-host", f.AddHost, func(v string) error {
		entries, err := syntax.AddHost(v)
		n.AddHosts = append(n.AddHosts, entries...)
		return err
	})
	r.check(f.NoHosts && len(f.AddHost) > 0, "--no-hosts cannot be combined with --add-host")
	n.NoHosts = f.NoHosts
	if n.NoDNS = len(f.DNS) == 1 && f.DNS[0] == "none"; !n.NoDNS {
		r.each("dns", f.DNS, syntax.Address)
		n.DNS = f.DNS
	}
	r.each("dns-search", f.DNSSearch, func(string) error { return nil })
	r.each("dns-option", f.DNSOption, func(string) error { return nil })
	shared := strings.HasPrefix(mode, "container:")
	r.check(shared && len(f.DNS)+len(f.DNSSearch)+len(f.DNSOption) > 0, "--dns, --dns-search and --dns-option cannot be combined with --network %s", mode)
	n.DNSSearch, n.DNSOptions = f.DNSSearch, f.DNSOption
}

// networkNames are the values of --network, with those words replaced that stand
// for what is configured.
func (r *specReader) networkNames() []string {
	values := r.f.Network
	if r.f.conf == nil {
		return values
	}
	out := make([]string, 0, len(values)+1)
	name := r.f.conf.String("network.default_network")
	if name == "podman" { // what podman calls its own
		name = ""
	}
	if name != "" && len(values) == 0 {
		return append(out, name)
	}
	for _, v := range values {
		word, options, _ := strings.Cut(v, ":")
		switch {
		case name != "" && (word == "bridge" || word == "default"):
			v = strings.TrimSuffix(name+":"+options, ":")
		case v == "private":
			if program := r.f.conf.String("network.default_rootless_network_cmd"); program != "" {
				v = program
			}
		}
		// With an allow-list what is configured is left out: it may want what that refuses.
		if len(r.f.AllowOut) == 0 && r.spec.Labels[rootless.AllowLabel] == "" {
			v = r.uplinkOptions(v)
		}
		out = append(out, v)
	}
	return out
}

// uplinkOptions puts what is configured for pasta or slirp4netns before the options of a
// --network that names it: what comes later prevails.
func (r *specReader) uplinkOptions(v string) string {
	for name, key := range map[string]string{"pasta": "network.pasta_options", "slirp4netns": "engine.network_cmd_options"} {
		for _, prefix := range []string{name + ":", "private:" + name + ","} {
			if options, ok := strings.CutPrefix(v+prefix[len(prefix)-1:], prefix); ok {
				options = strings.TrimRight(options, ":,")
				all := slices.DeleteFunc(append(r.f.conf.List(key), options), func(s string) bool { return s == "" })
				return strings.TrimRight(prefix+strings.Join(all, ","), ":,")
			}
		}
	}
	return v
}

func networkError(v flagValues, err error) error {
	if value, ok := err.(*syntax.ValueError); ok {
		return &flagError{Flag: flagName(v.grammar, "network"), Value: value.Value, Err: value.Err}
	}
	return err
}

// attachment lays --ip, --ip6, --mac-address and --network-alias on the networks.
func (r *specReader) attachment() {
	f, n := r.f, &r.spec.Network
	if f.IP+f.IP6+f.MACAddress == "" && len(f.NetworkAlias) == 0 {
		return
	}
	r.check(n.Mode != "bridge", "--ip, --ip6, --mac-address and --network-alias need a network with a name, not --network %s", n.Mode)
	if len(n.Networks) == 0 {
		n.Networks = []container.NetworkAttachment{{Name: syntax.DefaultNetwork}}
	}
	r.check(f.IP+f.IP6+f.MACAddress != "" && len(n.Networks) > 1, "--ip, --ip6 and --mac-address go with a single network: write --network NAME:ip=… for each")
	first := &n.Networks[0]
	r.one("ip", f.IP, addressOf(true, first))
	r.one("ip6", f.IP6, addressOf(false, first))
	r.one("mac-address", f.MACAddress, func(v string) (err error) {
		first.MAC, err = syntax.MAC(v)
		return err
	})
	r.each("network-alias", f.NetworkAlias, syntax.Hostname)
	for i := range n.Networks {
		n.Networks[i].Aliases = append(n.Networks[i].Aliases, f.NetworkAlias...)
	}
}

func (r *specReader) ports() {
	f, n := r.f, &r.spec.Network
	r.each("publish", f.Publish, func(v string) error {
		port, err := syntax.Port(v)
		if err != nil {
			return err
		}
		n.Ports = append(n.Ports, port)
		if twice := syntax.PortOverlap(n.Ports); twice != "" {
			return fmt.Errorf("%s", twice)
		}
		return nil
	})
	n.PublishAll = f.PublishAll
	r.each("expose", f.Expose, func(v string) error {
		ports, err := syntax.Expose(v)
		n.Exposed = append(n.Exposed, ports...)
		return err
	})
	if n.Mode == "bridge" || strings.HasPrefix(n.Mode, "private") || r.err != nil || len(n.Ports) == 0 && !n.PublishAll {
		return
	}
	// As with podman and Docker: scripts publish ports whatever the network is.
	slog.Warn("published ports have no effect with this network", "network", n.Mode)
	n.Ports, n.PublishAll = nil, false
}

func (r *specReader) namespaces() {
	f, ns := r.f, &r.spec.Namespaces
	plain := func(more ...string) func(string) error {
		return func(v string) error { return syntax.Namespace(v, more...) }
	}
	r.one("userns", f.Userns, syntax.UserNamespace)
	r.one("pid", f.PID, plain())
	r.one("ipc", f.IPC, plain("shareable", "none"))
	r.one("uts", f.UTS, plain())
	r.one("cgroupns", f.Cgroupns, plain())
	ns.User, ns.PID, ns.IPC, ns.UTS, ns.Cgroup = f.Userns, f.PID, f.IPC, f.UTS, f.Cgroupns

	maps := func(list *[]string) func(string) error {
		return func(v string) error {
			m, err := syntax.IDMap(v)
			*list = append(*list, m)
			return err
		}
	}
	r.each("uidmap", f.UIDMap, maps(&ns.UIDMap))
	r.each("gidmap", f.GIDMap, maps(&ns.GIDMap))
	r.one("as", f.As, syntax.As)
	if f.As != "" {
		r.check(f.Userns+f.SubUIDName+f.SubGIDName != "" || len(ns.UIDMap)+len(ns.GIDMap) > 0, "--as cannot be combined with --userns, --uidmap, --gidmap, --subuidname or --subgidname")
		r.check(f.As == "image" && f.Rootfs, "--as image cannot be combined with --rootfs")
		ns.User = "as:" + f.As
	}
	if f.SubUIDName+f.SubGIDName != "" {
		r.check(len(ns.UIDMap)+len(ns.GIDMap) > 0 || f.Userns != "", "--subuidname and --subgidname cannot be combined with --userns, --uidmap or --gidmap")
		ns.SubUIDName, ns.SubGIDName = or(f.SubUIDName, f.SubGIDName), or(f.SubGIDName, f.SubUIDName)
		return
	}
	if len(ns.UIDMap)+len(ns.GIDMap) == 0 {
		return
	}
	r.check(f.Userns != "", "--userns cannot be combined with --uidmap or --gidmap")
	switch { // one list stands for both, as with podman
	case len(ns.GIDMap) == 0:
		ns.GIDMap = ns.UIDMap
	case len(ns.UIDMap) == 0:
		ns.UIDMap = ns.GIDMap
	}
	ns.User = "map"
}

func (r *specReader) security() {
	f, sec := r.f, &r.spec.Security
	sec.Privileged = f.Privileged
	capability := func(list *[]string) func(string) error {
		return func(v string) error {
			name, err := syntax.Capability(v)
			*list = append(*list, name)
			return err
		}
	}
	r.each("cap-add", f.CapAdd, capability(&sec.CapAdd))
	r.each("cap-drop", f.CapDrop, capability(&sec.CapDrop))
	for _, name := range sec.CapAdd {
		for _, other := range sec.CapDrop {
			r.check(name == other, "capability %s is both in --cap-add and in --cap-drop", name)
		}
	}
	r.each("security-opt", f.SecurityOpt, func(v string) error { return syntax.SecurityOption(v, sec, r.dir) })
	r.each("sysctl", f.Sysctl, r.sysctl)
	r.one("seccomp-policy", f.SeccompPolicy, oneOf("default", "image"))
	r.check(f.SeccompPolicy == "image" && sec.Seccomp != "", "--seccomp-policy image cannot be combined with --security-opt seccomp=")
	r.check(f.SeccompPolicy == "image" && f.Rootfs, "--seccomp-policy image cannot be combined with --rootfs: there is no image")
	sec.SeccompPolicy = f.SeccompPolicy
}

func (r *specReader) sysctl(v string) error {
	key, value, namespace, err := syntax.Sysctl(v)
	if err != nil {
		return err
	}
	shared := map[string]string{"network": r.spec.Network.Mode, "ipc": r.f.IPC, "uts": r.f.UTS}[namespace]
	if shared == "host" {
		return fmt.Errorf("the container shares the host's %s namespace", namespace)
	}
	if r.spec.Security.Sysctls == nil {
		r.spec.Security.Sysctls = map[string]string{}
	}
	r.spec.Security.Sysctls[key] = value
	return nil
}
