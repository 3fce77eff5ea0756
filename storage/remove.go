package storage

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	cs "go.podman.io/storage"

	"moss/record"
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
	var lines []image.LogEntry
	for _, name := range names {
		lines = append(lines, image.LogEntry{Time: time.Now(), Name: name, Verb: s.Verb})
	}
	return image.AppendLog(s.Root, lines...)
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

// FinishRemovals deletes the images that Images.Remove has taken out of the index.
func (s *Store) FinishRemovals() error {
	if len(image.DoomedIDs(s.Root)) == 0 {
		return nil
	}
	unlock, err := s.lockDoomed()
	if err != nil {
		return err
	}
	defer unlock()
	var all error
	for _, id := range image.DoomedIDs(s.Root) { // of which others may have done some
		err := s.DeleteImage(id)
		switch {
		case errors.Is(err, cs.ErrImageUsedByContainer): // of another program, since
			all = errors.Join(all, err, s.spare(id))
			continue
		case err != nil && !errors.Is(err, image.ErrNotFound) && !errors.Is(err, ErrReadOnly):
			all = errors.Join(all, err)
			continue
		}
		all = errors.Join(all, os.Remove(filepath.Join(image.Doomed(s.Root), id)))
	}
	return all
}

func (s *Store) lockDoomed() (unlock func(), err error) {
	dir := filepath.Join(s.Root, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	return record.Lock(filepath.Join(dir, "doomed.lock"))
}

// spare keeps an image that was to be removed, without the names that it had.
func (s *Store) spare(id string) error {
	if !slices.Contains(image.DoomedIDs(s.Root), id) {
		return nil
	}
	if err := s.lib.SetNames(id, nil); err != nil && !errors.Is(err, cs.ErrImageUnknown) {
		return err
	}
	// The index lacks it, and would not know.
	if err := os.Remove(filepath.Join(s.Root, "images", "index")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Remove(filepath.Join(image.Doomed(s.Root), id))
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
