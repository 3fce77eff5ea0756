package archive

import (
	"fmt"
	"io"
	"path/filepath"

	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/chrootarchive"

	"moss/storage"
	"moss/storage/limit"
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
// unpacked of an archive that is damaged, or that the limits do not allow, and nothing
// outside of the directory, whatever names and links the archive has.
func ImportVolume(dir string, from io.Reader, l limit.Limits) error {
	f, _, err := spoolJudged(filepath.Dir(dir), from, l, io.Discard)
	if err != nil {
		return fmt.Errorf("cannot import volume: %w", err)
	}
	defer f.Close()
	// As a user whose IDs are a range: devices cannot be made, and are left out.
	if err := chrootarchive.UntarUncompressed(f, dir, &archive.TarOptions{InUserNS: true}); err != nil {
		return fmt.Errorf("cannot import volume: %w", storage.Explain(err))
	}
	return nil
}
