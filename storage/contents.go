package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"moss/storage/limit"
)

// A TOC is the list of files that zstd:chunked adds to a layer: where in the blob each
// is, compressed by itself, and what its content is.
type TOC struct {
	Version        int           `json:"version"`
	Entries        []TOCEntry    `json:"entries"`
	TarSplitDigest digest.Digest `json:"tarSplitDigest"`
}

// TOCEntry is a file, or a further chunk of the one before.
type TOCEntry struct {
	Type      string        `json:"type"` // reg and chunk are those of interest
	Name      string        `json:"name"`
	Size      int64         `json:"size"`
	Digest    digest.Digest `json:"digest"`
	Offset    int64         `json:"offset"` // in the blob
	EndOffset int64         `json:"endOffset"`
	ChunkSize int64         `json:"chunkSize"`
	ChunkType string        `json:"chunkType"` // zeros are not in the blob
}

// MaxTOC bounds such a list, and what else is held in memory of a layer's files.
const MaxTOC = 16 << 20

// maxListed bounds what a list takes when it is decoded: an empty file is three bytes of
// it, and a hundred in memory.
const maxListed = 100_000

// tocNote is the name of a layer's list, beside it in the store, compressed as it came.
const tocNote = "moss-toc"

// Unzstd decompresses something small.
func Unzstd(data []byte, most int64) ([]byte, error) {
	d, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(uint64(most)))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	plain, err := io.ReadAll(io.LimitReader(d, most+1))
	if err == nil && int64(len(plain)) > most {
		err = fmt.Errorf("it is larger than %d MiB", most>>20)
	}
	return plain, err
}

// ParseTOC reads a list of files, compressed.
func ParseTOC(data []byte) (*TOC, error) {
	plain, err := Unzstd(data, MaxTOC)
	if err != nil {
		return nil, err
	}
	toc := new(TOC)
	if err := limit.Objects(plain, toc, maxListed); err != nil {
		return nil, err
	}
	if toc.Version != 1 {
		return nil, fmt.Errorf("version %d", toc.Version)
	}
	return toc, nil
}

// SetTOC gives a layer, when it is committed, its list of files: what a later layer has in
// common with it need not be downloaded.
func (st *Staged) SetTOC(data []byte) {
	if len(data) > 0 {
		st.out.BigData = map[string][]byte{tocNote: data}
	}
}

// Contents are the files of the store's layers whose content is known, by its digest.
type Contents struct {
	store *Store
	at    map[digest.Digest]located
}

type located struct {
	layer, name string
	size        int64
}

// Contents lists the files of layers that have come with such a list.
func (s *Store) Contents() *Contents {
	c := &Contents{store: s, at: map[digest.Digest]located{}}
	layers, err := s.lib.Layers()
	if err != nil {
		return c // nothing is known
	}
	for _, layer := range layers {
		if !slices.Contains(layer.BigDataNames, tocNote) {
			continue
		}
		data, err := s.LayerNote(layer.ID, tocNote)
		if err != nil {
			continue
		}
		toc, err := ParseTOC(data)
		if err != nil {
			continue
		}
		for _, e := range toc.Entries {
			if e.Type == "reg" && e.Size > 0 {
				c.at[e.Digest] = located{layer.ID, e.Name, e.Size}
			}
		}
	}
	return c
}

// Empty says whether nothing is known.
func (c *Contents) Empty() bool { return len(c.at) == 0 }

// Has says whether there is a file with that content, as far as was written down.
func (c *Contents) Has(d digest.Digest, size int64) bool {
	p, ok := c.at[d]
	return ok && p.size == size
}

// Open opens the file that should have that content. Whoever reads it has to look whether
// it does.
func (c *Contents) Open(d digest.Digest) (*os.File, error) {
	p, ok := c.at[d]
	if !ok {
		return nil, os.ErrNotExist
	}
	dir, err := os.Open(filepath.Join(c.store.Root, "storage", "overlay", p.layer, "diff"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	fd, err := unix.Openat2(int(dir.Fd()), filepath.Clean("./"+p.name), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: p.name, Err: err}
	}
	f := os.NewFile(uintptr(fd), p.name)
	if fi, err := f.Stat(); err != nil || !fi.Mode().IsRegular() || fi.Size() != p.size {
		f.Close()
		return nil, errors.New("the file is not what it was")
	}
	return f, nil
}
