package rootless

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/slirp"
)

// attachments are the networks of a Spec, each with the name of its interface.
func attachments(spec *container.Spec) []container.NetworkAttachment {
	list := slices.Clone(spec.Network.Networks)
	if len(list) == 0 && !spec.Network.Detached {
		list = []container.NetworkAttachment{{Name: slirp.DefaultName}}
	}
	for i := range list {
		if list[i].Interface == "" {
			list[i].Interface = "eth" + strconv.Itoa(i)
		}
	}
	return list
}

// NetworkUsers are the containers that are, or would be, connected to a network.
func NetworkUsers(all []*container.Container, name string) (users []*container.Container) {
	for _, c := range all {
		isIt := func(a container.NetworkAttachment) bool { return a.Name == name }
		if c.Spec.Network.Mode == "bridge" && slices.ContainsFunc(attachments(&c.Spec), isIt) {
			users = append(users, c)
		}
	}
	return users
}

// ConnectNetwork connects a container to one more network, at once if it runs. The
// first free name of an interface is chosen where none is asked for.
func (e *Engine) ConnectNetwork(ctx context.Context, c *container.Container, a container.NetworkAttachment) error {
	wrap := func(err error) error {
		return fmt.Errorf("cannot connect container %q to network %q: %w", c.Spec.Name, a.Name, err)
	}
	if err := e.AdoptNetwork(a.Name); a.Name != slirp.DefaultName && err != nil {
		return wrap(err)
	}
	err := e.change(ctx, c, func(spec *container.Spec) error {
		if err := hasNetworks(spec); err != nil {
			return wrap(err)
		}
		list := attachments(spec)
		uses := func(name string) bool {
			return slices.ContainsFunc(list, func(b container.NetworkAttachment) bool { return b.Interface == name })
		}
		for _, b := range list {
			if b.Name == a.Name {
				return wrap(fmt.Errorf("it is connected to it already: %w", errdefs.ErrConflict))
			}
		}
		if uses(a.Interface) {
			return wrap(fmt.Errorf("it has an interface %q already: %w", a.Interface, errdefs.ErrConflict))
		}
		for i := 0; a.Interface == ""; i++ {
			if name := "eth" + strconv.Itoa(i); !uses(name) {
				a.Interface = name
			}
		}
		spec.Network.Networks, spec.Network.Detached = append(list, a), false
		return nil
	})
	if err == nil {
		e.noteNetwork(event.Connect, a.Name, c)
	}
	return err
}

// DisconnectNetwork takes a container off a network, at once if it runs.
func (e *Engine) DisconnectNetwork(ctx context.Context, c *container.Container, network string) error {
	err := e.change(ctx, c, func(spec *container.Spec) error {
		err := hasNetworks(spec)
		list := attachments(spec)
		rest := slices.DeleteFunc(slices.Clone(list), func(a container.NetworkAttachment) bool { return a.Name == network })
		if err == nil && len(rest) == len(list) {
			err = fmt.Errorf("it is not connected to it: %w", errdefs.ErrFailedPrecondition)
		}
		if err != nil {
			return fmt.Errorf("cannot disconnect container %q from network %q: %w", c.Spec.Name, network, err)
		}
		spec.Network.Networks, spec.Network.Detached = rest, len(rest) == 0
		return nil
	})
	if err == nil {
		e.noteNetwork(event.Disconnect, network, c)
	}
	return err
}

// hasNetworks says why a container cannot be connected to networks.
func hasNetworks(spec *container.Spec) error {
	if spec.Network.Mode != "bridge" {
		return fmt.Errorf("its network mode is %s, which has no networks with names; create it with --network NAME: %w", spec.Network.Mode, errdefs.ErrFailedPrecondition)
	}
	return nil
}

// updateNetworks joins a container that runs to other networks, and returns how it is
// connected then; nil if it does not run.
func (e *Engine) updateNetworks(ctx context.Context, c *container.Container, was *container.Spec, undo *rollback) (*slirp.Status, error) {
	live := c.Look().Live
	if live == nil {
		return nil, nil
	}
	set := func(ctx context.Context, spec *container.Spec) (*slirp.Status, error) {
		netns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", live.PID))
		if err != nil {
			return nil, err
		}
		defer netns.Close()
		asked := request(spec)
		st, err := slirp.SetNetworks(ctx, e.slirpDirs(), slirp.NetworksRequest{Container: spec.ID, Name: spec.Name, Attachments: asked.Attachments}, netns)
		if err == nil && was.Network.Detached != c.Spec.Network.Detached {
			st, err = slirp.SetPorts(ctx, e.slirpDirs(), slirp.PortsRequest{Container: spec.ID, Ports: asked.Ports})
		}
		return st, err
	}
	return setOrUndo(ctx, set, &c.Spec, was, undo)
}

// ReloadNetworks sets a running container's networks up again, as they should be.
func (e *Engine) ReloadNetworks(ctx context.Context, c *container.Container) error {
	unlock, err := c.Lock(ctx)
	if err != nil {
		return fmt.Errorf("cannot reload networks of container %q: %w", c.Spec.Name, err)
	}
	defer unlock()
	var undo rollback
	st, err := e.updateNetworks(ctx, c, &c.Spec, &undo)
	if err == nil && st == nil {
		err = fmt.Errorf("it does not run: %w", errdefs.ErrFailedPrecondition)
	}
	if err == nil {
		err = e.tell(ctx, c, st)
	}
	if err != nil {
		return fmt.Errorf("cannot reload networks of container %q: %w", c.Spec.Name, err)
	}
	return nil
}

// noteNetwork records what was done to a network, and to whom.
func (e *Engine) noteNetwork(status, name string, c *container.Container) {
	n := &event.Event{Type: event.Network, Status: status, ID: name, Name: name, Network: name}
	if c != nil {
		n.ID, n.Name = c.Spec.ID, c.Spec.Name
	}
	e.Events().Write(n)
}

// CreateNetwork makes a network: see slirp.Create.
func (e *Engine) CreateNetwork(n *slirp.Network, v6 bool) error {
	if err := slirp.Create(e.slirpDirs(), n, v6); err != nil {
		return err
	}
	e.noteNetwork(event.Create, n.Name, nil)
	return nil
}

// RemoveNetwork removes a network that no container uses.
func (e *Engine) RemoveNetwork(ctx context.Context, name string) error {
	wrap := func(err error) error { return fmt.Errorf("cannot remove network %q: %w", name, err) }
	if name == slirp.DefaultName {
		return wrap(fmt.Errorf("it is the one that containers are connected to when none is named: %w", errdefs.ErrInvalidArgument))
	}
	all, err := e.All()
	if err != nil {
		return wrap(err)
	}
	if users := NetworkUsers(all, name); len(users) > 0 {
		return wrap(fmt.Errorf("container %q is connected to it; disconnect it, or remove it too with --force: %w", users[0].Spec.Name, errdefs.ErrFailedPrecondition))
	}
	if err := slirp.Remove(e.slirpDirs(), name); err != nil {
		return err
	}
	e.noteNetwork(event.Remove, name, nil)
	if err := slirp.Reload(ctx, e.slirpDirs(), name); err != nil {
		return wrap(err)
	}
	return nil
}

// ChangeNetwork changes the record of a network, and tells moss-net.
func (e *Engine) ChangeNetwork(ctx context.Context, name string, change func(*slirp.Network) error) error {
	if err := slirp.Change(e.slirpDirs(), name, change); err != nil {
		return err
	}
	e.noteNetwork(event.Update, name, nil)
	return slirp.Reload(ctx, e.slirpDirs(), name)
}

// webPorts are the TCP ports that a container exposes or publishes, those that web
// servers usually have first.
func webPorts(spec *container.Spec) (ports []uint16) {
	for _, p := range spec.Network.Ports {
		if p.Proto == "tcp" {
			ports = append(ports, p.ContainerPort)
		}
	}
	for _, exposed := range spec.Network.Exposed {
		number, proto, _ := strings.Cut(exposed, "/")
		if n, err := strconv.ParseUint(number, 10, 16); err == nil && (proto == "tcp" || proto == "") {
			ports = append(ports, uint16(n))
		}
	}
	usual := []uint16{80, 8080, 8000, 3000, 5000}
	rank := func(p uint16) int {
		if i := slices.Index(usual, p); i >= 0 {
			return i
		}
		return len(usual)
	}
	slices.SortStableFunc(ports, func(a, b uint16) int { return rank(a) - rank(b) })
	return slices.Compact(ports)
}
