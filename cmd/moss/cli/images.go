package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
)

// ImagesCmd is "moss images".
type ImagesCmd struct {
	Globals
	All       bool     `short:"a" help:"List every image; there are no hidden ones."`
	Digests   bool     `help:"Show the digests of the manifests."`
	Filter    []string `short:"f" sep:"none" help:"List those that match." placeholder:"KEY=VALUE"`
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Noheading bool     `short:"n" help:"Leave the header line out."`
	NoTrunc   bool     `help:"Show IDs in full."`
	Quiet     bool     `short:"q" help:"Show IDs only."`
	Sort      string   `words:"created id repository size tag" help:"Sort by created, id, repository, size or tag." placeholder:"KEY"`
	Name      string   `arg:"" optional:"" help:"A name, or a pattern with *."`

	filters filters
}

var imageFilters = []string{"reference", "id", "label", "label!", "dangling", "before", "since", "readonly"}

func (cmd *ImagesCmd) prepare() (err error) {
	if cmd.filters, err = parseFilters("filter", cmd.Filter, imageFilters); err != nil {
		return err
	}
	v := &flagValues{grammar: reflect.TypeFor[ImagesCmd]()}
	v.check(cmd.Name != "" && len(cmd.filters["reference"]) > 0, "a name cannot be combined with --filter reference")
	v.one("sort", cmd.Sort, oneOf("created", "id", "repository", "size", "tag"))
	if cmd.Name != "" {
		cmd.filters["reference"] = []string{cmd.Name}
	}
	return v.err
}

// Run prints a line for each name of each image.
func (cmd *ImagesCmd) Run(ctx context.Context, c *call) error {
	list, err := cmd.list(ctx, c)
	if err != nil {
		return err
	}
	rows := []imageRow{}
	for _, img := range list {
		for _, name := range cmd.names(img) {
			rows = append(rows, imageRow{img, name, cmd.NoTrunc})
		}
	}
	cmd.sort(rows)
	if cmd.Quiet && cmd.Format == "" {
		var last string
		for _, r := range rows {
			if r.img.ID != last {
				fmt.Fprintln(c.Out, r.ID())
			}
			last = r.img.ID
		}
		return nil
	}
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "REPOSITORY", Cell: ".Repository"}, {Header: "TAG", Cell: ".Tag"}, {Header: "IMAGE ID", Cell: ".ID"},
		{Header: "CREATED", Cell: ".Created"}, {Header: "SIZE", Cell: ".Size"},
	}, Headers: map[string]string{
		"ID": "IMAGE ID", "CreatedSince": "CREATED", "CreatedAt": "CREATED AT", "ReadOnly": "R/O", "Digest": "DIGEST",
	}}
	if cmd.Digests {
		table.Columns = slices.Insert(table.Columns, 2, format.Column{Header: "DIGEST", Cell: ".Digest"})
	}
	if slices.ContainsFunc(rows, imageRow.ReadOnly) { // podman: only when there are any
		table.Columns = append(table.Columns, format.Column{Header: "R/O", Cell: ".ReadOnly"})
	}
	return table.Print(c.Out, cmd.Format, rows, c.imagesJSON(list, cmd.Format == "json"))
}

// list reads the images that pass the filters.
func (cmd *ImagesCmd) list(ctx context.Context, c *call) ([]*image.Image, error) {
	if err := c.Engine.FreshImages(ctx); err != nil {
		return nil, err
	}
	all, err := c.Engine.Images.List()
	if err != nil {
		return nil, err
	}
	var before, since time.Time
	for key, t := range map[string]*time.Time{"before": &before, "since": &since} {
		for _, name := range cmd.filters[key] {
			img, lerr := c.Engine.Images.Lookup(name)
			if lerr != nil {
				err = errors.Join(err, lerr)
				continue
			}
			*t = img.Created
		}
	}
	f := cmd.filters
	return slices.DeleteFunc(all, func(img *image.Image) bool {
		return !(f.any("id", func(v string) bool { return strings.HasPrefix(img.ID, strings.TrimPrefix(v, "sha256:")) }) &&
			f.all("label", func(v string) bool { return hasLabel(img.Config.Labels, v) }) &&
			f.all("label!", func(v string) bool { return !hasLabel(img.Config.Labels, v) }) &&
			f.any("dangling", func(v string) bool { want, _ := strconv.ParseBool(v); return want == (len(img.Names) == 0) }) &&
			f.any("readonly", func(v string) bool { want, _ := strconv.ParseBool(v); return want == img.ReadOnly }) &&
			f.any("reference", func(v string) bool { return len(matching(img, v)) > 0 }) &&
			(before.IsZero() || img.Created.Before(before)) && (since.IsZero() || img.Created.After(since)))
	}), err
}

// names are the names of img that are to be shown; "" when it has none.
func (cmd *ImagesCmd) names(img *image.Image) []string {
	if references := cmd.filters["reference"]; len(references) > 0 {
		var out []string
		for _, ref := range references {
			out = append(out, matching(img, ref)...)
		}
		return out
	}
	if len(img.Names) == 0 {
		return []string{""}
	}
	return img.Names
}

// matching are the names of img that a reference or a pattern stands for: with
// or without registry and tag.
func matching(img *image.Image, pattern string) []string {
	var out []string
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
		return append(out, img.Names...)
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
		"":           func(a, b imageRow) int { return b.img.Created.Compare(a.img.Created) },
		"created":    func(a, b imageRow) int { return b.img.Created.Compare(a.img.Created) },
		"id":         func(a, b imageRow) int { return cmp.Compare(a.img.ID, b.img.ID) },
		"repository": func(a, b imageRow) int { return cmp.Compare(a.Repository(), b.Repository()) },
		"size":       func(a, b imageRow) int { return cmp.Compare(a.img.Size, b.img.Size) },
		"tag":        func(a, b imageRow) int { return cmp.Compare(a.Tag(), b.Tag()) },
	}[cmd.Sort]
	slices.SortStableFunc(rows, key)
}

// imageRow is one name of an image as templates see it.
type imageRow struct {
	img  *image.Image
	name string
	full bool
}

// ID is shortened unless --no-trunc is given.
func (r imageRow) ID() string {
	if r.full {
		return "sha256:" + r.img.ID
	}
	return format.ShortID(r.img.ID)
}

func (r imageRow) Repository() string {
	if r.name == "" {
		return "<none>"
	}
	repository, _ := splitName(r.name)
	return repository
}

func (r imageRow) Tag() string {
	if r.name == "" {
		return "<none>"
	}
	_, tag := splitName(r.name)
	return tag
}

func (r imageRow) Digest() string {
	if r.img.Digest == "" {
		return "<none>"
	}
	return r.img.Digest
}
func (r imageRow) Created() string        { return format.Ago(r.img.Created) }
func (r imageRow) CreatedSince() string   { return r.Created() }
func (r imageRow) CreatedAt() string      { return r.img.Created.Format(timeLayout) }
func (r imageRow) CreatedTime() time.Time { return r.img.Created }
func (r imageRow) Size() string           { return format.Size(r.img.Size, " ") }
func (r imageRow) VirtualSize() string    { return r.Size() }
func (r imageRow) Names() []string        { return r.img.Names }
func (r imageRow) ReadOnly() bool         { return r.img.ReadOnly }
func (r imageRow) Dangling() bool         { return len(r.img.Names) == 0 }
func (r imageRow) Labels() map[string]string {
	return r.img.Config.Labels
}

// imageJSON is one image in "images --format json", with podman's names.
type imageJSON struct {
	Id          string
	ParentId    string
	RepoTags    []string
	RepoDigests []string
	Size        int64
	SharedSize  int64
	VirtualSize int64
	Labels      map[string]string
	Containers  int
	Dangling    bool `json:",omitempty"`
	ReadOnly    bool `json:",omitempty"`
	Names       []string
	Digest      string
	Created     int64
	CreatedAt   string
}

func (c *call) imagesJSON(list []*image.Image, wanted bool) []imageJSON {
	out := []imageJSON{}
	if !wanted {
		return out
	}
	using, err := c.Engine.Using()
	if err != nil {
		using = nil // a count is no reason to fail
	}
	for _, img := range list {
		out = append(out, imageJSON{
			Id: img.ID, RepoTags: img.Names, RepoDigests: repoDigests(img), Size: img.Size, VirtualSize: img.Size,
			Labels: img.Config.Labels, Containers: len(using[img.ID]), Dangling: len(img.Names) == 0, ReadOnly: img.ReadOnly,
			Names: img.Names, Digest: img.Digest, Created: img.Created.Unix(), CreatedAt: img.Created.UTC().Format(time.RFC3339Nano),
		})
	}
	return out
}

// repoDigests are the names with the digest in place of the tag.
func repoDigests(img *image.Image) []string {
	out := []string{}
	for _, name := range img.Names {
		repository, _ := splitName(name)
		for _, digest := range img.Digests {
			if ref := repository + "@" + digest; !slices.Contains(out, ref) {
				out = append(out, ref)
			}
		}
	}
	return out
}

// HistoryCmd is "moss history".
type HistoryCmd struct {
	Globals
	Format  string `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Human   *bool  `short:"H" help:"Print sizes and times in words; on by default."`
	NoTrunc bool   `help:"Do not shorten."`
	Quiet   bool   `short:"q" help:"Show IDs only."`
	Image   string `arg:"" help:"Name or ID of an image."`
}

// Run prints the newest layer first.
func (cmd *HistoryCmd) Run(ctx context.Context, c *call) error {
	img, err := c.Engine.Image(ctx, cmd.Image)
	if err != nil {
		return fmt.Errorf("cannot show the history of image %q: %w", cmd.Image, err)
	}
	rows, human := []historyRow{}, cmd.Human == nil || *cmd.Human
	for i, h := range slices.Backward(img.History) {
		id := "<missing>"
		if i == len(img.History)-1 {
			id = img.ID
		}
		rows = append(rows, historyRow{h: h, id: id, full: cmd.NoTrunc, human: human})
	}
	if cmd.Quiet && cmd.Format == "" {
		for _, r := range rows {
			fmt.Fprintln(c.Out, r.ID())
		}
		return nil
	}
	table := format.Table{Columns: []format.Column{
		{Header: "ID", Cell: ".ID"}, {Header: "CREATED", Cell: ".Created"}, {Header: "CREATED BY", Cell: ".CreatedBy"},
		{Header: "SIZE", Cell: ".Size"}, {Header: "COMMENT", Cell: ".Comment"},
	}, Headers: map[string]string{"CreatedSince": "CREATED", "CreatedAt": "CREATED AT"}}
	return table.Print(c.Out, cmd.Format, rows, rows)
}

// historyRow is one line of an image's history as templates see it.
type historyRow struct {
	h           image.History
	id          string
	full, human bool
}

func (r historyRow) ID() string {
	if r.full || r.id == "<missing>" {
		return r.id
	}
	return format.ShortID(r.id)
}
func (r historyRow) Created() string {
	if r.human {
		return format.Ago(r.h.Created)
	}
	return r.CreatedAt()
}
func (r historyRow) CreatedSince() string { return format.Ago(r.h.Created) }
func (r historyRow) CreatedAt() string    { return r.h.Created.Format(time.RFC3339) }
func (r historyRow) CreatedBy() string {
	s := strings.ReplaceAll(r.h.CreatedBy, "\t", " ")
	if r.full {
		return s
	}
	return format.Cut(s, 45)
}
func (r historyRow) Size() string {
	if r.human {
		return format.Size(r.h.Size, " ")
	}
	return strconv.FormatInt(r.h.Size, 10)
}
func (r historyRow) Comment() string { return r.h.Comment }
func (r historyRow) Tags() []string  { return nil }

// MarshalJSON has podman's names.
func (r historyRow) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		ID        string    `json:"id"`
		Created   time.Time `json:"created"`
		CreatedBy string
		Size      int64  `json:"size"`
		Comment   string `json:"comment"`
	}{r.id, r.h.Created, r.h.CreatedBy, r.h.Size, r.h.Comment})
}
