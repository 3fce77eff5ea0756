package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"moss/rootless"
	"moss/rootless/container"
	"moss/systemd/user"
)

// BootEnableCmd is "moss boot enable".
type BootEnableCmd struct{ Globals }

// Run has the service started at each boot.
func (cmd *BootEnableCmd) Run(ctx context.Context, c *call) error { return c.enableUnit(user.Boot) }

// enableUnit has one of moss's own units started with the user's service manager.
func (c *call) enableUnit(unit string) error {
	if _, err := unitHome(); err != nil {
		return fmt.Errorf("cannot enable %s: %w", unit, err)
	}
	program, err := os.Executable()
	if err == nil {
		err = user.Enable(unit, program)
	}
	if err != nil {
		return fmt.Errorf("cannot enable %s: %w", unit, err)
	}
	fmt.Fprintln(c.Out, user.Enabled(unit))
	if user.Managed() && !user.Lingers() {
		slog.Warn("your service manager, and containers with it, runs only while you are logged in, until: loginctl enable-linger")
	}
	return nil
}

// BootDisableCmd is "moss boot disable".
type BootDisableCmd struct{ Globals }

// Run takes that back.
func (cmd *BootDisableCmd) Run(ctx context.Context, c *call) error { return disableUnit(user.Boot) }

// disableUnit takes back enableUnit.
func disableUnit(unit string) error {
	if _, err := unitHome(); err != nil {
		return fmt.Errorf("cannot disable %s: %w", unit, err)
	}
	kept, err := user.Disable(unit)
	if err != nil {
		return fmt.Errorf("cannot disable %s: %w", unit, err)
	}
	if kept != "" {
		return fmt.Errorf("cannot disable %s: it is enabled for all users, by %q; to leave it out: systemctl --user mask %s", unit, kept, unit)
	}
	return nil
}

// BootStatusCmd is "moss boot status".
type BootStatusCmd struct {
	Globals
	Format string `help:"json." placeholder:"json"`
}

func (cmd *BootStatusCmd) prepare() error {
	v := &flagValues{grammar: reflect.TypeFor[BootStatusCmd]()}
	if cmd.Format != "" {
		v.one("format", cmd.Format, oneOf("json"))
	}
	return v.err
}

// Run says what the next boot will do.
func (cmd *BootStatusCmd) Run(ctx context.Context, c *call) error {
	rows, err := c.rows(filters{})
	if err != nil {
		return err
	}
	status := struct {
		Enabled    bool
		Lingering  bool
		Link       string `json:",omitempty"`
		Containers []string
	}{Link: user.Enabled(user.Boot), Lingering: user.Lingers(), Containers: []string{}}
	status.Enabled = status.Link != ""
	for _, row := range rows {
		if row.startsOnBoot() {
			status.Containers = append(status.Containers, row.container.Spec.Name)
		}
	}
	slices.Sort(status.Containers)
	if cmd.Format == "json" {
		data, err := json.MarshalIndent(status, "", "    ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "%s\n", data)
		return err
	}
	enabled, lingering := "disabled: moss boot enable", "no: loginctl enable-linger"
	if status.Enabled {
		enabled = "enabled by " + status.Link
	}
	if status.Lingering {
		lingering = "yes"
	}
	fmt.Fprintf(c.Out, "%s  %s\nlingering          %s\ncontainers         %s\n", user.Boot, enabled, lingering, strings.Join(status.Containers, " "))
	return nil
}

// toldOfBoots is the file that says that tellOfBoots has spoken.
const toldOfBoots = "told-of-boots"

// tellOfBoots warns, once, whoever makes a container that is to run always, that it
// will not: where nothing starts it at boot, or it ends with the session.
func (c *call) tellOfBoots(spec *container.Spec) {
	l := spec.Lifecycle
	if l.Restart != "always" && l.Restart != "unless-stopped" || l.AutoRemove || !user.Managed() {
		return
	}
	marker := filepath.Join(c.Engine.Paths.Root, toldOfBoots)
	if _, err := os.Lstat(marker); err == nil {
		return
	}
	var commands, lacks []string
	if spec.Labels[rootless.UnitLabel] == "" && user.Enabled(user.Boot) == "" { // else its unit does
		commands, lacks = append(commands, "moss boot enable"), append(lacks, "nothing starts it after a reboot")
	}
	if !user.Lingers() {
		commands, lacks = append(commands, "loginctl enable-linger"), append(lacks, "it ends when you log out")
	}
	if len(lacks) == 0 {
		return
	}
	slog.Warn(fmt.Sprintf("it has --restart %s, but %s; to change that: %s", l.Restart, strings.Join(lacks, " and "), strings.Join(commands, " && ")), "container", spec.Name)
	_ = os.WriteFile(marker, nil, 0o600) // it is said again, at worst
}
