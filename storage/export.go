package storage

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	digest "github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
)

// Diff reads a layer as the uncompressed tar stream that it was made from, byte
// for byte. Reading the last byte fails if the layer has been changed on disk.
func (s *Store) Diff(layer *cs.Layer) (io.ReadCloser, error) {
	for _, lib := range s.all() {
		if _, err := lib.Layer(layer.ID); err == nil {
			return openDiff(lib, layer)
		}
	}
	return nil, fmt.Errorf("cannot read layer %q: %w", layer.ID, cs.ErrLayerUnknown)
}

func openDiff(lib cs.Store, layer *cs.Layer) (io.ReadCloser, error) {
	plain := archive.Uncompressed
	stream, err := lib.Diff("", layer.ID, &cs.DiffOptions{Compression: &plain})
	if err != nil {
		return nil, fmt.Errorf("cannot read layer %q: %w", layer.ID, err)
	}
	return &checked{ReadCloser: stream, sum: sha256.New(), want: layer.UncompressedDigest}, nil
}

// checked is a stream whose end fails when its digest is not the expected one.
type checked struct {
	io.ReadCloser
	sum  hash.Hash
	want digest.Digest
	read bool
}

func (c *checked) Read(p []byte) (int, error) {
	c.read = true
	n, err := c.ReadCloser.Read(p)
	c.sum.Write(p[:n])
	if err == io.EOF && c.want != "" {
		if got := digest.NewDigest(digest.SHA256, c.sum); got != c.want {
			return n, changedOnDisk(c.want, got)
		}
	}
	return n, err
}

// Close ends it. The library decompresses beside its reader, and waits for ever to end
// that while it is only beginning: it has begun when there is something to read.
func (c *checked) Close() error {
	if !c.read {
		c.ReadCloser.Read(make([]byte, 1))
	}
	return c.ReadCloser.Close()
}

// Blob is a layer compressed for a registry or an archive, in a temporary file.
type Blob struct {
	*os.File
	Digest digest.Digest
	Size   int64
}

// Remove closes and removes the file.
func (b *Blob) Remove() error { return errors.Join(b.Close(), os.Remove(b.Name())) }

// Gzip compresses a layer into a temporary file, which the caller removes; it is
// returned at its start. The same layer gives the same bytes each time.
func (s *Store) Gzip(layer *cs.Layer) (*Blob, error) {
	dir, err := s.Temp()
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "layer-*")
	if err != nil {
		return nil, fmt.Errorf("cannot compress layer %q: %w", layer.ID, err)
	}
	blob := &Blob{File: f}
	if err := s.gzip(blob, layer); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot compress layer %q: %w", layer.ID, err), blob.Remove())
	}
	return blob, nil
}

func (s *Store) gzip(blob *Blob, layer *cs.Layer) error {
	sum := sha256.New()
	size := &counter{}
	if _, err := s.Compress(layer, Method{Format: Gzip}, io.MultiWriter(blob.File, sum, size), nil); err != nil {
		return err
	}
	blob.Digest, blob.Size = digest.NewDigest(digest.SHA256, sum), size.n
	_, err := blob.Seek(0, io.SeekStart)
	return err
}

type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
