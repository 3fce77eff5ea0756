package cli

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"

	"moss/rootless/container"
)

// ContainerExistsCmd is "container exists".
type ContainerExistsCmd struct {
	ExistsCmd
	External bool `help:"Look among the containers of buildah and podman, too; see moss-ps(1)."`
}

// Run says nothing but by the exit code.
func (cmd *ContainerExistsCmd) Run(ctx context.Context, c *call) error {
	cmd.kind = "container"
	err := cmd.ExistsCmd.Run(ctx, c)
	isMeant := func(ctr *container.Container) bool {
		return ctr.Spec.Name == cmd.Name || strings.HasPrefix(ctr.Spec.ID, cmd.Name)
	}
	if err != nil && cmd.External && slices.ContainsFunc(c.Engine.External(), isMeant) {
		return nil
	}
	return err
}

// ExistsCmd is "image exists" and its like: exit code 0 or 1, and no output.
type ExistsCmd struct {
	Globals
	Name string `arg:"" help:"What to look for."`

	kind string
}

// Run says nothing but by the exit code.
func (cmd *ExistsCmd) Run(ctx context.Context, c *call) error {
	var err error
	switch cmd.kind {
	case "container":
		_, err = c.Engine.Find(cmd.Name)
	case "image":
		_, err = c.Engine.Named(ctx, cmd.Name)
	case "volume":
		_, err = c.Engine.Volumes.Get(cmd.Name)
	case "network":
		_, err = c.network(cmd.Name)
	}
	if err == nil {
		return nil
	}
	if isNotFound(err) || errors.Is(err, os.ErrNotExist) {
		return &exitError{code: exitFound}
	}
	return err
}
