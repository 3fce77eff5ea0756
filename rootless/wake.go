package rootless

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/slirp"
)

// checkWake says why a container cannot wait for clients at its ports.
func checkWake(spec *container.Spec) error {
	n := &spec.Network
	if n.Idle > 0 && len(n.Wake) == 0 {
		return fmt.Errorf("--idle needs --wake: nobody would start it again: %w", errdefs.ErrInvalidArgument)
	}
	if spec.Lifecycle.AutoRemove && len(n.Wake) > 0 { // its layer is made for one run
		return fmt.Errorf("it is removed when it exits: a client could not start it again: %w", errdefs.ErrInvalidArgument)
	}
	for _, number := range n.Wake {
		published := slices.ContainsFunc(n.Ports, func(p slirp.Port) bool {
			return p.Proto == "tcp" && p.HostPort <= number && int(number) < int(p.HostPort)+int(max(p.Count, 1))
		})
		if !published {
			return fmt.Errorf("--wake tcp:%d: the container does not publish this port of the host; add -p %d:PORT: %w", number, number, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// closeParked closes the ports of a container whose monitor was killed: moss-net has kept
// them open for the next one.
func (e *Engine) closeParked(c *container.Container) {
	if len(c.Spec.Network.Wake) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := slirp.Unpark(ctx, e.slirpDirs(), c.Spec.ID); err != nil {
		slog.Warn("ports of a container may be open for some seconds more", "container", c.Spec.Name, "err", err)
	}
}
