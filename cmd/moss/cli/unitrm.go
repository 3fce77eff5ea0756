package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"moss/record"
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
// names. What they have made, such as volumes, stays.
func (cmd *UnitRmCmd) Run(ctx context.Context, c *call) error {
	home, err := unitHome()
	if err != nil {
		return err
	}
	units, err := userUnits()
	if err != nil {
		return err
	}
	states, err := statesOf(ctx, units)
	if err != nil {
		return err
	}
	targets, dirs, err := cmd.targets(units, home)
	if err != nil {
		return err
	}
	var running []string
	for _, u := range targets {
		running = append(running, states.services(u, "active", "activating", "reloading", "deactivating")...)
	}
	if len(running) > 0 && !cmd.Force {
		return fmt.Errorf("cannot remove what runs: %s; --force stops it first", strings.Join(running, ", "))
	}
	sockets, err := activeSockets(ctx, targets)
	if err != nil {
		return err
	}
	if err := errors.Join(stopUnits(ctx, sockets), stopUnits(ctx, running)); err != nil {
		return err
	}
	for _, dir := range dirs { // of one that is a link, the link: what it leads to stays
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("cannot remove application %q: %w", filepath.Base(dir), err)
		}
	}
	for _, u := range targets {
		if !slices.ContainsFunc(dirs, func(dir string) bool { return inDir(u, dir) }) {
			if err := removeUnitFile(home, u.Source.Path); err != nil {
				return err
			}
		}
		fmt.Fprintln(c.Out, u.Source.Name)
	}
	if cmd.ReloadSystemd == nil || *cmd.ReloadSystemd {
		return c.reloadUnits(ctx)
	}
	return nil
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
