package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"strings"
	"text/tabwriter"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
)

// InspectCmd is "moss inspect" and, with kind set, "container inspect" and its like.
type InspectCmd struct {
	Globals
	Format string   `short:"f" help:"Print through a Go template; json is the default." placeholder:"FORMAT"`
	Latest bool     `short:"l" help:"The container that was created last."`
	Size   bool     `short:"s" help:"Add up what the container has written."`
	Type   string   `words:"container image volume network all" short:"t" help:"container, image, volume, network or all (the default)." placeholder:"TYPE"`
	Name   []string `arg:"" optional:"" help:"Name or ID."`

	kind string
}

func (cmd *InspectCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[InspectCmd]()}
	v.one("type", cmd.Type, oneOf("container", "image", "volume", "network", "all"))
	v.check(cmd.kind != "" && cmd.Type != "" && cmd.Type != cmd.kind, "--type cannot be given here: it is %s", cmd.kind)
	if cmd.kind == "" && cmd.Type != "all" {
		cmd.kind = cmd.Type
	}
	v.check(cmd.Latest && len(cmd.Name) > 0, "--latest cannot be combined with names")
	v.check(cmd.Latest && cmd.kind != "" && cmd.kind != "container", "--latest concerns containers")
	v.check(cmd.Size && cmd.kind != "" && cmd.kind != "container", "--size concerns containers")
	v.check(!cmd.Latest && len(cmd.Name) == 0, "the name or ID of what to inspect is missing")
	return v.err
}

// Run prints what it finds as one list, and then what it did not find.
func (cmd *InspectCmd) Run(ctx context.Context, c *call) error {
	found := []any{}
	var errs []error
	names := cmd.Name
	if cmd.Latest {
		ctr, err := c.Engine.Latest()
		if err != nil {
			return err
		}
		names, cmd.kind = []string{ctr.Spec.ID}, "container"
	}
	for _, name := range names {
		v, err := cmd.find(ctx, c, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		found = append(found, v)
	}
	if err := cmd.print(c, found); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// find looks for name in podman's order: container, image, volume, network.
func (cmd *InspectCmd) find(ctx context.Context, c *call, name string) (any, error) {
	kinds := []struct {
		name string
		find func() (any, error)
	}{
		{"container", func() (any, error) { return c.inspectContainer(name, cmd.Size) }},
		{"image", func() (any, error) { return c.inspectImage(ctx, name) }},
		{"volume", func() (any, error) { return c.inspectVolume(name) }},
		{"network", func() (any, error) { return c.inspectNetwork(name) }},
	}
	for _, kind := range kinds {
		if cmd.kind != "" && cmd.kind != kind.name {
			continue
		}
		v, err := kind.find()
		if err == nil || cmd.kind != "" || !isAbsent(err) {
			return v, err
		}
	}
	return nil, &hintedError{fmt.Errorf("cannot inspect %q: no container, image, volume or network with that name or ID: %w", name, errdefs.ErrNotFound), ""}
}

// isAbsent says that the name means nothing of that kind.
func isAbsent(err error) bool {
	return isNotFound(err) || errors.Is(err, fs.ErrNotExist) || errdefs.IsInvalidArgument(err)
}

func (c *call) inspectVolume(name string) (any, error) {
	vol, err := c.volume(name)
	if err != nil {
		return nil, err
	}
	v := c.volumeView(vol)
	if all, err := c.Engine.All(); err == nil && !vol.NeedsMount() { // those that do are counted
		for _, ctr := range rootless.VolumeUsers(all, vol.Name) {
			if ctr.Look().Live != nil {
				v.MountCount++
			}
		}
	}
	return v, nil
}

func (cmd *InspectCmd) print(c *call, found []any) error {
	if cmd.Format == "" || cmd.Format == "json" {
		return format.JSON(c.Out, found)
	}
	body, isTable := strings.CutPrefix(cmd.Format, "table ")
	tmpl, err := format.Parse(body)
	if err != nil {
		return err
	}
	var out io.Writer = c.Out
	if isTable { // without a heading, as podman's
		aligned := tabwriter.NewWriter(c.Out, 12, 2, 2, ' ', 0)
		defer aligned.Flush()
		out = aligned
	}
	for _, v := range found {
		err := format.Execute(out, tmpl, v)
		if err != nil { // a name as it is in the JSON, which may not be the field's
			var generic any
			if generic, err = asGeneric(v); err == nil && fieldsExist(generic, body) {
				err = format.Execute(out, tmpl, generic)
			} else {
				err = format.Execute(out, tmpl, v)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// asGeneric is v as its JSON says it.
func asGeneric(v any) (any, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var out any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	err = d.Decode(&out)
	return out, err
}

// fieldsExist says whether the fields that a template names are in v: a template
// over a map would take any name.
func fieldsExist(v any, tmpl string) bool {
	for _, action := range strings.Split(tmpl, "{{")[1:] {
		action, _, _ = strings.Cut(action, "}}")
		for _, word := range strings.FieldsFunc(action, func(r rune) bool { return strings.ContainsRune(" ()|\t", r) }) {
			path, isField := strings.CutPrefix(word, ".")
			if isField && path != "" && !hasPath(v, strings.Split(path, ".")) {
				return false
			}
		}
	}
	return true
}

func hasPath(v any, path []string) bool {
	for _, name := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return false
		}
		if v, ok = m[name]; !ok {
			return false
		}
	}
	return true
}
