package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
	"moss/userns/enter"
)

// ImageMountCmd is "moss image mount".
type ImageMountCmd struct {
	Globals
	All    bool     `short:"a" help:"All images."`
	Format string   `help:"Print as json, or through a Go template." placeholder:"FORMAT"`
	Image  []string `arg:"" optional:"" help:"Name or ID of an image; without any, what is mounted is listed."`
}

func (cmd *ImageMountCmd) lists() bool { return !cmd.All && len(cmd.Image) == 0 }

func (cmd *ImageMountCmd) prepare() error {
	if cmd.All && len(cmd.Image) > 0 {
		return usagef("--all cannot be combined with names of images")
	}
	if !cmd.lists() && !enter.Below() {
		return &hintedError{errors.New("cannot run \"moss image mount\" here: the mount is seen only in your user namespace; run 'moss unshare' first"),
			"moss unshare sh -c 'ls $(moss image mount IMAGE)'"}
	}
	return format.Suits(cmd.Format, reflect.TypeFor[imageMountRow]())
}

// imageMountRow is a mounted image, as templates show it.
type imageMountRow struct {
	ID           string `json:"id"`
	Names        []string
	Repositories []string `json:",omitempty"`
	Path         string   `json:"mountpoint"`
}

// Name is what the table calls it.
func (r imageMountRow) Name() string {
	if len(r.Names) > 0 {
		return r.Names[0]
	}
	return r.ID
}

// Run prints where each is mounted: of a single image the path alone.
func (cmd *ImageMountCmd) Run(ctx context.Context, c *call) error {
	list, err := c.images(ctx, cmd.Image)
	errs := []error{err}
	rows := []imageMountRow{}
	for _, img := range list {
		path := c.Engine.MountedImage(img)
		if !cmd.lists() {
			if path, err = c.Engine.MountImage(img); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		if path == "" {
			continue
		}
		rows = append(rows, imageMountRow{ID: img.ID, Names: img.Names, Repositories: img.Names, Path: path})
	}
	if len(cmd.Image) == 1 && cmd.Format == "" && len(rows) == 1 {
		fmt.Fprintln(c.Out, rows[0].Path)
		return errors.Join(errs...)
	}
	table := format.Table{NoHeading: true, Columns: []format.Column{{Header: "NAME", Cell: ".Name"}, {Header: "PATH", Cell: ".Path"}}}
	return errors.Join(append(errs, table.Print(c.Out, cmd.Format, rows, rows))...)
}

// images are those of the names, or all when there are none. Errors of names that
// are not there come with the rest.
func (c *call) images(ctx context.Context, names []string) ([]*image.Image, error) {
	if err := c.Engine.FreshImages(ctx); err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return c.Engine.Images.List()
	}
	var out []*image.Image
	var errs error
	for _, name := range names {
		img, err := c.Engine.Images.Lookup(name)
		if err == nil {
			img, err = c.Engine.Images.ForPlatform(img, image.HostPlatform())
		}
		if err != nil {
			errs = errors.Join(errs, err)
			continue
		}
		out = append(out, img)
	}
	return out, errs
}

// ImageUnmountCmd is "moss image unmount".
type ImageUnmountCmd struct {
	Globals
	All   bool     `short:"a" help:"All images that are mounted."`
	Force bool     `short:"f" help:"Also if somebody works in it: it goes when they are done."`
	Image []string `arg:"" optional:"" help:"Name or ID of an image."`
}

func (cmd *ImageUnmountCmd) prepare() error {
	if cmd.All == (len(cmd.Image) > 0) {
		return usagef("image unmount wants either names of images or --all")
	}
	return nil
}

// Run prints the IDs of the images that were unmounted.
func (cmd *ImageUnmountCmd) Run(ctx context.Context, c *call) error {
	list, err := c.images(ctx, cmd.Image)
	errs := []error{err}
	for _, img := range list {
		if cmd.All && c.Engine.MountedImage(img) == "" {
			continue
		}
		if err := c.Engine.UnmountImage(img, cmd.Force); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, img.ID)
	}
	return errors.Join(errs...)
}
