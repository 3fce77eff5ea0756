package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
)

// SearchCmd is "moss search".
type SearchCmd struct {
	Globals
	Authfile   string   `help:"File with the registry's credentials." placeholder:"FILE"`
	CertDir    string   `help:"Directory with certificates for the registry." placeholder:"DIR"`
	Compatible bool     `help:"Show stars, and what is official and automated, too."`
	Creds      string   `help:"Credentials to use." placeholder:"USER[:PASSWORD]"`
	Filter     []string `short:"f" sep:"none" help:"List those that match: stars=N, is-automated or is-official." placeholder:"KEY[=VALUE]"`
	Format     string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Limit      *int     `help:"How many results of each registry; 25 when not given." placeholder:"N"`
	ListTags   bool     `help:"List the tags of the repository."`
	NoTrunc    bool     `help:"Show descriptions in full."`
	TLSVerify  *bool    `name:"tls-verify" help:"Require HTTPS and a valid certificate."`
	Term       string   `arg:"" help:"What to look for, with or without a registry before it."`

	limit, stars        int
	official, automated *bool
}

func (cmd *SearchCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[SearchCmd]()}
	v.one("authfile", cmd.Authfile, readable)
	v.one("cert-dir", cmd.CertDir, directory)
	v.each("filter", cmd.Filter, cmd.readFilter)
	readCount(v, "limit", cmd.Limit, 1, func(n int) { cmd.limit = n })
	v.check(cmd.ListTags && len(cmd.Filter) > 0, "--filter cannot be combined with --list-tags")
	v.check(cmd.ListTags && cmd.Compatible, "--compatible cannot be combined with --list-tags")
	v.check(cmd.Term == "", "the term is empty; REGISTRY/ lists all that a registry has")
	return v.err
}

// readFilter reads KEY[=VALUE]; true is the value that may be left out.
func (cmd *SearchCmd) readFilter(s string) error {
	key, value, given := strings.Cut(s, "=")
	truth := func() (*bool, error) {
		b := true
		var err error
		if given {
			b, err = strconv.ParseBool(value)
		}
		if err != nil {
			err = fmt.Errorf("want %s=true or %s=false", key, key)
		}
		return &b, err
	}
	var err error
	switch key {
	case "stars":
		if cmd.stars, err = strconv.Atoi(value); err != nil || cmd.stars < 0 {
			return fmt.Errorf("want stars=N")
		}
	case "is-official":
		cmd.official, err = truth()
	case "is-automated":
		cmd.automated, err = truth()
	default:
		err = fmt.Errorf("unknown filter %q (stars, is-automated, is-official)", key)
	}
	return err
}

// searchRow is a result with podman's words.
type searchRow struct {
	Index, Name, Description string
	Stars                    int
	Official, Automated, Tag string
}

func (cmd *SearchCmd) row(f image.Found) searchRow {
	r := searchRow{Index: f.Index, Name: f.Name, Description: f.Description, Stars: f.Stars, Tag: f.Tag}
	if text := []rune(f.Description); !cmd.NoTrunc && len(text) > 44 {
		r.Description = string(text[:44]) + "..."
	}
	if f.IsOfficial {
		r.Official = "[OK]"
	}
	if f.IsAutomated {
		r.Automated = "[OK]"
	}
	return r
}

func (cmd *SearchCmd) matches(f image.Found) bool {
	return f.Stars >= cmd.stars && (cmd.official == nil || *cmd.official == f.IsOfficial) && (cmd.automated == nil || *cmd.automated == f.IsAutomated)
}

// Run lets moss-image ask, and prints.
func (cmd *SearchCmd) Run(ctx context.Context, c *call) error {
	var out bytes.Buffer
	err := c.Engine.ImageHelper(ctx, image.Request{Search: &image.SearchRequest{
		Term: cmd.Term, Limit: cmd.limit, Tags: cmd.ListTags, TLSVerify: cmd.TLSVerify, AuthFile: cmd.Authfile, Creds: cmd.Creds, CertDir: cmd.CertDir,
	}}, &out)
	if err != nil {
		return err
	}
	var all []image.Found
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		return fmt.Errorf("cannot read what moss-image says: %w", err)
	}
	rows := []searchRow{}
	for _, f := range all {
		if cmd.matches(f) {
			rows = append(rows, cmd.row(f))
		}
	}
	table := format.Table{Columns: []format.Column{{Header: "NAME", Cell: ".Name"}, {Header: "DESCRIPTION", Cell: ".Description"}}}
	if cmd.Compatible {
		table.Columns = append(table.Columns, format.Column{Header: "STARS", Cell: ".Stars"}, format.Column{Header: "OFFICIAL", Cell: ".Official"}, format.Column{Header: "AUTOMATED", Cell: ".Automated"})
	}
	if !cmd.ListTags {
		return table.Print(c.Out, cmd.Format, rows, rows)
	}
	table.Columns = []format.Column{{Header: "NAME", Cell: ".Name"}, {Header: "TAG", Cell: ".Tag"}}
	type repository struct {
		Name string
		Tags []string
	}
	lists := []repository{}
	for _, r := range rows {
		if len(lists) == 0 {
			lists = append(lists, repository{Name: r.Name})
		}
		lists[0].Tags = append(lists[0].Tags, r.Tag)
	}
	return table.Print(c.Out, cmd.Format, rows, lists)
}
