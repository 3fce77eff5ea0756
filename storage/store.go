// Package storage holds layers and root filesystems: the only door to
// containers/storage.
package storage

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/reexec"
	"go.podman.io/storage/types"
	"golang.org/x/sys/unix"

	"moss/storage/driver"
	"moss/storage/limit"
)

// Init runs the part of the library that unpacks layers in a child of this
// program, and says whether this process was such a child. Call it first in
// main, and return if it says so.
func Init() bool {
	// The library's own notes are for its authors; what matters comes as errors.
	logrus.SetLevel(logrus.ErrorLevel)
	// Names and directories of an archive are kept while it is unpacked, here and in
	// the child. Where there are very many, the garbage is collected more often than
	// it else would be; see limit.DefaultFiles.
	debug.SetMemoryLimit(56 << 20)
	return reexec.Init()
}

// Store is the user's image store, and podman's as far as it is there.
type Store struct {
	Root   string // <root>; the store is <root>/storage
	Driver driver.Driver
	// SingleID is set when the namespace maps one ID only, or the file system lets files
	// belong to one only: files of other owners then belong to that one.
	SingleID bool
	// Verb and Source are what the log of names says of images that are named; see
	// image.LogEntry.
	Verb, Source string
	// Limits bound what an archive may become.
	Limits limit.Limits

	lib cs.Store
	// podman is a view of podman's store, and of those that storage.conf adds, or nil.
	// It is a store of its own, with nothing in it, to which podman's is an additional
	// image store: were it
	// additional to ours, the library would put layers of ours, whose IDs are the
	// same, into podman's directories.
	podman cs.Store
	// others are all that could be; viewed those that are there.
	others, viewed []string
	pending        *pending // while something is added
	held           *os.File // <root>/storage, locked, so that it is not moved meanwhile
}

// Open opens the store below root, with its run files below run, and the others to
// read. It must run as ID 0 of the user's namespaces.
func Open(root, run string, others []string) (*Store, error) {
	host, count, err := idMap("/proc/self/uid_map")
	if err != nil {
		return nil, fmt.Errorf("cannot open image store: %w", err)
	}
	drv, err := driver.Cached(root)
	if err != nil {
		return nil, fmt.Errorf("cannot open image store: %w", err)
	}
	// The library looks at these where it asks whether it is rootless, and
	// else would read a storage.conf made for another program's store.
	os.Setenv("_CONTAINERS_USERNS_CONFIGURED", "done")
	os.Setenv("_CONTAINERS_ROOTLESS_UID", host)
	os.Setenv("CONTAINERS_STORAGE_CONF", os.DevNull)
	// It insists that this directory is there, though it then does not use it.
	if _, err := os.Stat(os.Getenv("XDG_RUNTIME_DIR")); err != nil {
		os.Setenv("XDG_RUNTIME_DIR", os.TempDir())
	}

	s := &Store{Root: root, Driver: drv, SingleID: count == 1 || !drv.FileSystem.Owners, others: others}
	if s.held, err = holdStore(root); err != nil {
		return nil, fmt.Errorf("cannot open image store: %w", err)
	}
	options := s.options(filepath.Join(root, "storage"), filepath.Join(run, "storage"))
	dropDamaged(filepath.Join(options.RunRoot, options.GraphDriverName+"-layers", "mountpoints.json"))
	// The library takes a list that is lost for one that is empty, and would delete what
	// it does not know.
	if err := listsLost(options.GraphRoot, options.GraphDriverName); err != nil {
		return nil, fmt.Errorf("cannot open image store %q: %w", options.GraphRoot, err)
	}
	if err := s.mendShortNames(); err != nil {
		return nil, fmt.Errorf("cannot open image store %q: %w", options.GraphRoot, err)
	}
	if s.lib, err = cs.GetStore(options); err != nil {
		return nil, fmt.Errorf("cannot open image store %q: %w (%s)", options.GraphRoot, err, howToRepair)
	}
	for _, path := range others {
		if drv.Name != driver.VFS && path != options.GraphRoot && isStore(path) {
			s.viewed = append(s.viewed, path)
		}
	}
	if len(s.viewed) > 0 {
		view := s.options(filepath.Join(root, "storage-view"), filepath.Join(run, "storage-view"))
		for _, path := range s.viewed {
			view.GraphDriverOptions = append(view.GraphDriverOptions, "overlay.imagestore="+path)
		}
		if s.podman, err = cs.GetStore(view); err != nil {
			slog.Warn("podman's images are not seen: its store cannot be opened", "err", err)
			s.podman = nil
		}
	}
	s.SweepStaged()
	if err := s.recover(false); err != nil {
		slog.Warn("what a crash left in the image store stays for now", "err", err)
	}
	return s, nil
}

// holdStore waits while the store is moved or removed, and keeps it where it is then.
func holdStore(root string) (*os.File, error) {
	for {
		dir := filepath.Join(root, "storage")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		if f, err := hold(dir, unix.LOCK_SH); !errors.Is(err, errElsewhere) {
			return f, err
		}
	}
}

// dropDamaged removes a file that the library keeps in the run directory and would
// not open the store for if it were damaged. What is mounted is mounted all the same.
func dropDamaged(path string) {
	if data, err := os.ReadFile(path); err == nil && !json.Valid(data) {
		slog.Warn("a damaged list of mounts is made anew", "file", path)
		os.Remove(path)
	}
}

// options are the library's, for this machine's driver.
func (s *Store) options(graph, run string) types.StoreOptions {
	o := types.StoreOptions{GraphRoot: graph, RunRoot: run, GraphDriverName: "overlay"}
	// Layers are only unpacked and read here, so the driver's home needs no
	// mount of its own in the kept namespace. A layer that is recorded is on
	// the disk, also after a power cut; a tenth of a pull's time buys it.
	o.GraphDriverOptions = []string{"overlay.skip_mount_home=true", "overlay.sync=filesystem"}
	switch s.Driver.Name {
	case driver.Fuse:
		o.GraphDriverOptions = append(o.GraphDriverOptions, "overlay.mount_program="+s.Driver.Program)
	case driver.VFS:
		o.GraphDriverName, o.GraphDriverOptions = "vfs", nil
	}
	if s.SingleID {
		o.GraphDriverOptions = append(o.GraphDriverOptions, o.GraphDriverName+".ignore_chown_errors=true")
	}
	return o
}

// Close lets go of the store.
func (s *Store) Close() {
	for _, lib := range s.all() {
		lib.Free()
	}
	s.held.Close()
}

// all are the stores that images and layers are looked for in, ours first.
func (s *Store) all() []cs.Store {
	if s.podman == nil {
		return []cs.Store{s.lib}
	}
	return []cs.Store{s.lib, s.podman}
}

// Temp is the directory for blobs on their way in or out; it is on the store's
// file system.
func (s *Store) Temp() (string, error) {
	dir := filepath.Join(s.Root, "storage-tmp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make directory for downloads: %w", err)
	}
	return dir, nil
}

// Nameless makes a temporary file in a directory that is gone with the last who has
// it open, also when that one is killed.
func Nameless(dir string) (*os.File, error) {
	if fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(dir, "nameless")), nil
	}
	f, err := os.CreateTemp(dir, "nameless-*") // a file system without: NFS
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// isStore says whether a directory is a store with the overlay driver.
func isStore(path string) bool {
	for _, need := range []string{"overlay/l", "overlay-images/images.lock", "overlay-layers/layers.lock"} {
		if _, err := os.Stat(filepath.Join(path, need)); err != nil {
			return false
		}
	}
	return true
}

// idMap tells which outer ID is 0 in this namespace, and how many IDs there are.
func idMap(path string) (host string, count uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		field := strings.Fields(lines.Text())
		if len(field) != 3 {
			continue
		}
		n, err := strconv.ParseUint(field[2], 10, 64)
		if err != nil {
			return "", 0, err
		}
		count += n
		if field[0] == "0" {
			host = field[1]
		}
	}
	if host == "" {
		return "", 0, errors.New("this process is not in moss's user namespace: ID 0 is not mapped")
	}
	return host, count, lines.Err()
}

// HostID is the ID outside this namespace of its ID 0; path is one of the files of
// user_namespaces(7).
func HostID(path string) (int, error) {
	host, _, err := idMap(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(host)
}

// ChainID is the ID that podman gives a layer: of its own diffID, and of what is
// below it (image-spec config.md has the same idea with other separators).
func ChainID(parent string, diffID digest.Digest) string {
	if parent == "" {
		return diffID.Encoded()
	}
	return digest.Canonical.FromString(parent + "+" + diffID.Encoded()).Encoded()
}

// HasLayer says whether the layer is in our store, whole. A layer of podman's
// store does not count: our images must outlive what podman rmi does.
func (s *Store) HasLayer(id string) bool {
	if s.pending.hold(lineLayer+id) != nil {
		return false
	}
	return s.hasLayer(id)
}

func (s *Store) hasLayer(id string) bool {
	_, err := s.lib.Layer(id)
	return err == nil
}

// PutLayer unpacks one layer on top of parent. What it unpacks to must be
// diffID, else nothing is kept; nor of what the limits do not allow. blob may be
// compressed; blobDigest is its digest, which the caller has checked, or "".
func (s *Store) PutLayer(parent string, diffID, blobDigest digest.Digest, size int64, blob io.Reader) (string, error) {
	id := ChainID(parent, diffID)
	if err := s.pending.hold(lineLayer + id); err != nil {
		return "", err
	}
	if s.hasLayer(id) {
		return id, nil
	}
	if s.CanStage() {
		st, err := s.Stage(diffID, blobDigest, size, blob)
		if err != nil {
			return "", err
		}
		return st.Commit(parent)
	}
	plain, compression, err := s.plain(blob)
	if err != nil {
		return "", fmt.Errorf("cannot unpack layer %q: %w", diffID, err)
	}
	defer plain.Close()
	sum := sha256.New()
	judged := limit.NewReader(plain, limit.NewJudge(s.Limits, s.Root))
	options := &cs.LayerOptions{OriginalDigest: blobDigest, OriginalSize: &size, UncompressedDigest: diffID}
	if blobDigest == "" {
		options.OriginalDigest, options.OriginalSize = diffID, nil
	} else {
		options.Flags = map[string]any{compressionFlag: compression.Extension()}
	}
	_, _, err = s.lib.PutLayer(id, parent, nil, "", false, options, io.TeeReader(judged, sum))
	if errors.Is(err, cs.ErrDuplicateID) {
		return id, nil // another process was faster
	}
	if err != nil {
		return "", fmt.Errorf("cannot unpack layer %q: %w", diffID, Explain(cmp.Or(judged.Err(), err)))
	}
	if got := digest.NewDigest(digest.SHA256, sum); got != diffID {
		err := fmt.Errorf("cannot unpack layer: its content is %s, the image says %s", got, diffID)
		return "", errors.Join(err, s.lib.DeleteLayer(id))
	}
	return id, nil
}

// compressionFlag tells of a layer how it was compressed: the library sees only what
// was judged, which is not compressed any more.
const compressionFlag = "moss-compression"

// sizeFlag tells the size of that blob, of which the library keeps no record where a layer
// was unpacked beside the store.
const sizeFlag = "moss-blob-size"

// BlobSize is the size of the blob of which a layer has the digest; 0 if it is not known.
func BlobSize(layer *cs.Layer) int64 {
	if text, ok := layer.Flags[sizeFlag].(string); ok {
		n, _ := strconv.ParseInt(text, 10, 64)
		return n
	}
	return layer.CompressedSize
}

// Compression is how the blob was compressed of which a layer has the digest.
func Compression(layer *cs.Layer) archive.Compression {
	for c := archive.Uncompressed; c <= archive.Zstd; c++ {
		if extension, ok := layer.Flags[compressionFlag]; ok && extension == c.Extension() {
			return c
		}
	}
	return layer.CompressionType
}

// Explain makes a sentence of the library's error: what its child said, and what
// neither says.
func Explain(err error) error {
	text := err.Error()
	if _, rest, ok := strings.Cut(text, "unpacking failed (error: "); ok {
		_, said, _ := strings.Cut(rest, "; output: ")
		said, input, _ := strings.Cut(said, "\nexhausting input failed (error: ")
		if said = strings.TrimSuffix(said, ")"); said == "" || strings.Contains(said, "EOF") && input != "" {
			said = strings.TrimSuffix(input, ")") // what it was given was cut
		}
		if said != "" {
			err = errors.New(said)
		}
	}
	if strings.Contains(text, "lchown") && strings.Contains(text, "invalid argument") {
		return fmt.Errorf("%w (the image has files of an owner outside your subordinate IDs)", err)
	}
	if strings.Contains(text, " store data: loading ") {
		return fmt.Errorf("%w (%s)", err, howToRepair)
	}
	return err
}

// HasDiff says whether a layer of that content is in a store, ours or podman's, on
// whatever parent.
func (s *Store) HasDiff(diffID digest.Digest) bool {
	_, _, err := s.withDiff(diffID)
	return err == nil
}

func (s *Store) withDiff(diffID digest.Digest) (cs.Store, *cs.Layer, error) {
	for _, lib := range s.all() {
		if layers, err := lib.LayersByUncompressedDigest(diffID); err == nil && len(layers) > 0 {
			return lib, &layers[0], nil
		}
	}
	return nil, nil, fmt.Errorf("cannot find layer %q: %w", diffID, cs.ErrLayerUnknown)
}

// CopyLayer makes the layer of that content on top of parent, from one that is
// in podman's store or in ours on another parent.
func (s *Store) CopyLayer(parent string, diffID digest.Digest) (string, error) {
	if id := ChainID(parent, diffID); s.HasLayer(id) {
		return id, nil
	}
	diff, err := s.openCopy(diffID)
	if err != nil {
		return "", err
	}
	defer diff.Close()
	return s.PutLayer(parent, diffID, "", 0, diff)
}

// diffAgain is a layer that can be read twice.
type diffAgain struct {
	io.ReadCloser
	open func() (io.ReadCloser, error)
}

func (d *diffAgain) Rewind() error {
	d.Close()
	diff, err := d.open()
	if err == nil {
		d.ReadCloser = diff
	}
	return err
}

// StageCopy unpacks what CopyLayer would, as Stage does.
func (s *Store) StageCopy(diffID digest.Digest) (*Staged, error) {
	diff, err := s.openCopy(diffID)
	if err != nil {
		return nil, err
	}
	defer diff.Close()
	return s.Stage(diffID, "", 0, diff)
}

func (s *Store) openCopy(diffID digest.Digest) (*diffAgain, error) {
	lib, layer, err := s.withDiff(diffID)
	if err != nil {
		return nil, err
	}
	diff, err := openDiff(lib, layer)
	return &diffAgain{diff, func() (io.ReadCloser, error) { return openDiff(lib, layer) }}, err
}

// CheckSpace says early that a download of size bytes to dir will not fit.
func (s *Store) CheckSpace(dir string, size int64) error {
	if err := limit.Space(dir, size); err != nil {
		return fmt.Errorf("the compressed layers alone: %w", err)
	}
	return nil
}
