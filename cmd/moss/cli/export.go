package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/cmd/moss/cli/format"
	"moss/rootless"
	filetree "moss/rootless/tree"
	"moss/storage/image"
)

// ExportCmd is "moss export".
type ExportCmd struct {
	Globals
	Output    string `short:"o" help:"Write to this file, in place of standard output." placeholder:"FILE"`
	Container string `arg:"" help:"Name, ID, or the first digits of an ID."`
}

func (cmd *ExportCmd) prepare() error {
	return archiveTo(cmd.Output)
}

// archiveTo refuses to write an archive to a terminal, where there is no output file.
func archiveTo(output string) error {
	if output == "" && isTerminal(os.Stdout) {
		return usagef("refusing to write an archive to a terminal: give --output or redirect")
	}
	return nil
}

// Run writes the archive; a file is there whole or not at all.
func (cmd *ExportCmd) Run(ctx context.Context, c *call) error {
	ctx, stop := signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM)
	defer stop()
	ctr, err := c.Engine.Find(cmd.Container)
	if err != nil {
		return err
	}
	if cmd.Output == "" {
		return c.Engine.Export(ctx, ctr, c.Out)
	}
	return wholeFile(cmd.Output, func(w io.Writer) error { return c.Engine.Export(ctx, ctr, w) })
}

// wholeFile writes a file beside its place and then renames it. What is there and
// is no file, such as a device or a pipe, is written to.
func wholeFile(path string, write func(io.Writer) error) (err error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return fmt.Errorf("cannot write %q: %w", path, err)
		}
		return errors.Join(write(f), f.Close())
	}
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		path = resolved
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
	if err = errors.Join(write(f), f.Close()); err != nil {
		return err
	}
	mask := unix.Umask(0)
	unix.Umask(mask)
	if err = os.Chmod(f.Name(), os.FileMode(0o666&^mask)); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// DiffCmd is "moss diff".
type DiffCmd struct {
	Globals
	Format string   `help:"Print as json, or through a Go template with .Kind and .Path." placeholder:"FORMAT"`
	Latest bool     `short:"l" help:"The container that was created last."`
	Name   []string `arg:"" optional:"" help:"A container or an image, and what to compare it with."`

	kind string // "container", "image"; "" is either
}

func (cmd *DiffCmd) prepare() error {
	n := len(cmd.Name)
	switch {
	case cmd.Latest && cmd.kind == "image":
		return usagef("--latest is about containers")
	case cmd.Latest && n > 0:
		return usagef("--latest cannot be combined with a name")
	case !cmd.Latest && n == 0:
		return usagef("the name of a container or an image is missing")
	case n > 2 || n > 1 && cmd.kind == "container":
		return usagef("%d names are too many", n)
	}
	return nil
}

// diffRow is one line, for templates.
type diffRow struct{ Kind, Path string }

// Run prints the changes as they are found, unless a format wants them all.
func (cmd *DiffCmd) Run(ctx context.Context, c *call) error {
	var subjects []rootless.Subject
	if cmd.Latest {
		ctr, err := c.Engine.Latest()
		if err != nil {
			return err
		}
		subjects = []rootless.Subject{{Container: ctr}}
	}
	for _, name := range cmd.Name {
		s, err := cmd.subject(ctx, c, name)
		if err != nil {
			return err
		}
		subjects = append(subjects, s)
	}
	rows := []diffRow{}
	out := bufio.NewWriter(c.Out)
	report := func(change filetree.Change) error {
		if cmd.Format != "" {
			rows = append(rows, diffRow{string(change.Kind), change.Path})
			return nil
		}
		_, err := fmt.Fprintf(out, "%c %s\n", change.Kind, change.Path)
		return err
	}
	var err error
	switch s := subjects[0]; {
	case len(subjects) == 2:
		err = c.Engine.Compare(ctx, s, subjects[1], report)
	case s.Container != nil:
		err = c.Engine.Changes(ctx, s.Container, report)
	default:
		err = c.Engine.ImageChanges(ctx, s.Image, report)
	}
	if err := errors.Join(err, out.Flush()); err != nil || cmd.Format == "" {
		return err
	}
	return format.Table{}.Print(c.Out, cmd.Format, rows, diffJSON(rows))
}

// subject finds a container, else an image.
func (cmd *DiffCmd) subject(ctx context.Context, c *call, name string) (s rootless.Subject, err error) {
	if cmd.kind != "image" {
		if s.Container, err = c.Engine.Find(name); err == nil || cmd.kind == "container" || !isNotFound(err) {
			return s, err
		}
	}
	s.Container = nil
	s.Image, err = c.Engine.Image(ctx, name)
	if errors.Is(err, image.ErrNotFound) && cmd.kind == "" {
		err = &hintedError{fmt.Errorf("cannot find %q: no container and no image has that name: %w", name, err), "'moss ps --all' lists the containers, 'moss images' the images"}
	}
	return s, err
}

// diffReport is podman's JSON.
type diffReport struct {
	Changed []string `json:"changed,omitempty"`
	Added   []string `json:"added,omitempty"`
	Deleted []string `json:"deleted,omitempty"`
}

func diffJSON(rows []diffRow) (r diffReport) {
	for _, row := range rows {
		switch row.Kind[0] {
		case filetree.Changed:
			r.Changed = append(r.Changed, row.Path)
		case filetree.Added:
			r.Added = append(r.Added, row.Path)
		default:
			r.Deleted = append(r.Deleted, row.Path)
		}
	}
	return r
}
