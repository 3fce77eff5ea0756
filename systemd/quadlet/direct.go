package quadlet

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"moss/record"
)

// generatorDirs are where the service manager looks for generators of users; see
// systemd.generator(7). The first of a name counts, and one that is a link to
// /dev/null is none.
var generatorDirs = [...]string{"/run/systemd/user-generators", "/etc/systemd/user-generators", "/usr/local/lib/systemd/user-generators", "/usr/lib/systemd/user-generators"}

// HasGenerator says whether the service manager runs the generator of a name.
func HasGenerator(name string) bool {
	for _, dir := range generatorDirs {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return info.Mode().IsRegular()
		}
	}
	return false
}

// Direct makes the services where no generator does: in a directory of units that is
// the user's own, beside units that are not moss's, which stay as they are. The file
// made says what it has made, so that what is no longer wanted goes; one Direct at a time
// works with it.
func (g *Generator) Direct(dirs []string, made string) (failed bool, err error) {
	var before, after []string
	to := g.Out
	unlock, err := record.Lock(made + ".lock")
	if err != nil {
		return true, err
	}
	defer unlock()
	if _, err := record.Read(made, &before); err != nil { // damaged: the services themselves tell
		before = madeIn(to)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return true, fmt.Errorf("cannot make directory %q: %w", to, errors.Unwrap(err))
	}
	sweep(filepath.Dir(made), to)
	scratch, done, err := record.Scratch(filepath.Dir(made))
	if err != nil {
		return true, err
	}
	defer done()
	g.Out = scratch
	failed = g.Run(dirs)
	var errs []error
	err = filepath.WalkDir(scratch, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(scratch, path)
		if err != nil {
			return err
		}
		if err := place(path, filepath.Join(to, name), slices.Contains(before, name)); err != nil {
			errs = append(errs, err)
			return nil
		}
		after = append(after, name)
		return nil
	})
	if err != nil {
		return true, err
	}
	// What is there is known before anything is removed, should that fail.
	if err := record.Write(made, append(slices.Clone(after), before...), false); err != nil {
		return true, err
	}
	for _, name := range before {
		if !slices.Contains(after, name) {
			if err := os.Remove(filepath.Join(to, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("cannot remove unit file %q: %w", filepath.Join(to, name), errors.Unwrap(err)))
				after = append(after, name)
			}
			_ = os.Remove(filepath.Dir(filepath.Join(to, name))) // target.wants, if it is empty
		}
	}
	return failed, errors.Join(errors.Join(errs...), record.Write(made, after, false))
}

// sweep removes what a Direct that was killed has left: no other is at work.
func sweep(beside, to string) {
	entries, _ := os.ReadDir(beside)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), record.ScratchPrefix) {
			record.SweepScratch(filepath.Join(beside, e.Name()))
		}
	}
	entries, _ = os.ReadDir(to)
	for _, e := range entries {
		if ext := filepath.Ext(record.Unfinished(e.Name())); ext == ".service" || ext == ".socket" {
			_ = os.Remove(filepath.Join(to, e.Name()))
		}
	}
}

// madeIn finds what Direct has made, below a directory: services that begin as those
// do, and links to them.
func madeIn(dir string) (names []string) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // what cannot be read is not moss's
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
			return nil
		}
		name, err := filepath.Rel(dir, path)
		if data, rerr := os.ReadFile(path); err == nil && rerr == nil && bytes.HasPrefix(data, []byte(heading)) {
			names = append(names, name)
		}
		return nil
	})
	return names
}

// place puts a service or a link to one where the service manager reads it.
func place(from, to string, ours bool) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return fmt.Errorf("cannot make directory %q: %w", filepath.Dir(to), errors.Unwrap(err))
	}
	target, err := os.Readlink(from)
	if err == nil {
		if old, err := os.Readlink(to); err == nil && old == target {
			return nil
		}
		if _, err := os.Lstat(to); err == nil {
			if !ours {
				return fmt.Errorf("cannot make %q: it is there, and not moss's", to)
			}
			_ = os.Remove(to)
		}
		if err := os.Symlink(target, to); err != nil {
			return fmt.Errorf("cannot make link %q: %w", to, errors.Unwrap(err))
		}
		return nil
	}
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(to)
	switch {
	case err == nil && bytes.Equal(old, data):
		return nil
	case err == nil && !ours && !bytes.HasPrefix(old, []byte(heading)):
		return fmt.Errorf("cannot make %q: it is there, and not moss's", to)
	}
	return record.Replace(to, data, 0o644, false)
}
