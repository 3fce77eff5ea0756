// Package storage holds layers and root filesystems: the only door to
// containers/storage.
package storage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	digest "github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/reexec"
	"go.podman.io/storage/types"

	"moss/storage/driver"
)

// Init runs the part of the library that unpacks layers in a child of this
// program, and says whether this process was such a child. Call it first in
// main, and return if it says so.
func Init() bool {
	// The library's own notes are for its authors; what matters comes as errors.
	logrus.SetLevel(logrus.ErrorLevel)
	return reexec.Init()
}

// Store is the user's image store, and podman's as far as it is there.
type Store struct {
	Root   string // <root>; the store is <root>/storage
	Driver driver.Driver
	// SingleID is set when the namespace maps one ID only: files of other
	// owners then belong to that one.
	SingleID   bool
	lib        cs.Store
	additional []string
}

// Open opens the store below root, with its run files below run. It must run as
// ID 0 of the user's namespaces.
func Open(root, run string) (*Store, error) {
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

	s := &Store{Root: root, Driver: drv, SingleID: count == 1}
	options := types.StoreOptions{
		GraphRoot:       filepath.Join(root, "storage"),
		RunRoot:         filepath.Join(run, "storage"),
		GraphDriverName: "overlay",
		// Layers are only unpacked and read here, so the driver's home needs
		// no mount of its own in the kept namespace.
		GraphDriverOptions: []string{"overlay.skip_mount_home=true"},
	}
	switch drv.Name {
	case driver.Fuse:
		options.GraphDriverOptions = append(options.GraphDriverOptions, "overlay.mount_program="+drv.Program)
	case driver.VFS:
		options.GraphDriverName, options.GraphDriverOptions = "vfs", nil
	}
	if s.SingleID {
		options.GraphDriverOptions = append(options.GraphDriverOptions, options.GraphDriverName+".ignore_chown_errors=true")
	}
	if path := podmanStore(); path != "" && drv.Name != driver.VFS && path != options.GraphRoot {
		s.additional = append(s.additional, path)
		options.GraphDriverOptions = append(options.GraphDriverOptions, "overlay.imagestore="+path)
	}
	if s.lib, err = cs.GetStore(options); err != nil {
		return nil, fmt.Errorf("cannot open image store %q: %w", options.GraphRoot, err)
	}
	return s, nil
}

// Close lets go of the store.
func (s *Store) Close() { s.lib.Free() }

// Library is the library's own view, for the packages below storage.
func (s *Store) Library() cs.Store { return s.lib }

// Temp is the directory for blobs on their way in or out; it is on the store's
// file system.
func (s *Store) Temp() (string, error) {
	dir := filepath.Join(s.Root, "storage-tmp")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("cannot make directory for downloads: %w", err)
	}
	return dir, nil
}

// podmanStore is the store of podman and buildah of the same user, if it is
// there with the overlay driver.
func podmanStore() string {
	path := podmanPath()
	for _, need := range []string{"overlay/l", "overlay-images/images.lock", "overlay-layers/layers.lock"} {
		if _, err := os.Stat(filepath.Join(path, need)); err != nil {
			return ""
		}
	}
	return path
}

// podmanPath is where the store of podman would be; "" when there is no home.
func podmanPath() string {
	data := os.Getenv("XDG_DATA_HOME")
	if data == "" {
		home := os.Getenv("HOME")
		if home == "" {
			return ""
		}
		data = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(data, "containers", "storage")
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

// ChainID is the ID that podman gives a layer: of its own diffID, and of what is
// below it (image-spec config.md has the same idea with other separators).
func ChainID(parent string, diffID digest.Digest) string {
	if parent == "" {
		return diffID.Encoded()
	}
	return digest.Canonical.FromString(parent + "+" + diffID.Encoded()).Encoded()
}

// HasLayer says whether the layer is in one of the stores, whole.
func (s *Store) HasLayer(id string) bool {
	_, err := s.lib.Layer(id)
	return err == nil
}

// PutLayer unpacks one layer on top of parent. What it unpacks to must be
// diffID, else nothing is kept. blob may be compressed; blobDigest is its
// digest, which the caller has checked, or "".
func (s *Store) PutLayer(parent string, diffID, blobDigest digest.Digest, size int64, blob io.Reader) (string, error) {
	id := ChainID(parent, diffID)
	if s.HasLayer(id) {
		return id, nil
	}
	options := &cs.LayerOptions{OriginalDigest: blobDigest}
	if blobDigest != "" {
		options.OriginalSize = &size
	}
	layer, _, err := s.lib.PutLayer(id, parent, nil, "", false, options, blob)
	if errors.Is(err, cs.ErrDuplicateID) {
		return id, nil // another process was faster
	}
	if err != nil {
		return "", fmt.Errorf("cannot unpack layer %q: %w", diffID, explain(err))
	}
	if layer.UncompressedDigest != diffID {
		err := fmt.Errorf("cannot unpack layer: its content is %s, the image says %s", layer.UncompressedDigest, diffID)
		return "", errors.Join(err, s.lib.DeleteLayer(id))
	}
	return id, nil
}

// explain adds what the library's error does not say.
func explain(err error) error {
	text := err.Error()
	if strings.Contains(text, "lchown") && strings.Contains(text, "invalid argument") {
		return fmt.Errorf("%w (the image has files of an owner outside your subordinate IDs)", err)
	}
	return err
}

// HasDiff says whether a layer of that content is in a store, on whatever parent.
func (s *Store) HasDiff(diffID digest.Digest) bool {
	layers, err := s.lib.LayersByUncompressedDigest(diffID)
	return err == nil && len(layers) > 0
}

// CopyLayer makes the layer of that content on top of parent, from one that is
// in a store on another parent.
func (s *Store) CopyLayer(parent string, diffID digest.Digest) (string, error) {
	if id := ChainID(parent, diffID); s.HasLayer(id) {
		return id, nil
	}
	layers, err := s.lib.LayersByUncompressedDigest(diffID)
	if err != nil {
		return "", fmt.Errorf("cannot copy layer %q: %w", diffID, err)
	}
	plain := archive.Uncompressed
	diff, err := s.lib.Diff("", layers[0].ID, &cs.DiffOptions{Compression: &plain})
	if err != nil {
		return "", fmt.Errorf("cannot copy layer %q: %w", diffID, err)
	}
	defer diff.Close()
	return s.PutLayer(parent, diffID, "", 0, diff)
}

// CheckSpace says early that a download of size bytes to dir will not fit.
func (s *Store) CheckSpace(dir string, size int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return nil // the write will tell
	}
	if free := int64(fs.Bavail) * fs.Bsize; free < size {
		return fmt.Errorf("no space left on device: %d MiB are needed for the compressed layers alone, %d MiB are free in %q",
			size>>20, free>>20, dir)
	}
	return nil
}
