package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
	"moss/storage/image"
)

// artifact asks moss-image for something about artifacts.
func (c *call) artifact(ctx context.Context, req image.ArtifactRequest, out io.Writer) error {
	return c.Engine.ImageHelper(ctx, image.Request{Artifact: &req}, out)
}

// ArtifactAddCmd is "moss artifact add".
type ArtifactAddCmd struct {
	Globals
	Annotation []string `sep:"none" help:"Annotation of each file; org.opencontainers.image.title is its name." placeholder:"KEY=VALUE"`
	Append     bool     `short:"a" help:"Add the files to an artifact that is there."`
	FileType   string   `help:"Media type of the files; found out by their beginning when not given." placeholder:"TYPE"`
	Replace    bool     `help:"Put the artifact in the place of one of the same name."`
	Type       string   `help:"Media type of the artifact." placeholder:"TYPE"`
	Name       string   `arg:"" help:"Name of the artifact."`
	File       []string `arg:"" help:"A file."`

	request image.ArtifactRequest
}

func (cmd *ArtifactAddCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[ArtifactAddCmd]()}
	v.check(cmd.Append && cmd.Type != "", "--append cannot be combined with --type: the artifact has one")
	v.check(cmd.Append && cmd.Replace, "--append cannot be combined with --replace")
	cmd.request = image.ArtifactRequest{
		Verb: "add", Names: []string{cmd.Name}, Type: cmd.Type, FileType: cmd.FileType, Append: cmd.Append, Replace: cmd.Replace,
		Annotations: annotations(v, cmd.Annotation),
	}
	if _, titled := cmd.request.Annotations["org.opencontainers.image.title"]; titled {
		v.check(len(cmd.File) > 1, "several files cannot have the same title")
	}
	for _, file := range cmd.File {
		if err := readable(file); err != nil && v.err == nil {
			return fmt.Errorf("cannot add artifact %q: %w", cmd.Name, err)
		}
		cmd.request.Paths = append(cmd.request.Paths, absolute(file))
	}
	if v.err == nil && !cmd.Append {
		return checkReferences([]string{cmd.Name})
	}
	return v.err
}

// Run prints the artifact's digest.
func (cmd *ArtifactAddCmd) Run(ctx context.Context, c *call) error {
	return c.artifact(ctx, cmd.request, nil)
}

// RetryFlags say how often to ask a registry again.
type RetryFlags struct {
	Retry      *int   `help:"How often to try again." placeholder:"N"`
	RetryDelay string `help:"Pause before each try; growing ones when not given." placeholder:"DURATION"`
}

// fill adds them to how a registry is reached.
func (f *RetryFlags) fill(v *flagValues, a *image.Access) {
	retries := PullFlags{Retry: f.Retry, RetryDelay: f.RetryDelay}
	retries.check(v)
	if v.err == nil {
		a.Retries, a.RetryDelay = retries.retries()
	}
}

// ArtifactPullCmd is "moss artifact pull".
type ArtifactPullCmd struct {
	Globals
	RegistryFlags
	RetryFlags
	Name string `arg:"" help:"Name of an artifact in a registry."`

	access image.Access
}

func (cmd *ArtifactPullCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[ArtifactPullCmd]()}
	cmd.check(v)
	cmd.access = cmd.RegistryFlags.access()
	cmd.fill(v, &cmd.access)
	return errors.Join(v.err, checkReferences([]string{cmd.Name}))
}

// Run prints the artifact's digest.
func (cmd *ArtifactPullCmd) Run(ctx context.Context, c *call) error {
	return c.artifact(ctx, image.ArtifactRequest{Verb: "pull", Names: []string{cmd.Name}, Access: cmd.access, Quiet: cmd.Quiet}, nil)
}

// ArtifactPushCmd is "moss artifact push".
type ArtifactPushCmd struct {
	Globals
	RegistryFlags
	RetryFlags
	Digestfile  string `help:"Write the digest of the artifact to this file." placeholder:"FILE"`
	Name        string `arg:"" help:"Name or digest of an artifact."`
	Destination string `arg:"" optional:"" help:"Where to push it, if not where its name says."`

	access image.Access
}

func (cmd *ArtifactPushCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[ArtifactPushCmd]()}
	cmd.check(v)
	v.one("digestfile", cmd.Digestfile, notDirectory)
	cmd.access = cmd.RegistryFlags.access()
	cmd.fill(v, &cmd.access)
	if cmd.Destination = strings.TrimPrefix(cmd.Destination, "docker://"); cmd.Destination != "" && v.err == nil {
		return checkReferences([]string{cmd.Destination})
	}
	return v.err
}

// Run lets moss-image push.
func (cmd *ArtifactPushCmd) Run(ctx context.Context, c *call) error {
	return c.artifact(ctx, image.ArtifactRequest{
		Verb: "push", Names: []string{cmd.Name}, Destination: cmd.Destination, Access: cmd.access, Quiet: cmd.Quiet, DigestFile: absolute(cmd.Digestfile),
	}, nil)
}

// artifactView is an artifact as inspect shows it, with podman's names.
type artifactView struct {
	Manifest       artifactManifest
	Name           string
	Digest         string
	TotalSizeBytes int64     `json:",omitempty"`
	Created        time.Time `json:",omitzero"`
}

type artifactManifest struct {
	SchemaVersion int                  `json:"schemaVersion"`
	MediaType     string               `json:"mediaType,omitempty"`
	ArtifactType  string               `json:"artifactType,omitempty"`
	Config        artifactDescriptor   `json:"config"`
	Layers        []artifactDescriptor `json:"layers"`
	Subject       *artifactDescriptor  `json:"subject,omitempty"`
	Annotations   map[string]string    `json:"annotations,omitempty"`
}

type artifactDescriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int64             `json:"size"`
	Data        []byte            `json:"data,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// artifacts lists those of the store, or the ones that are named.
func (c *call) artifacts(ctx context.Context, req image.ArtifactRequest) (list []artifactView, err error) {
	var out bytes.Buffer
	err = c.artifact(ctx, req, &out)
	var told *rootless.HelperError
	if err != nil && !errors.As(err, &told) {
		return nil, err
	}
	if out.Len() > 0 {
		err = errors.Join(err, json.Unmarshal(out.Bytes(), &list))
	}
	return list, err
}

// artifactRow is an artifact as ls shows it.
type artifactRow struct {
	Repository, Tag, Digest string
	Created, CreatedAt      string
	Size                    string
	VirtualSize             int64
	Name                    string
}

// ArtifactLsCmd is "moss artifact ls".
type ArtifactLsCmd struct {
	Globals
	Format    string `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	NoTrunc   bool   `help:"Show digests in full."`
	Noheading bool   `short:"n" help:"Leave the header line out."`
	Quiet     bool   `short:"q" help:"Show digests only."`
}

// Run prints a line for each artifact, by name.
func (cmd *ArtifactLsCmd) Run(ctx context.Context, c *call) error {
	list, err := c.artifacts(ctx, image.ArtifactRequest{Verb: "ls"})
	if err != nil {
		return err
	}
	rows := []artifactRow{}
	for _, a := range list {
		r := artifactRow{Name: a.Name, Repository: a.Name, Size: format.Size(a.TotalSizeBytes, ""), VirtualSize: a.TotalSizeBytes}
		if ref, err := image.Parse(a.Name); err == nil {
			ref = ref.Complete()
			r.Repository, r.Tag = ref.Name(), ref.Tag
		}
		r.Digest = strings.TrimPrefix(a.Digest, "sha256:")
		if !cmd.NoTrunc && len(r.Digest) > 12 {
			r.Digest = r.Digest[:12]
		}
		if !a.Created.IsZero() {
			r.Created, r.CreatedAt = format.Ago(a.Created), a.Created.String()
		}
		rows = append(rows, r)
	}
	if cmd.Quiet && cmd.Format == "" {
		for _, r := range rows {
			fmt.Fprintln(c.Out, r.Digest)
		}
		return nil
	}
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "REPOSITORY", Cell: ".Repository"}, {Header: "TAG", Cell: ".Tag"}, {Header: "DIGEST", Cell: ".Digest"},
		{Header: "CREATED", Cell: ".Created"}, {Header: "SIZE", Cell: ".Size"},
	}, Headers: map[string]string{"CreatedAt": "CREATED AT", "VirtualSize": "VIRTUAL SIZE"}}
	return table.Print(c.Out, cmd.Format, rows, rows)
}

// ArtifactInspectCmd is "moss artifact inspect".
type ArtifactInspectCmd struct {
	Globals
	Format string `short:"f" help:"Print through a Go template; json is the default." placeholder:"FORMAT"`
	Name   string `arg:"" help:"Name or digest of an artifact."`
}

// Run prints the artifact's manifest, name and digest.
func (cmd *ArtifactInspectCmd) Run(ctx context.Context, c *call) error {
	list, err := c.artifacts(ctx, image.ArtifactRequest{Verb: "inspect", Names: []string{cmd.Name}})
	if err != nil {
		return err
	}
	if cmd.Format == "" || cmd.Format == "json" {
		list[0].TotalSizeBytes, list[0].Created = 0, time.Time{} // they are in the manifest
		e := json.NewEncoder(c.Out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "     ")
		return e.Encode(list[0])
	}
	return (&format.Table{}).Print(c.Out, cmd.Format, list, list)
}

// ArtifactExtractCmd is "moss artifact extract".
type ArtifactExtractCmd struct {
	Globals
	Digest       string `help:"Only the file of this digest." placeholder:"DIGEST"`
	ExcludeTitle bool   `help:"Call files in a directory by their digests."`
	Title        string `help:"Only the file of this title." placeholder:"TITLE"`
	Name         string `arg:"" help:"Name or digest of an artifact."`
	Target       string `arg:"" help:"A directory that is there, or a file."`
}

func (cmd *ArtifactExtractCmd) prepare() error {
	if cmd.Digest != "" && cmd.Title != "" {
		return usagef("--digest cannot be combined with --title")
	}
	return nil
}

// Run writes the files.
func (cmd *ArtifactExtractCmd) Run(ctx context.Context, c *call) error {
	return c.artifact(ctx, image.ArtifactRequest{
		Verb: "extract", Names: []string{cmd.Name}, Paths: []string{absolute(cmd.Target)}, Title: cmd.Title, Digest: cmd.Digest, ExcludeTitle: cmd.ExcludeTitle,
	}, nil)
}

// ArtifactRmCmd is "moss artifact rm".
type ArtifactRmCmd struct {
	Globals
	All    bool     `short:"a" help:"Every artifact."`
	Ignore bool     `short:"i" help:"Say nothing of artifacts that are not there."`
	Name   []string `arg:"" optional:"" help:"Name or digest of an artifact."`
}

func (cmd *ArtifactRmCmd) prepare() error {
	if cmd.All == (len(cmd.Name) > 0) {
		return usagef("artifact rm wants either names of artifacts or --all")
	}
	return nil
}

// Run prints the digests of the artifacts that it has removed.
func (cmd *ArtifactRmCmd) Run(ctx context.Context, c *call) error {
	return c.artifact(ctx, image.ArtifactRequest{Verb: "rm", Names: cmd.Name, All: cmd.All, Ignore: cmd.Ignore}, nil)
}
