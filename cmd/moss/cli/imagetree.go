package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
)

// ImageTreeCmd is "moss image tree".
type ImageTreeCmd struct {
	Globals
	Whatrequires bool   `help:"Show the layers above it, too, and whose they are."`
	Format       string `help:"Print as json, or through a Go template." placeholder:"FORMAT"`
	Image        string `arg:"" help:"Name or ID of an image."`
}

// treeView is what image tree shows, as templates see it.
type treeView struct {
	ID     string
	Tags   []string
	Size   int64
	Layers []*treeLayer
}

// treeLayer is a layer, the images whose uppermost it is, and what lies on it.
type treeLayer struct {
	ID       string
	Size     int64
	Tags     []string     `json:",omitempty"`
	Children []*treeLayer `json:",omitempty"`
}

// Run prints the layers of an image, the lowest first; or those above it.
func (cmd *ImageTreeCmd) Run(ctx context.Context, c *call) error {
	img, err := c.Engine.Image(ctx, cmd.Image)
	if err != nil {
		return fmt.Errorf("cannot show the layers of image %q: %w", cmd.Image, err)
	}
	all, err := c.Engine.Images.List()
	if err != nil {
		return err
	}
	view := treeView{ID: img.ID, Tags: list(img.Names), Size: img.Size, Layers: []*treeLayer{}}
	tree := layerTree(all)
	switch {
	case len(img.Layers) == 0:
	case cmd.Whatrequires:
		view.Layers = append(view.Layers, tree[img.Layers[0]])
	default:
		for _, id := range slices.Backward(img.Layers) {
			layer := *tree[id]
			layer.Children = nil
			view.Layers = append(view.Layers, &layer)
		}
	}
	switch cmd.Format {
	case "":
		cmd.print(c, &view)
		return nil
	case "json":
		return format.JSON(c.Out, view)
	}
	tmpl, err := format.Parse(cmd.Format)
	if err != nil {
		return err
	}
	return format.Execute(c.Out, tmpl, view)
}

// layerTree is every layer of all images, by its ID.
func layerTree(all []*image.Image) map[string]*treeLayer {
	tree := map[string]*treeLayer{}
	for _, img := range all {
		var above *treeLayer
		for n, id := range img.Layers {
			layer := tree[id]
			known := layer != nil
			if !known {
				layer = &treeLayer{ID: id}
				if n < len(img.LayerSizes) {
					layer.Size = img.LayerSizes[n]
				}
				tree[id] = layer
			}
			if n == 0 {
				layer.Tags = append(layer.Tags, img.Names...)
			}
			if above != nil {
				layer.Children = append(layer.Children, above)
			}
			if above = layer; known {
				above = nil // what is below it is known, and knows it
				break
			}
		}
	}
	return tree
}

func (cmd *ImageTreeCmd) print(c *call, view *treeView) {
	fmt.Fprintf(c.Out, "Image ID: %s\nTags:     %s\nSize:     %v\n", format.ShortID(view.ID), view.Tags, format.SizeTo(view.Size, 4, ""))
	if len(view.Layers) == 0 {
		fmt.Fprintln(c.Out, "No Image Layers")
		return
	}
	fmt.Fprintln(c.Out, "Image Layers")
	branches(c, "", view.Layers)
}

// branches draws layers side by side. A single one above another is drawn beside
// it, so that a chain is a list, as podman draws it.
func branches(c *call, indent string, layers []*treeLayer) {
	var flat []*treeLayer
	for _, l := range layers {
		for flat = append(flat, l); len(layers) == 1 && len(l.Children) == 1; flat = append(flat, l) {
			l = l.Children[0]
		}
	}
	for n, l := range flat {
		edge, below := "├── ", "│   "
		if n == len(flat)-1 {
			edge, below = "└── ", "    "
		}
		tags := ""
		if len(l.Tags) > 0 {
			tags = " Top Layer of: [" + strings.Join(l.Tags, " ") + "]"
		}
		fmt.Fprintf(c.Out, "%s%sID: %s Size: %7v%s\n", indent, edge, format.ShortID(l.ID), format.SizeTo(l.Size, 4, ""), tags)
		if len(l.Children) > 1 || len(layers) > 1 && len(l.Children) > 0 {
			branches(c, indent+below, l.Children)
		}
	}
}
