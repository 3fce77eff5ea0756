package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/format"
	"moss/cmd/moss/cli/syntax"
	"moss/rootless/event"
	"moss/storage/secret"
)

// SecretCreateCmd is "moss secret create".
type SecretCreateCmd struct {
	Globals
	Driver     string   `short:"d" words:"file pass shell" help:"Where to keep it: file (the default, unencrypted), pass (encrypted by gpg) or shell (commands of yours)." placeholder:"NAME"`
	DriverOpts []string `sep:"," help:"Option of the driver: file has path; pass has root, key and gpghomedir; shell has delete, list, lookup and store." placeholder:"KEY=VALUE"`
	Env        bool     `help:"Read the content from the environment variable that is named in place of a file."`
	Ignore     bool     `help:"It is no error when there is a secret of that name: it stays."`
	Label      []string `short:"l" sep:"none" help:"Label of the secret." placeholder:"KEY=VALUE"`
	Replace    bool     `help:"Take the place of a secret of that name. Containers keep what they have."`
	Name       string   `arg:"" help:"Name of the secret."`
	Source     string   `arg:"" optional:"" help:"File, or - for standard input."`

	options secret.Options
}

func (cmd *SecretCreateCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[SecretCreateCmd]()}
	v.one("driver", cmd.Driver, oneOf("file", "pass", "shell"))
	cmd.options = secret.Options{Driver: cmd.Driver, Options: map[string]string{}, Labels: map[string]string{}, Replace: cmd.Replace}
	pair := func(to map[string]string) func(string) error {
		return func(s string) error {
			key, value, err := syntax.KeyValue(s, true)
			to[key] = value
			return err
		}
	}
	v.each("driver-opts", cmd.DriverOpts, pair(cmd.options.Options))
	v.each("label", cmd.Label, pair(cmd.options.Labels))
	v.check(cmd.Ignore && cmd.Replace, "--ignore cannot be combined with --replace")
	v.check(cmd.Source == "" && cmd.Env, "the environment variable is missing")
	v.check(cmd.Source == "" && !cmd.Env, "the file with the content is missing; - is standard input")
	v.check(cmd.Source == "-" && !cmd.Env && isTerminal(os.Stdin), "refusing to read a secret from a terminal, which would show it: name a file or redirect")
	if v.err == nil {
		v.err = secret.CheckName(cmd.Name)
	}
	return v.err
}

// Run prints the ID of the secret.
func (cmd *SecretCreateCmd) Run(ctx context.Context, c *call) error {
	if cmd.Ignore {
		if old, err := c.Engine.Secrets.Get(cmd.Name); err == nil {
			fmt.Fprintln(c.Out, old.ID)
			return nil
		}
	}
	data, err := cmd.content(c)
	if err != nil {
		return fmt.Errorf("cannot create secret %q: %w", cmd.Name, err)
	}
	made, err := c.Engine.Secrets.Create(cmd.Name, data, cmd.options)
	if err != nil {
		return err
	}
	c.Engine.NoteSecret(event.Create, made)
	fmt.Fprintln(c.Out, made.ID)
	return nil
}

func (cmd *SecretCreateCmd) content(c *call) ([]byte, error) {
	switch {
	case cmd.Env:
		value, ok := os.LookupEnv(cmd.Source)
		if !ok {
			return nil, fmt.Errorf("environment variable %q is not set", cmd.Source)
		}
		return []byte(value), nil
	case cmd.Source == "-":
		return atMost(c.In)
	}
	f, err := os.Open(cmd.Source)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return atMost(f)
}

// atMost reads no more than a secret may have, and one byte to tell.
func atMost(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, secret.MaxSize+1)) }

// SecretLsCmd is "moss secret ls".
type SecretLsCmd struct {
	Globals
	Filter    []string `short:"f" sep:"none" help:"List those that match: name or id." placeholder:"KEY=VALUE"`
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Noheading bool     `short:"n" help:"Leave the header line out."`
	Quiet     bool     `short:"q" help:"Show IDs only."`

	filters filters
}

func (cmd *SecretLsCmd) prepare() (err error) {
	cmd.filters, err = parseFilters("filter", cmd.Filter, []string{"name", "id"})
	return err
}

// secretRow is a line of secret ls.
type secretRow struct {
	ID        string
	Name      string
	Driver    string
	CreatedAt string
	UpdatedAt string
}

// Run prints a line for each secret, by name.
func (cmd *SecretLsCmd) Run(ctx context.Context, c *call) error {
	all, err := c.Engine.Secrets.List()
	if err != nil {
		return err
	}
	rows := []secretRow{}
	for _, s := range all {
		if cmd.filters.any("name", func(v string) bool {
			re, err := regexp.Compile(v)
			return err == nil && re.MatchString(s.Name)
		}) && cmd.filters.any("id", func(v string) bool { return strings.HasPrefix(s.ID, v) }) {
			rows = append(rows, secretRow{s.ID, s.Name, s.Driver, format.Ago(s.Created), format.Ago(s.Updated)})
		}
	}
	if cmd.Quiet && cmd.Format == "" {
		for _, r := range rows {
			fmt.Fprintln(c.Out, r.ID)
		}
		return nil
	}
	views := []secretInfo{}
	for _, s := range all {
		if slices.ContainsFunc(rows, func(r secretRow) bool { return r.ID == s.ID }) {
			views = append(views, newSecretInfo(s))
		}
	}
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "ID", Cell: ".ID"}, {Header: "NAME", Cell: ".Name"}, {Header: "DRIVER", Cell: ".Driver"},
		{Header: "CREATED", Cell: ".CreatedAt"}, {Header: "UPDATED", Cell: ".UpdatedAt"},
	}}
	return table.Print(c.Out, cmd.Format, rows, views)
}

// secretInfo is a secret as inspect shows it, with podman's names.
type secretInfo struct {
	ID         string
	CreatedAt  time.Time
	UpdatedAt  time.Time
	Spec       secretSpec
	SecretData string `json:",omitempty"`
}

type secretSpec struct {
	Name   string
	Driver secretDriver
	Labels map[string]string
}

type secretDriver struct {
	Name    string
	Options map[string]string
}

func newSecretInfo(s *secret.Secret) secretInfo {
	v := secretInfo{ID: s.ID, CreatedAt: s.Created, UpdatedAt: s.Updated, Spec: secretSpec{s.Name, secretDriver{s.Driver, s.Options}, s.Labels}}
	for _, m := range []*map[string]string{&v.Spec.Driver.Options, &v.Spec.Labels} {
		if *m == nil {
			*m = map[string]string{}
		}
	}
	return v
}

// SecretInspectCmd is "moss secret inspect".
type SecretInspectCmd struct {
	Globals
	Format     string   `short:"f" help:"Print through a Go template; json is the default." placeholder:"FORMAT"`
	Pretty     bool     `help:"Print for people."`
	ShowSecret bool     `name:"showsecret" help:"Show the content too."`
	Secret     []string `arg:"" help:"Name or ID of a secret."`
}

func (cmd *SecretInspectCmd) prepare() error {
	if cmd.Pretty && cmd.Format != "" {
		return usagef("--pretty cannot be combined with --format")
	}
	return nil
}

// Run prints what it finds as one list, and then what it did not find.
func (cmd *SecretInspectCmd) Run(ctx context.Context, c *call) error {
	found := []any{}
	var errs []error
	for _, name := range cmd.Secret {
		s, err := c.secret("inspect", name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		v := newSecretInfo(s)
		if cmd.ShowSecret {
			data, err := c.Engine.Secrets.Read(s.Name)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			v.SecretData = string(data)
		}
		found = append(found, v)
	}
	if cmd.Pretty {
		for _, v := range found {
			printSecret(c.Out, v.(secretInfo))
		}
	} else if err := (&InspectCmd{Format: cmd.Format}).print(c, found); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func printSecret(w io.Writer, v secretInfo) {
	fmt.Fprintf(w, "ID:              %s\nName:            %s\n", v.ID, v.Spec.Name)
	if len(v.Spec.Labels) > 0 {
		fmt.Fprintln(w, "Labels:")
		for _, key := range slices.Sorted(maps.Keys(v.Spec.Labels)) {
			fmt.Fprintf(w, " - %s=%s\n", key, v.Spec.Labels[key])
		}
	}
	fmt.Fprintf(w, "Driver:          %s\nCreated at:      %s\nUpdated at:      %s\n", v.Spec.Driver.Name, v.CreatedAt, v.UpdatedAt)
	if v.SecretData != "" {
		fmt.Fprintf(w, "Secret:          %s\n", v.SecretData)
	}
}

// secret finds a secret by name, ID or the beginning of an ID.
func (c *call) secret(verb, name string) (*secret.Secret, error) {
	s, err := c.Engine.Secrets.Find(name)
	if errors.Is(err, secret.ErrNotFound) {
		return nil, &notFoundError{fmt.Errorf("cannot %s secret %q: no secret has that name or ID: %w", verb, name, errdefs.ErrNotFound), "moss secret ls"}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot %s secret %q: %w", verb, name, err)
	}
	return s, nil
}

// SecretRmCmd is "moss secret rm".
type SecretRmCmd struct {
	Globals
	All    bool     `short:"a" help:"Every secret."`
	Ignore bool     `short:"i" help:"Say nothing of secrets that are not there."`
	Secret []string `arg:"" optional:"" help:"Name or ID of a secret."`
}

func (cmd *SecretRmCmd) prepare() error {
	if cmd.All == (len(cmd.Secret) > 0) {
		return usagef("secret rm wants either names of secrets or --all")
	}
	return nil
}

// Run prints the IDs of the secrets that it has removed.
func (cmd *SecretRmCmd) Run(ctx context.Context, c *call) error {
	names := cmd.Secret
	if cmd.All {
		all, err := c.Engine.Secrets.List()
		if err != nil {
			return err
		}
		for _, s := range all {
			names = append(names, s.Name)
		}
	}
	var errs []error
	for _, name := range names {
		s, err := c.secret("remove", name)
		if cmd.Ignore && isNotFound(err) {
			continue
		}
		if err == nil {
			err = c.Engine.Secrets.Remove(s.Name)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.Engine.NoteSecret(event.Remove, s)
		fmt.Fprintln(c.Out, s.ID)
	}
	return errors.Join(errs...)
}

// SecretExistsCmd is "moss secret exists".
type SecretExistsCmd struct {
	Globals
	Secret string `arg:"" help:"Name or ID of a secret."`
}

// Run answers by its exit code: 0 or 1.
func (cmd *SecretExistsCmd) Run(ctx context.Context, c *call) error {
	_, err := c.Engine.Secrets.Find(cmd.Secret)
	if errors.Is(err, secret.ErrNotFound) {
		return &exitError{code: exitFound}
	}
	return err
}
