package rootless

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/slirp"
)

// ChangePorts adds published ports to a Spec of a container and takes some away. One
// to take away is named by what was asked for or by what it got: no host port is any
// port, no address is any address. Update carries the change out.
func (e *Engine) ChangePorts(c *container.Container, spec *container.Spec, add, remove []slirp.Port) error {
	if request(spec) == nil {
		return fmt.Errorf("cannot publish ports of container %q: %s: %w", spec.Name, noPorts(spec.Network.Mode), errdefs.ErrFailedPrecondition)
	}
	asked := slices.Clone(spec.Network.Ports)
	got := slices.Clone(asked)
	if v := c.Look(); v.Live != nil && v.Live.Network != nil && len(v.Live.Network.Ports) == len(asked) {
		got = slices.Clone(v.Live.Network.Ports) // in the same order, with the ports chosen
	}
	for _, r := range remove {
		found := false
		for i := len(asked) - 1; i >= 0; i-- {
			if matches(got[i], r) {
				asked, got, found = slices.Delete(asked, i, i+1), slices.Delete(got, i, i+1), true
			}
		}
		if !found {
			return fmt.Errorf("cannot unpublish port %d/%s of container %q: it is not published so ('moss port %s' shows what is): %w", r.ContainerPort, r.Proto, spec.Name, spec.Name, errdefs.ErrInvalidArgument)
		}
	}
	add, err := e.onHost(add)
	spec.Network.Ports = append(asked, add...)
	return err
}

// matches says whether a published port, or range, is the one that r names.
func matches(p, r slirp.Port) bool {
	return p.Proto == r.Proto && p.ContainerPort == r.ContainerPort && max(p.Count, 1) == max(r.Count, 1) &&
		(r.HostPort == 0 || r.HostPort == p.HostPort) && (!r.HostIP.IsValid() || r.HostIP == p.HostIP)
}

// noPorts says why a container's network has no ports of its own.
func noPorts(mode string) string {
	kind, other, _ := strings.Cut(mode, ":")
	switch kind {
	case "host":
		return "it is in the host's network, where its ports are the host's"
	case "none":
		return "it has no network"
	case "container":
		return "its network is that of container " + other + ": change the ports of that one"
	}
	return "its network is not moss's: " + mode
}

// updatePorts has other ports published, of a container that runs, and returns how it is
// connected then; nil if they are the same, or it does not run.
func (e *Engine) updatePorts(ctx context.Context, c *container.Container, was *container.Spec, undo *rollback) (*slirp.Status, error) {
	if slices.Equal(c.Spec.Network.Ports, was.Network.Ports) || c.Look().Live == nil {
		return nil, nil
	}
	set := func(ctx context.Context, spec *container.Spec) (*slirp.Status, error) {
		return slirp.SetPorts(ctx, e.slirpDirs(), slirp.PortsRequest{Container: spec.ID, Ports: spec.Network.Ports})
	}
	return setOrUndo(ctx, set, &c.Spec, was, undo)
}
