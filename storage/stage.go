package storage

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	digest "github.com/opencontainers/go-digest"
	"github.com/vbatts/tar-split/tar/asm"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	cs "go.podman.io/storage"
	graphdriver "go.podman.io/storage/drivers"
	"go.podman.io/storage/pkg/archive"

	"moss/storage/driver"
	"moss/storage/limit"
)

// stagePrefix begins the names of directories in Temp that layers are unpacked in.
const stagePrefix = "stage-"

// Staged is a layer that is unpacked, but not in the store yet: it needs no parent, so
// that all layers of an image can be unpacked at once. Either Commit or Discard ends it.
type Staged struct {
	store  *Store
	dir    string
	lock   *os.File // of dir, flocked: whose lock is free was left behind
	diffID digest.Digest
	out    graphdriver.DriverWithDifferOutput
	// blob is the digest and the size of what was unpacked, and how it was compressed.
	blob        digest.Digest
	size        int64
	compression archive.Compression
	rooted      bool // the layer says what its root directory is like
}

// CanStage says whether layers of this store can be unpacked ahead of their parents.
func (s *Store) CanStage() bool { return s.Driver.Name != driver.VFS }

// Stage unpacks a layer beside the store. What it unpacks to must be diffID. blob may be
// compressed; blobDigest and size are what the caller has checked of it, or "". It may be
// called for several layers at once.
func (s *Store) Stage(diffID, blobDigest digest.Digest, size int64, blob io.Reader) (st *Staged, err error) {
	temp, err := s.Temp()
	if err != nil {
		return nil, err
	}
	st = &Staged{store: s, diffID: diffID, blob: blobDigest, size: size}
	if st.dir, st.lock, err = lockedDir(temp); err != nil {
		return nil, fmt.Errorf("cannot unpack layer %q: %w", diffID, err)
	}
	defer func() {
		if err != nil {
			st.Discard()
			st, err = nil, fmt.Errorf("cannot unpack layer %q: %w", diffID, Explain(err))
		}
	}()
	st.out.Target = filepath.Join(st.dir, "diff")
	// The mode is the library's, of a root directory that the image says nothing of.
	if err := os.Mkdir(st.out.Target, 0o555); err != nil {
		return st, err
	}
	if err := os.Chmod(st.out.Target, 0o555); err != nil {
		return st, err
	}
	if st.out.TarSplit, err = os.CreateTemp(st.dir, "split"); err != nil {
		return st, err
	}
	err = st.unpack(blob)
	if isOdd(err) {
		err = st.unpackOdd(blob)
	}
	if err != nil {
		return st, err
	}
	if st.out.UncompressedDigest != diffID {
		return st, fmt.Errorf("its content is %s, the image says %s", st.out.UncompressedDigest, diffID)
	}
	return st, nil
}

// lockedDir makes a directory whose lock is held, so that Sweep leaves it alone.
func lockedDir(parent string) (string, *os.File, error) {
	for {
		path, err := os.MkdirTemp(parent, stagePrefix)
		if err != nil {
			return "", nil, err
		}
		dir, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // a sweep was faster than the lock
		}
		if err == nil {
			err = syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		}
		if _, gone := os.Lstat(path); gone != nil || errors.Is(err, syscall.EWOULDBLOCK) {
			dir.Close()
			continue
		}
		return path, dir, err
	}
}

// SweepStaged removes layers that were unpacked by processes that are gone.
func (s *Store) SweepStaged() {
	dirs, _ := filepath.Glob(filepath.Join(s.Root, "storage-tmp", stagePrefix+"*"))
	for _, path := range dirs {
		dir, err := os.Open(path)
		if err != nil {
			continue
		}
		if syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			os.RemoveAll(path)
		}
		dir.Close()
	}
}

// unpack fills the directory, and what is to be recorded of it: the bytes of the archive
// that are not in files (tar-split), the digests and the owners.
func (st *Staged) unpack(blob io.Reader) error {
	plain, compression, err := st.store.plain(blob)
	if err != nil {
		return err
	}
	defer plain.Close()
	st.compression = compression

	judged := limit.NewReader(plain, limit.NewJudge(st.store.Limits, st.store.Root))
	judged.NoSparse = errOdd
	split := bufio.NewWriterSize(st.out.TarSplit, 64<<10)
	notes := newNotes(tarsplit.NewJSONPacker(split))
	early := newWriteback(st.out.Target)
	defer early.Close()
	notes.passed = early.pass
	content := &measure{hash: sha256.New()}
	files, done, err := asm.NewInputTarStreamWithDone(io.TeeReader(judged, content), notes, tarsplit.NewDiscardFilePutter())
	if err != nil {
		return err
	}
	members := newAhead(files)
	err = unpackIn(st.out.Target, members, st.store.tarOptions())
	if err == nil {
		// Zeros may follow the archive, which belong to its content.
		_, err = io.Copy(io.Discard, members)
	}
	members.Close()
	files.Close()
	if derr := <-done; err == nil || errors.Is(derr, tarsplit.ErrDuplicatePath) {
		err = derr
	}
	if err == nil {
		err = split.Flush()
	}
	if err != nil {
		return cmp.Or(judged.Err(), err)
	}
	st.rooted = notes.rooted
	st.out.UIDs, st.out.GIDs = notes.owners()
	st.out.UncompressedDigest, st.out.Size = digest.NewDigest(digest.SHA256, content.hash), content.size
	return nil
}

// plain is what a blob holds, not compressed, and how it was. The archive in it, not
// being compressed again, has not been judged.
func (s *Store) plain(blob io.Reader) (*unpacked, archive.Compression, error) {
	packed := bufio.NewReaderSize(limit.NewWindow(blob, s.Limits), 64<<10)
	start, _ := packed.Peek(10)
	compression := archive.DetectCompression(start)
	r, err := decompress(packed, compression)
	if err != nil {
		return nil, compression, err
	}
	inner := bufio.NewReaderSize(r, 256<<10)
	if start, _ := inner.Peek(10); archive.DetectCompression(start) != archive.Uncompressed {
		r.Close()
		return nil, compression, errors.New("it is compressed twice, or no tar file")
	}
	return &unpacked{inner, r}, compression, nil
}

type unpacked struct {
	io.Reader
	io.Closer
}

// tarOptions are what the library's own unpacking is given for this driver.
func (s *Store) tarOptions() *archive.TarOptions {
	o := &archive.TarOptions{WhiteoutFormat: archive.OverlayWhiteoutFormat, InUserNS: true, IgnoreChownErrors: s.SingleID}
	if s.Driver.Name == driver.Fuse {
		o.WhiteoutFormat = archive.AUFSWhiteoutFormat
	}
	return o
}

// Commit puts the layer into the store, on top of parent, and returns its ID.
func (st *Staged) Commit(parent string) (string, error) {
	defer st.Discard()
	s, id := st.store, ChainID(parent, st.diffID)
	if err := s.pending.hold(lineLayer + id); err != nil {
		return "", err
	}
	if s.hasLayer(id) {
		return id, nil
	}
	if err := st.inheritRoot(parent); err != nil {
		return "", fmt.Errorf("cannot unpack layer %q: %w", st.diffID, err)
	}
	options := &graphdriver.ApplyDiffWithDifferOpts{}
	st.out.CompressedDigest = st.diffID
	if st.blob != "" {
		st.out.CompressedDigest = st.blob
		options.Flags = map[string]any{compressionFlag: st.compression.Extension(), sizeFlag: strconv.FormatInt(st.size, 10)}
	}
	_, err := s.lib.ApplyStagedLayer(cs.ApplyStagedLayerOptions{ID: id, ParentLayer: parent, DiffOutput: &st.out, DiffOptions: options})
	if errors.Is(err, cs.ErrDuplicateID) {
		return id, nil // another process was faster
	}
	if err != nil {
		return "", fmt.Errorf("cannot unpack layer %q: %w", st.diffID, Explain(err))
	}
	return id, nil
}

// inheritRoot gives the layer's root directory the mode and the owner of its parent's, if
// the layer has none of its own: in an overlay it is the uppermost that counts.
func (st *Staged) inheritRoot(parent string) error {
	mode := os.FileMode(0)
	st.out.RootDirMode = &mode // the library is to leave it alone
	if st.rooted || parent == "" {
		return nil
	}
	var below syscall.Stat_t
	if err := syscall.Stat(filepath.Join(st.store.Root, "storage", "overlay", parent, "diff"), &below); err != nil {
		return err
	}
	if err := os.Chown(st.out.Target, int(below.Uid), int(below.Gid)); err != nil {
		return err
	}
	return syscall.Chmod(st.out.Target, below.Mode&0o7777)
}

// Discard removes what Commit has not taken.
func (st *Staged) Discard() {
	if st.out.TarSplit != nil {
		st.out.TarSplit.Close()
		st.out.TarSplit = nil
	}
	if st.lock != nil {
		os.RemoveAll(st.dir)
		st.lock.Close()
		st.lock = nil
	}
}
