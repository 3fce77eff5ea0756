package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"moss/rootless"
)

// ImagePruneCmd is "moss image prune".
type ImagePruneCmd struct {
	Globals
	All      bool     `short:"a" help:"Images with names too, if no container uses them."`
	External bool     `help:"Also if a container of buildah or another program uses it."`
	Filter   []string `sep:"none" help:"Remove those that match: until, label or label!." placeholder:"KEY=VALUE"`
	Force    bool     `short:"f" help:"Do not ask."`

	filters imageFilters
}

func (cmd *ImagePruneCmd) prepare() (err error) {
	cmd.filters, err = parseImageFilters(cmd.Filter, []string{"until", "label"})
	return err
}

func (cmd *ImagePruneCmd) warning() string {
	what := "all dangling images"
	if cmd.All {
		what = "all images without at least one container associated with them"
	}
	if cmd.External {
		what += ", also those that containers of other programs use"
	}
	if len(cmd.Filter) > 0 {
		what += ", that match " + strings.Join(cmd.Filter, " ")
	}
	return "WARNING! This command removes " + what + "."
}

// Run prints the IDs of the images that it has removed.
func (cmd *ImagePruneCmd) Run(ctx context.Context, c *call) error {
	if !cmd.Force {
		fmt.Fprintln(c.Out, cmd.warning())
		if yes, err := c.confirm("Are you sure you want to continue? [y/N] "); !yes || err != nil {
			return err
		}
	}
	// What an image was built on is dangling when that is gone.
	for {
		removed, err := cmd.round(ctx, c)
		if err != nil || removed == 0 {
			return errors.Join(err, c.Engine.SweepImages())
		}
	}
}

// round removes what can be removed now, and counts it.
func (cmd *ImagePruneCmd) round(ctx context.Context, c *call) (int, error) {
	if err := c.Engine.FreshImages(ctx); err != nil {
		return 0, err
	}
	set, err := c.imageSet()
	if err != nil {
		return 0, err
	}
	list, err := cmd.filters.apply(set)
	if err != nil {
		return 0, err
	}
	busy := map[string]bool{}
	if !cmd.External {
		for _, ctr := range c.Engine.External() {
			busy[ctr.Spec.Image.ID] = true
		}
	}
	removed := 0
	var errs error
	for _, img := range list {
		if img.ReadOnly || busy[img.ID] || len(set.users(img.ID)) > 0 || c.Engine.MountedImage(img) != "" {
			continue
		}
		if !img.Dangling(set.all) && !(cmd.All && len(img.Names) > 0) {
			continue
		}
		err := c.Engine.RemoveImage(ctx, img.ID, rootless.RemoveImageOptions{Force: true, NoPrune: true, Using: set.using}, func(verb, what string) {
			if verb == "Deleted" {
				fmt.Fprintln(c.Out, what)
				removed++
			}
		})
		if !isNotFound(err) { // else somebody else was faster
			errs = errors.Join(errs, err)
		}
	}
	return removed, errs
}
