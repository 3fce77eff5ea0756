package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
)

// SignCmd is "moss image sign".
type SignCmd struct {
	Globals
	All            bool     `short:"a" help:"Sign, of a list, each of its images too."`
	Authfile       string   `help:"File with the registry's credentials." placeholder:"FILE"`
	CertDir        string   `help:"Directory with certificates for the registry." placeholder:"DIR"`
	NewKey         string   `help:"Make a pair of keys, PREFIX.private and PREFIX.pub, in place of signing." placeholder:"PREFIX"`
	SigstoreKey    string   `name:"sign-by-sigstore-private-key" help:"File of the private key to sign with." placeholder:"FILE"`
	PassphraseFile string   `name:"sign-passphrase-file" help:"File with the passphrase of the private key; you are asked otherwise." placeholder:"FILE"`
	TLSVerify      *bool    `name:"tls-verify" help:"Require HTTPS and a valid certificate."`
	Image          []string `arg:"" optional:"" help:"Full name of an image in a registry."`
}

func (cmd *SignCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[SignCmd]()}
	v.one("authfile", cmd.Authfile, readable)
	v.one("cert-dir", cmd.CertDir, directory)
	v.one("sign-by-sigstore-private-key", cmd.SigstoreKey, readable)
	v.one("sign-passphrase-file", cmd.PassphraseFile, readable)
	v.check(cmd.NewKey != "" && (len(cmd.Image) > 0 || cmd.SigstoreKey != "" || cmd.All), "--new-key makes keys; it signs no image")
	v.check(cmd.NewKey == "" && len(cmd.Image) == 0, "image sign needs the name of an image, or --new-key")
	v.check(cmd.NewKey == "" && cmd.SigstoreKey == "", "image sign needs --sign-by-sigstore-private-key; --new-key makes one")
	if v.err != nil {
		return v.err
	}
	for _, name := range cmd.Image {
		r, err := image.Parse(name)
		if err != nil {
			return err
		}
		if r.Registry == "" {
			return fmt.Errorf("cannot sign image %q: want the full name that the image has in its registry", name)
		}
	}
	return nil
}

// Run lets moss-image sign.
func (cmd *SignCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.ImageHelper(ctx, image.Request{Sign: &image.SignRequest{
		Images: cmd.Image, Key: cmd.SigstoreKey, PassphraseFile: cmd.PassphraseFile, All: cmd.All, NewKey: absolute(cmd.NewKey),
		TLSVerify: cmd.TLSVerify, AuthFile: cmd.Authfile, CertDir: cmd.CertDir,
	}}, nil)
}

// TrustSetCmd is "moss image trust set".
type TrustSetCmd struct {
	Globals
	Policypath  string   `name:"policypath" help:"Policy to change, in place of yours." placeholder:"FILE"`
	Pubkeysfile []string `short:"f" sep:"none" help:"Public key; with several, each must have signed." placeholder:"FILE"`
	Type        string   `short:"t" words:"accept reject sigstoreSigned" help:"accept, reject or sigstoreSigned." placeholder:"TYPE"`
	Scope       string   `arg:"" help:"default, a registry, or a namespace, repository or image of one."`
}

func (cmd *TrustSetCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[TrustSetCmd]()}
	v.check(cmd.Type == "", "--type is missing: accept, reject or sigstoreSigned")
	v.one("type", cmd.Type, func(s string) error {
		if s == "signedBy" {
			return fmt.Errorf("moss does not check signatures of GnuPG; sigstoreSigned has keys without it")
		}
		return oneOf("accept", "reject", "sigstoreSigned")(s)
	})
	v.each("pubkeysfile", cmd.Pubkeysfile, readable)
	v.check(cmd.Type == "sigstoreSigned" && len(cmd.Pubkeysfile) == 0, "--type sigstoreSigned needs --pubkeysfile")
	v.check(cmd.Type != "sigstoreSigned" && len(cmd.Pubkeysfile) > 0, "--pubkeysfile needs --type sigstoreSigned")
	for i, path := range cmd.Pubkeysfile {
		cmd.Pubkeysfile[i] = absolute(path)
	}
	return v.err
}

// Run lets moss-image change the file.
func (cmd *TrustSetCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.ImageHelper(ctx, image.Request{Trust: &image.TrustRequest{
		Path: absolute(cmd.Policypath), Scope: cmd.Scope, Type: cmd.Type, Keys: cmd.Pubkeysfile,
	}}, nil)
}

// TrustShowCmd is "moss image trust show".
type TrustShowCmd struct {
	Globals
	Format     string `help:"Print through a Go template, or as a table of one." placeholder:"FORMAT"`
	JSON       bool   `name:"json" short:"j" help:"Print as JSON."`
	Noheading  bool   `short:"n" help:"Leave the header line out."`
	Policypath string `name:"policypath" help:"Policy to show, in place of the one in effect." placeholder:"FILE"`
	Raw        bool   `help:"Print the file as it is."`
	Scope      string `arg:"" optional:"" help:"Show what is said for this registry, or part of one, only."`
}

func (cmd *TrustShowCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[TrustShowCmd]()}
	v.one("policypath", cmd.Policypath, readable)
	v.check(cmd.Raw && (cmd.JSON || cmd.Format != ""), "--raw cannot be combined with --json or --format")
	v.check(cmd.JSON && cmd.Format != "", "--json cannot be combined with --format")
	v.check(cmd.Raw && cmd.Scope != "", "--raw shows the whole file")
	return v.err
}

// Run prints what moss-image reads.
func (cmd *TrustShowCmd) Run(ctx context.Context, c *call) error {
	request := image.Request{Trust: &image.TrustRequest{Path: absolute(cmd.Policypath), Raw: cmd.Raw}}
	if cmd.Raw {
		return c.Engine.ImageHelper(ctx, request, nil)
	}
	var out bytes.Buffer
	if err := c.Engine.ImageHelper(ctx, request, &out); err != nil {
		return err
	}
	var all []image.TrustEntry
	if err := json.Unmarshal(out.Bytes(), &all); err != nil {
		return fmt.Errorf("cannot read what moss-image says: %w", err)
	}
	rows := []image.TrustEntry{}
	for _, r := range all {
		if cmd.Scope == "" || r.RepoName == cmd.Scope || strings.HasPrefix(r.RepoName, cmd.Scope+"/") {
			rows = append(rows, r)
		}
	}
	shown := cmd.Format
	if cmd.JSON {
		shown = "json"
	}
	for i := range rows {
		if !cmd.JSON && shown != "json" {
			rows[i].Name = rows[i].RepoName
		}
	}
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "TRANSPORT", Cell: ".Transport"}, {Header: "NAME", Cell: ".Name"}, {Header: "TYPE", Cell: ".Type"}, {Header: "ID", Cell: ".ID"}, {Header: "STORE", Cell: ".Store"},
	}}
	return table.Print(c.Out, shown, rows, rows)
}
