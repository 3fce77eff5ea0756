package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"moss/rootless"
	"moss/storage/image"
)

// RunlabelCmd is "moss container runlabel".
type RunlabelCmd struct {
	Globals
	RegistryFlags
	Display bool     `help:"Show the command, and do not run it."`
	Name    string   `short:"n" help:"Name for the container; the last part of the image's by default." placeholder:"NAME"`
	Replace bool     `help:"Remove a container of that name first."`
	Opt1    string   `name:"opt1" hidden:"" help:"Value of $OPT1." placeholder:"VALUE"`
	Opt2    string   `name:"opt2" hidden:"" help:"Value of $OPT2." placeholder:"VALUE"`
	Opt3    string   `name:"opt3" hidden:"" help:"Value of $OPT3." placeholder:"VALUE"`
	Label   string   `arg:"" help:"Label of the image that holds the command."`
	Image   string   `arg:"" help:"Name or ID of an image."`
	Args    []string `arg:"" optional:"" passthrough:"partial" help:"Further arguments for the command."`
}

// Run becomes the moss that the label asks for: its exit code is its own.
func (cmd *RunlabelCmd) Run(ctx context.Context, c *call) error {
	img, err := cmd.image(ctx, c)
	if err != nil {
		return err
	}
	text, ok := img.Config.Labels[cmd.Label]
	if !ok {
		return fmt.Errorf("cannot run label %q of image %q: it has no such label", cmd.Label, cmd.Image)
	}
	name := cmd.Name
	if name == "" {
		name = strings.TrimSuffix(path.Base(cmd.Image), path.Ext(path.Base(cmd.Image)))
		if ref, err := image.Parse(cmd.Image); err == nil {
			name = path.Base(ref.Repository)
		}
	}
	args, err := cmd.command(text, name)
	if err != nil {
		return fmt.Errorf("cannot run label %q of image %q: %w", cmd.Label, cmd.Image, err)
	}
	if cmd.Display || !cmd.Quiet {
		fmt.Fprintf(c.Out, "command: %s\n", strings.Join(args, " "))
	}
	if cmd.Display {
		return nil
	}
	if cmd.Replace {
		if err := removeNamed(ctx, c, name); err != nil {
			return err
		}
	}
	self, err := os.Executable()
	if err == nil {
		err = become(self, args)
	}
	return fmt.Errorf("cannot run label %q of image %q: %w", cmd.Label, cmd.Image, err)
}

// image finds the image, and pulls it if it is not there.
func (cmd *RunlabelCmd) image(ctx context.Context, c *call) (*image.Image, error) {
	img, err := c.Engine.Image(ctx, cmd.Image)
	if !errors.Is(err, image.ErrNotFound) {
		return img, err
	}
	err = c.Engine.ImageHelper(ctx, image.Request{Pull: &image.PullRequest{
		References: []string{cmd.Image}, Policy: "missing", TLSVerify: cmd.TLSVerify, AuthFile: cmd.Authfile,
		Creds: cmd.Creds, CertDir: cmd.CertDir, Quiet: cmd.Quiet, Progress: "stderr",
	}}, io.Discard)
	if err != nil {
		return nil, err
	}
	return c.Engine.Image(ctx, cmd.Image)
}

// command is the command line of a label. An image may ask for nothing but moss,
// under this name or that of podman or Docker.
func (cmd *RunlabelCmd) command(text, name string) ([]string, error) {
	words, err := splitWords(text)
	if err != nil {
		return nil, err
	}
	if len(words) == 0 {
		return nil, errors.New("it is empty")
	}
	switch path.Base(words[0]) {
	case "podman", "docker", "moss":
	default:
		return nil, fmt.Errorf("its command is %q, and only podman, docker and moss, which all mean moss, are run", words[0])
	}
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	values := map[string]string{"IMAGE": cmd.Image, "NAME": name, "PWD": dir, "OPT1": cmd.Opt1, "OPT2": cmd.Opt2, "OPT3": cmd.Opt3}
	out := []string{"moss"}
	for _, word := range words[1:] {
		switch word {
		case "IMAGE", "NAME": // so older labels say it
			word = values[word]
		case "IMAGE=IMAGE", "NAME=NAME":
			key, _, _ := strings.Cut(word, "=")
			word = key + "=" + values[key]
		default:
			word = os.Expand(word, func(key string) string { return values[key] })
		}
		if word != "" {
			out = append(out, word)
		}
	}
	return append(out, withoutDashes(cmd.Args)...), nil
}

func removeNamed(ctx context.Context, c *call, name string) error {
	ctr, err := c.Engine.Find(name)
	if isNotFound(err) || err == nil && ctr.Spec.Name != name {
		return nil
	}
	if err != nil {
		return err
	}
	return c.Engine.Remove(ctx, ctr, rootless.RemoveOptions{Force: true})
}

// splitWords splits a line as a shell would, without running anything.
func splitWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	started, escaped, quote := false, false, rune(0)
	for _, r := range line {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, started = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '"' || r == '\''):
			quote, started = r, true
		case quote == 0 && (r == ' ' || r == '\t' || r == '\n'):
			if started {
				words = append(words, word.String())
				word.Reset()
			}
			started = false
		default:
			word.WriteRune(r)
			started = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("a quote in it is not closed")
	}
	if started {
		words = append(words, word.String())
	}
	return words, nil
}
