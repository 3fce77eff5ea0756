package cli

import (
	"context"
	"fmt"
	"os"
	"reflect"

	"moss/rootless"
	"moss/storage/image"
)

// CommitCmd is "moss commit".
type CommitCmd struct {
	Globals
	Author         string   `short:"a" help:"Author of the image; that of the container's image by default." placeholder:"NAME"`
	Change         []string `short:"c" sep:"none" help:"Containerfile instruction that changes what the image says." placeholder:"INSTRUCTION"`
	Config         string   `help:"File of JSON that is laid over the configuration, before --change." placeholder:"FILE"`
	Format         string   `words:"oci docker" short:"f" help:"Manifest type: oci (the default) or docker." placeholder:"TYPE"`
	Iidfile        string   `help:"Write the image's ID to this file." placeholder:"FILE"`
	IncludeVolumes bool     `help:"Every volume and bind mount of the container becomes a VOLUME of the image."`
	Message        string   `short:"m" help:"Comment in the image's history." placeholder:"TEXT"`
	Pause          bool     `short:"p" help:"Pause the container meanwhile."`
	Quiet          bool     `short:"q" help:"Show no progress."`
	Squash         bool     `short:"s" help:"Make one layer of it all."`
	Container      string   `arg:"" help:"Name, ID, or the first digits of an ID."`
	Image          string   `arg:"" optional:"" help:"Name of the new image."`

	config []byte
}

func (cmd *CommitCmd) prepare() (err error) {
	v := &flagValues{grammar: reflect.TypeFor[CommitCmd]()}
	v.one("format", cmd.Format, oneOf("oci", "docker"))
	v.one("config", cmd.Config, func(path string) (err error) {
		cmd.config, err = os.ReadFile(path)
		return err
	})
	if v.err != nil || cmd.Image == "" {
		return v.err
	}
	_, err = image.NormalizeLocal(cmd.Image)
	return err
}

// Run prints the ID of the image.
func (cmd *CommitCmd) Run(ctx context.Context, c *call) error {
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	id, err := c.Engine.Commit(ctx, ctr, rootless.CommitOptions{
		Name: cmd.Image, Author: cmd.Author, Message: cmd.Message, Changes: cmd.Change, Config: cmd.config, Format: cmd.Format,
		Pause: cmd.Pause, Squash: cmd.Squash, IncludeVolumes: cmd.IncludeVolumes, Quiet: cmd.Quiet,
	})
	if err != nil {
		return err
	}
	if cmd.Iidfile != "" {
		if err := os.WriteFile(cmd.Iidfile, []byte(id), 0o644); err != nil {
			return fmt.Errorf("cannot write --iidfile: %w", err)
		}
	}
	_, err = fmt.Fprintln(c.Out, id)
	return err
}
