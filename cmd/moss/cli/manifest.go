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

	"moss/cmd/moss/cli/format"
	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/storage/image"
)

// listOf asks moss-image for something about a manifest list.
func (c *call) listOf(ctx context.Context, req image.ListRequest, out io.Writer) error {
	return c.Engine.ImageHelper(ctx, image.Request{List: &req}, out)
}

// annotations reads --annotation.
func annotations(v *flagValues, given []string) map[string]string {
	out := map[string]string{}
	v.each("annotation", given, func(s string) error {
		key, value, err := syntax.KeyValue(s, true)
		out[key] = value
		return err
	})
	return out
}

// ManifestCreateCmd is "moss manifest create".
type ManifestCreateCmd struct {
	Globals
	AccessFlags
	All        bool     `help:"Add every image of those that are lists, in place of the one for this machine."`
	Amend      bool     `short:"a" help:"Add to the list if it is there already."`
	Annotation []string `sep:"none" help:"Annotation of the list." placeholder:"KEY=VALUE"`
	List       string   `arg:"" help:"Name of the new list."`
	Image      []string `arg:"" optional:"" help:"An image to add: of the store, or of a registry."`

	request image.ListRequest
}

func (cmd *ManifestCreateCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[ManifestCreateCmd]()}
	cmd.check(v)
	cmd.request = image.ListRequest{
		Verb: "create", List: cmd.List, Images: cmd.Image, All: cmd.All, Amend: cmd.Amend, Access: cmd.access(),
		Annotations: annotations(v, cmd.Annotation),
	}
	return errors.Join(v.err, checkReferences([]string{cmd.List}))
}

// Run prints the list's ID.
func (cmd *ManifestCreateCmd) Run(ctx context.Context, c *call) error {
	return c.listOf(ctx, cmd.request, nil)
}

// EntryFlags say what a list says of an image.
type EntryFlags struct {
	Annotation []string `sep:"none" help:"Annotation of the image in the list." placeholder:"KEY=VALUE"`
	Arch       string   `help:"Architecture, in place of what the image says." placeholder:"ARCH"`
	Features   []string `sep:"," help:"Features of the processor that the image needs." placeholder:"FEATURE"`
	OS         string   `name:"os" help:"Operating system, in place of what the image says." placeholder:"OS"`
	OSFeatures []string `name:"os-features" sep:"," help:"Features of the operating system that the image needs." placeholder:"FEATURE"`
	OSVersion  string   `name:"os-version" help:"Version of the operating system that the image needs." placeholder:"VERSION"`
	Variant    string   `help:"Variant of the architecture." placeholder:"VARIANT"`
}

func (f *EntryFlags) fill(v *flagValues, r *image.ListRequest) {
	r.Platform = image.Platform{OS: f.OS, Arch: f.Arch, Variant: f.Variant}
	r.OSVersion, r.OSFeatures, r.Features = f.OSVersion, f.OSFeatures, f.Features
	r.Annotations = annotations(v, f.Annotation)
}

// ManifestAddCmd is "moss manifest add".
type ManifestAddCmd struct {
	Globals
	AccessFlags
	EntryFlags
	All                   bool     `help:"Add every image of those that are lists, in place of the one for a platform."`
	Artifact              bool     `help:"Make an artifact of files, and add that."`
	ArtifactConfig        string   `help:"The artifact's configuration; an empty one when not given." placeholder:"FILE"`
	ArtifactConfigType    string   `help:"Media type of that." placeholder:"TYPE"`
	ArtifactExcludeTitles bool     `help:"Leave the names of the files out."`
	ArtifactLayerType     string   `help:"Media type of the files; found out by their beginning when not given." placeholder:"TYPE"`
	ArtifactSubject       string   `help:"The image of the store that the artifact is about." placeholder:"IMAGE"`
	ArtifactType          string   `help:"Media type of the artifact." placeholder:"TYPE"`
	List                  string   `arg:"" help:"Name or ID of a list."`
	Image                 []string `arg:"" help:"An image: of the store, or of a registry; a file with --artifact."`

	request image.ListRequest
}

func (cmd *ManifestAddCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[ManifestAddCmd]()}
	cmd.check(v)
	cmd.request = image.ListRequest{Verb: "add", List: cmd.List, Images: cmd.Image, All: cmd.All, Access: cmd.access()}
	cmd.fill(v, &cmd.request)
	options := image.ArtifactOptions{
		Type: cmd.ArtifactType, FileType: cmd.ArtifactLayerType, Config: absolute(cmd.ArtifactConfig), ConfigType: cmd.ArtifactConfigType,
		Subject: cmd.ArtifactSubject, ExcludeTitles: cmd.ArtifactExcludeTitles,
	}
	v.check(!cmd.Artifact && options != image.ArtifactOptions{}, "the flags about artifacts need --artifact")
	if cmd.Artifact {
		cmd.request.Artifact = &options
		v.check(cmd.All, "--all cannot be combined with --artifact")
		v.one("artifact-config", cmd.ArtifactConfig, readable)
		cmd.request.Images = nil
		for _, file := range cmd.Image {
			if err := readable(file); err != nil && v.err == nil {
				return fmt.Errorf("cannot add to manifest list %q: %w", cmd.List, err)
			}
			cmd.request.Images = append(cmd.request.Images, absolute(file))
		}
	}
	v.check(cmd.All && cmd.Arch+cmd.OS+cmd.Variant != "", "--all cannot be combined with --arch, --os and --variant: they are of one image")
	return v.err
}

// Run prints the list's ID.
func (cmd *ManifestAddCmd) Run(ctx context.Context, c *call) error {
	return c.listOf(ctx, cmd.request, nil)
}

// ManifestAnnotateCmd is "moss manifest annotate".
type ManifestAnnotateCmd struct {
	Globals
	EntryFlags
	Index   bool   `help:"Annotate the list itself."`
	Subject string `help:"The image of the store that the list is about." placeholder:"IMAGE"`
	List    string `arg:"" help:"Name or ID of a list."`
	Image   string `arg:"" optional:"" help:"Digest of an image in it, or an image of the store that is in it."`

	request image.ListRequest
}

func (cmd *ManifestAnnotateCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[ManifestAnnotateCmd]()}
	cmd.request = image.ListRequest{Verb: "annotate", List: cmd.List, Index: cmd.Index, Subject: cmd.Subject}
	cmd.fill(v, &cmd.request)
	f := &cmd.EntryFlags
	v.check(cmd.Index && cmd.Image != "", "--index annotates the list: no image can be named")
	v.check(!cmd.Index && cmd.Image == "" && (cmd.Subject == "" || len(f.Annotation) > 0), "name the image to annotate, or give --index for the list")
	v.check(cmd.Image == "" && f.Arch+f.OS+f.OSVersion+f.Variant != "" || cmd.Image == "" && len(f.Features)+len(f.OSFeatures) > 0, "platforms are of images: name one")
	if cmd.Image != "" {
		cmd.request.Images = []string{cmd.Image}
	}
	return v.err
}

// Run prints the list's ID.
func (cmd *ManifestAnnotateCmd) Run(ctx context.Context, c *call) error {
	return c.listOf(ctx, cmd.request, nil)
}

// ManifestRemoveCmd is "moss manifest remove".
type ManifestRemoveCmd struct {
	Globals
	List  string   `arg:"" help:"Name or ID of a list."`
	Image []string `arg:"" help:"Digest of an image in it, or an image of the store that is in it."`
}

// Run prints the list's ID.
func (cmd *ManifestRemoveCmd) Run(ctx context.Context, c *call) error {
	return c.listOf(ctx, image.ListRequest{Verb: "remove", List: cmd.List, Images: cmd.Image}, nil)
}

// ManifestInspectCmd is "moss manifest inspect".
type ManifestInspectCmd struct {
	Globals
	AccessFlags
	Format string `short:"f" help:"Print through a Go template; json is the default." placeholder:"FORMAT"`
	List   string `arg:"" help:"Name or ID of a list, or a name in a registry."`
}

func (cmd *ManifestInspectCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[ManifestInspectCmd]()}
	cmd.check(v)
	return v.err
}

// Run prints the list as it is, or through the template with its keys.
func (cmd *ManifestInspectCmd) Run(ctx context.Context, c *call) error {
	var out bytes.Buffer
	if err := c.listOf(ctx, image.ListRequest{Verb: "inspect", List: cmd.List, Access: cmd.access()}, &out); err != nil {
		return err
	}
	if cmd.Format == "" || cmd.Format == "json" {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, bytes.TrimSpace(out.Bytes()), "", "    "); err != nil {
			return fmt.Errorf("cannot read manifest list %q: %w", cmd.List, err)
		}
		fmt.Fprintln(c.Out, pretty.String())
		return nil
	}
	var list any
	if err := json.Unmarshal(out.Bytes(), &list); err != nil {
		return fmt.Errorf("cannot read manifest list %q: %w", cmd.List, err)
	}
	return (&format.Table{}).Print(c.Out, cmd.Format, []any{list}, list)
}

// ManifestExistsCmd is "moss manifest exists".
type ManifestExistsCmd struct {
	Globals
	List string `arg:"" help:"Name or ID of a list."`
}

// Run says nothing but by the exit code, or that it is an image of another kind.
func (cmd *ManifestExistsCmd) Run(ctx context.Context, c *call) error {
	_, err := c.list(ctx, cmd.List)
	if isNotFound(err) {
		return &exitError{code: exitFound}
	}
	return err
}

// list finds a manifest list.
func (c *call) list(ctx context.Context, name string) (*image.Image, error) {
	img, err := c.Engine.Named(ctx, name)
	switch {
	case err != nil:
		return nil, fmt.Errorf("cannot find manifest list %q: %w", name, err)
	case !img.IsList():
		return nil, fmt.Errorf("cannot use %q: it is an image and not a manifest list", name)
	}
	return img, nil
}

// ManifestRmCmd is "moss manifest rm".
type ManifestRmCmd struct {
	Globals
	Ignore bool     `short:"i" help:"Say nothing of lists that are not there."`
	List   []string `arg:"" help:"Name or ID of a list."`
}

// Run removes the lists; the images in them stay.
func (cmd *ManifestRmCmd) Run(ctx context.Context, c *call) error {
	var errs []error
	var names []string
	for _, name := range cmd.List {
		_, err := c.list(ctx, name)
		switch {
		case err == nil:
			names = append(names, name)
		case cmd.Ignore && isNotFound(err):
		default:
			errs = append(errs, err)
		}
	}
	for _, name := range names {
		errs = append(errs, c.Engine.RemoveImage(ctx, name, rootless.RemoveImageOptions{Force: true, NoPrune: true}, c.removed))
	}
	errs = append(errs, c.Engine.SweepImages())
	return notThere(errors.Join(errs...))
}

// ManifestPushCmd is "moss manifest push".
type ManifestPushCmd struct {
	Globals
	RegistryFlags
	AddCompression    []string `words:"gzip zstd zstd:chunked" sep:"," help:"Push each image in this compression too, as further entries of the list." placeholder:"FORMAT"`
	All               *bool    `help:"Push the images too, which is so without this flag; false pushes the list alone."`
	CompressionFormat string   `words:"gzip zstd zstd:chunked" help:"How to compress layers: gzip (the default), zstd or zstd:chunked." placeholder:"FORMAT"`
	CompressionLevel  *int     `help:"How hard: 1 to 9 with gzip, 1 to 20 with zstd." placeholder:"N"`
	Digestfile        string   `help:"Write the digest of the pushed list to this file." placeholder:"FILE"`
	ForceCompression  *bool    `help:"Send layers again that the registry has in another compression; so it is when --compression-format is given."`
	Format            string   `words:"oci docker" short:"f" help:"Type of the list: oci or docker; its own by default." placeholder:"TYPE"`
	RemoveSignatures  bool     `help:"Push no signatures that the images came with; moss never does."`
	Rm                bool     `help:"Remove the list when it has been pushed."`
	SigstoreKey       string   `name:"sign-by-sigstore-private-key" help:"Sign the list, and the images that are pushed, with this private key." placeholder:"FILE"`
	PassphraseFile    string   `name:"sign-passphrase-file" help:"File with the passphrase of the private key; you are asked otherwise." placeholder:"FILE"`
	List              string   `arg:"" help:"Name or ID of a list."`
	Destination       string   `arg:"" optional:"" help:"Where to push it, if not where its name says."`

	push PushCmd // the flags that both have
}

func (cmd *ManifestPushCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[ManifestPushCmd]()}
	v.each("add-compression", cmd.AddCompression, oneOf("gzip", "zstd", "zstd:chunked"))
	if v.err != nil {
		return v.err
	}
	cmd.push = PushCmd{
		Globals: cmd.Globals, RegistryFlags: cmd.RegistryFlags, CompressionFormat: cmd.CompressionFormat, CompressionLevel: cmd.CompressionLevel,
		Digestfile: cmd.Digestfile, ForceCompression: cmd.ForceCompression, Format: cmd.Format, RemoveSignatures: cmd.RemoveSignatures,
		SigstoreKey: cmd.SigstoreKey, PassphraseFile: cmd.PassphraseFile,
		Image: cmd.List, Destination: strings.TrimPrefix(cmd.Destination, "docker://"),
	}
	if err := cmd.push.prepare(); err != nil {
		return err
	}
	if cmd.push.archive != nil {
		return usagef("cannot push to %q: manifest lists are pushed to registries; 'moss save' writes an image of one", cmd.Destination)
	}
	return nil
}

// Run lets moss-image push.
func (cmd *ManifestPushCmd) Run(ctx context.Context, c *call) error {
	r := &cmd.push.request
	err := c.listOf(ctx, image.ListRequest{
		Verb: "push", List: cmd.List, Destination: r.Destination, All: cmd.All == nil || *cmd.All, Access: cmd.access(), Quiet: r.Quiet,
		Format: r.Format, DigestFile: r.DigestFile, Compression: r.Compression, Level: r.Level, Force: r.Force, Variants: cmd.AddCompression,
		SignKey: r.SignKey, PassphraseFile: r.PassphraseFile,
	}, nil)
	if err != nil || !cmd.Rm {
		return err
	}
	return (&ManifestRmCmd{List: []string{cmd.List}}).Run(ctx, c)
}
