package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/format"
	"moss/systemd/cgroup"
	"moss/systemd/quadlet"
)

// unitDirs are where the user's quadlet files lie.
func unitDirs() ([]string, error) {
	dirs := quadlet.Dirs(os.Getenv, cgroup.HostUID())
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) { // the service manager has no such directory
			return nil, fmt.Errorf("cannot use QUADLET_UNIT_DIRS: %q is not an absolute path", dir)
		}
	}
	return dirs, nil
}

// userUnits are the services of the user's quadlet files.
func userUnits() ([]*quadlet.Unit, error) {
	dirs, err := unitDirs()
	if err != nil {
		return nil, err
	}
	return quadlet.Load(dirs).Convert(self()), nil
}

// unitHome is where 'moss unit install' puts files, without links.
func unitHome() (string, error) {
	if dir := quadlet.Home(os.Getenv); dir != "" {
		return quadlet.Real(dir), nil
	}
	return "", errors.New("cannot find your configuration: neither XDG_CONFIG_HOME nor HOME is set")
}

// self is the program that the services start.
func self() string {
	if path, err := os.Executable(); err == nil {
		return path
	}
	return "moss"
}

// findUnit is the unit that a name means: that of its file, or of its service, with or
// without the extension.
func findUnit(units []*quadlet.Unit, name string) (*quadlet.Unit, error) {
	var found []*quadlet.Unit
	for _, u := range units {
		if name == u.Name || name == u.Source.Name {
			return u, nil
		}
		if name == strings.TrimSuffix(u.Name, ".service") || name == strings.TrimSuffix(u.Source.Name, filepath.Ext(u.Source.Name)) {
			found = append(found, u)
		}
	}
	switch len(found) {
	case 0:
		err := fmt.Errorf("cannot find unit %q: no quadlet file is called so: %w", name, errdefs.ErrNotFound)
		return nil, &notFoundError{err, "moss unit list"}
	case 1:
		return found[0], nil
	}
	return nil, usagef("unit %q may be %s or %s: give the whole name", name, found[0].Source.Name, found[1].Source.Name)
}

// UnitPrintCmd is "moss unit print".
type UnitPrintCmd struct {
	Globals
	Name []string `arg:"" help:"Names of quadlet files or of their services."`
}

// Run prints services as the service manager reads them.
func (cmd *UnitPrintCmd) Run(ctx context.Context, c *call) error {
	units, err := userUnits()
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range cmd.Name {
		u, err := findUnit(units, name)
		if err == nil && u.Failed() {
			err = unitError(u)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(cmd.Name) > 1 {
			fmt.Fprintf(c.Out, "# %s\n", u.Name)
		}
		fmt.Fprint(c.Out, u.Text())
		if u.Socket != nil {
			fmt.Fprintf(c.Out, "\n# %s\n%s", u.Socket.Name, u.Socket.Text())
		}
	}
	return errors.Join(errs...)
}

// unitError is what stands in the way of making a unit.
func unitError(u *quadlet.Unit) error {
	var errs []error
	for _, p := range u.Problems {
		if !p.Warning {
			errs = append(errs, errors.New(p.String()))
		}
	}
	return errors.Join(errs...)
}

// QuadletPrintCmd is "moss quadlet print".
type QuadletPrintCmd struct {
	Globals
	Name string `arg:"" help:"Name of a quadlet file."`
}

// Run prints the file as it is.
func (cmd *QuadletPrintCmd) Run(ctx context.Context, c *call) error {
	units, err := userUnits()
	if err != nil {
		return err
	}
	u, err := findUnit(units, cmd.Name)
	if err != nil {
		return err
	}
	data, err := readUnitFile(u.Source.Path)
	if err != nil {
		return err
	}
	_, err = c.Out.Write(data)
	return err
}

// UnitListCmd is "moss unit list".
type UnitListCmd struct {
	Globals
	Filter    []string `short:"f" sep:"none" help:"List those that match: name, status or pod." placeholder:"KEY=VALUE"`
	Format    string   `help:"Print as json, through a Go template, or as a table of one." placeholder:"FORMAT"`
	Noheading bool     `short:"n" help:"Leave the header line out."`

	filters filters
}

func (cmd *UnitListCmd) prepare() (err error) {
	cmd.filters, err = parseFilters("filter", cmd.Filter, []string{"name", "status", "pod"})
	return err
}

// unitRow is a unit as templates of unit list see it, and as JSON.
type unitRow struct{ Name, UnitName, Path, Status, App, Pod string }

// Run prints a line for each file.
func (cmd *UnitListCmd) Run(ctx context.Context, c *call) error {
	units, err := userUnits()
	if err != nil {
		return err
	}
	states, err := statesOf(ctx, units)
	if err != nil {
		return err
	}
	rows := []unitRow{}
	for _, u := range units {
		row := unitRow{u.Source.Name, u.Name, u.Source.Path, "Not loaded", application(u.Source), u.Source.Value("Container", "Pod")}
		if s, ok := states.of[u.Name]; ok && s.Load == "loaded" {
			row.Status = s.Active + "/" + s.Sub
		}
		if u.Failed() {
			row.Status += " (file has errors)"
		}
		if cmd.filters.unit(&row) {
			rows = append(rows, row)
		}
	}
	slices.SortFunc(rows, func(a, b unitRow) int { return strings.Compare(a.Name, b.Name) })
	table := format.Table{NoHeading: cmd.Noheading, Columns: []format.Column{
		{Header: "NAME", Cell: ".Name"}, {Header: "UNIT NAME", Cell: ".UnitName"}, {Header: "PATH ON DISK", Cell: ".Path"},
		{Header: "STATUS", Cell: ".Status"}, {Header: "APPLICATION", Cell: ".App"}, {Header: "POD", Cell: ".Pod"},
	}}
	return table.Print(c.Out, cmd.Format, rows, rows)
}

// unit says whether a unit matches.
func (f filters) unit(r *unitRow) bool {
	match := func(key, value string) bool {
		values := f[key]
		return len(values) == 0 || slices.ContainsFunc(values, func(v string) bool { return value == v || key == "name" && globs(v, value) })
	}
	return match("name", r.Name) && match("status", r.Status) && match("pod", r.Pod)
}

func globs(pattern, name string) bool {
	ok, err := filepath.Match(pattern, name)
	return err == nil && ok || strings.TrimSuffix(name, filepath.Ext(name)) == pattern
}

// application is the directory that a file was installed in, if it was one.
func application(f *quadlet.File) string {
	rest, ok := strings.CutPrefix(f.Path, f.Dir+"/")
	if dir, _, below := strings.Cut(rest, "/"); ok && below {
		return dir
	}
	return ""
}

// UnitLogsCmd is "moss unit logs".
type UnitLogsCmd struct {
	Globals
	Follow bool   `short:"f" help:"Go on with what is written from now on."`
	Tail   string `short:"n" name:"tail" aliases:"lines" help:"Only so many of the last lines." placeholder:"N"`
	Since  string `help:"Only what was written since then; see journalctl(1)." placeholder:"TIME"`
	Name   string `arg:"" help:"Name of a quadlet file or of its service."`
}

// Run executes journalctl.
func (cmd *UnitLogsCmd) Run(ctx context.Context, c *call) error {
	service, err := serviceOf(cmd.Name)
	if err != nil {
		return err
	}
	// --user would not read the system's journal, where a user's entries are as long as
	// there is none on disk.
	uid := fmt.Sprint("_UID=", cgroup.HostUID())
	args := []string{"journalctl", "_SYSTEMD_USER_UNIT=" + service, uid, "+", "USER_UNIT=" + service, uid,
		// The journal does not know the unit of who has ended before it looked for the cgroup.
		"+", "SYSLOG_IDENTIFIER=" + strings.TrimSuffix(service, ".service"), uid}
	if cmd.Follow {
		args = append(args, "--follow")
	}
	if cmd.Tail != "" {
		args = append(args, "--lines", cmd.Tail)
	}
	if cmd.Since != "" {
		args = append(args, "--since", cmd.Since)
	}
	return become(args[0], args)
}

// UnitStatusCmd is "moss unit status".
type UnitStatusCmd struct {
	Globals
	Name []string `arg:"" optional:"" help:"Names of quadlet files or of their services; all by default."`
}

// Run executes systemctl.
func (cmd *UnitStatusCmd) Run(ctx context.Context, c *call) error {
	args := []string{"systemctl", "--user", "--no-pager", "status"}
	add := func(service string) { args = append(args, strings.Replace(service, "@.", "@*.", 1)) } // the instances of a template
	if len(cmd.Name) == 0 {
		units, err := userUnits()
		if err != nil {
			return err
		}
		for _, u := range units {
			add(u.Name)
		}
		if len(args) == 4 {
			return errors.New("there are no quadlet files")
		}
	}
	for _, name := range cmd.Name {
		service, err := serviceOf(name)
		if err != nil {
			return err
		}
		add(service)
	}
	return become(args[0], args)
}

// serviceOf is the service that a name means. That of a file which has just gone may
// still be there.
func serviceOf(name string) (string, error) {
	units, err := userUnits()
	if err != nil {
		return "", err
	}
	u, err := findUnit(units, name)
	if err == nil {
		return u.Name, nil
	}
	if prefix, of, is := strings.Cut(strings.TrimSuffix(name, ".service"), "@"); is && of != "" {
		if u, err := findUnit(units, prefix+"@"); err == nil { // of a template
			return instance(u, of), nil
		}
	}
	if strings.HasSuffix(name, ".service") {
		return name, nil
	}
	return "", err
}
