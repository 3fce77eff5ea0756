package rootless

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/runtime"
	"moss/rootless/runtime/seccomp"
	"moss/rootless/runtime/seccomp/profile"
	"moss/systemd"
	"moss/systemd/cgroup"
	"moss/systemd/scope"
)

// resources in the words of the cgroup package.
func resources(spec *container.Spec) cgroup.Resources {
	r := spec.Resources
	out := cgroup.Resources{
		Memory: r.Memory, MemorySwap: r.MemorySwap, MemoryReservation: r.MemoryReservation,
		CPUs: r.CPUs, CPUQuota: r.CPUQuota, CPUPeriod: r.CPUPeriod, CPUShares: r.CPUShares,
		CPUSetCPUs: r.CPUSetCPUs, CPUSetMems: r.CPUSetMems, Pids: r.DefaultPids, PidsLimit: r.PidsLimit, IOWeight: r.IOWeight, Conf: r.CgroupConf,
	}
	for _, d := range r.IODevices {
		out.IODevices = append(out.IODevices, cgroup.IODevice(d))
	}
	return out
}

// parent is the cgroup above the containers', found once.
func (e *Engine) parent(ctx context.Context) *cgroup.Parent {
	e.parentOnce.Do(func() { e.parentFound = systemd.Cgroup(ctx, e.Paths.Run, e.CgroupManager) })
	return e.parentFound
}

// cgroups is the parent for one container, and the cgroup of its monitor: "" where
// it is to stay in the caller's.
func (e *Engine) cgroups(ctx context.Context, spec *container.Spec) (parent *cgroup.Parent, home string, err error) {
	if spec.Resources.CgroupsMode == "split" { // where the monitor is to be, we are from now on
		parent, err = cgroup.Split()
		return parent, "", err
	}
	parent = e.parent(ctx)
	if !parent.Usable() {
		e.tellNoCgroups(parent)
		return parent, "", nil
	}
	if spec.Resources.CgroupsMode != "no-conmon" {
		home, err = parent.Monitors()
		return parent, home, err
	}
	if !parent.Reaches() {
		return nil, "", errors.New("cannot leave the monitor in the caller's cgroup (--cgroups no-conmon): from there it may not put a container into a cgroup of yours")
	}
	return parent, "", nil
}

// tellNoCgroups says once, until a reboot, that containers have none; moss info says it always.
func (e *Engine) tellNoCgroups(parent *cgroup.Parent) {
	if e.CgroupManager == "none" {
		return // as was asked for
	}
	f, err := os.OpenFile(filepath.Join(e.Paths.Run, "told-cgroups"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	f.Close()
	var hint interface{ Hint() string }
	if errors.As(parent.Why(), &hint) && hint.Hint() != "" {
		slog.Warn("no limits, no pause and no statistics: "+parent.Why().Error(), "mend", hint.Hint())
		return
	}
	slog.Warn("no limits, no pause and no statistics: " + parent.Why().Error())
}

// limits checks that each limit asked for can be held here.
func (e *Engine) limits(ctx context.Context, spec *container.Spec) (map[string]string, error) {
	if spec.Resources.CgroupsMode == "disabled" {
		return nil, nil
	}
	parent := e.parent(ctx)
	if mode := spec.Resources.CgroupsMode; mode != "" {
		var err error
		if parent, _, err = e.cgroups(ctx, spec); err != nil {
			return nil, err
		}
	}
	return parent.Limits(resources(spec))
}

// under is the parent that --cgroup-parent asks for. A slice that does not run is started
// first: it may have limits of its own.
func under(ctx context.Context, parent *cgroup.Parent, name string) (*cgroup.Parent, error) {
	if slice := parent.SliceMissing(name); slice != "" {
		if err := systemd.StartSlice(ctx, slice); err != nil {
			return nil, fmt.Errorf("cannot use cgroup parent %q: %w", name, err)
		}
	}
	return parent.Under(name)
}

// described is what the service manager says of a container's scope.
func described(spec *container.Spec) string {
	return "moss container " + spec.Name + " (" + imageName(spec) + ")"
}

// describe tells it of another name. A scope that is made later gets its description of the
// monitor, to whom tell has told it.
func (e *Engine) describe(ctx context.Context, c *container.Container) error {
	v := c.Look()
	if v.Live == nil || filepath.Base(v.Live.Cgroup) != scope.Of(c.Spec.ID) {
		return nil
	}
	return systemd.Describe(ctx, c.Spec.ID, described(&c.Spec))
}

// cgroup chooses the directory that the container is born in.
func (l *launch) cgroup(ctx context.Context, undo *rollback) error {
	spec := &l.c.Spec
	if l.cfg.Network != nil {
		// Whatever becomes of the container's own: moss-net, which serves others too, must not
		// end with a unit. Without, it is born in the monitor's.
		l.cfg.Network.Dirs.Cgroup = l.e.parent(ctx).Net()
	}
	if spec.Resources.CgroupsMode == "disabled" {
		return nil
	}
	parent, home, err := l.e.cgroups(ctx, spec)
	if err != nil {
		return err
	}
	// One that is to be followed is our parent's child (see client.Spawn), which clone(2) does
	// not make in another cgroup than ours.
	if home != "" && spec.Resources.CgroupsMode == "" && l.followed() && parent.Reaches() {
		home = ""
	}
	if l.cfg.Limits, err = parent.Limits(resources(spec)); err != nil {
		return err
	}
	if !parent.Usable() {
		return nil
	}
	if parent, err = under(ctx, parent, spec.Resources.CgroupParent); err != nil {
		return err
	}
	if l.cfg.Cgroup, err = parent.Path(spec.ID, ""); err != nil {
		return err
	}
	if parent.Slice != "" {
		l.cfg.Scope = &monitor.Scope{
			Socket: cgroup.ManagerSocket(), UID: cgroup.HostUID(), Slice: parent.Slice,
			Description: described(spec),
			Own:         home != "", Known: l.detached,
			Settled: spec.Process.Systemd || spec.Security.Privileged,
		}
	}
	l.cfg.Home = home
	l.in.Cgroup = l.cfg.Cgroup
	undo.add(func() error {
		if l.cfg.Scope != nil { // the monitor, or the service manager, does it: nobody else knows when
			return nil
		}
		if err := cgroup.Remove(l.cfg.Cgroup); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	})
	return nil
}

// seccompLabel is where an image carries a profile.
const seccompLabel = "io.containers.seccomp.profile"

// imageSeccomp is --seccomp-policy image: the profile is the image's own, and must
// be there.
func imageSeccomp(spec *container.Spec, labels map[string]string) error {
	if spec.Security.SeccompPolicy != "image" {
		return nil
	}
	profile := labels[seccompLabel]
	if profile == "" {
		return fmt.Errorf("cannot use --seccomp-policy image: image %q has no label %s", spec.Image.Name, seccompLabel)
	}
	if !json.Valid([]byte(profile)) {
		return fmt.Errorf("cannot use --seccomp-policy image: label %s of image %q is not a profile", seccompLabel, spec.Image.Name)
	}
	spec.Security.SeccompProfile = profile
	return nil
}

// seccomp finds the compiled filter, or compiles it.
func (l *launch) seccomp(doc *runtime.Document) error {
	spec := &l.c.Spec
	if spec.Security.Privileged || spec.Security.Seccomp == "unconfined" {
		return nil
	}
	path := spec.Security.Seccomp
	var body []byte
	key := "default"
	switch profile := spec.Security.SeccompProfile; {
	case profile != "":
		path, body, key = seccompLabel, []byte(profile), profile
	case path != "":
		var err error
		if body, err = os.ReadFile(path); err != nil {
			return err
		}
		key = string(body)
	}
	for _, c := range doc.Spec.Process.Capabilities.Bounding {
		key += " " + c
	}
	build := func() (*specs.LinuxSeccomp, error) {
		if path != "" {
			return profile.Parse(path, body, doc.Spec)
		}
		return profile.Default(doc.Spec)
	}
	if !native(spec) {
		var err error
		doc.Spec.Linux.Seccomp, err = build()
		return err
	}
	if err := os.MkdirAll(filepath.Dir(l.e.Paths.SeccompCache()), 0o700); err != nil {
		return err
	}
	var err error
	doc.SeccompBPF, err = seccomp.Cached(l.e.Paths.SeccompCache(), []byte(key), build)
	return err
}
