package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"slices"

	"github.com/klauspost/compress/zstd"
	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/vbatts/tar-split/tar/asm"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"moss/storage"
	"moss/storage/limit"
)

// The annotations of a layer that is zstd:chunked: where in the blob the list of its
// files is, where the rest of the tar archive, and what the list's digest is.
const (
	chunkedTOC    = "io.github.containers.zstd-chunked.manifest-position"
	chunkedDigest = "io.github.containers.zstd-chunked.manifest-checksum"
	chunkedSplit  = "io.github.containers.zstd-chunked.tarsplit-position"
)

const (
	// nearby is how far apart two files may be to be fetched by one request, and
	// oneRequest how much one should bring: it may have to be made again.
	nearby     = 32 << 10
	oneRequest = 8 << 20
)

// partial is a layer of which only the files are downloaded that no layer of the store
// has. The archive is then put together of both; that it is the right one is seen from
// its digest, as of any other layer.
type partial struct {
	client   *client
	desc     imagespec.Descriptor
	contents *storage.Contents
	list     []byte // of the files, compressed
	split    []byte // the archive without its files, compressed
	files    map[string]*wanted
	missing  []*wanted // by offset
	fetched  *os.File
}

// wanted is a file of the layer.
type wanted struct {
	storage.TOCEntry
	chunks []storage.TOCEntry // where some of it is not in the blob
	local  bool
	at     int64 // in fetched
}

// span is a part of a blob.
type span struct{ from, length int64 }

func (s span) within(size int64) bool {
	return s.from > 0 && s.length > 0 && s.length <= storage.MaxTOC/4 && // it is held in memory, compressed
		s.from <= size-s.length
}

// chunked reads the annotations of a layer; ok is false if it is not zstd:chunked, or not
// of the kind that says everything.
func chunked(d imagespec.Descriptor) (toc, split span, ok bool) {
	var plain, kind int64
	if n, _ := fmt.Sscanf(d.Annotations[chunkedTOC], "%d:%d:%d:%d", &toc.from, &toc.length, &plain, &kind); n != 4 || kind != 1 {
		return toc, split, false
	}
	if n, _ := fmt.Sscanf(d.Annotations[chunkedSplit], "%d:%d:%d", &split.from, &split.length, &plain); n != 3 {
		return toc, split, false
	}
	return toc, split, toc.within(d.Size) && split.within(d.Size)
}

// tocOf returns the list of files in a blob that has been downloaded, nil if it has none.
func tocOf(d imagespec.Descriptor, blob io.ReaderAt) []byte {
	toc, _, ok := chunked(d)
	if !ok {
		return nil
	}
	data := make([]byte, toc.length)
	if _, err := blob.ReadAt(data, toc.from); err != nil || digest.FromBytes(data).String() != d.Annotations[chunkedDigest] {
		return nil
	}
	if _, err := storage.ParseTOC(data); err != nil { // it would only cost each later pull time and memory
		return nil
	}
	return data
}

// errWhole says that a layer is better downloaded as a whole.
var errWhole = errors.New("most of the layer is not here yet")

// partial fetches what of a layer is not in the store. The error is errWhole, or why it
// could not be done: the layer can be downloaded as a whole in any case.
func (c *client) partial(ctx context.Context, dir string, store *storage.Store, d imagespec.Descriptor, contents func() *storage.Contents, progress *Progress) (p *partial, err error) {
	toc, split, ok := chunked(d)
	if !ok || !store.CanStage() || contents().Empty() {
		return nil, errWhole
	}
	p = &partial{client: c, desc: d, contents: contents(), files: map[string]*wanted{}}
	if p.list, err = c.part(ctx, d, toc); err != nil {
		return nil, err
	}
	if got := digest.FromBytes(p.list).String(); got != d.Annotations[chunkedDigest] {
		return nil, fmt.Errorf("its list of files is %s, the manifest says %s", got, d.Annotations[chunkedDigest])
	}
	need, err := p.plan()
	if err != nil {
		return nil, err
	}
	judge := limit.NewJudge(store.Limits, dir) // zeros of a file are nothing in the blob, and much on the disk
	for _, f := range p.missing {
		if err := judge.Bytes(f.Size); err != nil {
			return nil, fmt.Errorf("its list of files: %s: %w", limit.Quote(f.Name), err)
		}
	}
	if need += toc.length + split.length; need > d.Size-d.Size/4 {
		return nil, errWhole
	}
	if p.split, err = c.part(ctx, d, split); err != nil {
		return nil, err
	}
	fd, err := unix.Open(dir, unix.O_RDWR|unix.O_CLOEXEC|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	p.fetched = os.NewFile(uintptr(fd), "files of a layer")
	progress.Line("Copying blob %s: %d of %d bytes, the other files are here", d.Digest, need, d.Size)
	if err := p.fetch(ctx); err != nil {
		p.fetched.Close()
		return nil, err
	}
	return p, nil
}

// plan finds out which files are missing, and how many bytes of the blob they are.
func (p *partial) plan() (need int64, err error) {
	toc, err := storage.ParseTOC(p.list)
	if err != nil {
		return 0, fmt.Errorf("its list of files: %w", err)
	}
	var last *wanted
	for _, e := range toc.Entries {
		switch {
		case e.Type == "chunk" && last != nil:
			if len(last.chunks) == 0 {
				last.chunks = append(last.chunks, last.TOCEntry)
			}
			last.chunks = append(last.chunks, e)
			continue
		case e.Type != "reg" || e.Size <= 0:
			last = nil
			continue
		}
		last = &wanted{TOCEntry: e, local: p.contents.Has(e.Digest, e.Size)}
		p.files[path.Clean(e.Name)] = last
		if !last.local {
			p.missing = append(p.missing, last)
		}
	}
	for _, f := range p.missing {
		for _, chunk := range f.chunks { // zeros at the beginning have no offset
			if chunk.ChunkType == "" && (f.Offset == 0 || chunk.Offset < f.Offset) {
				f.Offset = chunk.Offset
			}
		}
		if f.Offset < 0 || f.EndOffset < f.Offset || f.EndOffset > p.desc.Size {
			return 0, fmt.Errorf("its list of files: %q is not within the blob", f.Name)
		}
		need += f.EndOffset - f.Offset
	}
	slices.SortFunc(p.missing, func(a, b *wanted) int { return cmp.Compare(a.Offset, b.Offset) })
	return need, nil
}

// fetch downloads the files that are missing, those that are near each other at once.
func (p *partial) fetch(ctx context.Context) error {
	at := int64(0)
	for rest := p.missing; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].Offset-rest[n-1].EndOffset <= nearby && rest[n].EndOffset-rest[0].Offset <= oneRequest {
			n++
		}
		var end int64
		err := p.client.retry(ctx, func() (err error) {
			end, err = p.some(ctx, rest[:n], at)
			return err
		})
		if err != nil {
			return err
		}
		at, rest = end, rest[n:]
	}
	return nil
}

// some downloads files that follow one another, and writes them from there on.
func (p *partial) some(ctx context.Context, files []*wanted, at int64) (int64, error) {
	begin, end := files[0].Offset, files[len(files)-1].EndOffset
	for _, f := range files {
		end = max(end, f.EndOffset)
	}
	body, err := p.client.open(ctx, p.desc, span{begin, end - begin})
	if err != nil {
		return 0, err
	}
	defer body.Close()
	for _, f := range files {
		if f.Offset < begin {
			return 0, permanent{fmt.Errorf("its list of files: %q is within another", f.Name)}
		}
		if _, err := io.CopyN(io.Discard, body, f.Offset-begin); err != nil {
			return 0, err
		}
		packed := io.LimitReader(body, f.EndOffset-f.Offset)
		if err := p.unpack(f, packed, at); err != nil {
			return 0, err
		}
		if _, err := io.Copy(io.Discard, packed); err != nil {
			return 0, err
		}
		begin, f.at, at = f.EndOffset, at, at+f.Size
	}
	return at, nil
}

// unpack writes one file, and checks it.
func (p *partial) unpack(f *wanted, packed io.Reader, at int64) error {
	d, err := zstd.NewReader(packed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(32<<20))
	if err != nil {
		return err
	}
	defer d.Close()
	sum := sha256.New()
	out := io.MultiWriter(io.NewOffsetWriter(p.fetched, at), sum)
	chunks := f.chunks
	if len(chunks) == 0 {
		chunks = []storage.TOCEntry{{ChunkSize: f.Size}}
	}
	left := f.Size
	for _, chunk := range chunks {
		from := io.Reader(d)
		if chunk.ChunkType == "zeros" {
			from = zeros{}
		}
		if left -= chunk.ChunkSize; chunk.ChunkSize < 0 || left < 0 {
			return permanent{fmt.Errorf("its list of files: %q is not as large as its parts", f.Name)}
		}
		if _, err := io.CopyN(out, from, chunk.ChunkSize); err != nil {
			return err
		}
	}
	if got := "sha256:" + hex.EncodeToString(sum.Sum(nil)); got != f.Digest.String() {
		return permanent{fmt.Errorf("file %q is %s, the list says %s", f.Name, got, f.Digest)}
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// archive is the layer as a tar stream. Its decoder reads nothing ahead and needs no closing,
// which it must not be while the stream's goroutine may still read from it.
func (p *partial) archive() (io.ReadCloser, error) {
	lines, err := zstd.NewReader(bytes.NewReader(p.split), zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
	if err != nil {
		return nil, err
	}
	return asm.NewOutputTarStream(p, tarsplit.NewJSONUnpacker(&shortLines{in: lines})), nil
}

const (
	longestLine = 1 << 20   // each is held in memory; a header of a tar archive is much smaller
	mostLines   = 512 << 20 // lines need not be of any archive
)

// shortLines reads objects, each of which ends a line, and of which none is too long, and
// not without end.
type shortLines struct {
	in          io.Reader
	line, total int
	last        byte
}

func (s *shortLines) Read(p []byte) (int, error) {
	n, err := s.in.Read(p[:min(len(p), 64<<10)])
	if s.total += n; s.total > mostLines {
		return 0, fmt.Errorf("what is between its files is more than %d MiB", mostLines>>20)
	}
	s.line += n
	for i, c := range p[:n] {
		if c == '\n' && s.last == '}' {
			s.line = n - i - 1
		}
		s.last = c
	}
	if s.line > longestLine {
		return 0, fmt.Errorf("a line of what is between its files is more than %d MiB", longestLine>>20)
	}
	return n, err
}

// Get opens a file of the layer; tar-split asks for it.
func (p *partial) Get(name string) (io.ReadCloser, error) {
	f := p.files[path.Clean(name)]
	switch {
	case f == nil:
		return nil, fmt.Errorf("%q is not in its list of files", name)
	case f.local:
		return p.contents.Open(f.Digest)
	}
	return io.NopCloser(io.NewSectionReader(p.fetched, f.at, f.Size)), nil
}

func (p *partial) close() { p.fetched.Close() }

// part reads a small part of a blob.
func (c *client) part(ctx context.Context, d imagespec.Descriptor, s span) (data []byte, err error) {
	err = c.retry(ctx, func() error {
		body, err := c.open(ctx, d, s)
		if err != nil {
			return err
		}
		defer body.Close()
		data = make([]byte, s.length)
		_, err = io.ReadFull(body, data)
		return err
	})
	return data, err
}

// open asks for a part of a blob.
func (c *client) open(ctx context.Context, d imagespec.Descriptor, s span) (io.ReadCloser, error) {
	asked := fmt.Sprintf("%d-%d", s.from, s.from+s.length-1)
	resp, err := c.get(ctx, c.url("blobs/%s", d.Digest), map[string]string{"Range": "bytes=" + asked}, http.StatusPartialContent, http.StatusOK)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusPartialContent || resp.Header.Get("Content-Range") != fmt.Sprintf("bytes %s/%d", asked, d.Size) {
		resp.Body.Close()
		return nil, permanent{errors.New("the registry does not send parts of blobs")}
	}
	return resp.Body, nil
}
