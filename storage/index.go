package storage

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"

	"moss/record"
	"moss/storage/driver"
	"moss/storage/image"
)

// Index makes the index of moss say what the store says. Only records of images
// that are new or have changed are made.
func (s *Store) Index() error {
	dir := filepath.Join(s.Root, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write image index: %w", err)
	}
	unlock, err := record.Lock(filepath.Join(dir, "lock"))
	if err != nil {
		return fmt.Errorf("cannot write image index: %w", err)
	}
	defer unlock()

	// Stat first: what changes while we read makes the index stale, not wrong.
	states := s.states()
	images, err := s.allImages()
	if err != nil {
		return fmt.Errorf("cannot list images: %w", err)
	}
	byID := make(map[string]*cs.Image, len(images))
	taken := make(map[string]bool)
	var entries []image.Entry
	doomed := image.DoomedIDs(s.Root)
	for n := range images {
		img := &images[n]
		if byID[img.ID] != nil {
			continue // in our store and in podman's: ours comes first
		}
		if !img.ReadOnly && slices.Contains(doomed, img.ID) {
			continue
		}
		byID[img.ID] = img
		// A name of ours hides the same name in podman's store. What is no
		// reference cannot be asked for.
		img.Names = slices.DeleteFunc(slices.Clone(img.Names), func(name string) bool {
			was := taken[name]
			taken[name] = true
			_, err := image.Parse(name)
			return was || err != nil
		})
		entries = append(entries, image.Entry{ID: img.ID, Names: img.Names, Digests: digests(img), Stamp: s.stamp(img)})
	}
	mend := sync.OnceValue(s.mendSomeShortName) // another process may have been killed since we opened it
	return image.Update(s.Root, states, entries, func(e image.Entry) (*image.Image, error) {
		i, err := s.describe(byID[e.ID])
		if err != nil && mend() == nil {
			i, err = s.describe(byID[e.ID])
		}
		if err != nil {
			slog.Warn("image left out: it is broken in the store", "image", e.ID, "err", err)
			return nil, nil
		}
		return i, nil
	})
}

// allImages are those of all stores, ours first.
func (s *Store) allImages() (images []cs.Image, err error) {
	for _, lib := range s.all() {
		some, err := lib.Images()
		if err == nil {
			// What is wrong with all layers is no fault of one image, which the
			// index would then leave out.
			_, err = lib.Layers()
		}
		if err != nil {
			return nil, err
		}
		images = append(images, some...)
	}
	return images, nil
}

// states are the files whose change makes the index stale. Podman's is among
// them even while it does not exist.
func (s *Store) states() []image.StoreState {
	name := "overlay"
	if s.Driver.Name == driver.VFS {
		name = "vfs"
	}
	states := []image.StoreState{image.StatStore(filepath.Join(s.Root, "storage", name+"-images", "images.json"))}
	for _, dir := range s.others {
		states = append(states, image.StatStore(image.StoreFile(dir)))
	}
	return states
}

// recordVersion changes when records tell more than they did, so that those of
// older programs are made again.
const recordVersion = 4

func (s *Store) stamp(img *cs.Image) string {
	h := sha256.New()
	json.NewEncoder(h).Encode([]any{recordVersion, img.ID, img.Names, img.NamesHistory, digests(img), img.TopLayer, img.ReadOnly, s.Driver.Name, s.SingleID})
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func digests(img *cs.Image) []string {
	var all []string
	add := func(d digest.Digest) {
		if d != "" && !slices.Contains(all, d.String()) {
			all = append(all, d.String())
		}
	}
	add(img.Digest)
	for _, d := range img.Digests {
		add(d)
	}
	return all
}

// manifest adds what the manifest says about itself. Images of other programs may
// have none.
func (s *Store) manifest(i *image.Image) {
	raw, err := s.bigData(i.ID, cs.ImageDigestBigDataKey)
	var m imagespec.Manifest
	if err != nil || json.Unmarshal(raw, &m) != nil {
		return
	}
	i.ManifestType, i.Annotations = m.MediaType, m.Annotations
	if i.ManifestType == "" { // image-spec manifest.md: it may be left out
		i.ManifestType = imagespec.MediaTypeImageManifest
	}
}

// describe makes the record of one image.
func (s *Store) describe(img *cs.Image) (*image.Image, error) {
	raw, err := s.Config(img.ID)
	if err != nil && s.isList(img) {
		return s.describeList(img)
	}
	if err != nil {
		return nil, err
	}
	var config struct {
		imagespec.Platform
		Author  string
		Created *time.Time
		Config  image.Config
		RootFS  imagespec.RootFS
		History []imagespec.History
	}
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("cannot read configuration of image %q: %w", img.ID, err)
	}
	chain, err := s.Chain(img.TopLayer)
	if err != nil {
		return nil, err
	}
	i := &image.Image{
		ID: img.ID, Digest: img.Digest.String(), Digests: digests(img), Names: img.Names, NamesHistory: img.NamesHistory,
		OS: config.OS, Arch: config.Architecture, Variant: config.Variant,
		Author: config.Author, ReadOnly: img.ReadOnly, Config: config.Config,
		Created: img.Created,
	}
	if config.Created != nil {
		i.Created = *config.Created
	}
	s.manifest(i)
	for _, d := range config.RootFS.DiffIDs {
		i.DiffIDs = append(i.DiffIDs, d.String())
	}
	for _, size := range img.BigDataSizes {
		i.Size += size
	}
	for _, layer := range slices.Backward(chain) {
		i.Size += layer.UncompressedSize
		i.Layers, i.LayerSizes = append(i.Layers, layer.ID), append(i.LayerSizes, layer.UncompressedSize)
	}
	i.History = history(config.History, chain)
	i.Lower, err = s.lower(i.Layers, img.ReadOnly)
	return i, err
}

// history tells each line of the history how large its layer is.
func history(lines []imagespec.History, chain []*cs.Layer) []image.History {
	var all []image.History
	for _, line := range lines {
		h := image.History{CreatedBy: line.CreatedBy, Comment: line.Comment, Author: line.Author, EmptyLayer: line.EmptyLayer}
		if line.Created != nil {
			h.Created = *line.Created
		}
		if !line.EmptyLayer && len(chain) > 0 {
			h.Size = chain[0].UncompressedSize
			chain = chain[1:]
		}
		all = append(all, h)
	}
	return all
}

// lower finds the directories of layers as overlay wants them. The short links
// keep the option string of a mount below a page.
func (s *Store) lower(layers []string, theirs bool) ([]string, error) {
	if s.Driver.Name == driver.VFS {
		if len(layers) == 0 {
			return nil, nil
		}
		return []string{filepath.Join(s.Root, "storage", "vfs", "dir", layers[0])}, nil
	}
	var dirs []string
	for _, id := range layers {
		dir, err := s.layerDir(id, theirs)
		if err != nil {
			return nil, err
		}
		dirs = append(dirs, dir)
	}
	return dirs, nil
}

// layerDir is where a layer is. Of an image of theirs it is theirs: a layer of ours that is
// the same may be about to go with an image that is removed.
func (s *Store) layerDir(id string, theirs bool) (string, error) {
	var all error
	roots := []string{filepath.Join(s.Root, "storage")}
	if s.podman != nil && theirs {
		roots = append(slices.Clone(s.viewed), roots...)
	} else if s.podman != nil {
		roots = append(roots, s.viewed...)
	}
	for _, root := range roots {
		link, err := os.ReadFile(filepath.Join(root, "overlay", id, "link"))
		if err == nil {
			dir := filepath.Join(root, "overlay", "l", string(link))
			if _, err = os.Stat(dir); err == nil {
				return dir, nil
			}
		}
		all = errors.Join(all, err)
	}
	return "", fmt.Errorf("cannot find directory of layer %q: %w", id, all)
}
