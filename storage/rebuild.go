package storage

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"go.podman.io/storage/pkg/lockfile"

	"moss/record"
	"moss/storage/driver"
	"moss/storage/image"
)

// Rebuild finds the lists of our own store that are lost or damaged: of images, of
// layers, of the library's containers; and the short names by which overlay knows
// layers. With repair it makes them again of what lies beside them, before anybody opens
// the store: of an image its documents, of a layer its files and what of its archive is
// in none. A layer's ID says what its content is and what is below it (ChainID); which
// names an image had is known from the log of names, or the index. What is not known for
// certain is left to Check, and what is of no image to its removal. The stores of others
// are not touched.
func Rebuild(root, run string, others []string, repair bool) ([]image.Damage, error) {
	kept, err := holdStore(root) // it is not moved or removed meanwhile
	if err != nil {
		return nil, fmt.Errorf("cannot check the lists of images and layers: %w", err)
	}
	defer kept.Close()
	r, err := newRebuilder(root, run, others)
	if err != nil {
		return nil, fmt.Errorf("cannot check the lists of images and layers: %w", err)
	}
	held, err := r.lock(wait)
	defer func() {
		for _, l := range slices.Backward(held) {
			l.Unlock()
		}
	}()
	if err != nil {
		return nil, fmt.Errorf("cannot check the lists of images and layers: %w", err)
	}
	lostImages, lostLayers := r.read("images", &r.images), r.read("layers", &r.layers)
	if repair && (lostImages || lostLayers) {
		r.documents()
		if lostLayers {
			r.makeLayers()
		}
		if lostImages {
			r.makeImages()
		}
		for _, l := range held { // others read the lists again
			if _, err := l.RecordWrite(); err != nil {
				return r.found, fmt.Errorf("cannot make the lists of images and layers again: %w", err)
			}
		}
		if lostLayers {
			err = errors.Join(err, r.write("layers", r.layers))
		}
		if lostImages {
			err = errors.Join(err, r.write("images", r.images))
		}
	}
	r.setAside(repair)
	if r.driver == "overlay" && (repair || !lostLayers) {
		r.links(repair)
	}
	if repair && err == nil {
		// The index is made of all this.
		if err = os.Remove(filepath.Join(root, "images", "index")); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		err = fmt.Errorf("cannot make the lists of images and layers again: %w", err)
	}
	return r.found, err
}

// rebuilder has what is known of a store without opening it.
type rebuilder struct {
	root, run, graph, driver string

	images []cs.Image
	layers []cs.Layer
	docs   map[string]*documents // by image
	found  []image.Damage
}

// documents are what is kept of an image: the directory of its big data.
type documents struct {
	data     map[string][]byte
	manifest imagespec.Manifest
	config   struct {
		Created *time.Time
		RootFS  imagespec.RootFS
	}
	list  bool
	wrong string // why it is not whole
}

func newRebuilder(root, run string, others []string) (*rebuilder, error) {
	d, err := driver.Cached(root)
	if err != nil {
		return nil, err
	}
	r := &rebuilder{root: root, run: run, graph: filepath.Join(root, "storage"), driver: "overlay", docs: map[string]*documents{}}
	if d.Name == driver.VFS {
		r.driver = "vfs"
	}
	here, err := filepath.EvalSymlinks(r.graph)
	for _, path := range others {
		if there, err := filepath.EvalSymlinks(path); err == nil && there == here {
			return nil, fmt.Errorf("%q is another program's store, which moss only reads", r.graph)
		}
	}
	return r, err
}

// errBusy says that somebody else has one of the locks.
var errBusy = errors.New("the store is busy")

// wait takes a lock as soon as it can be had.
func wait(l *lockfile.LockFile) error { l.Lock(); return nil }

// lock takes the library's own locks, in its order, as lock takes each.
func (r *rebuilder) lock(lock func(*lockfile.LockFile) error) (held []*lockfile.LockFile, err error) {
	for _, kind := range []string{"layers", "images"} {
		if err = os.MkdirAll(r.dir(kind), 0o700); err != nil {
			break
		}
		l, err := lockfile.GetLockFile(filepath.Join(r.dir(kind), kind+".lock"))
		if err != nil {
			return held, err
		}
		if err := lock(l); err != nil {
			return held, fmt.Errorf("%w: %w", errBusy, err)
		}
		held = append(held, l)
	}
	return held, err
}

func (r *rebuilder) dir(kind string) string { return filepath.Join(r.graph, r.driver+"-"+kind) }

func (r *rebuilder) list(kind string) string { return filepath.Join(r.dir(kind), kind+".json") }

// files is the directory of a layer's files.
func (r *rebuilder) files(id string) string {
	if r.driver == "vfs" {
		return filepath.Join(r.graph, "vfs", "dir", id)
	}
	return filepath.Join(r.graph, "overlay", id, "diff")
}

// isID says whether a name is that of a layer or an image.
func isID(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// kept are the IDs that a list should know of: of those there are directories.
func (r *rebuilder) kept(kind string) (ids []string) {
	dir := r.dir(kind)
	if kind == "layers" {
		dir = filepath.Join(r.graph, "overlay")
		if r.driver == "vfs" {
			dir = filepath.Join(r.graph, "vfs", "dir")
		}
	}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if isID(e.Name()) && e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	return ids
}

// read reads a list, and says whether it is lost. One that was never written is not,
// nor is one of which the library has taken all away.
func (r *rebuilder) read(kind string, into any) (lost bool) {
	data, err := os.ReadFile(r.list(kind))
	switch {
	case len(data) > 0:
		err = json.Unmarshal(data, into)
	case len(r.kept(kind)) == 0:
		return false
	case err == nil:
		err = errors.New("it is empty")
	default:
		err = errors.New("it is lost")
	}
	if err == nil {
		return false
	}
	r.tell(image.Damage{Kind: "list", ID: kind + ".json", Errors: []string{fmt.Sprintf("cannot read list of %s: %v", kind, err)}})
	return true
}

// tell adds what was found. A list is whole again when it has been written.
func (r *rebuilder) tell(d image.Damage) { r.found = append(r.found, d) }

func (r *rebuilder) write(kind string, list any) error {
	data, err := json.Marshal(list)
	if err == nil {
		err = record.Replace(r.list(kind), data, 0o600, true)
	}
	for i := range r.found {
		if d := &r.found[i]; d.Kind == "list" && d.ID == kind+".json" && err == nil {
			d.Repaired, d.Made = true, true
		}
	}
	return err
}

// documents reads those of all images.
func (r *rebuilder) documents() {
	for _, id := range r.kept("images") {
		d := &documents{data: map[string][]byte{}}
		r.docs[id] = d
		entries, _ := os.ReadDir(filepath.Join(r.dir("images"), id))
		for _, e := range entries {
			key, ok := bigDataKey(e.Name())
			if !ok {
				continue
			}
			data, err := os.ReadFile(filepath.Join(r.dir("images"), id, e.Name()))
			if err == nil && (!strings.Contains(key, "sha256:") || digest.FromBytes(data).String() == key[strings.Index(key, "sha256:"):]) {
				d.data[key] = data // else it is not what its name says
			}
		}
		d.look(id)
	}
}

// bigDataKey is what a file of the library's is the datum of.
func bigDataKey(name string) (string, bool) {
	if code, ok := strings.CutPrefix(name, "="); ok {
		key, err := base64.StdEncoding.DecodeString(code)
		return string(key), err == nil
	}
	return name, !strings.HasPrefix(name, ".")
}

// look says of an image's documents whether they are whole.
func (d *documents) look(id string) {
	manifest, ok := d.data[cs.ImageDigestBigDataKey]
	if !ok {
		d.wrong = "its manifest is lost"
		return
	}
	if _, d.list = ParseList(manifest); d.list {
		return
	}
	config, ok := d.data["sha256:"+id]
	switch {
	case !ok:
		d.wrong = "its configuration is lost"
	case json.Unmarshal(config, &d.config) != nil:
		d.wrong = "its configuration cannot be read"
	case json.Unmarshal(manifest, &d.manifest) != nil:
		d.wrong = "its manifest cannot be read"
	case d.manifest.Config.Digest.String() != "sha256:"+id:
		d.wrong = "its manifest is that of another image"
	}
}

// makeImages lists the images that are whole, and tells of those that are not.
func (r *rebuilder) makeImages() {
	r.images = nil // the beginning of a list may have been understood
	names, history := r.names()
	for _, id := range r.kept("images") {
		d := r.docs[id]
		img := cs.Image{ID: id, Names: names[id], NamesHistory: history[id], BigDataSizes: map[string]int64{}, BigDataDigests: map[string]digest.Digest{}}
		if d.wrong == "" && !d.list {
			top, err := r.top(d.config.RootFS.DiffIDs)
			if img.TopLayer = top; err != nil {
				d.wrong = err.Error()
			}
		}
		if d.wrong != "" {
			r.tell(image.Damage{Kind: "image", ID: id, Names: img.Names, Errors: []string{d.wrong}, Repaired: true})
			continue
		}
		for key, data := range d.data {
			img.BigDataNames = append(img.BigDataNames, key)
			img.BigDataSizes[key], img.BigDataDigests[key] = int64(len(data)), digest.FromBytes(data)
		}
		slices.Sort(img.BigDataNames)
		img.Digest = img.BigDataDigests[cs.ImageDigestBigDataKey]
		img.Metadata = fmt.Sprintf(`{"signatures-sizes":{%q:[]}}`, img.Digest)
		if info, err := os.Stat(filepath.Join(r.dir("images"), id)); err == nil {
			img.Created = info.ModTime().UTC()
		}
		if d.config.Created != nil {
			img.Created = *d.config.Created
		}
		r.images = append(r.images, img)
	}
}

// names are those that images have, and those that they had, newest first.
func (r *rebuilder) names() (names, history map[string][]string) {
	names, history = map[string][]string{}, map[string][]string{}
	means := map[string]string{}
	images := image.Open(r.root)
	for _, img := range images.Recorded() { // where there is no log
		for _, name := range img.Names {
			means[name] = img.ID
		}
	}
	log, _ := images.Log("")
	for _, e := range log {
		means[e.Name] = e.ID
		if e.ID != "" && !slices.Contains(history[e.ID], e.Name) {
			history[e.ID] = append([]string{e.Name}, history[e.ID]...)
		}
	}
	for name, id := range means {
		if id != "" {
			names[id] = append(names[id], name)
		}
	}
	for _, all := range names {
		slices.Sort(all)
	}
	return names, history
}

// top finds the uppermost of an image's layers.
func (r *rebuilder) top(diffIDs []digest.Digest) (string, error) {
	parent := ""
	for _, diffID := range diffIDs {
		n := slices.IndexFunc(r.layers, func(l cs.Layer) bool {
			return l.Parent == parent && l.UncompressedDigest == diffID
		})
		if n < 0 {
			return "", fmt.Errorf("its layer %s is lost", diffID)
		}
		parent = r.layers[n].ID
	}
	return parent, nil
}

// makeLayers lists the layers that an image explains, and those whose content can be
// read; Check looks at the content of the former.
func (r *rebuilder) makeLayers() {
	r.layers = nil
	type place struct {
		diffID digest.Digest
		parent string
	}
	explained := map[string]place{}
	blobs := map[digest.Digest]imagespec.Descriptor{}
	for _, d := range r.docs {
		parent := ""
		for n, diffID := range d.config.RootFS.DiffIDs {
			id := ChainID(parent, diffID)
			explained[id], parent = place{diffID, parent}, id
			if len(d.manifest.Layers) == len(d.config.RootFS.DiffIDs) {
				blobs[diffID] = d.manifest.Layers[n]
			}
		}
	}
	ids := r.kept("layers")
	for _, id := range ids {
		if _, err := os.Stat(r.files(id)); err != nil {
			continue
		}
		at, known := explained[id]
		content, size, err := r.measure(id, !known)
		switch {
		case err != nil && known: // Check will find it
			size = 0
		case err != nil:
			r.tell(image.Damage{Kind: "layer", ID: id, Errors: []string{err.Error()}, Repaired: true})
			continue
		case !known:
			at = place{content, r.parent(id, content, ids)}
		}
		layer := cs.Layer{ID: id, Parent: at.parent, UncompressedDigest: at.diffID, UncompressedSize: size, CompressedDigest: at.diffID}
		if info, err := os.Stat(r.files(id)); err == nil {
			layer.Created = info.ModTime().UTC()
		}
		if blob, ok := blobs[at.diffID]; ok && blob.Digest != at.diffID {
			layer.CompressedDigest = blob.Digest
			layer.Flags = map[string]any{compressionFlag: extension(blob.MediaType), sizeFlag: strconv.FormatInt(blob.Size, 10)}
		}
		entries, _ := os.ReadDir(filepath.Join(r.dir("layers"), id))
		for _, e := range entries {
			if key, ok := bigDataKey(e.Name()); ok {
				layer.BigDataNames = append(layer.BigDataNames, key)
			}
		}
		r.layers = append(r.layers, layer)
	}
	// What stands on nothing could not be mounted.
	for again := true; again; {
		before := len(r.layers)
		r.layers = slices.DeleteFunc(r.layers, func(l cs.Layer) bool {
			return l.Parent != "" && !slices.ContainsFunc(r.layers, func(p cs.Layer) bool { return p.ID == l.Parent })
		})
		again = len(r.layers) != before
	}
}

// parent finds what a layer of that content stands on.
func (r *rebuilder) parent(id string, content digest.Digest, ids []string) string {
	for _, parent := range append([]string{""}, ids...) {
		if ChainID(parent, content) == id {
			return parent
		}
	}
	lower, _ := os.ReadFile(filepath.Join(r.graph, "overlay", id, lowerIDs)) // not one of ours
	parent, _, _ := strings.Cut(strings.TrimSpace(string(lower)), ":")
	return parent
}

// extension is that of how a blob of an image is compressed.
func extension(mediaType string) string {
	compression := archive.Uncompressed
	switch {
	case strings.HasSuffix(mediaType, "gzip"):
		compression = archive.Gzip
	case strings.HasSuffix(mediaType, "zstd"):
		compression = archive.Zstd
	}
	return compression.Extension()
}

const howToRepair = "'moss system check --repair' makes lists again that are damaged"

// listsLost says which list is lost, or plainly cut, of a store that has images or layers.
func listsLost(graph, name string) error {
	r := &rebuilder{graph: graph, driver: name}
	for _, kind := range []string{"images", "layers"} {
		if isWholeList(r.list(kind)) || len(r.kept(kind)) == 0 {
			continue
		}
		lost, err := r.surelyLost(kind)
		if err != nil {
			return err
		}
		if lost {
			return fmt.Errorf("its list of %s is lost (%s)", kind, howToRepair)
		}
	}
	return nil
}

// surelyLost looks at a list while nobody writes it. A file system that keeps what it knew of
// a file, as FUSE does, may have told the size of the list before.
func (r *rebuilder) surelyLost(kind string) (bool, error) {
	held, err := r.lock(wait)
	defer func() {
		for _, l := range slices.Backward(held) {
			l.Unlock()
		}
	}()
	if err != nil {
		return false, err
	}
	data, err := os.ReadFile(r.list(kind))
	if err != nil {
		return errors.Is(err, fs.ErrNotExist), nil
	}
	data = bytes.TrimSpace(data)
	return !bytes.HasPrefix(data, []byte("[")) || !bytes.HasSuffix(data, []byte("]")), nil
}

// isWholeList looks at the ends of a list, whatever it has between them.
func isWholeList(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false
	}
	var begin [1]byte
	end := make([]byte, min(info.Size(), 16))
	_, err = f.ReadAt(begin[:], 0)
	_, eerr := f.ReadAt(end, info.Size()-int64(len(end)))
	return err == nil && eerr == nil && begin[0] == '[' && bytes.HasSuffix(bytes.TrimSpace(end), []byte("]"))
}

// setAside takes lists away that nothing can be made of: of podman's containers in this
// store, which moss has none in.
func (r *rebuilder) setAside(repair bool) {
	for _, path := range []string{
		r.list("containers"), filepath.Join(r.dir("containers"), "volatile-containers.json"),
		filepath.Join(r.run, "storage", r.driver+"-layers", "volatile-layers.json"),
	} {
		data, err := os.ReadFile(path)
		if err != nil || len(data) == 0 || json.Unmarshal(data, &[]struct{ ID string }{}) == nil {
			continue
		}
		d := image.Damage{Kind: "list", ID: filepath.Base(path), Errors: []string{"cannot read list of podman's containers in this store"}}
		if repair {
			if err := os.Rename(path, path+".damaged"); err != nil {
				d.Kept = err.Error()
			} else {
				d.Repaired, d.Made = true, true
			}
		}
		r.tell(d)
	}
}
