package storage

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/storage/image"
	"moss/storage/usage"
)

const (
	// leftAlone is how old what has no lock of its own must be before it is taken
	// for a crash's.
	leftAlone = 10 * time.Minute
	// leftByOthers is that for a layer that no moss has noted: podman may be about
	// to record the image that it is of.
	leftByOthers = time.Hour
)

// Collect finds what no record of the store knows, and removes it unless dry. With
// all, it takes also what waits for the next try of a pull. It waits for nobody who
// pulls, and keeps nobody waiting but for moments.
func (s *Store) Collect(all, dry bool) ([]image.Garbage, error) {
	if err := os.MkdirAll(s.pendingDir(), 0o700); err != nil {
		return nil, fmt.Errorf("cannot look for what is left: %w", err)
	}
	unlock, err := record.Lock(filepath.Join(s.pendingDir(), pendingLock))
	if err != nil {
		return nil, fmt.Errorf("cannot look for what is left: %w", err)
	}
	defer unlock()
	c := &collector{store: s, all: all}
	err = errors.Join(c.layers(), c.files())
	c.measure()
	if err != nil || dry {
		return c.found, err
	}
	s.makeRoom()
	defer s.keepBallast()
	if err := s.deleteLayers(c.unused); err != nil {
		return c.found, fmt.Errorf("cannot remove layers: %w", err)
	}
	if err := s.sweepLibrary(); err != nil {
		return c.found, fmt.Errorf("cannot remove files of the store: %w", err)
	}
	for _, path := range c.done {
		err = errors.Join(err, c.remove(path))
	}
	return c.found, errors.Join(err, s.sweepMapped())
}

type collector struct {
	store  *Store
	all    bool
	found  []image.Garbage
	unused []string // layers
	done   []string // paths to remove, after the layers
}

func (c *collector) add(kind, path string) {
	c.found = append(c.found, image.Garbage{Kind: kind, Path: path})
}

// goes adds what is removed as a file.
func (c *collector) goes(kind, path string) {
	c.add(kind, path)
	c.done = append(c.done, path)
}

func (c *collector) measure() {
	paths := make([]string, len(c.found))
	for i, g := range c.found {
		paths[i] = g.Path
	}
	sizes, _ := new(usage.Meter).Trees(paths) // what goes meanwhile takes nothing
	for i, n := range sizes {
		c.found[i].Bytes = n
	}
}

// remove takes a file or a tree away in one step, where that can be, and deletes it.
func (c *collector) remove(path string) error {
	trash := filepath.Join(c.store.Root, "trash")
	if err := os.MkdirAll(trash, 0o700); err != nil {
		return err
	}
	grave := filepath.Join(trash, fmt.Sprintf("gc-%d-%s", os.Getpid(), filepath.Base(path)))
	if err := os.Rename(path, grave); err == nil {
		path = grave
	}
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("cannot remove %q: %w", path, err)
	}
	return nil
}

// layers finds the layers of no image that nobody holds, and the files of those that
// were killed.
func (c *collector) layers() error {
	s := c.store
	live, dead, err := pendings(s.pendingDir())
	if err != nil {
		return err
	}
	holders, dropped := live, map[string]bool{}
	for _, u := range dead {
		fi, err := u.file.Stat()
		u.file.Close()
		if u.keep && !c.all && err == nil && time.Since(fi.ModTime()) < keepUnfinished {
			holders = append(holders, u)
			continue
		}
		u.each(lineLayer, func(id string) { dropped[id] = true })
		c.done = append(c.done, u.path)
	}
	used, err := s.usedLayers(holders)
	if err != nil {
		return err
	}
	layers, err := s.lib.Layers()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for i := range layers {
		l := &layers[i]
		known[l.ID] = true
		if used[l.ID] || !dropped[l.ID] && time.Since(l.Created) < leftByOthers {
			continue
		}
		c.add("layer", s.layerHome(l.ID))
		c.unused = append(c.unused, l.ID)
	}
	return c.unknown(known)
}

// layerHome is the driver's directory of a layer.
func (s *Store) layerHome(id string) string {
	if s.lib.GraphDriverName() == "vfs" {
		return filepath.Join(s.Root, "storage", "vfs", "dir", id)
	}
	return filepath.Join(s.Root, "storage", "overlay", id)
}

// unknown finds directories and files of the library that none of its records knows.
// What came since known was read is young, and left alone; the library itself, which
// then removes them, looks again.
func (c *collector) unknown(known map[string]bool) error {
	s := c.store
	images, err := s.lib.Images()
	if err != nil {
		return err
	}
	imageIDs := map[string]bool{}
	for i := range images {
		imageIDs[images[i].ID] = true
	}
	name := s.lib.GraphDriverName()
	storage := filepath.Join(s.Root, "storage")
	for _, in := range []struct {
		kind, dir string
		garbage   func(name string) bool
	}{
		{"layer without a record", filepath.Dir(s.layerHome("x")), func(n string) bool { return isID(n) && !known[n] }},
		{"file of no layer", filepath.Join(storage, name+"-layers"), func(n string) bool {
			id := strings.TrimSuffix(n, ".tar-split.gz")
			return isID(id) && !known[id] || strings.HasPrefix(n, ".tmp-")
		}},
		{"file of no image", filepath.Join(storage, name+"-images"), func(n string) bool { return isID(n) && !imageIDs[n] || strings.HasPrefix(n, ".tmp-") }},
		{"staged layer", filepath.Join(storage, "overlay", "staging"), func(n string) bool { return true }},
	} {
		err := c.each(in.dir, func(name, path string, age time.Duration) {
			if age > leftAlone && in.garbage(name) {
				c.add(in.kind, path) // sweepLibrary removes it
			}
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// each calls do for the entries of a directory, which need not be there.
func (c *collector) each(dir string, do func(name, path string, age time.Duration)) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if fi, err := entry.Info(); err == nil {
			do(entry.Name(), filepath.Join(dir, entry.Name()), time.Since(fi.ModTime()))
		}
	}
	return nil
}

// files finds what lies beside the library's directory: downloads that nobody goes on
// with, mapped trees without a layer, links to no layer.
func (c *collector) files() error {
	root := c.store.Root
	err := c.each(filepath.Join(root, "storage-tmp"), func(name, path string, age time.Duration) {
		old := leftAlone
		if strings.HasPrefix(name, "sha256-") {
			if old = keepUnfinished; c.all {
				old = 0
			}
		}
		if age >= old && !isLocked(path) {
			c.goes("download", path)
		}
	})
	mapped := filepath.Join(root, "mapped")
	err = errors.Join(err, c.each(mapped, func(name, path string, age time.Duration) {
		switch {
		case strings.HasPrefix(name, stagingPrefix) || strings.HasPrefix(name, ".trash-"):
			if !isLocked(path) && (age > leftAlone || strings.HasPrefix(name, stagingPrefix)) {
				c.goes("mapped copy", path)
			}
		case strings.HasSuffix(name, ".json"):
			if m, err := readMapped(path); err == nil && m.Layer != "" && (!c.store.hasLayer(m.Layer) || slices.Contains(c.unused, m.Layer)) {
				c.add("mapped copy", strings.TrimSuffix(path, ".json")) // sweepMapped removes it
			}
		default:
			if _, err := os.Lstat(path + ".json"); errors.Is(err, fs.ErrNotExist) && age > leftAlone {
				c.goes("mapped copy", path)
			}
		}
	}))
	err = errors.Join(err, c.each(filepath.Join(root, "images"), func(name, path string, age time.Duration) {
		if strings.HasPrefix(name, ".") && age > leftAlone {
			c.goes("half-written record", path)
		}
	}))
	return errors.Join(err, c.each(filepath.Join(root, "storage", "overlay", "l"), func(name, path string, age time.Duration) {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && age > leftAlone {
			c.goes("link to no layer", path)
		}
	}))
}

// isLocked says whether somebody has a file or directory locked, or it cannot be
// known.
func isLocked(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil
}
