package archive

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage/pkg/archive"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/limit"
	"moss/storage/registry"
)

// ImportOptions of Import.
type ImportOptions struct {
	Name    string // full, or ""
	Message string
	Changes []string
	// Platform is what the image is for.
	Platform image.Platform
}

// Import makes an image with one layer of a tar file of a root filesystem, which
// may be compressed, and returns its ID.
func Import(store *storage.Store, input *os.File, o ImportOptions, progress *registry.Progress) (string, error) {
	var config image.Config
	if err := apply(&config, o.Changes); err != nil {
		return "", fmt.Errorf("cannot import %q: %w", input.Name(), err)
	}
	id, err := importLayer(store, input, config, o, progress)
	if err != nil {
		return "", fmt.Errorf("cannot import %q: %w", input.Name(), err)
	}
	return id, nil
}

func importLayer(store *storage.Store, input *os.File, config image.Config, o ImportOptions, progress *registry.Progress) (string, error) {
	layer, diffID, size, err := putStream(store, "", input, progress)
	if err != nil {
		return "", err
	}
	now := time.Now().UTC()
	comment := o.Message
	if comment == "" {
		comment = "imported from " + input.Name()
	}
	spec, err := json.Marshal(configuration{
		Created:  &now,
		Platform: imagespec.Platform{OS: o.Platform.OS, Architecture: o.Platform.Arch, Variant: o.Platform.Variant},
		Config:   config,
		RootFS:   imagespec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History:  []imagespec.History{{Created: &now, CreatedBy: "moss import", Comment: comment}},
	})
	if err != nil {
		return "", err
	}
	manifest, err := json.Marshal(imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
		Config: descriptor(imagespec.MediaTypeImageConfig, spec),
		Layers: []imagespec.Descriptor{{MediaType: imagespec.MediaTypeImageLayer, Digest: diffID, Size: size}},
	})
	if err != nil {
		return "", err
	}
	progress.Blob("config", digest.FromBytes(spec), int64(len(spec))).Done()
	progress.After("Writing manifest to image destination")
	record := storage.NewImage{Config: spec, Manifest: manifest, Layer: layer, Created: now}
	if o.Name != "" {
		record.Names = []string{o.Name}
	}
	return store.AddImage(record)
}

// configuration is an image's, in OCI's words and Docker's further ones.
type configuration struct {
	Created *time.Time `json:"created,omitempty"`
	Author  string     `json:"author,omitempty"`
	imagespec.Platform
	Config  image.Config        `json:"config"`
	RootFS  imagespec.RootFS    `json:"rootfs"`
	History []imagespec.History `json:"history,omitempty"`
}

// putStream makes a layer on top of parent of a tar stream, which may be
// compressed.
func putStream(store *storage.Store, parent string, input io.Reader, progress *registry.Progress) (layer string, diffID digest.Digest, size int64, err error) {
	file, diffID, size, err := measure(store, input)
	if err != nil {
		return "", "", 0, err
	}
	defer file.Close()
	bar := progress.Blob("blob", diffID, size)
	layer, err = store.PutLayer(parent, diffID, "", 0, storage.Rewindable(io.TeeReader(file, bar), file))
	if err != nil {
		bar.Abort()
		return "", "", 0, err
	}
	bar.Done()
	return layer, diffID, size, nil
}

// measure returns the input decompressed in a temporary file, at its start, and
// the digest by which the layer is known. What is no tar file, or must not be
// unpacked, is refused before anything is.
func measure(store *storage.Store, input io.Reader) (file *os.File, diffID digest.Digest, size int64, err error) {
	temp, err := store.Temp()
	if err != nil {
		return nil, "", 0, err
	}
	sum := digest.Canonical.Digester()
	f, size, err := spoolJudged(temp, input, store.Limits, sum.Hash())
	if err != nil {
		return nil, "", 0, err
	}
	return f, sum.Digest(), size, nil
}

// spoolJudged returns a tar stream, which may be compressed, decompressed, at its start,
// in a file without a name in a directory. It was looked at from end to end.
func spoolJudged(dir string, from io.Reader, l limit.Limits, sum io.Writer) (*os.File, int64, error) {
	plain, err := archive.DecompressStream(limit.NewWindow(from, l))
	if err != nil {
		return nil, 0, err
	}
	defer plain.Close()
	f, err := storage.Nameless(dir)
	if err != nil {
		return nil, 0, err
	}
	size, err := io.Copy(io.MultiWriter(f, sum), limit.NewReader(plain, limit.NewJudge(l, dir)))
	if err == nil && size == 0 {
		err = errors.New("it is empty")
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}
