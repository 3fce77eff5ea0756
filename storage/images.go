package storage

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"

	"moss/storage/image"
)

// NewImage is what AddImage records.
type NewImage struct {
	Config   []byte
	Manifest []byte
	Index    []byte // the index that the manifest was chosen from, or nil
	Layer    string // ID of the uppermost layer; "" without layers
	Names    []string
	Created  time.Time
}

// AddImage records an image whose layers are in the store, in the form that
// podman reads, and gives it the names, which other images lose. It returns
// the image's ID.
func (s *Store) AddImage(img NewImage) (string, error) {
	config := digest.FromBytes(img.Config)
	manifest := digest.FromBytes(img.Manifest)
	id := config.Encoded()
	data := []cs.ImageBigDataOption{
		{Key: config.String(), Data: img.Config, Digest: config},
		{Key: manifestKey(manifest), Data: img.Manifest, Digest: manifest},
		{Key: cs.ImageDigestBigDataKey, Data: img.Manifest, Digest: manifest},
	}
	if img.Index != nil {
		d := digest.FromBytes(img.Index)
		data = append(data, cs.ImageBigDataOption{Key: manifestKey(d), Data: img.Index, Digest: d})
	}
	metadata, err := json.Marshal(map[string]any{
		"signatures-sizes": map[string][]int{manifest.String(): {}},
	})
	if err != nil {
		return "", err
	}
	// An image that is removed just now is not: it is there again.
	unlock, err := s.lockDoomed()
	if err == nil {
		err = errors.Join(s.spare(id), s.holdImage(id, img.Names))
		unlock()
	}
	if err != nil {
		return "", fmt.Errorf("cannot record image %q: %w", id, err)
	}
	_, err = s.lib.CreateImage(id, nil, img.Layer, string(metadata), &cs.ImageOptions{
		CreationDate: img.Created, Digest: manifest, BigData: data, Metadata: string(metadata),
	})
	if errors.Is(err, cs.ErrDuplicateID) {
		err = s.amendImage(id, data)
	}
	if err != nil {
		return "", fmt.Errorf("cannot record image %q: %w", id, err)
	}
	if err := s.AddNames(id, img.Names); err != nil {
		return "", err
	}
	return id, nil
}

// holdImage notes that an image is about to be recorded, with names or without.
func (s *Store) holdImage(id string, names []string) error {
	if _, err := s.lib.Image(id); err == nil || s.pending == nil {
		return nil
	}
	line := lineNew + id
	if len(names) > 0 {
		line += " " + names[0]
	}
	return s.pending.hold(line)
}

// amendImage adds another manifest of the same config to an image that is there.
func (s *Store) amendImage(id string, data []cs.ImageBigDataOption) error {
	have, err := s.lib.Image(id)
	if err != nil {
		return err
	}
	for _, d := range data {
		if old, ok := have.BigDataDigests[d.Key]; ok && old == d.Digest {
			continue
		}
		digestOf := func([]byte) (digest.Digest, error) { return d.Digest, nil }
		if err := s.lib.SetImageBigData(id, d.Key, d.Data, digestOf); err != nil {
			return err
		}
	}
	return nil
}

// AddNames gives an image more names. An image of podman's store, which is only
// read here, is first copied to ours.
func (s *Store) AddNames(id string, names []string) error {
	if len(names) == 0 {
		return nil
	}
	if err := s.adopt(id); err != nil {
		return fmt.Errorf("cannot name image %q: %w", id, err)
	}
	if err := s.pending.hold(lineNames + id); err != nil {
		return fmt.Errorf("cannot name image %q: %w", id, err)
	}
	if err := s.lib.AddNames(id, names); err != nil {
		return fmt.Errorf("cannot name image %q: %w", id, err)
	}
	return s.note(id, names)
}

// note writes the log of names: from now on they mean that image.
func (s *Store) note(id string, names []string) error {
	img, err := s.lib.Image(id)
	if err != nil {
		return err
	}
	var lines []image.LogEntry
	for _, name := range names {
		lines = append(lines, image.LogEntry{Time: time.Now(), Name: name, ID: id, Digest: img.Digest.String(), Verb: s.Verb, Source: s.Source})
	}
	return image.AppendLog(s.Root, lines...)
}

// adopt copies an image of podman's store into ours.
func (s *Store) adopt(id string) error {
	lib, img, err := s.find(id)
	if err != nil || lib == s.lib {
		return err
	}
	chain, err := s.Chain(img.TopLayer)
	if err != nil {
		return err
	}
	parent := ""
	for _, layer := range chain {
		if parent, err = s.CopyLayer(parent, layer.UncompressedDigest); err != nil {
			return err
		}
	}
	options := &cs.ImageOptions{CreationDate: img.Created, Digest: img.Digest, Metadata: img.Metadata}
	for _, key := range img.BigDataNames {
		data, err := lib.ImageBigData(id, key)
		if err != nil {
			return err
		}
		options.BigData = append(options.BigData, cs.ImageBigDataOption{Key: key, Data: data, Digest: img.BigDataDigests[key]})
	}
	if err := s.holdImage(id, img.Names); err != nil {
		return err
	}
	_, err = s.lib.CreateImage(id, img.Names, parent, img.Metadata, options)
	if errors.Is(err, cs.ErrDuplicateID) {
		return nil
	}
	return err
}

// Adopt makes sure that an image is in our own store, so that more layers can be
// put on its own.
func (s *Store) Adopt(id string) error {
	if err := s.adopt(id); err != nil {
		return fmt.Errorf("cannot copy image %q: %w", id, err)
	}
	return nil
}

// find returns an image, and the store that has it: ours, or podman's.
func (s *Store) find(id string) (cs.Store, *cs.Image, error) {
	var all error
	for _, lib := range s.all() {
		img, err := lib.Image(id)
		if err == nil {
			return lib, img, nil
		}
		all = errors.Join(all, err)
	}
	return nil, nil, all
}

// own returns an image of our store: podman's cannot be changed.
func (s *Store) own(id string) (*cs.Image, error) {
	lib, img, err := s.find(id)
	switch {
	case errors.Is(err, cs.ErrImageUnknown):
		return nil, fmt.Errorf("%w: %q", image.ErrNotFound, id)
	case err != nil:
		return nil, err
	case lib != s.lib:
		return nil, ErrReadOnly
	}
	return img, nil
}

func (s *Store) bigData(id, key string) ([]byte, error) {
	lib, _, err := s.find(id)
	if err != nil {
		return nil, err
	}
	return lib.ImageBigData(id, key)
}

// Manifest returns an image's manifest.
func (s *Store) Manifest(id string) ([]byte, error) {
	data, err := s.bigData(id, cs.ImageDigestBigDataKey)
	if err != nil {
		return nil, fmt.Errorf("cannot read manifest of image %q: %w", id, err)
	}
	return data, nil
}

// Config returns an image's configuration.
func (s *Store) Config(id string) ([]byte, error) {
	data, err := s.bigData(id, "sha256:"+id)
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration of image %q: %w", id, err)
	}
	return data, nil
}

// LayerNote is what SetLayerNote has written of one of our own layers.
func (s *Store) LayerNote(layer, key string) ([]byte, error) {
	r, err := s.lib.LayerBigData(layer, key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// SetLayerNote keeps something with one of our own layers. It goes when the layer goes.
func (s *Store) SetLayerNote(layer, key string, data []byte) error {
	return s.lib.SetLayerBigData(layer, key, bytes.NewReader(data))
}

// Chain returns the layers of an image, lowest first.
func (s *Store) Chain(top string) ([]*cs.Layer, error) {
	var all error
	for _, lib := range s.all() {
		chain, err := chainIn(lib, top)
		if err == nil {
			return chain, nil
		}
		all = errors.Join(all, err)
	}
	return nil, all
}

func chainIn(lib cs.Store, top string) ([]*cs.Layer, error) {
	var chain []*cs.Layer
	for id := top; id != ""; {
		layer, err := lib.Layer(id)
		if err != nil {
			return nil, fmt.Errorf("cannot read layer %q: %w", id, err)
		}
		chain = append(chain, layer)
		id = layer.Parent
	}
	slices.Reverse(chain)
	return chain, nil
}

func manifestKey(d digest.Digest) string {
	return cs.ImageDigestManifestBigDataNamePrefix + "-" + d.String()
}
