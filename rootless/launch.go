package rootless

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
	"moss/slirp"
	"moss/systemd/cgroup"
)

// config is the part of the monitor's configuration that the Spec says directly.
func (l *launch) config() {
	c, p := l.c, l.e.Paths
	l.cfg = monitor.Config{
		ID: c.Spec.ID, Name: c.Spec.Name, RunDir: c.RunDir, Dir: c.Dir,
		TTY: c.Spec.Process.TTY, Stdin: c.Spec.Process.Stdin,
		Log:     LogOf(c),
		Restart: c.Spec.Lifecycle.Restart, RestartMax: c.Spec.Lifecycle.RestartMax,
		PIDFile: c.Spec.Lifecycle.PIDFile, MonitorPIDFile: c.Spec.Lifecycle.MonitorPIDFile,
		AutoRemove: c.Spec.Lifecycle.AutoRemove,
		Trash:      p.Trash(),
		Names:      []string{p.Name(c.Spec.Name)},
		Events:     l.e.Events(), Image: imageName(&c.Spec), Pod: c.Spec.Pod, Labels: c.Spec.Labels,
		StopTimeout: StopTimeout(&c.Spec, nil),
		Health:      l.e.healthPlan(c.Spec.Health), Timeout: c.Spec.Lifecycle.Timeout,
	}
	if sig, err := stopSignal(&c.Spec); err == nil {
		l.cfg.StopSignal = int(sig)
	}
	l.cfg.Notify = notify(&c.Spec)
	if native(&c.Spec) && (len(c.Spec.HooksDirs) > 0 || len(c.Spec.Security.CDI) > 0) {
		l.cfg.Hooks = filepath.Join(c.RunDir, "hooks.json")
	}
	if request := asked(c); request != nil {
		l.cfg.Network = &monitor.Network{Dirs: l.e.slirpDirs(), Request: *request}
	}
}

func (e *Engine) slirpDirs() slirp.Dirs {
	return slirp.Dirs{Run: e.Paths.Net(), Networks: e.Paths.Networks(), Program: Helper("moss-net")}
}

// request is what moss-net is asked for; nil when there is nothing to connect.
func request(spec *container.Spec) *slirp.ConnectRequest {
	mode := spec.Network.Mode
	if mode != "bridge" && mode != "private" && !strings.HasPrefix(mode, "private:") {
		return nil
	}
	r := &slirp.ConnectRequest{
		Container: spec.ID, Name: spec.Name, Hostname: spec.Network.Hostname,
		Mode: mode, Ports: spec.Network.Ports, HostAccess: spec.Network.HostAccess, Web: webPorts(spec),
		Allow: spec.Network.AllowOut,
	}
	if len(spec.Network.Wake) > 0 {
		r.Wake = &slirp.Wake{Ports: spec.Network.Wake, Idle: spec.Network.Idle}
	}
	for _, s := range spec.Network.DNS {
		if a, err := netip.ParseAddr(s); err == nil {
			r.DNS = append(r.DNS, a)
		}
	}
	if mode != "bridge" {
		return r
	}
	if spec.Network.Detached { // nothing leads there
		r.Ports = nil
	}
	for _, n := range attachments(spec) {
		a := slirp.Attachment{Network: n.Name, Interface: n.Interface, MAC: n.MAC, Aliases: n.Aliases}
		for _, s := range n.IPs {
			if ip, err := netip.ParseAddr(s); err == nil {
				a.IPs = append(a.IPs, ip)
			}
		}
		r.Attachments = append(r.Attachments, a)
	}
	return r
}

// namespaceFlags are the clone(2) flags of the OCI names.
var namespaceFlags = map[specs.LinuxNamespaceType]uintptr{
	specs.PIDNamespace:     unix.CLONE_NEWPID,
	specs.NetworkNamespace: unix.CLONE_NEWNET,
	specs.MountNamespace:   unix.CLONE_NEWNS,
	specs.IPCNamespace:     unix.CLONE_NEWIPC,
	specs.UTSNamespace:     unix.CLONE_NEWUTS,
	specs.UserNamespace:    unix.CLONE_NEWUSER,
	specs.CgroupNamespace:  unix.CLONE_NEWCGROUP,
	specs.TimeNamespace:    unix.CLONE_NEWTIME,
}

// native says whether moss's own runtime runs the container.
func native(spec *container.Spec) bool { return spec.Runtime == "" || spec.Runtime == "moss-runtime" }

// birth writes the init document and says how the first process is cloned.
func (l *launch) birth(ctx context.Context, doc *runtime.Document) error {
	if !native(&l.c.Spec) {
		return l.external(ctx, l.c.Spec.Runtime, doc)
	}
	lean, err := doc.Lean()
	if err != nil {
		return err
	}
	l.cfg.Birth = l.request(doc.Spec.Linux.Namespaces)
	l.cfg.Birth.UIDMap, l.cfg.Birth.GIDMap = idMaps(doc.Spec.Linux.UIDMappings), idMaps(doc.Spec.Linux.GIDMappings)
	return record.Write(l.cfg.Birth.Document, lean, false)
}

// request is how the first process is cloned.
func (l *launch) request(namespaces []specs.LinuxNamespace) birth.Request {
	b := birth.Request{
		Runtime: Helper("moss-runtime"), Stage: Helper("moss-stage"), Document: filepath.Join(l.c.RunDir, "init.json"), Cgroup: l.cfg.Cgroup,
	}
	l.inherit(&b)
	for _, ns := range namespaces {
		if ns.Path == "" {
			b.Flags |= namespaceFlags[ns.Type]
		} else {
			b.Join = append(b.Join, birth.Namespace{Type: string(ns.Type), Path: ns.Path})
		}
	}
	return b
}

// inherit says which descriptors the container inherits.
func (l *launch) inherit(b *birth.Request) {
	b.PreserveFDs = len(l.preserve)
	for i, f := range l.preserve {
		if f == nil {
			b.Holes = append(b.Holes, i)
		}
	}
}

func idMaps(maps []specs.LinuxIDMapping) []birth.IDMap {
	var out []birth.IDMap
	for _, m := range maps {
		out = append(out, birth.IDMap{Container: int(m.ContainerID), Host: int(m.HostID), Size: int(m.Size)})
	}
	return out
}

// external prepares a bundle for another OCI runtime, which gets a mounted root
// file system, seccomp in its own words, and numeric users.
func (l *launch) external(ctx context.Context, name string, doc *runtime.Document) error {
	path, err := findRuntime(name)
	if err != nil {
		return err
	}
	if err := l.externalRoot(doc); err != nil {
		return err
	}
	if err := l.externalMounts(ctx, doc); err != nil {
		return err
	}
	bundle := filepath.Join(l.c.RunDir, "bundle")
	if err := os.Mkdir(bundle, 0o700); err != nil {
		return err
	}
	// What crun 1.8 and runc 1.1 accept: an older version's words, and a cgroup
	// by its path below the cgroup file system.
	doc.Spec.Version = "1.0.2"
	if doc.Spec.Linux.CgroupsPath = ""; l.cfg.Cgroup != "" {
		mount, err := cgroup.Dir("/")
		if err != nil {
			return err
		}
		doc.Spec.Linux.CgroupsPath = strings.TrimPrefix(l.cfg.Cgroup, strings.TrimSuffix(mount, "/"))
	}
	config, err := json.Marshal(doc.Spec)
	if err != nil {
		return err
	}
	l.inherit(&l.cfg.Birth)
	l.cfg.Runtime = &monitor.Runtime{Path: path, Args: []string{"--root", filepath.Join(l.e.Paths.Run, "oci", filepath.Base(path))}}
	return os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600)
}

func findRuntime(name string) (string, error) {
	if strings.Contains(name, "/") {
		if info, err := os.Stat(name); err != nil || info.Mode()&0o111 == 0 {
			return "", fmt.Errorf("cannot use OCI runtime %q: it is not an executable file", name)
		}
		return name, nil
	}
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/bin", "/usr/local/bin", "/usr/sbin") {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("cannot use OCI runtime %q: it is not in PATH", name)
}
