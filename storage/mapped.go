package storage

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"moss/storage/driver"
	"moss/storage/image"
)

// mapped is the record <root>/mapped/<hash>.json of a mapped tree.
type mapped struct {
	Layer          string // the tree goes when this layer does
	UIDMap, GIDMap []image.IDMap
}

func readMapped(path string) (mapped, error) {
	var m mapped
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	return m, err
}

// Mapped makes (or finds) a tree with an image's merged layers whose owners are
// shifted by a mapping, and returns its directory. With req.Redirect it has no
// bytes, only inodes that point into the layers; else it is a copy. It is made
// once and shared by all containers with this mapping, and needs no lock of the
// store: layers do not change. watch, if set, is called when the tree has to be
// made, with a count of the entries made so far; what it returns is called after.
func Mapped(root string, img *image.Image, req image.MappedRequest, watch func(made func() int64) (done func())) (string, error) {
	m := maker{root: root, img: img, req: req, dir: image.MappedDir(root, img, req), watch: watch}
	for {
		if _, err := os.Stat(m.dir); err == nil {
			return m.dir, nil
		}
		if err := m.try(); err != nil && !errors.Is(err, errElsewhere) {
			return "", fmt.Errorf("cannot map the owners of image %q: %w", img.ID, err)
		}
	}
}

// maker makes one tree, beside its place.
type maker struct {
	root  string
	img   *image.Image
	req   image.MappedRequest
	dir   string
	watch func(func() int64) func()
}

// errElsewhere says that another process has done, or given up, what was locked.
var errElsewhere = errors.New("made elsewhere")

const stagingPrefix = ".new-"

func (m *maker) try() error {
	staging := filepath.Join(filepath.Dir(m.dir), stagingPrefix+filepath.Base(m.dir))
	if err := os.MkdirAll(filepath.Dir(m.dir), 0o700); err != nil { // as record.Scratch
		return err
	}
	if err := os.MkdirAll(staging, 0o755); err != nil {
		return err
	}
	held, err := hold(staging, unix.LOCK_EX)
	if err != nil {
		return err
	}
	defer held.Close()
	defer os.RemoveAll(staging)
	sweepStaging(filepath.Dir(m.dir))
	return m.make(staging)
}

// hold opens and locks a directory that may be removed by whom it is locked: then
// errElsewhere.
func hold(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, errElsewhere
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		f.Close()
		return nil, err
	}
	own, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(dir); err == nil && os.SameFile(own, now) {
			return f, nil
		}
	}
	f.Close()
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = errElsewhere
	}
	return nil, err
}

// sweepStaging removes what makers left that were killed.
func sweepStaging(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, stagingPrefix+"*"))
	for _, staging := range left {
		if f, err := hold(staging, unix.LOCK_EX|unix.LOCK_NB); err == nil {
			os.RemoveAll(staging)
			f.Close()
		}
	}
}

// make fills the staging directory, which is locked and may hold what a maker
// left that was killed.
func (m *maker) make(staging string) error {
	tree, point := filepath.Join(staging, "tree"), filepath.Join(staging, "merge")
	for _, dir := range []string{tree, point} {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	drv, err := driver.Cached(m.root)
	if err != nil {
		return err
	}
	store := &Store{Root: m.root, Driver: drv}
	merged, err := store.merge(m.img, point)
	if err != nil {
		return err
	}
	defer merged.Close()
	c := copier{
		from: fmt.Sprintf("/proc/self/fd/%d", merged.Fd()), to: tree, lower: m.img.Lower,
		uids: m.req.UIDMap, gids: m.req.GIDMap, redirect: m.req.Redirect,
	}
	if m.watch != nil {
		defer m.watch(c.entries.Load)()
	}
	if err := c.run(); err != nil {
		return err
	}
	return m.keep(&c, tree)
}

// keep puts a finished tree in its place. After a power cut it must be whole if it
// is there at all. Inodes are: ext4, XFS, btrfs and f2fs keep changes of metadata
// in order, so that a rename is not on the disk before what was made ahead of it.
// Bytes are not, and are waited for.
func (m *maker) keep(c *copier, tree string) error {
	if c.bytesCopied.Load() {
		if err := syncfs(tree); err != nil {
			return err
		}
	}
	record := mapped{UIDMap: m.req.UIDMap, GIDMap: m.req.GIDMap}
	if len(m.img.Layers) > 0 {
		record.Layer = m.img.Layers[0]
	}
	if err := image.WriteJSON(m.dir+".json", record); err != nil {
		return err
	}
	return os.Rename(tree, m.dir)
}

func syncfs(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// merge opens the merged layers of an image, read-only, with the help of an empty
// directory. The mount is taken away at once; the open file keeps it alive.
func (s *Store) merge(img *image.Image, point string) (*os.File, error) {
	if len(img.Lower) == 0 {
		return os.Open(point)
	}
	if s.Driver.Name == driver.VFS {
		return os.Open(img.Lower[0])
	}
	empty, target := filepath.Join(point, "empty"), filepath.Join(point, "m")
	for _, dir := range []string{empty, target} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, err
		}
	}
	if err := s.mountMerged(append(append([]string{}, img.Lower...), empty), target); err != nil {
		return nil, err
	}
	defer unix.Unmount(target, unix.MNT_DETACH)
	return os.Open(target)
}

// mountMerged mounts read-only; overlay wants at least two layers for that,
// hence the caller's empty one.
func (s *Store) mountMerged(lower []string, target string) error {
	if s.Driver.Name == driver.Fuse {
		out, err := exec.Command(s.Driver.Program, "-o", "ro,lowerdir="+strings.Join(lower, ":"), target).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", s.Driver.Program, err, out)
		}
		return nil
	}
	// The options of a mount fit in a page: paths are told from the layers'
	// directory. This program does one thing only, so that it may go there.
	home := filepath.Join(s.Root, "storage", "overlay")
	if err := os.Chdir(home); err != nil {
		return err
	}
	for n, dir := range lower {
		if rel, err := filepath.Rel(home, dir); err == nil {
			lower[n] = rel
		}
	}
	err := unix.Mount("overlay", target, "overlay", unix.MS_RDONLY, "userxattr,lowerdir="+strings.Join(lower, ":"))
	if err != nil {
		return errors.Join(fmt.Errorf("cannot mount %d layers", len(lower)), os.NewSyscallError("mount", err))
	}
	return nil
}
