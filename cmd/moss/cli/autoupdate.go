package cli

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"strconv"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
)

// AutoUpdateCmd is "moss auto-update".
type AutoUpdateCmd struct {
	Globals
	Authfile  string `help:"File with the credentials for registries; the label io.containers.autoupdate.authfile of a container goes before it." placeholder:"FILE"`
	DryRun    bool   `help:"Look for updates, and make none: they are pending."`
	Notify    bool   `help:"As --dry-run, and warn of each update, in the journal where a unit does it."`
	Format    string `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Rollback  *bool  `help:"Go back to the old image where the unit cannot be restarted or the container does not get well; true by default."`
	Snapshot  *bool  `help:"Keep what the container's volumes hold until it is well, and put it back when it is rolled back; true by default."`
	Stay      string `help:"How long a container without a health check must run to be well; 5s by default." placeholder:"DURATION"`
	Keep      string `help:"Of the images that a name has meant before, keep so many; all by default." placeholder:"N"`
	TLSVerify *bool  `name:"tls-verify" help:"Insist on https and valid certificates."`

	options rootless.AutoUpdateOptions
}

func (cmd *AutoUpdateCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[AutoUpdateCmd]()}
	o := &cmd.options
	*o = rootless.AutoUpdateOptions{
		AuthFile: cmd.Authfile, TLSVerify: cmd.TLSVerify, DryRun: cmd.DryRun || cmd.Notify, RollBack: true, Snapshot: true, Stay: 5 * time.Second, Keep: -1,
	}
	if cmd.Rollback != nil {
		o.RollBack = *cmd.Rollback
	}
	if cmd.Snapshot != nil {
		o.Snapshot = *cmd.Snapshot
	}
	v.one("stay", cmd.Stay, func(s string) (err error) {
		if o.Stay, err = time.ParseDuration(s); err == nil && o.Stay < 0 {
			err = errors.New("it is negative")
		}
		return err
	})
	v.one("keep", cmd.Keep, func(s string) (err error) {
		n, err := strconv.ParseUint(s, 10, 16)
		o.Keep = int(n)
		return err
	})
	if v.err != nil {
		return v.err
	}
	return format.Suits(cmd.Format, reflect.TypeFor[updateRow]())
}

// interruptible: what it has stopped goes on again.
func (cmd *AutoUpdateCmd) interruptible() bool { return true }

// updateRow is a line, with podman's names.
type updateRow struct{ u *rootless.AutoUpdate }

func (r updateRow) Unit() string          { return r.u.Unit }
func (r updateRow) UnitOrNone() string    { return cmp.Or(r.u.Unit, "-") }
func (r updateRow) ContainerID() string   { return r.u.ContainerID }
func (r updateRow) ContainerName() string { return r.u.Container }
func (r updateRow) Container() string     { return r.u.ContainerID[:12] + " (" + r.u.Container + ")" }
func (r updateRow) Image() string         { return r.u.Image }
func (r updateRow) Policy() string        { return r.u.Policy }
func (r updateRow) Updated() string       { return r.u.Updated }

// updateJSON is podman's.
type updateJSON struct {
	Unit, Container, ContainerName, ContainerID, Image, Policy, Updated string
}

// Run updates, and says what has become of each container; what went wrong is told
// after that.
func (cmd *AutoUpdateCmd) Run(ctx context.Context, c *call) error {
	list, err := c.Engine.AutoUpdate(ctx, cmd.options)
	if err != nil {
		return err
	}
	rows, docs := []updateRow{}, []updateJSON{}
	var all []error
	for _, u := range list {
		r := updateRow{u}
		rows = append(rows, r)
		docs = append(docs, updateJSON{u.Unit, r.Container(), u.Container, u.ContainerID, u.Image, u.Policy, u.Updated})
		all = append(all, u.Err)
		if u.Updated == rootless.UpdatedPending && (cmd.Notify || u.NotifyOnly) {
			slog.Warn("there is a newer image", "container", u.Container, "image", u.Image)
		}
	}
	table := format.Table{Columns: []format.Column{
		{Header: "UNIT", Cell: ".UnitOrNone"}, {Header: "CONTAINER", Cell: ".Container"}, {Header: "IMAGE", Cell: ".Image"},
		{Header: "POLICY", Cell: ".Policy"}, {Header: "UPDATED", Cell: ".Updated"},
	}, Headers: map[string]string{"Unit": "UNIT", "ContainerID": "CONTAINER ID", "ContainerName": "CONTAINER NAME"}}
	return errors.Join(table.Print(c.Out, cmd.Format, rows, docs), errors.Join(all...))
}
