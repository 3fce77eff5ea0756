package cli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"moss/cmd/moss/cli/format"
	"moss/config"
	"moss/rootless"
)

// ConfigCmd is "moss config".
type ConfigCmd struct {
	Globals
	Format    string   `short:"f" help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Noheading bool     `short:"n" help:"Leave the header line out."`
	Set       bool     `help:"Show only what a file or the environment sets."`
	Key       []string `arg:"" optional:"" help:"A key, or the first part of keys."`
}

// Setting is one line of "moss config".
type Setting struct {
	Key    string
	Value  string   // what is in effect, the elements of a list joined by spaces
	Values []string `json:",omitempty"` // the elements of a list
	Source string   // file:line, the variable of the environment, or default
	File   string   `json:",omitempty"`
	Line   int      `json:",omitempty"`
}

// Run prints every value that is in effect, and warns of what is not.
func (cmd *ConfigCmd) Run(ctx context.Context, c *call) error {
	r, err := rootless.ReadConfig(ctx, c.Dirs.Run)
	if err != nil {
		return err
	}
	for _, w := range r.Config.Warnings {
		fmt.Fprintf(c.Err, "warning: %s: %s\n", w.Origin, w.Text)
	}
	rows := slices.DeleteFunc(effective(&r.Config), func(s Setting) bool {
		return cmd.Set && s.Source == "default" || len(cmd.Key) > 0 && !slices.ContainsFunc(cmd.Key, func(k string) bool {
			return s.Key == k || strings.HasPrefix(s.Key, k+".") || strings.HasPrefix(s.Key, k+"[")
		})
	})
	if len(rows) == 0 && len(cmd.Key) > 0 {
		for _, key := range cmd.Key {
			if config.Lookup(key) == nil && !slices.ContainsFunc(config.Keys[:], func(k config.Key) bool { return strings.HasPrefix(k.Name, key+".") }) {
				return usagef("there is no key %q", key)
			}
		}
	}
	table := format.Table{
		Columns:   []format.Column{{Header: "KEY", Cell: ".Key"}, {Header: "VALUE", Cell: ".Value"}, {Header: "SOURCE", Cell: ".Source"}},
		Headers:   map[string]string{"File": "FILE", "Line": "LINE", "Values": "VALUES"},
		NoHeading: cmd.Noheading,
	}
	return table.Print(c.Out, cmd.Format, rows, rows)
}

// effective are the values that moss goes by, those of one file after the other
// and then the defaults, by table as the manual has them.
func effective(conf *config.Config) []Setting {
	var rows []Setting
	add := func(s *config.Setting) {
		row := Setting{Key: s.Key, Value: strings.Join(s.Values, " "), File: s.From[0].File, Line: s.From[0].Line}
		if k := config.Lookup(s.Key); k != nil && k.Kind == config.List {
			row.Values = s.Values
		}
		row.Source = sources(s.From)
		rows = append(rows, row)
	}
	for i := range config.Keys {
		k := &config.Keys[i]
		switch s := conf.Find(k.Name); {
		case k.Useless != "":
		case s != nil:
			add(s)
		case strings.HasSuffix(k.Name, "*"):
			for j := range conf.Settings {
				if s := &conf.Settings[j]; config.Lookup(s.Key) == k {
					add(s)
				}
			}
		case k.Default != "":
			rows = append(rows, Setting{Key: k.Name, Value: k.Default, Source: "default"})
		}
	}
	for _, e := range environmentKeys {
		if value := os.Getenv(e.variable); value != "" {
			rows = slices.DeleteFunc(rows, func(s Setting) bool { return s.Key == e.key })
			rows = append(rows, Setting{Key: e.key, Value: value, Source: e.variable})
		}
	}
	slices.SortStableFunc(rows, func(a, b Setting) int { return cmp.Compare(order(a.Key), order(b.Key)) })
	return rows
}

// sources joins the lines of one file: FILE:3-5 OTHER:7.
func sources(from []config.Origin) string {
	var out []string
	for i := 0; i < len(from); {
		first, last := from[i], from[i].Line
		for i++; i < len(from) && from[i].File == first.File && from[i].Line >= last; i++ {
			last = from[i].Line
		}
		source := first.String()
		if last > first.Line {
			source += "-" + strconv.Itoa(last)
		}
		out = append(out, source)
	}
	return strings.Join(out, " ")
}

// environmentKeys are the keys that a variable sets too, and in the first place.
var environmentKeys = [...]struct{ key, variable string }{{"moss.log_level", "MOSS_LOG"}, {"moss.root", "MOSS_ROOT"}, {"moss.shell_image", "MOSS_SHELL_IMAGE"}}

func order(key string) int {
	group, _, _ := strings.Cut(key, ".")
	return slices.Index([]string{"moss", "containers", "engine", "network", "secrets", "storage", "registries"}, group)
}
