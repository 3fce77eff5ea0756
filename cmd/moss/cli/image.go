package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"moss/rootless"
	"moss/storage/image"
)

// RegistryFlags say how to talk to a registry, and how much to say about it.
type RegistryFlags struct {
	AccessFlags
	Quiet bool `short:"q" help:"Show no progress."`
}

// AccessFlags say how to reach a registry.
type AccessFlags struct {
	Authfile  string `help:"File with the registry's credentials." placeholder:"FILE"`
	CertDir   string `help:"Directory with certificates for the registry." placeholder:"DIR"`
	Creds     string `help:"Credentials to use." placeholder:"USER[:PASSWORD]"`
	TLSVerify *bool  `name:"tls-verify" help:"Require HTTPS and a valid certificate."`
}

func (f *AccessFlags) check(v *flagValues) {
	v.one("authfile", f.Authfile, readable)
	v.one("cert-dir", f.CertDir, directory)
}

// access is what the flags say.
func (f *AccessFlags) access() image.Access {
	return image.Access{TLSVerify: f.TLSVerify, AuthFile: f.Authfile, Creds: f.Creds, CertDir: f.CertDir}
}

func directory(path string) error {
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		return fmt.Errorf("it is not a directory")
	}
	return nil
}

// PullCmd is "moss pull".
type PullCmd struct {
	Globals
	RegistryFlags
	AllTags    bool     `short:"a" help:"Every tag of the repository."`
	Platform   []string `sep:"," help:"Platform of the image; of several, each gets an image, and the name is that of a list of them." placeholder:"OS/ARCH[/VARIANT]"`
	Arch       string   `help:"Architecture of the image." placeholder:"ARCH"`
	OS         string   `name:"os" help:"Operating system of the image." placeholder:"OS"`
	Variant    string   `help:"Variant of the image's architecture." placeholder:"VARIANT"`
	Policy     string   `words:"always missing never newer" help:"When to pull: always (the default), missing, never or newer." placeholder:"POLICY"`
	Retry      *int     `help:"How often to try again." placeholder:"N"`
	RetryDelay string   `help:"Pause before each try; growing ones when not given." placeholder:"DURATION"`
	Image      []string `arg:"" help:"Name of an image in a registry; or docker-archive:, oci-archive:, oci: or dir: and a path."`

	request image.PullRequest
}

func (cmd *PullCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[PullCmd]()}
	cmd.check(v)
	f := ContainerFlags{Platform: strings.Join(cmd.Platform, ","), Arch: cmd.Arch, OS: cmd.OS, Variant: cmd.Variant}
	for _, p := range cmd.Platform {
		v.one("platform", p, func(s string) error {
			_, err := image.ParsePlatform(s)
			return err
		})
	}
	v.check(len(cmd.Platform) > 0 && cmd.Arch+cmd.OS+cmd.Variant != "", "--platform cannot be combined with --arch, --os or --variant")
	v.one("policy", cmd.Policy, oneOf("always", "missing", "never", "newer"))
	retries := PullFlags{Retry: cmd.Retry, RetryDelay: cmd.RetryDelay}
	retries.check(v)
	cmd.request = image.PullRequest{
		References: cmd.Image, Platform: f.platform(), Policy: cmd.Policy, TLSVerify: cmd.TLSVerify, AuthFile: cmd.Authfile,
		Creds: cmd.Creds, CertDir: cmd.CertDir, Quiet: cmd.Quiet, AllTags: cmd.AllTags,
	}
	if cmd.Policy == "" {
		cmd.request.Policy = "always"
	}
	cmd.request.Retries, cmd.request.RetryDelay = retries.retries()
	return v.err
}

// Run lets moss-image pull and print.
func (cmd *PullCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.ImageHelper(ctx, image.Request{Pull: &cmd.request}, nil)
}

// RmiCmd is "moss rmi".
type RmiCmd struct {
	Globals
	All     bool     `short:"a" help:"Every image that no container uses."`
	Force   bool     `short:"f" help:"Remove the containers that use it too, and all its names."`
	Ignore  bool     `short:"i" help:"Say nothing of images that are not there."`
	NoPrune bool     `help:"Keep the images that it was made from."`
	Image   []string `arg:"" optional:"" help:"Name or ID of an image."`
}

func (cmd *RmiCmd) prepare() error {
	if cmd.All == (len(cmd.Image) > 0) {
		return usagef("rmi wants either names of images or --all")
	}
	return nil
}

// Run removes the containers of --force, then the images, as many as it can.
func (cmd *RmiCmd) Run(ctx context.Context, c *call) error {
	using, err := c.Engine.UsingImages()
	if err != nil {
		return err
	}
	if cmd.Force {
		if err := cmd.removeContainers(ctx, c, using); err != nil {
			return err
		}
	}
	refs := cmd.Image
	if cmd.All {
		all, err := c.images(ctx, nil)
		if err != nil {
			return err
		}
		for _, img := range all { // newest first: what is built on others before them
			if !img.ReadOnly {
				refs = append(refs, img.ID)
			}
		}
	}
	o := rootless.RemoveImageOptions{Force: cmd.Force || cmd.All, NoPrune: cmd.NoPrune, Using: using}
	var errs error
	for _, ref := range refs {
		err := c.Engine.RemoveImage(ctx, ref, o, c.removed)
		if (cmd.Ignore || cmd.Force || cmd.All) && isNotFound(err) {
			continue
		}
		errs = errors.Join(errs, err)
	}
	return notRemovable(errors.Join(errs, c.Engine.SweepImages()))
}

// removed reports what Engine.RemoveImage has done.
func (c *call) removed(verb, what string) { fmt.Fprintf(c.Out, "%s: %s\n", verb, what) }

// removeContainers removes the containers of the images, and takes them out of using.
func (cmd *RmiCmd) removeContainers(ctx context.Context, c *call, using map[string][]string) error {
	ids := []string{}
	for _, name := range cmd.Image {
		if img, err := c.Engine.Named(ctx, name); err == nil {
			ids = append(ids, img.ID)
		}
	}
	if cmd.All {
		for id := range using {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		for _, name := range using[id] {
			ctr, err := c.Engine.Find(name)
			if err == nil {
				err = c.Engine.Remove(ctx, ctr, rootless.RemoveOptions{Force: true, Volumes: true})
			}
			if err != nil && !isNotFound(err) {
				return err
			}
		}
		delete(using, id)
	}
	return nil
}

// TagCmd is "moss tag".
type TagCmd struct {
	Globals
	Image string   `arg:"" help:"Name or ID of an image."`
	Name  []string `arg:"" help:"A further name."`
}

func (cmd *TagCmd) prepare() error { return checkReferences(cmd.Name) }

func checkReferences(names []string) error {
	for _, name := range names {
		if _, err := image.Parse(name); err != nil {
			return err
		}
	}
	return nil
}

// Run gives the image the names.
func (cmd *TagCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.Tag(ctx, cmd.Image, cmd.Name)
}

// UntagCmd is "moss untag".
type UntagCmd struct {
	Globals
	Image string   `arg:"" help:"Name or ID of an image."`
	Name  []string `arg:"" optional:"" help:"The name to take away; all of them by default."`
}

func (cmd *UntagCmd) prepare() error { return checkReferences(cmd.Name) }

// Run takes the names away; the image stays.
func (cmd *UntagCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.Untag(ctx, cmd.Image, cmd.Name)
}

// SaveCmd is "moss save".
type SaveCmd struct {
	Globals
	Format            string   `words:"docker-archive oci-archive oci-dir docker-dir" help:"docker-archive (the default), oci-archive, oci-dir or docker-dir." placeholder:"FORMAT"`
	Compress          bool     `help:"Compress the layers of docker-dir."`
	Uncompressed      bool     `help:"Do not compress the layers of oci-archive and oci-dir."`
	Output            string   `short:"o" help:"Write to this file or directory, in place of standard output." placeholder:"PATH"`
	MultiImageArchive bool     `short:"m" help:"Take every argument for an image; that is always so."`
	Quiet             bool     `short:"q" help:"Show no progress."`
	Image             []string `arg:"" help:"Name or ID of an image."`
}

func (cmd *SaveCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[SaveCmd]()}
	v.one("format", cmd.Format, oneOf("docker-archive", "oci-archive", "oci-dir", "docker-dir"))
	isDir := strings.HasSuffix(cmd.Format, "-dir")
	v.check(isDir && cmd.Output == "", "--format %s needs --output", cmd.Format)
	v.check(isDir && len(cmd.Image) > 1, "--format %s holds a single image", cmd.Format)
	v.check(cmd.Compress && cmd.Format != "docker-dir", "--compress is for --format docker-dir")
	v.check(cmd.Uncompressed && !strings.HasPrefix(cmd.Format, "oci-"), "--uncompressed is for --format oci-archive and oci-dir: docker archives are never compressed")
	if v.err != nil {
		return v.err
	}
	return archiveTo(cmd.Output)
}

// Run lets moss-image write.
func (cmd *SaveCmd) Run(ctx context.Context, c *call) error {
	format := cmd.Format
	if format == "" {
		format = "docker-archive"
	}
	return c.Engine.ImageHelper(ctx, image.Request{Save: &image.SaveRequest{
		Images: cmd.Image, Format: format, Output: cmd.Output, Quiet: cmd.Quiet,
		Plain: cmd.Uncompressed || format == "docker-dir" && !cmd.Compress,
	}}, nil)
}

// LoadCmd is "moss load".
type LoadCmd struct {
	Globals
	Input string `short:"i" help:"Read this archive, a file, a directory or a URL, in place of standard input." placeholder:"FILE"`
	Quiet bool   `short:"q" help:"Show no progress."`
}

func (cmd *LoadCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[LoadCmd]()}
	if !isURL(cmd.Input) {
		v.one("input", cmd.Input, readable)
	}
	v.check(cmd.Input == "" && isTerminal(os.Stdin), "refusing to read an archive from a terminal: give --input or redirect")
	return v.err
}

// Run lets moss-image read.
func (cmd *LoadCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.ImageHelper(ctx, image.Request{Load: &image.LoadRequest{Input: cmd.Input, Quiet: cmd.Quiet}}, nil)
}

// ImportCmd is "moss import".
type ImportCmd struct {
	Globals
	Change  []string `short:"c" sep:"none" help:"Containerfile instruction: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, STOPSIGNAL, USER, VOLUME or WORKDIR." placeholder:"INSTRUCTION"`
	Message string   `short:"m" help:"Comment in the image's history." placeholder:"TEXT"`
	Quiet   bool     `short:"q" help:"Show no progress."`
	OS      string   `name:"os" help:"Operating system that the image is for; linux by default." placeholder:"OS"`
	Arch    string   `help:"Architecture that it is for; the host's by default." placeholder:"ARCH"`
	Variant string   `help:"Variant of the architecture." placeholder:"VARIANT"`
	File    string   `arg:"" help:"The tar file, a URL, or - for standard input."`
	Name    string   `arg:"" optional:"" help:"Name of the image."`
}

// isURL says whether a file is to be fetched.
func isURL(file string) bool {
	return strings.HasPrefix(file, "http://") || strings.HasPrefix(file, "https://")
}

func (cmd *ImportCmd) prepare() error {
	if cmd.File != "-" && !isURL(cmd.File) {
		if err := readable(cmd.File); err != nil {
			return fmt.Errorf("cannot import: %w", err)
		}
	}
	if cmd.Name == "" {
		return nil
	}
	return checkReferences([]string{cmd.Name})
}

// Run lets moss-image read.
func (cmd *ImportCmd) Run(ctx context.Context, c *call) error {
	return c.Engine.ImageHelper(ctx, image.Request{Import: &image.ImportRequest{
		Source: cmd.File, Name: cmd.Name, Message: cmd.Message, Changes: cmd.Change, Quiet: cmd.Quiet,
		OS: cmd.OS, Arch: cmd.Arch, Variant: cmd.Variant,
	}}, nil)
}
