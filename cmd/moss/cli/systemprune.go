package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
	"moss/storage/usage"
)

// SystemPruneCmd is "moss system prune".
type SystemPruneCmd struct {
	Globals
	All      bool     `short:"a" help:"Remove images with names too, if no container uses them."`
	External bool     `help:"Remove what no record knows, and nothing else, as 'moss system gc' does."`
	Filter   []string `sep:"none" help:"Remove those that match: until, label or label!." placeholder:"KEY=VALUE"`
	Force    bool     `short:"f" help:"Do not ask."`
	Volumes  bool     `help:"Remove volumes too, if no container uses them."`
}

// steps are what is removed, the users of things before the things.
func (cmd *SystemPruneCmd) steps() []pruneStep {
	all := []pruneStep{
		{"Containers", &ContainerPruneCmd{Filter: cmd.Filter, Force: true}},
		{"Networks", &NetworkPruneCmd{Filter: cmd.Filter, Force: true}},
		{"Images", &ImagePruneCmd{All: cmd.All, Filter: cmd.Filter, Force: true}},
	}
	if cmd.Volumes {
		all = append(all, pruneStep{"Volumes", &VolumePruneCmd{Filter: cmd.Filter, Force: true}})
	}
	return all
}

type pruneStep struct {
	what    string
	command command
}

func (cmd *SystemPruneCmd) prepare() error {
	if cmd.External && (cmd.All || cmd.Volumes || len(cmd.Filter) > 0) {
		return usagef("--external cannot be combined with other options")
	}
	for _, step := range cmd.steps() { // a bad filter is found before anything is asked
		if err := step.command.(preparer).prepare(); err != nil {
			return err
		}
	}
	return nil
}

func (cmd *SystemPruneCmd) warning() string {
	var b strings.Builder
	b.WriteString("WARNING! This command removes:\n")
	if cmd.External {
		return b.String() + "\t- what no record knows\n"
	}
	b.WriteString("\t- all stopped containers\n\t- all networks not used by at least one container\n")
	if cmd.Volumes {
		b.WriteString("\t- all volumes not used by at least one container\n")
	}
	if cmd.All {
		b.WriteString("\t- all images without at least one container associated with them\n")
	} else {
		b.WriteString("\t- all dangling images\n")
	}
	if len(cmd.Filter) > 0 {
		b.WriteString("\n\tItems to be pruned will be filtered with:\n")
		for _, f := range cmd.Filter {
			b.WriteString("\t- " + f + "\n")
		}
	}
	return b.String()
}

// Run prints what each kind lost, and how many bytes the disk has won.
func (cmd *SystemPruneCmd) Run(ctx context.Context, c *call) error {
	if !cmd.Force {
		fmt.Fprintln(c.Out, cmd.warning())
		if yes, err := c.confirm("Are you sure you want to continue? [y/N] "); !yes || err != nil {
			return err
		}
	}
	before, err := c.rootBytes()
	if err != nil {
		return err
	}
	if cmd.External {
		_, err = c.Engine.Collect(ctx, rootless.CollectOptions{})
	} else {
		err = cmd.prune(ctx, c)
	}
	after, merr := c.rootBytes()
	if merr == nil {
		fmt.Fprintln(c.Out, "Total reclaimed space:", format.Size(max(before-after, 0), ""))
	}
	return errors.Join(err, merr)
}

func (cmd *SystemPruneCmd) prune(ctx context.Context, c *call) error {
	var all error
	for _, step := range cmd.steps() {
		if err := step.command.(preparer).prepare(); err != nil {
			return err
		}
		var out bytes.Buffer
		part := *c
		part.Out = &out
		all = errors.Join(all, step.command.Run(ctx, &part))
		if out.Len() > 0 {
			fmt.Fprintf(c.Out, "Deleted %s\n%s", step.what, out.String())
		}
		if err := ctx.Err(); err != nil {
			return errors.Join(all, err)
		}
	}
	return all
}

// rootBytes measures moss's directory, and that of volumes if it is elsewhere.
func (c *call) rootBytes() (sum int64, err error) {
	sizes, err := new(usage.Meter).Trees(c.Engine.Places())
	for _, n := range sizes {
		sum += n
	}
	return sum, err
}
