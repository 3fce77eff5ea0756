package cli

import (
	"context"
	"fmt"
	"reflect"
	"strconv"

	"moss/rootless/container"
	"moss/slirp"
)

// NetworkWebCmd is "moss network web".
type NetworkWebCmd struct {
	Globals
	Port    string `help:"Port of the host's loopback; 8088 if none is given." placeholder:"PORT"`
	TLSPort string `name:"tls-port" help:"Port for TLS, which is left to the containers; none if none is given." placeholder:"PORT"`
	What    string `arg:"" optional:"" help:"on, off, or status."`

	web slirp.Web
}

func (cmd *NetworkWebCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[NetworkWebCmd]()}
	number := func(to *uint16) func(string) error {
		return func(s string) error {
			n, err := strconv.ParseUint(s, 10, 16)
			if err != nil || n == 0 {
				return fmt.Errorf("it is not a port")
			}
			*to = uint16(n)
			return nil
		}
	}
	cmd.web.Port = 8088
	v.one("port", cmd.Port, number(&cmd.web.Port))
	v.one("tls-port", cmd.TLSPort, number(&cmd.web.TLSPort))
	v.check(cmd.web.Port == cmd.web.TLSPort, "--port and --tls-port are two ports")
	switch cmd.What {
	case "on":
	case "", "status", "off":
		v.check(cmd.Port+cmd.TLSPort != "", "--port and --tls-port go with on")
	default:
		v.check(true, "network web wants on, off or status, not %q", cmd.What)
	}
	return v.err
}

// Run prints where the containers that run are.
func (cmd *NetworkWebCmd) Run(ctx context.Context, c *call) error {
	switch cmd.What {
	case "on":
		if err := slirp.SaveWeb(ctx, c.slirpDirs(), cmd.web); err != nil {
			return fmt.Errorf("cannot turn the web on: %w", err)
		}
	case "off":
		if err := slirp.SaveWeb(ctx, c.slirpDirs(), slirp.Web{}); err != nil {
			return fmt.Errorf("cannot turn the web off: %w", err)
		}
		return nil
	}
	web, err := slirp.LoadWeb(c.slirpDirs())
	if err != nil {
		return err
	}
	if web.Port == 0 {
		fmt.Fprintln(c.Out, "off")
		return nil
	}
	all, err := c.Engine.All()
	if err != nil {
		return err
	}
	fmt.Fprintf(c.Out, "http://NAME.localhost:%d\n", web.Port)
	if web.TLSPort != 0 {
		fmt.Fprintf(c.Out, "https://NAME.localhost:%d\n", web.TLSPort)
	}
	for _, ctr := range all {
		if ctr.Look().Status == container.StatusRunning && ctr.Spec.Network.Mode == "bridge" {
			fmt.Fprintf(c.Out, "http://%s.localhost:%d\n", ctr.Spec.Name, web.Port)
		}
	}
	return nil
}
