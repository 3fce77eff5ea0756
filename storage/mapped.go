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

// mapped is the record <root>/mapped/<hash>.json of a mapped copy.
type mapped struct {
	Layer          string // the copy goes when this layer does
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

// Mapped makes a copy of an image's merged layers whose owners are shifted by a
// mapping, and returns its directory. The kernel does not let an unprivileged
// user shift the owners of a mount (mount_setattr(2) wants the file system's
// own namespace), so that the copy is what there is; it is made once and shared
// by all containers with this mapping. started is called if it must be made.
func (s *Store) Mapped(img *image.Image, req image.MappedRequest, started func()) (string, error) {
	dir := image.MappedDir(s.Root, img, req)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("cannot copy image %q: %w", img.ID, err)
	}
	unlock, err := lock(filepath.Join(filepath.Dir(dir), "lock"))
	if err != nil {
		return "", fmt.Errorf("cannot copy image %q: %w", img.ID, err)
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // made while we waited
	}
	started()
	if err := s.makeMapped(img, req, dir); err != nil {
		return "", fmt.Errorf("cannot copy image %q: %w", img.ID, err)
	}
	return dir, nil
}

func (s *Store) makeMapped(img *image.Image, req image.MappedRequest, dir string) error {
	staging := filepath.Join(filepath.Dir(dir), ".new-"+filepath.Base(dir))
	if err := os.RemoveAll(staging); err != nil { // of a copy that was killed
		return err
	}
	defer os.RemoveAll(staging)
	if err := os.Mkdir(staging, 0o755); err != nil {
		return err
	}
	// The merged view lives as long as its directories.
	point, err := os.MkdirTemp(filepath.Dir(dir), ".merge-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(point)
	merged, err := s.merge(img, point)
	if err != nil {
		return err
	}
	defer merged.Close()
	c := copier{
		from: fmt.Sprintf("/proc/self/fd/%d", merged.Fd()), to: staging, lower: img.Lower,
		uids: req.UIDMap, gids: req.GIDMap, links: make(map[inode]string),
	}
	if err := c.run(); err != nil {
		return err
	}
	// A copy that is there must be whole, also after a power cut.
	if err := syncfs(staging); err != nil {
		return err
	}
	record := mapped{UIDMap: req.UIDMap, GIDMap: req.GIDMap}
	if len(img.Layers) > 0 {
		record.Layer = img.Layers[0]
	}
	if err := image.WriteJSON(dir+".json", record); err != nil {
		return err
	}
	return os.Rename(staging, dir)
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
