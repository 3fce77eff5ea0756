package storage

import (
	"archive/tar"
	"bytes"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	tarsplit "github.com/vbatts/tar-split/tar/storage"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"
)

// decompress returns the content of a stream. How much memory it may take is judged already.
func decompress(r io.Reader, c archive.Compression) (io.ReadCloser, error) {
	switch c {
	case archive.Gzip:
		// It decompresses ahead of who reads.
		return pgzip.NewReaderN(r, 256<<10, 4)
	case archive.Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(2), zstd.WithDecoderLowmem(true))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	}
	return archive.DecompressStream(r)
}

// unpackIn unpacks an archive in a directory that is the root of everything for it:
// whatever names and links it has lead to nowhere else. It is done by a thread that has
// another root than the process, and that ends with it.
func unpackIn(dir string, r io.Reader, o *archive.TarOptions) error {
	result := make(chan error, 1)
	alone(func() {
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chroot(dir)
		}
		if err == nil {
			err = unix.Chdir("/")
		}
		if err != nil {
			result <- fmt.Errorf("cannot make %q a root: %w", dir, err)
			return
		}
		result <- archive.Unpack(r, "/", o)
	})
	return <-result
}

// alone runs f on a thread that does nothing else, before or after, and that is not the
// process's first: that one would stay, and is what /proc shows of the process.
func alone(f func()) {
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if unix.Gettid() != os.Getpid() {
			f()
			return
		}
		locked := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			close(locked)
			f()
		}()
		<-locked
		runtime.UnlockOSThread()
	}()
}

// measure counts and sums what is written.
type measure struct {
	hash hash.Hash
	size int64
}

func (m *measure) Write(p []byte) (int, error) {
	m.size += int64(len(p))
	return m.hash.Write(p)
}

// notes reads along what tar-split records: whose files they are, and whether the root
// directory is among them.
type notes struct {
	tarsplit.Packer
	header     []byte // the bytes before the next entry
	rooted     bool
	uids, gids map[uint32]bool
	passed     func(name string, size int64) // is told of each file, if it is set
}

func newNotes(p tarsplit.Packer) *notes {
	return &notes{Packer: p, uids: map[uint32]bool{}, gids: map[uint32]bool{}}
}

// AddEntry passes an entry on.
func (n *notes) AddEntry(e tarsplit.Entry) (int, error) {
	if e.Type == tarsplit.SegmentType {
		n.header = append(n.header, e.Payload...)
		if extra := len(n.header) - 4<<20; extra > 0 {
			n.header = n.header[extra:]
		}
		return n.Packer.AddEntry(e)
	}
	// The padding of the file before comes first; headers are whole blocks (tar(5)).
	h, err := tar.NewReader(bytes.NewReader(n.header[len(n.header)%512:])).Next()
	n.header = n.header[:0]
	if err == nil {
		n.see(h)
	}
	if n.passed != nil && e.Type == tarsplit.FileType {
		n.passed(e.GetName(), e.Size)
	}
	return n.Packer.AddEntry(e)
}

// see notes whose a member is.
func (n *notes) see(h *tar.Header) {
	if !strings.HasPrefix(path.Base(h.Name), archive.WhiteoutPrefix) {
		n.uids[uint32(h.Uid)], n.gids[uint32(h.Gid)] = true, true
		n.rooted = n.rooted || path.Clean("/"+h.Name) == "/"
	}
}

func (n *notes) owners() (uids, gids []uint32) {
	for id := range n.uids {
		uids = append(uids, id)
	}
	for id := range n.gids {
		gids = append(gids, id)
	}
	slices.Sort(uids)
	slices.Sort(gids)
	return uids, gids
}
