package limit

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Reader is a tar stream, byte for byte, whose members have been judged: the bytes
// of a header are read from it only if what they say may be unpacked.
type Reader struct {
	// NoSparse, if it is set, is the error of an archive with a sparse file.
	NoSparse error

	judge *Judge
	src   io.Reader
	tar   *tar.Reader
	ready []byte // judged, not yet read
	head  []byte // what the tar reader has taken
	left  int64  // bytes of the member that are still to come, with what fills its last block
	fill  int64  // how many of them do that
	begun bool
	inner bool // the content comes through the tar reader: it is sparse
	ended bool // what is left follows the end of the archive
	err   error
}

// NewReader makes a reader of the stream that src is, which is not compressed.
func NewReader(src io.Reader, j *Judge) *Reader { return &Reader{judge: j, src: src} }

// Err is why the stream was cut, nil if it was not, or ended.
func (r *Reader) Err() error {
	if errors.Is(r.err, io.EOF) {
		return nil
	}
	return r.err
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	for len(r.ready) == 0 && r.left == 0 && !r.ended && r.err == nil {
		if r.inner {
			r.err = r.sparse()
		} else {
			r.err = r.next()
		}
	}
	var n int
	switch {
	case len(r.ready) > 0:
		n = copy(p, r.ready)
		r.ready = r.ready[n:]
		return n, nil
	case r.err != nil:
		return 0, r.err
	case r.ended:
		n, r.err = r.src.Read(p)
		if err := r.judge.Bytes(int64(n)); err != nil {
			r.err = fmt.Errorf("what follows the end of the archive: %w", err)
			return 0, r.err
		}
		return n, r.err
	}
	n, r.err = r.src.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if r.err == io.EOF {
		r.err = nil
		if r.left > r.fill {
			r.err = fmt.Errorf("cannot read the archive: %w", io.ErrUnexpectedEOF)
		}
		r.left = 0 // as archive/tar, which misses no filling at the very end
	}
	return n, r.err
}

// taken is what the tar reader reads: all of it is kept, to be read again.
type taken struct{ *Reader }

func (t taken) Read(p []byte) (int, error) {
	if len(t.head) > maxHead {
		return 0, errHead
	}
	n, err := t.src.Read(p)
	t.head = append(t.head, p[:n]...)
	return n, err
}

// maxHead is more than a header may have before it: two names and a record of
// attributes, each at most a mebibyte; see archive/tar.
const maxHead = 4 << 20

var errHead = fmt.Errorf("a header of more than %d bytes", maxHead)

// next reads and judges a header. The tar reader gives a member of its own to each
// header; what an extended one says holds for one member only.
func (r *Reader) next() error {
	r.head = r.head[:0]
	if r.tar == nil {
		r.tar = tar.NewReader(taken{r})
	}
	h, err := r.tar.Next()
	if err == io.EOF {
		r.ready, r.ended = r.head, true
		return nil
	}
	if err == nil {
		err = r.judge.Member(h)
		if err == nil && IsSparse(h) {
			err = r.NoSparse
		}
	} else if !r.begun {
		err = fmt.Errorf("it is not a tar file: %w", err)
	} else {
		err = fmt.Errorf("cannot read the archive: %w", err)
	}
	r.begun = true
	if err != nil {
		return err
	}
	r.ready = r.head
	switch {
	case h.Typeflag == tar.TypeXGlobalHeader: // the reader still has to skip its filling
	case IsSparse(h):
		r.inner = true
	default:
		n := content(h)
		r.tar, r.left, r.fill = nil, (n+511)&^511, -n&511
	}
	return nil
}

// content is how many bytes of a member follow its header.
func content(h *tar.Header) int64 {
	switch h.Typeflag {
	case tar.TypeLink, tar.TypeSymlink, tar.TypeChar, tar.TypeBlock, tar.TypeDir, tar.TypeFifo:
		return 0 // whatever it says; see archive/tar
	}
	return h.Size
}

// IsSparse says whether holes of a member are left out of the archive.
func IsSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// sparse takes what is in the stream of a sparse file.
func (r *Reader) sparse() error {
	r.head = r.head[:0]
	var buf [16 << 10]byte
	for len(r.head) == 0 {
		_, err := r.tar.Read(buf[:])
		if err == io.EOF {
			r.inner = false // the tar reader goes on with the next header
			break
		}
		if err != nil {
			return fmt.Errorf("cannot read the archive: %w", err)
		}
	}
	r.ready = r.head
	return nil
}
