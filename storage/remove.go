package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"moss/storage/image"
)

// ErrReadOnly says that an image is podman's, which moss only reads.
var ErrReadOnly = errors.New("it is in podman's store, which moss only reads (podman rmi removes it)")

// RemoveNames takes names from an image.
func (s *Store) RemoveNames(id string, names []string) error {
	_, err := s.own(id)
	if err == nil {
		err = s.pending.hold(lineNames + id)
	}
	if err == nil {
		err = s.lib.RemoveNames(id, names)
	}
	if err != nil {
		return fmt.Errorf("cannot untag image %q: %w", id, err)
	}
	return nil
}

// DeleteImage removes an image and the layers that nothing else uses, and its
// mapped copies.
func (s *Store) DeleteImage(id string) error {
	if err := s.deleteImage(id); err != nil {
		return fmt.Errorf("cannot remove image %q: %w", id, err)
	}
	return s.sweepMapped()
}

func (s *Store) deleteImage(id string) error {
	img, err := s.own(id)
	if err != nil {
		return err
	}
	// The record goes before the layers: who is killed between leaves them to recover.
	p := &pending{dir: s.pendingDir(), held: map[string]bool{}}
	if err := p.hold(lineOld + id); err != nil {
		return err
	}
	defer p.file.Close()
	for layer := img.TopLayer; layer != ""; {
		if err := p.hold(lineLayer + layer); err != nil {
			return err
		}
		l, err := s.lib.Layer(layer)
		if err != nil {
			break
		}
		layer = l.Parent
	}
	// The library waits for the disk with the record; so must this.
	if err := p.file.Sync(); err != nil {
		return err
	}
	if _, err := s.lib.DeleteImage(id, true); err != nil {
		return err
	}
	return os.Remove(p.path)
}

// Parents lists the images without a name that img was built on and that nothing
// else is built on, nearest first: intermediate steps of a build.
func Parents(img *image.Image, all []*image.Image) []*image.Image {
	var parents []*image.Image
	for _, p := range all {
		if p.ID == img.ID || p.ReadOnly || len(p.Names) > 0 || !builtOn(img, p) {
			continue
		}
		others := func(o *image.Image) bool { return o.ID != img.ID && o.ID != p.ID && len(o.Names) > 0 && builtOn(o, p) }
		if !slices.ContainsFunc(all, others) {
			parents = append(parents, p)
		}
	}
	slices.SortFunc(parents, func(a, b *image.Image) int { return len(b.History) - len(a.History) })
	return parents
}

// builtOn says whether img begins with all that p is.
func builtOn(img, p *image.Image) bool {
	if len(p.History) == 0 || len(p.History) >= len(img.History) || len(p.DiffIDs) > len(img.DiffIDs) {
		return false
	}
	return slices.Equal(p.DiffIDs, img.DiffIDs[:len(p.DiffIDs)]) &&
		slices.EqualFunc(p.History, img.History[:len(p.History)], func(a, b image.History) bool {
			return a.CreatedBy == b.CreatedBy && a.Created.Equal(b.Created)
		})
}

// sweepMapped removes mapped copies whose layer is gone. While a container uses
// one, its image, and so the layer, stays.
func (s *Store) sweepMapped() error {
	dir := filepath.Join(s.Root, "mapped")
	records, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return err
	}
	var all error
	for _, record := range records {
		m, err := readMapped(record)
		if err != nil || m.Layer == "" || s.hasLayer(m.Layer) {
			continue
		}
		copied := record[:len(record)-len(".json")]
		trash, err := os.MkdirTemp(dir, ".trash-*")
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		if err := os.Rename(copied, filepath.Join(trash, "copy")); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
		all = errors.Join(all, os.RemoveAll(trash), os.Remove(record))
	}
	return all
}
