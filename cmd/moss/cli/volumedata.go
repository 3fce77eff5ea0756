package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"moss/rootless"
	"moss/storage/image"
	"moss/storage/volume"
)

// VolumeInspectCmd is "moss volume inspect".
type VolumeInspectCmd struct {
	InspectCmd
	All bool `short:"a" help:"Every volume."`
}

func (cmd *VolumeInspectCmd) prepare() error {
	cmd.kind = "volume"
	if !cmd.All {
		return cmd.InspectCmd.prepare()
	}
	if len(cmd.Name) > 0 {
		return usagef("volume inspect wants either names of volumes or --all")
	}
	return nil
}

// Run is InspectCmd's, of all volumes if that is asked for.
func (cmd *VolumeInspectCmd) Run(ctx context.Context, c *call) error {
	if cmd.All {
		list, err := c.Engine.Volumes.List()
		if err != nil {
			return err
		}
		for _, vol := range list {
			cmd.Name = append(cmd.Name, vol.Name)
		}
	}
	return cmd.InspectCmd.Run(ctx, c)
}

// VolumePruneCmd is "moss volume prune".
type VolumePruneCmd struct {
	Globals
	Filter []string `sep:"none" help:"Remove those that match: label, label!, until, anonymous, name, driver or opt." placeholder:"KEY=VALUE"`
	Force  bool     `short:"f" help:"Do not ask."`

	filters filters
}

func (cmd *VolumePruneCmd) prepare() (err error) {
	cmd.filters, err = parseFilters("filter", cmd.Filter, volumeFilters)
	return err
}

// Run prints the names of the volumes that it has removed.
func (cmd *VolumePruneCmd) Run(ctx context.Context, c *call) error {
	unused, err := cmd.unused(c)
	if err != nil {
		return err
	}
	if !cmd.Force {
		fmt.Fprintln(c.Out, "WARNING! This will remove all volumes not used by at least one container. The following volumes will be removed:")
		if len(unused) == 0 {
			fmt.Fprintln(c.Out, "No dangling volumes found")
			return nil
		}
		for _, vol := range unused {
			fmt.Fprintln(c.Out, vol.Name)
		}
		if yes, err := c.confirm("Are you sure you want to continue? [y/N] "); !yes || err != nil {
			return err
		}
	}
	// Looked at once more: the answer may have taken its time.
	still, err := cmd.unused(c)
	if err != nil {
		return err
	}
	asked := map[string]bool{}
	for _, vol := range unused {
		asked[vol.Name] = true
	}
	all, err := c.Engine.All()
	if err != nil {
		return err
	}
	var errs []error
	for _, vol := range still {
		if !asked[vol.Name] {
			continue
		}
		if err := c.Engine.RemoveVolume(vol, all, false); err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, vol.Name)
	}
	return errors.Join(errs...)
}

// unused are the volumes that match, that no container and nobody else uses, and of
// which nobody keeps a snapshot.
func (cmd *VolumePruneCmd) unused(c *call) ([]*volume.Volume, error) {
	list, all, err := c.volumes(cmd.filters)
	if err != nil {
		return nil, err
	}
	var out []*volume.Volume
	for _, vol := range list {
		if len(rootless.VolumeUsers(all, vol.Name)) == 0 && vol.Uses(c.Dirs.Run) == 0 && !c.Engine.Volumes.HasSnapshots(vol.Name) {
			out = append(out, vol)
		}
	}
	return out, nil
}

// confirm asks a question on standard output. No answer is no.
func (c *call) confirm(question string) (bool, error) {
	fmt.Fprint(c.Out, question)
	line, err := bufio.NewReader(c.In).ReadString('\n')
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("cannot read the answer: %w", err)
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

// VolumeMountCmd is "moss volume mount".
type VolumeMountCmd struct {
	Globals
	Volume []string `arg:"" help:"Name of a volume."`
}

// Run prints where the files of each volume are.
func (cmd *VolumeMountCmd) Run(ctx context.Context, c *call) error {
	return c.eachVolume(cmd.Volume, func(vol *volume.Volume) error {
		if _, err := vol.Use(c.Dirs.Run, rootless.MountedByUser); err != nil {
			return err
		}
		fmt.Fprintln(c.Out, vol.Mountpoint)
		return nil
	})
}

// VolumeUnmountCmd is "moss volume unmount".
type VolumeUnmountCmd struct {
	Globals
	Volume []string `arg:"" help:"Name of a volume."`
}

// Run prints the name of each volume that is no longer mounted for the user.
func (cmd *VolumeUnmountCmd) Run(ctx context.Context, c *call) error {
	return c.eachVolume(cmd.Volume, func(vol *volume.Volume) error {
		if err := vol.Lease(c.Dirs.Run, rootless.MountedByUser).Drop(); err != nil {
			return fmt.Errorf("cannot unmount volume %q: %w", vol.Name, err)
		}
		fmt.Fprintln(c.Out, vol.Name)
		return nil
	})
}

func (c *call) eachVolume(names []string, do func(*volume.Volume) error) error {
	var errs []error
	for _, name := range names {
		vol, err := c.volume(name)
		if err == nil {
			err = do(vol)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// VolumeExportCmd is "moss volume export".
type VolumeExportCmd struct {
	Globals
	Output string `short:"o" help:"File to write; standard output when none is given." placeholder:"FILE"`
	Volume string `arg:"" help:"Name of a volume."`
}

func (cmd *VolumeExportCmd) prepare() error {
	return archiveTo(cmd.Output)
}

// Run writes the volume's files as a tar archive.
func (cmd *VolumeExportCmd) Run(ctx context.Context, c *call) error {
	return c.withVolume(cmd.Volume, func(vol *volume.Volume) error {
		write := func(out *os.File) error {
			return c.Engine.ImageHelper(ctx, image.Request{ExportVolume: &image.VolumeRequest{Dir: vol.Mountpoint}}, out)
		}
		if cmd.Output == "" || cmd.Output == "-" {
			return write(os.Stdout)
		}
		return writeWhole(absolute(cmd.Output), write)
	})
}

// writeWhole writes a file that is there whole or not at all; what is no regular
// file, such as a pipe, it writes to directly.
func writeWhole(path string, write func(*os.File) error) (err error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// VolumeImportCmd is "moss volume import".
type VolumeImportCmd struct {
	Globals
	Volume string `arg:"" help:"Name of a volume."`
	Source string `arg:"" optional:"" help:"Archive, or - for standard input (the default)."`
}

func (cmd *VolumeImportCmd) prepare() error {
	if cmd.Source == "-" {
		cmd.Source = ""
	}
	if cmd.Source == "" && isTerminal(os.Stdin) {
		return usagef("refusing to read an archive from a terminal: name a file or redirect")
	}
	if cmd.Source == "" {
		return nil
	}
	cmd.Source = absolute(cmd.Source)
	if err := readable(cmd.Source); err != nil {
		return fmt.Errorf("cannot read archive: %w", err)
	}
	return nil
}

// Run adds the files of an archive to the volume's.
func (cmd *VolumeImportCmd) Run(ctx context.Context, c *call) error {
	return c.withVolume(cmd.Volume, func(vol *volume.Volume) error {
		if vol.Options["type"] == "tmpfs" && vol.Uses(c.Dirs.Run) == 1 {
			return &hintedError{fmt.Errorf("cannot import volume %q: it is in memory, and gone when nobody uses it", vol.Name),
				"'moss volume mount " + vol.Name + "' keeps it mounted"}
		}
		req := image.Request{ImportVolume: &image.VolumeRequest{Dir: vol.Mountpoint, Input: cmd.Source}}
		if err := c.Engine.ImageHelper(ctx, req, io.Discard); err != nil {
			return err
		}
		c.Engine.Volumes.Used(vol.Name)
		return nil
	})
}

// withVolume does something with the files of a volume, which is mounted meanwhile.
func (c *call) withVolume(name string, do func(*volume.Volume) error) error {
	vol, err := c.volume(name)
	if err != nil {
		return err
	}
	lease, err := vol.Use(c.Dirs.Run, fmt.Sprintf("pid-%d", os.Getpid()))
	if err != nil {
		return err
	}
	err = do(vol)
	if lease != nil {
		err = errors.Join(err, lease.Drop())
	}
	return err
}

// VolumeReloadCmd is "moss volume reload".
type VolumeReloadCmd struct{ Globals }

// Run reads every volume's record: there are no plugins whose volumes could have
// come or gone.
func (cmd *VolumeReloadCmd) Run(ctx context.Context, c *call) error {
	_, err := c.Engine.Volumes.List()
	return err
}
