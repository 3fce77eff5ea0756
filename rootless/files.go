package rootless

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/container"
	"moss/rootless/oci"
	"moss/rootless/runtime"
)

// hostNames are the names by which a container reaches its host.
const hostNames = "host.containers.internal host.docker.internal host.moss.internal"

// nameFiles binds hosts, resolv.conf, hostname and .containerenv over the image's.
func (l *launch) nameFiles(in *oci.Input) {
	spec, dir := &l.c.Spec, l.c.RunDir
	in.Files["/run/.containerenv"] = filepath.Join(dir, "containerenv")
	if spec.Namespaces.UTS != "host" && !spec.Network.NoHostname {
		in.Files["/etc/hostname"] = filepath.Join(dir, "hostname")
	}
	if other, ok := strings.CutPrefix(spec.Network.Mode, "container:"); ok {
		l.shareFiles(in, other)
		return
	}
	if !spec.Network.NoDNS {
		in.Files["/etc/resolv.conf"] = filepath.Join(dir, "resolv.conf")
	}
	if !spec.Network.NoHosts {
		in.Files["/etc/hosts"] = filepath.Join(dir, "hosts")
	}
}

// shareFiles uses the files of the container whose network is shared.
func (l *launch) shareFiles(in *oci.Input, name string) {
	other, err := l.e.Find(name)
	if err != nil {
		return // joins has checked it
	}
	for target, file := range map[string]string{"/etc/hosts": "hosts", "/etc/resolv.conf": "resolv.conf"} {
		path := filepath.Join(other.RunDir, file)
		if _, err := os.Stat(path); err == nil {
			in.Files[target] = path
		}
	}
}

// files writes what nameFiles binds.
func (l *launch) files(doc *runtime.Document) error {
	spec := &l.c.Spec
	bound := func(target string) string {
		for _, m := range doc.Spec.Mounts {
			if m.Destination == target && filepath.Dir(m.Source) == l.c.RunDir {
				return m.Source
			}
		}
		return ""
	}
	base := ""
	if bound("/etc/hosts") != "" {
		var err error
		if base, err = l.baseHosts(doc); err != nil {
			return err
		}
	}
	for target, content := range map[string]string{
		"/run/.containerenv": containerEnv(spec),
		"/etc/hostname":      spec.Network.Hostname + "\n",
		"/etc/hosts":         base + hosts(spec),
		"/etc/resolv.conf":   resolvConf(spec),
	} {
		if path := bound(target); path != "" {
			if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
				return err
			}
		}
	}
	if l.cfg.Network != nil {
		if l.cfg.HostsFile = bound("/etc/hosts"); l.cfg.HostsFile != "" {
			l.cfg.HostsText = base + hosts(spec)
			l.cfg.HostNames = ownNames(spec)
		}
		l.cfg.ResolvFile, l.cfg.ResolvText = bound("/etc/resolv.conf"), resolvConf(spec)
	}
	return nil
}

// containerEnv follows podman: programs look whether the file exists, and
// privileged ones read it.
func containerEnv(spec *container.Spec) string {
	if !spec.Security.Privileged {
		return ""
	}
	return "engine=\"moss\"\nname=\"" + spec.Name + "\"\nid=\"" + spec.ID + "\"\nimage=\"" + spec.Image.Name +
		"\"\nimageid=\"" + spec.Image.ID + "\"\nrootless=1\n"
}

// hosts is /etc/hosts; the monitor replaces the address host-gateway, and adds
// the container's own line, when the network has told the addresses.
func hosts(spec *container.Spec) string {
	var b strings.Builder
	for _, h := range spec.Network.AddHosts {
		if name, address, ok := strings.Cut(h, ":"); ok {
			if address == "host-gateway" && spec.Network.HostIP != "" && spec.Network.HostIP != "none" {
				address = spec.Network.HostIP
			}
			b.WriteString(strings.Trim(address, "[]") + "\t" + strings.ReplaceAll(name, ";", " ") + "\n")
		}
	}
	b.WriteString("127.0.0.1\tlocalhost localhost.localdomain\n::1\tlocalhost localhost.localdomain\n")
	switch {
	case spec.Network.HostIP == "none":
	case spec.Network.HostIP != "":
		b.WriteString(spec.Network.HostIP + "\t" + hostNames + "\n")
	case spec.Network.Mode == "host":
		b.WriteString("127.0.0.1\t" + hostNames + "\n")
	case request(spec) != nil:
		b.WriteString("host-gateway\t" + hostNames + "\n")
	}
	if spec.Network.Mode != "host" && request(spec) == nil {
		b.WriteString("127.0.0.1\t" + strings.TrimSpace(spec.Network.Hostname+" "+spec.Name) + "\n")
	}
	return b.String()
}

// resolvConf is /etc/resolv.conf; the monitor adds the name servers of the
// container's network.
func resolvConf(spec *container.Spec) string {
	var b strings.Builder
	if spec.Network.Mode == "host" && len(spec.Network.DNS)+len(spec.Network.DNSSearch)+len(spec.Network.DNSOptions) == 0 {
		host, _ := os.ReadFile("/etc/resolv.conf")
		return string(host)
	}
	if search := spec.Network.DNSSearch; len(search) > 0 && !slices.Contains(search, ".") {
		b.WriteString("search " + strings.Join(search, " ") + "\n")
	}
	if len(spec.Network.DNSOptions) > 0 {
		b.WriteString("options " + strings.Join(spec.Network.DNSOptions, " ") + "\n")
	}
	if request(spec) == nil {
		for _, s := range spec.Network.DNS {
			b.WriteString("nameserver " + s + "\n")
		}
	}
	return b.String()
}

// reaper makes a copy of the monitor, which is a minimal init when it is called
// moss-init, PID 1. It is a copy, since a container must not hold the real one.
func (l *launch) reaper(in *oci.Input) error {
	if own := l.c.Spec.Process.InitPath; own != "" {
		in.Mounts = append(in.Mounts, specs.Mount{Destination: oci.Reaper, Type: "bind", Source: own, Options: []string{"bind", "rprivate", "ro"}})
		return nil
	}
	src, err := os.Open(Helper("moss-monitor"))
	if err != nil {
		return err
	}
	defer src.Close()
	path := filepath.Join(l.c.RunDir, "moss-init")
	dst, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(dst, src); err != nil {
		dst.Close()
		return err
	}
	if err := dst.Close(); err != nil {
		return err
	}
	in.Mounts = append(in.Mounts, specs.Mount{Destination: oci.Reaper, Type: "bind", Source: path, Options: []string{"bind", "rprivate", "ro"}})
	return nil
}

// ownNames are what a container is called in its own hosts file.
func ownNames(spec *container.Spec) string {
	return strings.TrimSpace(spec.Network.Hostname + " " + spec.Name)
}
