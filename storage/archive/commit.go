package archive

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/registry"
)

// Commit makes an image of base and a layer, or of a whole root file system, that
// is read as a tar stream from input; see image.CommitRequest. It returns its ID.
func Commit(store *storage.Store, base *image.Image, input io.Reader, name string, req *image.CommitRequest, progress *registry.Progress) (string, error) {
	id, err := commit(store, base, input, name, req, progress)
	if err != nil {
		return "", fmt.Errorf("cannot commit: %w", err)
	}
	return id, nil
}

func commit(store *storage.Store, base *image.Image, input io.Reader, name string, req *image.CommitRequest, progress *registry.Progress) (string, error) {
	if err := apply(&req.Config, req.Changes); err != nil {
		return "", err
	}
	if req.Format != "" && req.Format != "oci" && req.Format != "docker" {
		return "", fmt.Errorf("unknown format %q (oci, docker)", req.Format)
	}
	c, layers, err := committed(store, base, req)
	if err != nil {
		return "", err
	}
	parent := ""
	if !req.Squash && len(base.Layers) > 0 {
		if err := store.Adopt(base.ID); err != nil {
			return "", err
		}
		for _, d := range c.RootFS.DiffIDs {
			parent = storage.ChainID(parent, d)
		}
		if !store.HasLayer(parent) { // an image that podman has committed here
			parent = base.Layers[0]
		}
	}
	_, _, layerType := registry.Types(req.Format == "docker")
	top, diffID, size, err := putStream(store, parent, &marked{r: bufio.NewReaderSize(input, 1<<20)}, progress)
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	c.Created = &now
	c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, diffID)
	c.History = append(c.History, imagespec.History{Created: &now, CreatedBy: req.CreatedBy, Author: req.Author, Comment: req.Message})
	return record(store, c, append(layers, imagespec.Descriptor{MediaType: layerType, Digest: diffID, Size: size}), top, name, req, progress)
}

// committed is what the new image has of the base: its platform, history and
// layers; and what moss says of the rest.
func committed(store *storage.Store, base *image.Image, req *image.CommitRequest) (*configuration, []imagespec.Descriptor, error) {
	raw, err := store.Config(base.ID)
	if err != nil {
		return nil, nil, err
	}
	c := &configuration{}
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, nil, fmt.Errorf("cannot read configuration of image %q: %w", base.ID, err)
	}
	c.Config = req.Config
	if req.Author != "" {
		c.Author = req.Author
	}
	if req.Squash {
		c.RootFS, c.History = imagespec.RootFS{Type: "layers"}, nil
		return c, nil, nil
	}
	if len(base.Layers) == 0 {
		return c, nil, nil
	}
	chain, err := store.Chain(base.Layers[0])
	if err != nil {
		return nil, nil, err
	}
	var layers []imagespec.Descriptor
	_, _, layerType := registry.Types(req.Format == "docker")
	for _, l := range chain {
		layers = append(layers, imagespec.Descriptor{MediaType: layerType, Digest: l.UncompressedDigest, Size: l.UncompressedSize})
	}
	return c, layers, nil
}

// record writes configuration and manifest, and names the image.
func record(store *storage.Store, c *configuration, layers []imagespec.Descriptor, top, name string, req *image.CommitRequest, progress *registry.Progress) (string, error) {
	spec, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	manifestType, configType, _ := registry.Types(req.Format == "docker")
	manifest, err := json.Marshal(imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: manifestType, Config: descriptor(configType, spec), Layers: layers,
	})
	if err != nil {
		return "", err
	}
	progress.Blob("config", digest.FromBytes(spec), int64(len(spec))).Done()
	progress.After("Writing manifest to image destination")
	img := storage.NewImage{Config: spec, Manifest: manifest, Layer: top, Created: *c.Created}
	if name != "" {
		img.Names = []string{name}
	}
	return store.AddImage(img)
}

// errCut is a stream without image.StreamEnd.
var errCut = errors.New("what moss sent was cut")

// marked is a stream up to its mark, without which it was cut.
type marked struct{ r *bufio.Reader }

func (m *marked) Read(p []byte) (int, error) {
	ahead, err := m.r.Peek(len(image.StreamEnd) + 1)
	switch {
	case err == io.EOF && string(ahead) == image.StreamEnd:
		return 0, io.EOF
	case err == io.EOF:
		return 0, errCut
	case err != nil:
		return 0, err
	}
	return m.r.Read(p[:min(len(p), m.r.Buffered()-len(image.StreamEnd))])
}
