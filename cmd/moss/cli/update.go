package cli

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless/container"
	"moss/slirp"
)

// UpdateCmd is "moss update".
type UpdateCmd struct {
	Globals
	LimitFlags
	HealthFlags
	WakeFlags

	Restart   string   `words:"no on-failure always unless-stopped" help:"Restart policy: no, on-failure[:N], always or unless-stopped." placeholder:"POLICY" group:"Life"`
	Env       []string `short:"e" sep:"none" help:"Environment variable, from the next start on." placeholder:"NAME[=VALUE]" group:"Process"`
	UnsetEnv  []string `name:"unsetenv" sep:"none" help:"Take a variable away, from the next start on." placeholder:"NAME" group:"Process"`
	Ulimit    []string `sep:"none" help:"Limit of setrlimit(2), from the next start on." placeholder:"NAME=SOFT[:HARD]" group:"Process"`
	Publish   []string `short:"p" sep:"none" help:"Publish a port, or a range, on the host." placeholder:"[[IP:]HOSTPORT:]PORT[/PROTO]" group:"Network"`
	Unpublish []string `sep:"none" help:"Publish a port no more." placeholder:"[[IP:]HOSTPORT:]PORT[/PROTO]" group:"Network"`
	AllowOut  []string `sep:"none" help:"Let the container reach nothing outside but this, instead of what it was allowed; none, or any." placeholder:"NAME[:PORT],..." group:"Network"`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Container string   `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	env     []string
	rlimits []container.Rlimit
	// publish and unpublish are ports to add and to take away.
	publish, unpublish []slirp.Port
	allowed            []string
}

const textUpdate = `Limits, the restart policy and the health check change at once, also of a container that runs, and for every later
start; what a flag does not name stays as it is.

What a client wakes is changed while the container neither runs nor waits: stop it first. --wake none has it start at once.

So do published ports: those that stay keep their connections. --unpublish takes the port of the container, or more of
what --publish was given. And so does the allow-list, where connections to what is not allowed any more end.`

func (cmd *UpdateCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[UpdateCmd]()}
	v.check(cmd.Container == "" && !cmd.Latest, "the name or ID of a container is missing")
	v.check(cmd.Container != "" && cmd.Latest, "--latest cannot be combined with the name of a container")
	none := reflect.DeepEqual(cmd.LimitFlags, LimitFlags{}) && !cmd.HealthFlags.given()
	v.check(none && !cmd.WakeFlags.given() && cmd.Restart == "" && len(cmd.Env)+len(cmd.UnsetEnv)+len(cmd.Ulimit)+len(cmd.Publish)+len(cmd.Unpublish)+len(cmd.AllowOut) == 0, "nothing to update: no flag says what")
	environ := os.Environ()
	v.each("env", cmd.Env, func(s string) error {
		kv, err := syntax.Environment(s, environ)
		cmd.env = append(cmd.env, kv...)
		return err
	})
	v.each("unsetenv", cmd.UnsetEnv, func(name string) error {
		if strings.Contains(name, "=") {
			return fmt.Errorf("want a name, without a value")
		}
		return nil
	})
	v.each("ulimit", cmd.Ulimit, func(s string) error {
		limits, err := syntax.Ulimit(s)
		cmd.rlimits = append(cmd.rlimits, limits...)
		return err
	})
	ports := func(to *[]slirp.Port) func(string) error {
		return func(s string) error {
			p, err := syntax.Port(s)
			*to = append(*to, p)
			return err
		}
	}
	v.each("publish", cmd.Publish, ports(&cmd.publish))
	v.each("unpublish", cmd.Unpublish, ports(&cmd.unpublish))
	cmd.allowed = v.allowList(cmd.AllowOut)
	v.one("restart", cmd.Restart, func(s string) error {
		_, _, err := syntax.RestartPolicy(s)
		return err
	})
	// With nothing before them most values can be read already.
	cmd.WakeFlags.read(v, &container.Network{})
	cmd.HealthFlags.read(v, &container.Health{Startup: &container.StartupCheck{Test: []string{"CMD"}}})
	return v.err
}

// Run prints the container's ID.
func (cmd *UpdateCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.one(cmd.Container, cmd.Latest)
	if err != nil {
		return err
	}
	if err := c.Engine.Update(ctx, ctr, func(s *container.Spec) error {
		err := cmd.change(s)
		if err == nil && len(cmd.AllowOut) > 0 {
			err = c.Engine.ChangeAllow(s, cmd.allowed)
		}
		if err != nil || len(cmd.publish)+len(cmd.unpublish) == 0 {
			return err
		}
		if err := c.Engine.ChangePorts(ctr, s, cmd.publish, cmd.unpublish); err != nil {
			return err
		}
		if twice := syntax.PortOverlap(s.Network.Ports); twice != "" {
			return usagef("%s", twice)
		}
		return nil
	}); err != nil {
		return err
	}
	fmt.Fprintln(c.Out, ctr.Spec.ID)
	return nil
}

// change lays the flags over what the container has.
func (cmd *UpdateCmd) change(s *container.Spec) error {
	v := &flagValues{grammar: reflect.TypeFor[UpdateCmd]()}
	cmd.LimitFlags.read(v, &s.Resources)
	s.Health = cmd.HealthFlags.read(v, s.Health)
	cmd.WakeFlags.read(v, &s.Network)
	v.one("restart", cmd.Restart, func(p string) (err error) {
		s.Lifecycle.Restart, s.Lifecycle.RestartMax, err = syntax.RestartPolicy(p)
		return err
	})
	cmd.WakeFlags.remembered(s)
	named := func(names []string) func(string) bool {
		return func(kv string) bool {
			name, _, _ := strings.Cut(kv, "=")
			return slices.ContainsFunc(names, func(n string) bool { n, _, _ = strings.Cut(n, "="); return n == name })
		}
	}
	s.Process.Env = append(slices.DeleteFunc(s.Process.Env, named(append(cmd.env, cmd.UnsetEnv...))), cmd.env...)
	for _, limit := range cmd.rlimits {
		s.Process.Rlimits = append(slices.DeleteFunc(s.Process.Rlimits, func(l container.Rlimit) bool { return l.Name == limit.Name }), limit)
	}
	return v.err
}
