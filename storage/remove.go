package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	s.makeRoom()
	defer s.keepBallast()
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
