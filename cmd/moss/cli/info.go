package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"

	"moss/cmd/moss/cli/format"
)

// InfoCmd is "moss info".
type InfoCmd struct {
	Globals
	Format string `short:"f" help:"Print as json, or through a Go template." placeholder:"FORMAT"`
}

// Run prints YAML, as podman does.
func (cmd *InfoCmd) Run(ctx context.Context, c *call) error {
	info, err := c.Engine.Info(ctx)
	if err != nil {
		return err
	}
	info.Version.Version, info.Version.APIVersion = Version, Version
	switch cmd.Format {
	case "json":
		return format.JSON(c.Out, info)
	case "":
		return printYAML(c.Out, info)
	}
	tmpl, err := format.Parse(cmd.Format)
	if err != nil {
		return err
	}
	return format.Execute(c.Out, tmpl, info)
}

// printYAML writes v as its JSON says it, in YAML's block form.
func printYAML(w io.Writer, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	return yamlValue(w, d, "")
}

// yamlValue writes the next value of d, which stands on its own lines.
func yamlValue(w io.Writer, d *json.Decoder, indent string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	switch token {
	case json.Delim('{'):
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s%v:", indent, key)
			if err := yamlInline(w, d, indent); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for d.More() {
			fmt.Fprintf(w, "%s-", indent)
			if err := yamlInline(w, d, indent); err != nil {
				return err
			}
		}
	}
	_, err = d.Token() // the closing one
	return err
}

// yamlInline writes the value after a key or a dash.
func yamlInline(w io.Writer, d *json.Decoder, indent string) error {
	var raw json.RawMessage
	if err := d.Decode(&raw); err != nil {
		return err
	}
	text := strings.TrimSpace(string(raw))
	switch {
	case text == "null" || text == "{}" || text == "[]":
		fmt.Fprintln(w, " "+strings.Replace(text, "null", `""`, 1))
		return nil
	case text[0] != '{' && text[0] != '[':
		fmt.Fprintln(w, " "+yamlScalar(text))
		return nil
	}
	fmt.Fprintln(w)
	inner := json.NewDecoder(strings.NewReader(text))
	inner.UseNumber()
	return yamlValue(w, inner, indent+"  ")
}

// yamlScalar takes the quotes from strings that need none: a JSON string is a
// YAML string too.
func yamlScalar(text string) string {
	var s string
	if err := json.Unmarshal([]byte(text), &s); err != nil || s == "" {
		return text
	}
	plain := strings.IndexFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._+-() ,", r))
	}) < 0
	first := s[0]
	if plain && (first == '/' || first >= 'a' && first <= 'z' || first >= 'A' && first <= 'Z') && s != "true" && s != "false" && !strings.HasSuffix(s, " ") {
		return s
	}
	return text
}

// VersionCmd is "moss version".
type VersionCmd struct {
	Globals
	Format string `short:"f" help:"Print as json, or through a Go template." placeholder:"FORMAT"`
}

// versionView has podman's nesting: a client, and no server.
type versionView struct{ Client versionPart }

type versionPart struct {
	APIVersion string
	Version    string
	GoVersion  string
	OsArch     string
	Os         string
}

// Run prints one fact a line.
func (cmd *VersionCmd) Run(ctx context.Context, c *call) error {
	v := versionView{versionPart{Version, Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, runtime.GOOS}}
	switch cmd.Format {
	case "json":
		return format.JSON(c.Out, v)
	case "":
		p := v.Client
		fmt.Fprintf(c.Out, "Client:       moss\nVersion:      %s\nGo Version:   %s\nOS/Arch:      %s\n", p.Version, p.GoVersion, p.OsArch)
		return nil
	}
	tmpl, err := format.Parse(cmd.Format)
	if err != nil {
		return err
	}
	return format.Execute(c.Out, tmpl, v)
}
