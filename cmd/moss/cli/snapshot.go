package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/format"
	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/storage/volume"
)

// PauseFlag says what becomes of containers that run with a volume.
type PauseFlag struct {
	Pause *bool `help:"Pause the containers that run with it meanwhile, which is so without this flag; false lets them write."`
}

func (f PauseFlag) options() rootless.SnapshotOptions {
	return rootless.SnapshotOptions{Running: f.Pause != nil && !*f.Pause}
}

// pauseHint says how to go on where a container cannot be paused.
func pauseHint(err error) error {
	var refused interface{ ExitCode() int } // of the container's monitor
	if errors.As(err, &refused) {
		return &hintedError{err, "stop the container, or take what is there while it writes: --pause=false"}
	}
	return err
}

// VolumeSnapshotCmd is "moss volume snapshot".
type VolumeSnapshotCmd struct {
	Globals
	PauseFlag
	Volume string `arg:"" help:"Name of a volume."`
	Name   string `arg:"" optional:"" help:"Name of the snapshot; the time when none is given."`
}

func (cmd *VolumeSnapshotCmd) prepare() error {
	if cmd.Name == "" {
		return nil
	}
	return volume.CheckName(cmd.Name)
}

// Run prints the snapshot's name.
func (cmd *VolumeSnapshotCmd) Run(ctx context.Context, c *call) error {
	return c.withVolume(cmd.Volume, func(vol *volume.Volume) error {
		s, err := c.Engine.SnapshotVolume(ctx, vol, cmd.Name, cmd.options())
		if err != nil {
			return pauseHint(err)
		}
		fmt.Fprintln(c.Out, s.Name)
		return nil
	})
}

// VolumeSnapshotLsCmd is "moss volume snapshot ls".
type VolumeSnapshotLsCmd struct {
	Globals
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Noheading bool     `short:"n" help:"Leave the header line out."`
	Quiet     bool     `short:"q" help:"Show names only."`
	Volume    []string `arg:"" optional:"" help:"Name of a volume; all of them when none is given."`
}

// snapshotRow is a snapshot as templates show it.
type snapshotRow struct {
	Volume     string
	Name       string
	Created    string
	CreatedAt  string
	Size       string
	Bytes      int64
	Files      int64
	Shared     bool
	Mountpoint string
}

// Run prints a line for each snapshot, the oldest first.
func (cmd *VolumeSnapshotLsCmd) Run(ctx context.Context, c *call) error {
	rows := []snapshotRow{}
	add := func(vol *volume.Volume) error {
		list, err := c.Engine.Volumes.Snapshots(vol.Name)
		for _, s := range list {
			rows = append(rows, snapshotRow{
				Volume: s.Volume, Name: s.Name, Created: format.Ago(s.Created), CreatedAt: s.Created.Format(time.RFC3339Nano),
				Size: format.Size(s.Size, " "), Bytes: s.Size, Files: s.Files, Shared: s.Shared, Mountpoint: s.Mountpoint,
			})
		}
		return err
	}
	var err error
	if len(cmd.Volume) > 0 {
		err = c.eachVolume(cmd.Volume, add)
	} else {
		var all []*volume.Volume
		all, err = c.Engine.Volumes.List()
		for _, vol := range all {
			err = errors.Join(err, add(vol))
		}
	}
	if err != nil {
		return err
	}
	if cmd.Quiet && cmd.Format == "" {
		for _, r := range rows {
			fmt.Fprintln(c.Out, r.Name)
		}
		return nil
	}
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "VOLUME", Cell: ".Volume"}, {Header: "SNAPSHOT", Cell: ".Name"}, {Header: "CREATED", Cell: ".Created"},
		{Header: "FILES", Cell: ".Files"}, {Header: "SIZE", Cell: ".Size"}, {Header: "SHARED", Cell: ".Shared"},
	}, Headers: map[string]string{"Name": "SNAPSHOT", "CreatedAt": "CREATED AT"}}
	return table.Print(c.Out, cmd.Format, rows, rows)
}

// VolumeSnapshotRmCmd is "moss volume snapshot rm".
type VolumeSnapshotRmCmd struct {
	Globals
	All    bool     `short:"a" help:"Every snapshot of the volume."`
	Force  bool     `short:"f" help:"Say nothing of snapshots that are not there."`
	Volume string   `arg:"" help:"Name of a volume."`
	Name   []string `arg:"" optional:"" help:"Name of a snapshot."`
}

func (cmd *VolumeSnapshotRmCmd) prepare() error {
	if cmd.All == (len(cmd.Name) > 0) {
		return usagef("volume snapshot rm wants either names of snapshots or --all")
	}
	return nil
}

// Run prints the names of the snapshots that it has removed.
func (cmd *VolumeSnapshotRmCmd) Run(ctx context.Context, c *call) error {
	vol, err := c.volume(cmd.Volume)
	if err != nil {
		return err
	}
	names := cmd.Name
	if cmd.All {
		list, err := c.Engine.Volumes.Snapshots(vol.Name)
		if err != nil {
			return err
		}
		for _, s := range list {
			names = append(names, s.Name)
		}
	}
	var errs []error
	for _, name := range names {
		err := c.Engine.Volumes.RemoveSnapshot(vol.Name, name)
		switch {
		case errors.Is(err, volume.ErrNoSnapshot) && cmd.Force:
		case errors.Is(err, volume.ErrNoSnapshot):
			errs = append(errs, noSnapshot(vol, name, err))
		case err != nil:
			errs = append(errs, err)
		default:
			fmt.Fprintln(c.Out, name)
		}
	}
	return notThere(errors.Join(errs...))
}

func noSnapshot(vol *volume.Volume, name string, err error) error {
	return &notFoundError{fmt.Errorf("cannot find snapshot %q of volume %q: %w", name, vol.Name, volume.ErrNoSnapshot), "moss volume snapshot ls " + vol.Name}
}

// snapshot finds a snapshot of a volume.
func (c *call) snapshot(vol *volume.Volume, name string) (*volume.Snapshot, error) {
	s, err := c.Engine.Volumes.Snapshot(vol.Name, name)
	if errors.Is(err, volume.ErrNoSnapshot) {
		return nil, noSnapshot(vol, name, err)
	}
	return s, err
}

// VolumeRestoreCmd is "moss volume restore".
type VolumeRestoreCmd struct {
	Globals
	Volume   string `arg:"" help:"Name of a volume."`
	Snapshot string `arg:"" help:"Name of a snapshot of it."`
}

// Run prints the volume's name.
func (cmd *VolumeRestoreCmd) Run(ctx context.Context, c *call) error {
	vol, err := c.volume(cmd.Volume)
	if err != nil {
		return err
	}
	s, err := c.snapshot(vol, cmd.Snapshot)
	if err != nil {
		return err
	}
	err = c.Engine.RestoreVolume(ctx, vol, s)
	switch {
	case errors.Is(err, errdefs.ErrNotImplemented):
		return &hintedError{err, "'moss volume clone --snapshot " + s.Name + " " + vol.Name + " NAME' makes a volume of the snapshot"}
	case err != nil:
		return err
	}
	fmt.Fprintln(c.Out, vol.Name)
	return nil
}

// VolumeCloneCmd is "moss volume clone".
type VolumeCloneCmd struct {
	Globals
	PauseFlag
	Label    []string `short:"l" sep:"none" help:"A further label of the new volume." placeholder:"KEY=VALUE"`
	Snapshot string   `help:"What the volume held at this snapshot, in place of now." placeholder:"NAME"`
	Volume   string   `arg:"" help:"Name of a volume."`
	Name     string   `arg:"" optional:"" help:"Name of the new volume; the old one with -clone when none is given."`

	labels map[string]string
}

func (cmd *VolumeCloneCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[VolumeCloneCmd]()}
	cmd.labels = map[string]string{}
	v.each("label", cmd.Label, func(s string) error {
		key, value, err := syntax.KeyValue(s, true)
		cmd.labels[key] = value
		return err
	})
	if cmd.Name != "" && v.err == nil {
		return volume.CheckName(cmd.Name)
	}
	return v.err
}

// Run prints the new volume's name.
func (cmd *VolumeCloneCmd) Run(ctx context.Context, c *call) error {
	return c.withVolume(cmd.Volume, func(vol *volume.Volume) (err error) {
		var from *volume.Snapshot
		if cmd.Snapshot != "" {
			if from, err = c.snapshot(vol, cmd.Snapshot); err != nil {
				return err
			}
		}
		name := cmd.Name
		if name == "" {
			name = vol.Name + "-clone"
		}
		clone, err := c.Engine.CloneVolume(ctx, vol, from, name, cmd.labels, cmd.options())
		if err != nil {
			return pauseHint(err)
		}
		fmt.Fprintln(c.Out, clone.Name)
		return nil
	})
}
