package cli

import (
	"context"
	"reflect"

	"moss/rootless"
	"moss/rootless/container"
)

// AttachCmd is "moss attach".
type AttachCmd struct {
	Globals
	AttachFlags
	Latest    bool   `short:"l" help:"The container that was created last."`
	NoStdin   bool   `help:"Attach the output only."`
	Container string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`

	detachKeys []byte
}

func (cmd *AttachCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[AttachCmd]()}
	cmd.detachKeys = cmd.keys(v)
	return v.err
}

// Run ends with the exit code of the container, or 0 when it is detached from.
func (cmd *AttachCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.one(cmd.Container, cmd.Latest)
	if err != nil {
		return err
	}
	p := ctr.Spec.Process
	streams, raw := c.streams(which{in: p.Stdin && !cmd.NoStdin, out: true, err: true}, p.TTY, cmd.detachKeys, cmd.sigProxy())
	return c.join(ctx, ctr, streams, raw)
}

// join attaches to a container that runs.
func (c *call) join(ctx context.Context, ctr *container.Container, s *rootless.Streams, raw func() error) error {
	catch, begin := c.proxySignals(ctx, s, func() *container.Container { return ctr })
	catch()
	session, err := c.Engine.Attach(ctx, ctr, s)
	if err != nil {
		return err
	}
	begin()
	if err := raw(); err != nil {
		return err
	}
	return c.waitSession(ctx, session)
}
