package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/format"
	"moss/cmd/moss/cli/syntax"
	"moss/rootless"
	"moss/rootless/container"
	"moss/storage/volume"
)

// VolumeCreateCmd is "moss volume create".
type VolumeCreateCmd struct {
	Globals
	Driver string   `short:"d" help:"Driver; local is the only one." placeholder:"NAME"`
	Ignore bool     `help:"It is no error when the volume is there already."`
	Label  []string `short:"l" sep:"none" help:"Label of the volume." placeholder:"KEY=VALUE"`
	Opt    []string `short:"o" sep:"none" help:"Option of the driver: type=tmpfs|none, device=, o=, nocopy." placeholder:"KEY=VALUE"`
	UID    *int     `name:"uid" help:"User who owns the volume." placeholder:"UID"`
	GID    *int     `name:"gid" help:"Group that owns the volume." placeholder:"GID"`
	Name   string   `arg:"" optional:"" help:"Name of the volume; one is made up when none is given."`

	options volume.Options
}

func (cmd *VolumeCreateCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[VolumeCreateCmd]()}
	v.one("driver", cmd.Driver, oneOf("local"))
	cmd.options = volume.Options{Driver: cmd.Driver, Labels: map[string]string{}, Options: map[string]string{}, UID: cmd.UID, GID: cmd.GID}
	v.check(cmd.UID != nil && *cmd.UID < 0 || cmd.GID != nil && *cmd.GID < 0, "--uid and --gid are not negative")
	v.each("label", cmd.Label, func(s string) error {
		key, value, err := syntax.KeyValue(s, true)
		cmd.options.Labels[key] = value
		return err
	})
	v.each("opt", cmd.Opt, func(s string) error {
		key, value, err := syntax.KeyValue(s, true)
		cmd.options.Options[key] = value
		return err
	})
	if cmd.Name != "" && v.err == nil {
		return volume.CheckName(cmd.Name)
	}
	return v.err
}

// Run prints the volume's name.
func (cmd *VolumeCreateCmd) Run(ctx context.Context, c *call) error {
	if cmd.Name != "" && cmd.Ignore {
		if vol, err := c.Engine.Volumes.Get(cmd.Name); err == nil {
			warnKept("volume", vol.Name, cmd.differs(vol))
			fmt.Fprintln(c.Out, vol.Name)
			return nil
		}
	}
	name := cmd.Name
	if name == "" {
		name = volume.NewName()
	}
	vol, err := c.Engine.CreateVolume(name, cmd.options)
	if err == nil {
		fmt.Fprintln(c.Out, vol.Name)
	}
	return err
}

// VolumeLsCmd is "moss volume ls".
type VolumeLsCmd struct {
	Globals
	Filter    []string `short:"f" sep:"none" help:"List those that match: name, label, driver, scope, dangling, anonymous, opt, until, before, since or after." placeholder:"KEY=VALUE"`
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Noheading bool     `short:"n" help:"Leave the header line out."`
	Quiet     bool     `short:"q" help:"Show names only."`

	filters filters
}

func (cmd *VolumeLsCmd) prepare() (err error) {
	cmd.filters, err = parseFilters("filter", cmd.Filter, volumeFilters)
	return err
}

// Run prints a line for each volume, by name.
func (cmd *VolumeLsCmd) Run(ctx context.Context, c *call) error {
	list, _, err := c.volumes(cmd.filters)
	if err != nil {
		return err
	}
	rows := []volumeView{}
	for _, vol := range list {
		rows = append(rows, c.volumeView(vol))
	}
	if cmd.Quiet && cmd.Format == "" {
		for _, r := range rows {
			fmt.Fprintln(c.Out, r.Name)
		}
		return nil
	}
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "DRIVER", Cell: ".Driver"}, {Header: "VOLUME NAME", Cell: ".Name"},
	}}
	return table.Print(c.Out, cmd.Format, rows, rows)
}

// volumeFilters are the keys that select volumes.
var volumeFilters = []string{"name", "label", "label!", "driver", "scope", "dangling", "anonymous", "opt", "until", "before", "since", "after"}

// volumes lists the volumes that match, by name, and all containers.
func (c *call) volumes(f filters) ([]*volume.Volume, []*container.Container, error) {
	list, err := c.Engine.Volumes.List()
	if err != nil {
		return nil, nil, err
	}
	all, err := c.Engine.All()
	if err != nil {
		return nil, nil, err
	}
	var before, since time.Time
	for _, key := range []string{"until", "before", "since", "after"} {
		for _, v := range f[key] {
			at, err := c.volumeMoment(key, v)
			if err != nil {
				return nil, nil, err
			}
			if key == "since" || key == "after" {
				since = later(since, at)
			} else {
				before = earlier(before, at)
			}
		}
	}
	isTrue := func(v string) bool {
		on, _ := strconv.ParseBool(v)
		return on
	}
	out := slices.DeleteFunc(list, func(vol *volume.Volume) bool {
		return !(f.any("name", func(v string) bool { return matchesName(v, vol.Name) }) &&
			f.all("label", func(v string) bool { return hasLabel(vol.Labels, v) }) &&
			f.all("label!", func(v string) bool { return !hasLabel(vol.Labels, v) }) &&
			f.any("driver", func(v string) bool { return v == vol.Driver }) &&
			f.any("scope", func(v string) bool { return v == "local" }) &&
			f.any("dangling", func(v string) bool { return isTrue(v) == (len(rootless.VolumeUsers(all, vol.Name)) == 0) }) &&
			f.any("anonymous", func(v string) bool { return isTrue(v) == vol.Anonymous }) &&
			f.all("opt", func(v string) bool { return hasLabel(vol.Options, v) }) &&
			(before.IsZero() || vol.Created.Before(before)) && (since.IsZero() || vol.Created.After(since)))
	})
	return out, all, nil
}

// volumeMoment is the time that a filter means: that of another volume, or any.
func (c *call) volumeMoment(key, value string) (time.Time, error) {
	if key == "until" {
		return syntax.Moment(value, time.Now())
	}
	vol, err := c.volume(value)
	if err != nil {
		return time.Time{}, err
	}
	return vol.Created, nil
}

// volumeView is a volume as inspect and templates show it, with podman's names.
type volumeView struct {
	Name        string
	Driver      string
	Mountpoint  string
	CreatedAt   string
	Labels      map[string]string
	Scope       string
	Options     map[string]string
	UID         int      `json:",omitempty"`
	GID         int      `json:",omitempty"`
	Anonymous   bool     `json:",omitempty"`
	Snapshots   []string `json:",omitempty"`
	MountCount  uint
	NeedsCopyUp bool   `json:",omitempty"`
	NeedsChown  bool   `json:",omitempty"`
	LockNumber  uint32 // of podman's insides
}

func (c *call) volumeView(v *volume.Volume) volumeView {
	view := volumeView{
		Name: v.Name, Driver: v.Driver, Mountpoint: v.Mountpoint, CreatedAt: v.Created.Format("2006-01-02T15:04:05.999999999Z07:00"),
		Labels: v.Labels, Scope: "local", Options: v.Options, Anonymous: v.Anonymous,
		MountCount: uint(v.Uses(c.Dirs.Run)), NeedsCopyUp: v.New, NeedsChown: v.New && !v.OwnerGiven(),
	}
	if v.UID != nil {
		view.UID = *v.UID
	}
	if v.GID != nil {
		view.GID = *v.GID
	}
	snapshots, _ := c.Engine.Volumes.Snapshots(v.Name)
	for _, s := range snapshots {
		view.Snapshots = append(view.Snapshots, s.Name)
	}
	if view.Labels == nil {
		view.Labels = map[string]string{}
	}
	if view.Options == nil {
		view.Options = map[string]string{}
	}
	return view
}

// volume finds a volume by name or the beginning of one.
func (c *call) volume(name string) (*volume.Volume, error) {
	vol, err := c.Engine.Volumes.Find(name)
	if err != nil {
		return nil, &notFoundError{fmt.Errorf("cannot find volume %q: %w", name, err), "moss volume ls"}
	}
	return vol, nil
}

// VolumeRmCmd is "moss volume rm".
type VolumeRmCmd struct {
	Globals
	All    bool     `short:"a" help:"Every volume that no container uses."`
	Force  bool     `short:"f" help:"Remove the containers that use it too; say nothing of volumes that are not there."`
	Time   string   `short:"t" help:"Seconds before SIGKILL of such a container, with --force." placeholder:"SECONDS"`
	Volume []string `arg:"" optional:"" help:"Name of a volume."`

	timeout *time.Duration
}

func (cmd *VolumeRmCmd) prepare() error {
	if cmd.All == (len(cmd.Volume) > 0) {
		return usagef("volume rm wants either names of volumes or --all")
	}
	v := &flagValues{grammar: reflect.TypeFor[VolumeRmCmd]()}
	cmd.timeout = readTimeout(v, "time", cmd.Time)
	v.check(cmd.timeout != nil && !cmd.Force, "--time needs --force")
	return v.err
}

// Run ends with exit code 1 when a volume is not there, and 2 when one is used.
func (cmd *VolumeRmCmd) Run(ctx context.Context, c *call) error {
	all, err := c.Engine.All()
	if err != nil {
		return err
	}
	names := cmd.Volume
	if cmd.All {
		list, err := c.Engine.Volumes.List()
		if err != nil {
			return err
		}
		for _, v := range list {
			if cmd.Force || len(rootless.VolumeUsers(all, v.Name)) == 0 && !c.Engine.Volumes.HasSnapshots(v.Name) {
				names = append(names, v.Name)
			}
		}
	}
	var errs []error
	for _, name := range names {
		err := cmd.remove(ctx, c, name, all)
		if cmd.Force && isNotFound(err) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		fmt.Fprintln(c.Out, name)
	}
	return removalError(errs)
}

// removalError gives the exit codes of volume rm and network rm.
func removalError(errs []error) error {
	err := errors.Join(errs...)
	if errors.Is(err, errdefs.ErrFailedPrecondition) {
		return &exitError{code: exitInUse, err: err}
	}
	return notThere(err)
}

func (cmd *VolumeRmCmd) remove(ctx context.Context, c *call, name string, all []*container.Container) error {
	vol, err := c.volume(name)
	if err != nil {
		return err
	}
	for _, user := range rootless.VolumeUsers(all, vol.Name) {
		if !cmd.Force {
			break // refused by RemoveVolume
		}
		if err := c.Engine.Remove(ctx, user, rootless.RemoveOptions{Force: true, Timeout: cmd.timeout}); err != nil && !isNotFound(err) {
			return err
		}
	}
	if cmd.Force {
		if all, err = c.Engine.All(); err != nil {
			return err
		}
	}
	return c.Engine.RemoveVolume(vol, all, cmd.Force)
}
