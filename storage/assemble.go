package storage

import (
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	digest "github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/storage"
	cs "go.podman.io/storage"
	"golang.org/x/sys/unix"
)

// writeDiff writes a layer as the tar stream that it was made from. It fails, after
// the last byte, if the layer has been changed on disk.
//
// What the library does for that (Diff) reads through two pipes and checks every
// file twice; here the stream is put together in one go, and the digest of the whole
// says whether it is right.
func (s *Store) writeDiff(layer *cs.Layer, w io.Writer) error {
	parts, root, err := s.parts(layer)
	if errors.Is(err, fs.ErrNotExist) || err == nil && layer.UncompressedDigest == "" {
		diff, err := s.Diff(layer)
		if err != nil {
			return err
		}
		defer diff.Close()
		_, err = io.Copy(w, diff)
		return err
	}
	if err != nil {
		return err
	}
	defer parts.Close()
	defer unix.Close(root)
	sum := sha256.New()
	if err := assemble(parts, root, io.MultiWriter(w, sum)); err != nil {
		return fmt.Errorf("cannot read layer %q: %w", layer.UncompressedDigest, err)
	}
	if got := digest.NewDigest(digest.SHA256, sum); got != layer.UncompressedDigest {
		return changedOnDisk(layer.UncompressedDigest, got)
	}
	return nil
}

func changedOnDisk(want, got digest.Digest) error {
	return fmt.Errorf("cannot read layer %q: its content has changed on disk, to %s", want, got)
}

// parts opens what is kept of the stream beside the files, and their directory;
// fs.ErrNotExist if the layer is not kept that way.
func (s *Store) parts(layer *cs.Layer) (io.ReadCloser, int, error) {
	return openParts(filepath.Join(s.lib.GraphRoot(), "overlay-layers", layer.ID+".tar-split.gz"),
		filepath.Join(s.lib.GraphRoot(), "overlay", layer.ID, "diff"))
}

func openParts(path, dir string) (io.ReadCloser, int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, -1, err
	}
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		f.Close()
		return nil, -1, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	z, err := gzip.NewReader(f)
	if err != nil {
		f.Close()
		unix.Close(root)
		return nil, -1, fmt.Errorf("cannot read %q: %w", path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{z, f}, root, nil
}

// sizeOf adds up the parts and the files between them.
func sizeOf(parts io.Reader) (n int64, err error) {
	entries := storage.NewJSONUnpacker(parts)
	for {
		e, err := entries.Next()
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return 0, err
		case e.Type == storage.SegmentType:
			n += int64(len(e.Payload))
		default:
			n += e.Size
		}
	}
}

// assemble writes the parts and, between them, the files below root.
func assemble(parts io.Reader, root int, w io.Writer) error {
	entries := storage.NewJSONUnpacker(parts)
	buffer := make([]byte, 256<<10)
	for {
		e, err := entries.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		case e.Type == storage.SegmentType:
			if _, err := w.Write(e.Payload); err != nil {
				return err
			}
		case e.Type == storage.FileType && e.Size > 0:
			if err := copyFrom(root, e.GetName(), w, buffer); err != nil {
				return err
			}
		}
	}
}

// copyFrom writes a file below root, which no link leads out of.
func copyFrom(root int, name string, w io.Writer, buffer []byte) error {
	fd, err := unix.Openat2(root, filepath.Clean("./"+name), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return &os.PathError{Op: "open", Path: name, Err: err}
	}
	defer unix.Close(fd)
	for {
		n, err := unix.Read(fd, buffer)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "read", Path: name, Err: err}
		}
		if n == 0 {
			return nil
		}
		if _, err := w.Write(buffer[:n]); err != nil {
			return err
		}
	}
}
