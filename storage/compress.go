package storage

import (
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/chunked/compressor"
)

// The compressions of a layer.
const (
	Gzip        = "gzip"
	Zstd        = "zstd"
	ZstdChunked = "zstd:chunked" // zstd, and a list of the files in it, so that some of them can be fetched
)

// Method is how a layer is to be compressed. Level 0 is the usual one of the
// format; gzip has 1 to 9, zstd 1 to 20.
type Method struct {
	Format string
	Level  int
}

// Check refuses what is no compression.
func (c Method) Check() error {
	most := 20
	switch c.Format {
	case Gzip:
		most = 9
	case Zstd, ZstdChunked:
	default:
		return fmt.Errorf("unknown compression %q (gzip, zstd, zstd:chunked)", c.Format)
	}
	if c.Level < 0 || c.Level > most {
		return fmt.Errorf("compression level %d: %s has 1 to %d", c.Level, c.Format, most)
	}
	return nil
}

// usual levels. That of gzip is what a fast network wants: a third of the time of
// gzip's own default, for a layer that is some percent larger.
const (
	usualGzip = 3
	usualZstd = 3
)

// writer compresses to w. Closing it writes the end, and notes about it for the
// manifest's descriptor to notes.
func (c Method) writer(w io.Writer, notes map[string]string) (io.WriteCloser, error) {
	level := c.Level
	switch c.Format {
	case Gzip:
		if level == 0 {
			level = usualGzip
		}
		return pgzip.NewWriterLevel(w, level)
	case Zstd:
		if level == 0 {
			level = usualZstd
		}
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	case ZstdChunked:
		if level == 0 {
			level = usualZstd
		}
		return compressor.ZstdCompressor(w, notes, &level)
	}
	return nil, c.Check()
}

// Compress writes a layer to w, and returns the annotations that its descriptor is
// to have. The same layer gives the same bytes each time. It fails, after the last
// byte, if the layer has been changed on disk. progress, if not nil, is written what is
// read of the layer.
func (s *Store) Compress(layer *cs.Layer, c Method, w, progress io.Writer) (map[string]string, error) {
	notes := map[string]string{}
	z, err := c.writer(w, notes)
	if err != nil {
		return nil, err
	}
	to := io.Writer(z)
	if progress != nil {
		to = io.MultiWriter(z, progress)
	}
	if err := s.writeDiff(layer, to); err != nil {
		z.Close()
		return nil, err
	}
	return notes, z.Close()
}
