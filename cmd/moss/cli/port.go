package cli

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"

	"moss/rootless/container"
	"moss/slirp"
)

// PortCmd is "moss port".
type PortCmd struct {
	Globals
	All       bool   `short:"a" help:"The ports of every container that runs."`
	Latest    bool   `short:"l" help:"The container that was created last."`
	Container string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`
	Port      string `arg:"" optional:"" help:"A port of the container, PORT[/PROTO]."`

	wanted string // "80/tcp"
}

func (cmd *PortCmd) prepare() error {
	if cmd.Latest && cmd.Container != "" { // the one argument is the port
		if cmd.Port != "" {
			return usagef("--latest cannot be combined with the name of a container")
		}
		cmd.Container, cmd.Port = "", cmd.Container
	}
	switch {
	case cmd.All && (cmd.Latest || cmd.Container != ""):
		return usagef("--all cannot be combined with --latest or the name of a container")
	case !cmd.All && !cmd.Latest && cmd.Container == "":
		return usagef("the name or ID of a container is missing")
	case cmd.Port == "":
		return nil
	}
	number, proto, ok := strings.Cut(cmd.Port, "/")
	if !ok {
		proto = "tcp"
	}
	if n, err := strconv.ParseUint(number, 10, 16); err != nil || n == 0 || proto != "tcp" && proto != "udp" {
		return usagef("invalid port %q: want PORT[/PROTO]", cmd.Port)
	}
	cmd.wanted = number + "/" + proto
	return nil
}

// Run prints one line for each published port.
func (cmd *PortCmd) Run(ctx context.Context, c *call) error {
	if cmd.All {
		all, err := c.Engine.All()
		if err != nil {
			return err
		}
		for _, ctr := range all {
			if ctr.Look().Live != nil {
				cmd.show(c, ctr, ctr.Spec.ID[:12]+"\t")
			}
		}
		return nil
	}
	ctr, err := c.one(cmd.Container, cmd.Latest)
	if err != nil {
		return err
	}
	if shown := cmd.show(c, ctr, ""); !shown && cmd.wanted != "" {
		return fmt.Errorf("cannot find published port %q of container %q", cmd.wanted, ctr.Spec.Name)
	}
	return nil
}

func (cmd *PortCmd) show(c *call, ctr *container.Container, prefix string) (shown bool) {
	for _, p := range c.Engine.Ports(ctr) {
		eachPort(p, func(inside string, host string) {
			switch {
			case cmd.wanted == "":
				fmt.Fprintf(c.Out, "%s%s -> %s\n", prefix, inside, host)
			case cmd.wanted == inside:
				fmt.Fprintln(c.Out, host)
			default:
				return
			}
			shown = true
		})
	}
	return shown
}

// eachPort calls do with "80/tcp" and "0.0.0.0:8080" for each port of a range.
func eachPort(p slirp.Port, do func(inside, host string)) {
	address := "0.0.0.0"
	if p.HostIP.IsValid() {
		address = p.HostIP.String()
	}
	for n := range int(max(p.Count, 1)) {
		do(fmt.Sprintf("%d/%s", int(p.ContainerPort)+n, p.Proto), net.JoinHostPort(address, strconv.Itoa(int(p.HostPort)+n)))
	}
}
