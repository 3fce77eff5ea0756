package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/chrootarchive"
)

// ExportVolume writes what is in a volume's directory as a tar stream.
func ExportVolume(dir string, to io.Writer) error {
	stream, err := archive.TarWithOptions(dir, &archive.TarOptions{Compression: archive.Uncompressed, IncludeSourceDir: true})
	if err != nil {
		return fmt.Errorf("cannot export volume: %w", err)
	}
	defer stream.Close()
	if _, err := io.Copy(to, stream); err != nil {
		return fmt.Errorf("cannot export volume: %w", err)
	}
	return nil
}

// ImportVolume unpacks a tar stream, compressed or not, into a volume's directory.
// What is there stays, unless the archive has a file of the same name. Nothing is
// unpacked of an archive that is damaged, and nothing outside of the directory,
// whatever names and links the archive has.
func ImportVolume(dir string, from io.Reader) error {
	f, err := spoolWhole(dir, from)
	if err != nil {
		return fmt.Errorf("cannot import volume: %w", err)
	}
	defer f.Close()
	// As a user whose IDs are a range: devices cannot be made, and are left out.
	if err := chrootarchive.Untar(f, dir, &archive.TarOptions{InUserNS: true}); err != nil {
		return fmt.Errorf("cannot import volume: %w", err)
	}
	return nil
}

// spoolWhole returns the archive decompressed, at its start, in a file without a name
// beside the directory, after a look at all of it.
func spoolWhole(dir string, from io.Reader) (*os.File, error) {
	plain, err := archive.DecompressStream(from)
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	f, err := os.CreateTemp(filepath.Dir(dir), ".import-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	size, err := io.Copy(f, plain)
	if err == nil && size == 0 {
		err = errors.New("the archive is empty")
	}
	if err == nil {
		err = checkWhole(f)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// checkWhole reads every header of f and goes back to its start.
func checkWhole(f *os.File) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for r := tar.NewReader(f); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err == nil && header.Size > 0 {
			_, err = io.Copy(io.Discard, r)
		}
		if err != nil {
			return fmt.Errorf("it is not a whole tar file: %w", err)
		}
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}
