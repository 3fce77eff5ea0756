package storage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	digest "github.com/opencontainers/go-digest"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"golang.org/x/sys/unix"

	"moss/storage/limit"
)

// A layer is odd if its archive cannot be put together again from its files and what is
// between them: a name comes twice, so that the first file is gone, or a file is sparse,
// so that the archive has other bytes than the file. Then the whole archive is kept
// beside the files.

// errOdd says that a layer is odd.
var errOdd = errors.New("a file comes twice in it, or is sparse, and it cannot be read a second time")

// Rewinder is a blob that can be read from its beginning again, which odd layers want.
type Rewinder interface {
	io.Reader
	Rewind() error
}

// Rewindable is r, which reads what is in the file, with Rewind.
func Rewindable(r io.Reader, file io.Seeker) Rewinder { return &rewindable{r, file} }

type rewindable struct {
	io.Reader
	file io.Seeker
}

func (r *rewindable) Rewind() error {
	_, err := r.file.Seek(0, io.SeekStart)
	return err
}

// isOdd says whether unpack failed because the layer is odd.
func isOdd(err error) bool {
	return errors.Is(err, errOdd) || errors.Is(err, tarsplit.ErrDuplicatePath)
}

// unpackOdd is unpack of an odd layer, which has been begun: the directory is emptied.
func (st *Staged) unpackOdd(blob io.Reader) error {
	again, ok := blob.(Rewinder)
	if !ok {
		return errOdd
	}
	if err := again.Rewind(); err != nil {
		return err
	}
	if err := st.empty(); err != nil {
		return err
	}
	plain, compression, err := st.store.plain(again)
	if err != nil {
		return err
	}
	defer plain.Close()
	st.compression = compression
	judged := limit.NewReader(plain, limit.NewJudge(st.store.Limits, st.store.Root))
	split := bufio.NewWriterSize(st.out.TarSplit, 64<<10)
	content := &measure{hash: sha256.New()}
	o := &oddReader{st: st, in: io.TeeReader(judged, io.MultiWriter(content, &segments{tarsplit.NewJSONPacker(split)})), notes: newNotes(nil)}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := o.copy(w)
		w.CloseWithError(err)
		done <- err
	}()
	err = unpackIn(st.out.Target, r, st.store.tarOptions())
	r.CloseWithError(errors.New("unpacking has ended"))
	if cerr := <-done; err == nil || cerr != nil && judged.Err() != nil {
		err = cerr
	}
	if err == nil {
		err = split.Flush()
	}
	if err != nil {
		return cmp.Or(judged.Err(), err)
	}
	st.rooted = o.notes.rooted
	st.out.UIDs, st.out.GIDs = o.notes.owners()
	st.out.UncompressedDigest, st.out.Size = digest.NewDigest(digest.SHA256, content.hash), content.size
	return o.fill()
}

// empty takes away what was unpacked.
func (st *Staged) empty() error {
	entries, err := os.ReadDir(st.out.Target)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(st.out.Target, e.Name())))
	}
	_, serr := st.out.TarSplit.Seek(0, io.SeekStart)
	return errors.Join(err, serr, st.out.TarSplit.Truncate(0), os.Chmod(st.out.Target, 0o555))
}

// segments keeps what is written as parts of an archive that are in no file.
type segments struct{ tarsplit.Packer }

func (s *segments) Write(p []byte) (int, error) {
	_, err := s.AddEntry(tarsplit.Entry{Type: tarsplit.SegmentType, Payload: p})
	return len(p), err
}

// oddReader reads an odd archive, and writes one of plain files: what is in sparse ones
// is put aside, with its holes, and they are empty.
type oddReader struct {
	st     *Staged
	in     io.Reader
	notes  *notes
	sparse []sparseFile
}

type sparseFile struct{ name, content string }

func (o *oddReader) copy(w io.Writer) error {
	r, out := tar.NewReader(o.in), tar.NewWriter(w)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := o.member(h, r, out); err != nil {
			return err
		}
	}
	if _, err := io.Copy(io.Discard, o.in); err != nil { // zeros may follow
		return err
	}
	return out.Close()
}

func (o *oddReader) member(h *tar.Header, r io.Reader, out *tar.Writer) error {
	o.notes.see(h)
	if limit.IsSparse(h) {
		content := filepath.Join(o.st.dir, "sparse"+strconv.Itoa(len(o.sparse)))
		if err := writeSparse(content, r); err != nil {
			return err
		}
		o.sparse = append(o.sparse, sparseFile{h.Name, content})
		h.Size, h.Typeflag = 0, tar.TypeReg
		for key := range h.PAXRecords {
			if strings.HasPrefix(key, "GNU.sparse.") {
				delete(h.PAXRecords, key)
			}
		}
	}
	switch h.Typeflag {
	case tar.TypeReg:
	case tar.TypeXGlobalHeader:
		return nil
	default:
		h.Size = 0
	}
	h.Format = tar.FormatUnknown
	if err := out.WriteHeader(h); err != nil {
		return fmt.Errorf("cannot read %q: %w", h.Name, err)
	}
	_, err := io.Copy(out, r)
	return err
}

// writeSparse writes a file whose zeros are holes.
func writeSparse(path string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	block, zeros := make([]byte, 64<<10), make([]byte, 64<<10)
	size := int64(0)
	for {
		n, err := io.ReadFull(r, block)
		if n > 0 && !bytes.Equal(block[:n], zeros[:n]) {
			if _, err := f.WriteAt(block[:n], size); err != nil {
				return err
			}
		}
		size += int64(n)
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

// fill puts the content of sparse files where it belongs. A name that has come to be
// something else has none.
func (o *oddReader) fill() error {
	root, err := unix.Open(o.st.out.Target, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	for _, s := range o.sparse {
		if err := fillOne(root, s); err != nil {
			return fmt.Errorf("cannot fill %q: %w", s.name, err)
		}
	}
	return nil
}

func fillOne(root int, s sparseFile) error {
	fd, err := unix.Openat2(root, filepath.Clean("./"+s.name), &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_CLOEXEC | unix.O_NOFOLLOW | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil
	}
	to := os.NewFile(uintptr(fd), s.name)
	defer to.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != 0 {
		return err
	}
	from, err := os.Open(s.content)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := copyHoles(to, from); err != nil {
		return err
	}
	return futimens(fd, []unix.Timespec{st.Atim, st.Mtim})
}

// copyHoles copies a file and leaves its holes out; see lseek(2), SEEK_DATA.
func copyHoles(to, from *os.File) error {
	fi, err := from.Stat()
	if err != nil {
		return err
	}
	for at := int64(0); ; {
		begin, err := unix.Seek(int(from.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			return to.Truncate(fi.Size())
		}
		if err != nil {
			return err
		}
		if at, err = unix.Seek(int(from.Fd()), begin, unix.SEEK_HOLE); err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(to, begin), io.NewSectionReader(from, begin, at-begin)); err != nil {
			return err
		}
	}
}
