package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/systemd"
	"moss/systemd/quadlet"
)

// UnitRmCmd is "moss unit rm".
type UnitRmCmd struct {
	Globals
	All           bool     `short:"a" help:"Remove all that you have installed."`
	Force         bool     `short:"f" help:"Stop those that run, and remove them."`
	Ignore        bool     `short:"i" help:"Say nothing of those that are not there."`
	Recursive     bool     `help:"Remove an application: all files of its directory."`
	ReloadSystemd *bool    `help:"Let the service manager read its units anew; true by default."`
	Name          []string `arg:"" optional:"" help:"Names of quadlet files, or of applications."`
}

func (cmd *UnitRmCmd) prepare() error {
	v := &flagValues{}
	v.check(len(cmd.Name) == 0 && !cmd.All, "want the name of a quadlet file, or --all")
	v.check(len(cmd.Name) > 0 && cmd.All, "--all cannot be combined with names")
	return v.err
}

// Run removes files of the user's own directory, with their drop-ins, and prints their
// names. What they have made, such as volumes, stays. What cannot be removed goes on to run.
func (cmd *UnitRmCmd) Run(ctx context.Context, c *call) error {
	home, err := unitHome()
	if err != nil {
		return err
	}
	r, done, err := cmd.take(ctx, c, home)
	if err != nil {
		return err
	}
	defer done()
	states, err := statesOf(ctx, r.units)
	if err != nil {
		return err
	}
	var running []string
	for _, u := range r.units {
		running = append(running, states.services(u, "active", "activating", "reloading", "deactivating")...)
	}
	if len(running) > 0 && !cmd.Force {
		return fmt.Errorf("cannot remove what runs: %s; --force stops it first", strings.Join(running, ", "))
	}
	if err := r.check(); err != nil {
		return err
	}
	sockets, err := activeSockets(ctx, r.units)
	if err != nil {
		return err
	}
	if err = errors.Join(stopUnits(ctx, sockets), stopUnits(ctx, running)); err == nil {
		err = r.remove(c)
	}
	if err != nil {
		left := r.left(slices.Concat(sockets, running))
		err = errors.Join(err, manage(context.WithoutCancel(ctx), left, (*systemd.Units).Start))
	}
	changed := err == nil || slices.ContainsFunc(r.units, r.gone)
	if changed && (cmd.ReloadSystemd == nil || *cmd.ReloadSystemd) {
		err = errors.Join(err, c.reloadUnits(context.WithoutCancel(ctx)))
	}
	if err == nil {
		states.forget(ctx, r.units)
	}
	return err
}

// removal is what is to be removed: units, those of whole directories too.
type removal struct {
	home  string
	units []*quadlet.Unit
	dirs  []string
}

// take finds what is to be removed, when no other command changes the applications that it
// is of any more.
func (cmd *UnitRmCmd) take(ctx context.Context, c *call, home string) (r *removal, done func(), err error) {
	var held []string
	for done = func() {}; ; {
		units, err := userUnits()
		if err == nil {
			r = &removal{home: home}
			r.units, r.dirs, err = cmd.targets(units, home)
		}
		if err != nil {
			done()
			return nil, nil, err
		}
		of := r.applications()
		if !slices.ContainsFunc(of, func(name string) bool { return !slices.Contains(held, name) }) {
			return r, done, nil
		}
		done()
		if done, err = c.turn(ctx, of...); err != nil {
			return nil, nil, fmt.Errorf("cannot remove units: %w", err)
		}
		held = of
	}
}

// applications are those whose files are removed.
func (r *removal) applications() (names []string) {
	for _, dir := range r.dirs {
		names = append(names, filepath.Base(dir))
	}
	for _, u := range r.units {
		rest, ours := strings.CutPrefix(u.Source.Path, r.home+"/")
		if name, _, below := strings.Cut(rest, "/"); ours && below {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// whole is the directory that a unit is removed with; "" for one that goes by itself.
func (r *removal) whole(u *quadlet.Unit) string {
	for _, dir := range r.dirs {
		if inDir(u, dir) {
			return dir
		}
	}
	return ""
}

// check says what could not be removed, before anything is stopped for it.
func (r *removal) check() error {
	for _, dir := range r.dirs {
		if err := removable(dir); err != nil {
			return fmt.Errorf("cannot remove application %q: %w", filepath.Base(dir), err)
		}
	}
	for _, u := range r.units {
		if r.whole(u) != "" {
			continue
		}
		err := removable(u.Source.Path)
		if err == nil {
			err = removable(u.Source.Path + ".d")
		}
		if err != nil {
			return fmt.Errorf("cannot remove unit file %q: %w", u.Source.Path, err)
		}
	}
	return nil
}

// removable says why the kernel would not let us remove something with all that is in it.
func removable(path string) error {
	return filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
		dir := filepath.Dir(path)
		if aerr := unix.Access(dir, unix.W_OK|unix.X_OK); aerr != nil {
			return fmt.Errorf("cannot write directory %q: %w", dir, aerr)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return unreadable(err)
	})
}

// remove removes it, and prints the names of the units.
func (r *removal) remove(c *call) error {
	for _, dir := range r.dirs { // of one that is a link, the link: what it leads to stays
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot remove application %q: %w", filepath.Base(dir), err)
		}
	}
	for _, u := range r.units {
		if r.whole(u) == "" {
			if err := removeUnitFile(r.home, u.Source.Path); err != nil {
				return err
			}
		}
		fmt.Fprintln(c.Out, u.Source.Name)
	}
	return nil
}

// gone says whether the file of a unit is not there any more.
func (r *removal) gone(u *quadlet.Unit) bool {
	dir := r.whole(u)
	return !exists(u.Source.Path) || dir != "" && !exists(dir)
}

// left are those of the services and sockets whose units are still there.
func (r *removal) left(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(r.units, func(u *quadlet.Unit) bool {
			return r.gone(u) && (isOf(name, u) || u.Socket != nil && name == u.Socket.Name)
		})
	})
}

// removeUnitFile removes a file with its drop-ins. Of an application that apply has made
// they are apply's no longer: it would remove what the user gives their names.
func removeUnitFile(home, path string) error {
	err := os.Remove(path)
	if err == nil {
		err = os.RemoveAll(path + ".d")
	}
	if err != nil {
		return fmt.Errorf("cannot remove unit file %q: %w", path, errors.Unwrap(err))
	}
	application, name, _ := strings.Cut(strings.TrimPrefix(path, home+"/"), "/")
	var applied []string
	note := filepath.Join(home, application, appliedFile)
	if found, err := record.Read(note, &applied); err != nil || !found || !slices.Contains(applied, name) {
		return err
	}
	applied = slices.DeleteFunc(applied, func(n string) bool { return n == name || strings.HasPrefix(n, name+".d/") })
	return record.Write(note, applied, false)
}

// targets are the units to remove, and the directories of applications.
func (cmd *UnitRmCmd) targets(units []*quadlet.Unit, home string) (out []*quadlet.Unit, dirs []string, err error) {
	add := func(u *quadlet.Unit) {
		if !slices.Contains(out, u) {
			out = append(out, u)
		}
	}
	linked := func(u *quadlet.Unit) error { // what a link leads to is somebody's original
		if strings.HasPrefix(u.Source.Path, home+"/") {
			return nil
		}
		link, _, _ := strings.Cut(strings.TrimPrefix(u.Source.Via, home+"/"), "/")
		return fmt.Errorf("cannot remove %q: it is not in %s, where %q leads to it; 'moss unit rm --recursive %s' removes that and leaves the file", u.Source.Path, home, link, link)
	}
	if cmd.All {
		for _, u := range units {
			if u.Source.Dir != home {
				continue
			}
			if err := linked(u); err != nil {
				return nil, nil, err
			}
			add(u)
		}
	}
	for _, name := range cmd.Name {
		if dir := filepath.Join(home, name); !quadlet.IsQuadlet(name) && filepath.Dir(dir) == home && isDir(dir) {
			if !cmd.Recursive {
				return nil, nil, fmt.Errorf("cannot remove application %q: --recursive removes all of its files", name)
			}
			for _, u := range units {
				if inDir(u, dir) {
					add(u)
				}
			}
			dirs = append(dirs, dir)
			continue
		}
		u, err := findUnit(units, name)
		switch {
		case err != nil && cmd.Ignore && isNotFound(err):
		case err != nil:
			return nil, nil, err
		case u.Source.Dir != home:
			return nil, nil, fmt.Errorf("cannot remove %q: it is not among yours in %s", u.Source.Path, home)
		case linked(u) != nil:
			return nil, nil, linked(u)
		default:
			add(u)
		}
	}
	return out, dirs, nil
}

// inDir says whether a unit's file is below a directory, or was found there through a
// link.
func inDir(u *quadlet.Unit, dir string) bool {
	return strings.HasPrefix(u.Source.Path, dir+"/") || strings.HasPrefix(u.Source.Via, dir+"/")
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
