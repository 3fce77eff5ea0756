package cli

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strings"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
)

// ImagesCmd is "moss images".
type ImagesCmd struct {
	Globals
	All       bool     `short:"a" help:"Show the steps of builds too: images without a name that others are built on."`
	Digests   bool     `help:"Show the digests of the manifests."`
	Filter    []string `short:"f" sep:"none" help:"List those that match." placeholder:"KEY=VALUE"`
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	History   bool     `help:"Show every name that an image has had."`
	Noheading bool     `short:"n" help:"Leave the header line out."`
	NoTrunc   bool     `help:"Show IDs in full."`
	Quiet     bool     `short:"q" help:"Show IDs only."`
	Sort      string   `words:"created id repository size tag" help:"Sort by created, id, repository, size or tag." placeholder:"KEY"`
	Name      string   `arg:"" optional:"" help:"A name, or a pattern with *."`

	filters imageFilters
}

func (cmd *ImagesCmd) prepare() (err error) {
	if cmd.filters, err = parseImageFilters(cmd.Filter, imageFilterKeys); err != nil {
		return err
	}
	v := &flagValues{grammar: reflect.TypeFor[ImagesCmd]()}
	v.check(cmd.Name != "" && cmd.filters.has("reference"), "a name cannot be combined with --filter reference")
	v.one("sort", cmd.Sort, oneOf("created", "id", "repository", "size", "tag"))
	if cmd.Name != "" {
		f := imageFilter{key: "reference", value: cmd.Name}
		v.one("name", cmd.Name, func(string) error { return f.check() })
		cmd.filters = append(cmd.filters, f)
	}
	return v.err
}

// Run prints a line for each name of each image.
func (cmd *ImagesCmd) Run(ctx context.Context, c *call) error {
	if err := c.Engine.FreshImages(ctx); err != nil {
		return err
	}
	set, err := c.imageSet()
	if err != nil {
		return err
	}
	list, err := cmd.filters.apply(set)
	if err != nil {
		return err
	}
	rows := []imageRow{}
	for _, img := range list {
		if !cmd.All && !cmd.filters.has("intermediate") && img.Intermediate(set.all) {
			continue
		}
		for _, name := range cmd.names(img) {
			rows = append(rows, imageRow{set, img, name, cmd.NoTrunc})
		}
	}
	cmd.sort(rows)
	switch {
	case cmd.Quiet && cmd.Format == "":
		for _, r := range once(rows) {
			fmt.Fprintln(c.Out, r.ID())
		}
		return nil
	case cmd.Format == "json":
		all := []imageJSON{}
		for _, r := range once(rows) {
			all = append(all, set.json(r.img))
		}
		return format.JSON(c.Out, all)
	}
	table := cmd.table()
	if slices.ContainsFunc(rows, imageRow.ReadOnly) { // podman: only when there are any
		table.Columns = append(table.Columns, format.Column{Header: "R/O", Cell: ".ReadOnly"})
	}
	return table.Print(c.Out, cmd.Format, rows, nil)
}

func (cmd *ImagesCmd) table() format.Table {
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "REPOSITORY", Cell: ".Repository"}, {Header: "TAG", Cell: ".Tag"}, {Header: "IMAGE ID", Cell: ".ID"},
		{Header: "CREATED", Cell: ".Created"}, {Header: "SIZE", Cell: ".Size"},
	}, Headers: map[string]string{
		"Id": "IMAGE ID", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "ReadOnly": "R/O", "Digest": "DIGEST", "History": "HISTORY",
	}}
	if cmd.Digests {
		table.Columns = slices.Insert(table.Columns, 2, format.Column{Header: "DIGEST", Cell: ".Digest"})
	}
	if cmd.History {
		table.Columns = append(table.Columns, format.Column{Header: "HISTORY", Cell: ".History"})
	}
	return table
}

// once is the first row of each image.
func once(rows []imageRow) []imageRow {
	seen := map[string]bool{}
	return slices.DeleteFunc(slices.Clone(rows), func(r imageRow) bool {
		was := seen[r.img.ID]
		seen[r.img.ID] = true
		return was
	})
}

// names are the names of img that are to be shown; "" when it has none.
func (cmd *ImagesCmd) names(img *image.Image) []string {
	var out []string
	references := cmd.filters.references()
	for _, ref := range references {
		for _, name := range matching(img, ref) {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	if len(references) == 0 {
		out = img.Names
	}
	if len(out) == 0 {
		return []string{""}
	}
	return out
}

// matching are the names of img that a reference or a pattern stands for: with
// or without registry and tag.
func matching(img *image.Image, pattern string) []string {
	var out []string
	pattern, digest, byDigest := strings.Cut(pattern, "@")
	if byDigest && !slices.Contains(img.Digests, digest) {
		return nil
	}
	for _, name := range img.Names {
		repository, _ := splitName(name)
		candidates := []string{name, repository}
		for rest := name; ; {
			_, after, ok := strings.Cut(rest, "/")
			if !ok {
				break
			}
			withoutTag, _ := splitName(after)
			candidates, rest = append(candidates, after, withoutTag), after
		}
		if slices.ContainsFunc(candidates, func(s string) bool { ok, _ := path.Match(pattern, s); return ok || s == pattern }) {
			out = append(out, name)
		}
	}
	if len(out) == 0 && len(pattern) >= 3 && strings.HasPrefix(img.ID, strings.TrimPrefix(pattern, "sha256:")) {
		if len(img.Names) == 0 {
			return []string{""}
		}
		return img.Names
	}
	return out
}

// splitName cuts a name into repository and tag.
func splitName(name string) (repository, tag string) {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, "<none>"
}

func (cmd *ImagesCmd) sort(rows []imageRow) {
	key := map[string]func(a, b imageRow) int{
		"":        func(a, b imageRow) int { return b.img.Created.Compare(a.img.Created) },
		"created": func(a, b imageRow) int { return b.img.Created.Compare(a.img.Created) },
		"id":      func(a, b imageRow) int { return cmp.Compare(a.img.ID, b.img.ID) },
		"repository": func(a, b imageRow) int {
			return cmp.Or(cmp.Compare(a.Repository(), b.Repository()), cmp.Compare(a.Tag(), b.Tag()))
		},
		"size": func(a, b imageRow) int { return cmp.Compare(a.img.Size, b.img.Size) },
		"tag":  func(a, b imageRow) int { return cmp.Compare(a.Tag(), b.Tag()) },
	}[cmd.Sort]
	slices.SortStableFunc(rows, key)
}
