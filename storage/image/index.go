package image

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"moss/record"
)

// What Lookup and Parse may answer; tell them apart with errors.Is.
var (
	ErrNotFound  error = notFound{}
	ErrAmbiguous error = ambiguous{}
	ErrInvalid   error = invalid{}
)

// The kinds have the methods by which containerd's errdefs knows errors of
// packages that do not import it.
type (
	notFound  struct{}
	ambiguous struct{}
	invalid   struct{}
)

func (notFound) Error() string      { return "no such image" }
func (notFound) NotFound()          {}
func (ambiguous) Error() string     { return "more than one image matches" }
func (ambiguous) InvalidParameter() {}
func (invalid) Error() string       { return "invalid reference" }
func (invalid) InvalidParameter()   {}

// indexVersion is raised when the index or Image changes its meaning: an older
// index is then not fresh.
const indexVersion = 1

// StoreState is a stat of a store's images.json: it changes whenever an image
// comes, goes or is renamed. All zero: there was no such file.
type StoreState struct {
	Path  string
	MTime int64
	Size  int64
	Inode uint64
}

// StatStore looks at a store's images.json.
func StatStore(path string) StoreState {
	s := StoreState{Path: path}
	if fi, err := os.Stat(path); err == nil {
		s.MTime, s.Size = fi.ModTime().UnixNano(), fi.Size()
		s.Inode = fi.Sys().(*syscall.Stat_t).Ino
	}
	return s
}

// Entry is one image's line in the index.
type Entry struct {
	ID      string
	Names   []string
	Digests []string
	// Stamp changes with whatever the record <id>.json was made from.
	Stamp string
}

// Index is the file <root>/images/index.
type Index struct {
	Version int
	Stores  []StoreState
	Images  []Entry
}

// The file is text, a tenth of the time of JSON to read, which every run pays:
//
//	moss-index 1
//	store "/path/images.json" MTIME SIZE INODE
//	image ID STAMP NAME,NAME DIGEST,DIGEST
const indexHeader = "moss-index"

func (idx *Index) encode() []byte {
	b := fmt.Appendf(nil, "%s %d\n", indexHeader, idx.Version)
	for _, s := range idx.Stores {
		b = fmt.Appendf(b, "store %q %d %d %d\n", s.Path, s.MTime, s.Size, s.Inode)
	}
	for _, e := range idx.Images {
		b = fmt.Appendf(b, "image %s %s %s %s\n", e.ID, e.Stamp, strings.Join(e.Names, ","), strings.Join(e.Digests, ","))
	}
	return b
}

// decode reads what encode wrote; of another version it reads nothing.
func decode(data string) (*Index, error) {
	idx := new(Index)
	for line := range strings.Lines(data) {
		line = strings.TrimSuffix(line, "\n")
		kind, rest, _ := strings.Cut(line, " ")
		switch kind {
		case indexHeader:
			idx.Version, _ = strconv.Atoi(rest)
			if idx.Version != indexVersion {
				return idx, nil
			}
		case "store":
			var s StoreState
			if _, err := fmt.Sscanf(rest, "%q %d %d %d", &s.Path, &s.MTime, &s.Size, &s.Inode); err != nil {
				return nil, fmt.Errorf("bad line %q: %w", line, err)
			}
			idx.Stores = append(idx.Stores, s)
		case "image":
			field := strings.Split(rest, " ")
			if len(field) != 4 {
				return nil, fmt.Errorf("bad line %q", line)
			}
			idx.Images = append(idx.Images, Entry{ID: field[0], Stamp: field[1], Names: list(field[2]), Digests: list(field[3])})
		default:
			return nil, fmt.Errorf("bad line %q", line)
		}
	}
	return idx, nil
}

func list(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ",")
}

// Images is the index of one user, read when first needed and again whenever
// its file has changed.
type Images struct {
	// Remake, if it is set, makes the index and its records again: a record that
	// cannot be read is only a copy of what the store says.
	Remake func() error

	remade bool
	root   string
	dir    string
	index  *Index
	state  StoreState
	// others are the stores that the index must be of, beside ours; nil: any.
	others []string
}

// Beside says which stores the index has to be of beside moss's own, by their
// directories: where configuration names others, it is made anew.
func (im *Images) Beside(stores []string) {
	im.others = make([]string, 0, len(stores))
	for _, dir := range stores {
		im.others = append(im.others, StoreFile(dir))
	}
}

// StoreFile is the file of a store that changes with its images.
func StoreFile(dir string) string { return filepath.Join(dir, "overlay-images", "images.json") }

// Open names the index below root; it reads nothing yet.
func Open(root string) *Images { return &Images{root: root, dir: filepath.Join(root, "images")} }

// Fresh says whether the index describes the stores as they are now. If not,
// moss asks moss-image for a new one (Request.Index).
func (im *Images) Fresh() bool {
	idx, err := im.load()
	if err != nil || idx.Version != indexVersion || len(idx.Stores) == 0 {
		return false
	}
	same := func(s StoreState, path string) bool { return s.Path == path }
	if im.others != nil && !slices.EqualFunc(idx.Stores[1:], im.others, same) {
		return false
	}
	for _, s := range idx.Stores {
		if StatStore(s.Path) != s {
			return false
		}
	}
	return true
}

// load returns the index; an absent one is empty.
func (im *Images) load() (*Index, error) {
	path := filepath.Join(im.dir, "index")
	now := StatStore(path)
	if im.index != nil && now == im.state {
		return im.index, nil
	}
	data, err := record.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &Index{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read image index: %w", err)
	}
	idx, err := decode(string(data))
	if err != nil {
		return nil, fmt.Errorf("cannot read image index %q: %w", path, err)
	}
	im.index, im.state = idx, now
	return idx, nil
}

// read returns the record of one image.
func (im *Images) read(id string) (*Image, error) {
	i, err := im.readOnce(id)
	if err == nil || im.Remake == nil || im.remade {
		return i, err
	}
	im.remade = true
	if lost := errors.Join(remove(im.path(id)), remove(filepath.Join(im.dir, "index")), im.Remake()); lost != nil {
		return nil, errors.Join(err, lost)
	}
	return im.readOnce(id)
}

func (im *Images) readOnce(id string) (*Image, error) {
	data, err := record.ReadFile(im.path(id))
	if err != nil {
		return nil, fmt.Errorf("cannot read image %q: %w", id, err)
	}
	i := new(Image)
	if err = record.Decode(data, i); err == nil && i.ID != id {
		err = fmt.Errorf("it is of image %q", i.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read image %q: %w", id, err)
	}
	return i, nil
}

func (im *Images) path(id string) string { return filepath.Join(im.dir, id+".json") }

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// List returns every image, newest first.
func (im *Images) List() ([]*Image, error) {
	idx, err := im.load()
	if err != nil {
		return nil, err
	}
	all := make([]*Image, 0, len(idx.Images))
	for _, e := range idx.Images {
		i, err := im.read(e.ID)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since the index was read
		}
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	slices.SortStableFunc(all, func(a, b *Image) int { return b.Created.Compare(a.Created) })
	return all, nil
}

// Update replaces the index: build makes the record of each entry whose stamp
// is new, the others' files stay as they are. A reader meets the old index or
// the new one, never a half; records of images that are gone go last.
func Update(root string, stores []StoreState, entries []Entry, build func(Entry) (*Image, error)) error {
	im := Open(root)
	if err := os.MkdirAll(im.dir, 0o755); err != nil {
		return fmt.Errorf("cannot write image index: %w", err)
	}
	if err := os.Mkdir(Doomed(root), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot write image index: %w", err)
	}
	old, err := im.load()
	if err != nil || old.Version != indexVersion {
		old = &Index{} // unreadable or of another moss: made anew
	}
	stamps := make(map[string]string, len(old.Images))
	for _, e := range old.Images {
		stamps[e.ID] = e.Stamp
	}
	kept := entries[:0:0]
	for _, e := range entries {
		path := filepath.Join(im.dir, e.ID+".json")
		if _, err := os.Lstat(path); err != nil || stamps[e.ID] != e.Stamp {
			i, err := build(e)
			if err != nil {
				return fmt.Errorf("cannot index image %q: %w", e.ID, err)
			}
			if i == nil {
				continue // not an image that can run: broken in the store
			}
			if err := WriteJSON(path, i); err != nil {
				return fmt.Errorf("cannot index image %q: %w", e.ID, err)
			}
		}
		kept = append(kept, e)
	}
	idx := Index{Version: indexVersion, Stores: stores, Images: kept}
	if err := writeFile(filepath.Join(im.dir, "index"), idx.encode()); err != nil {
		return fmt.Errorf("cannot write image index: %w", err)
	}
	im.sweep(kept)
	return nil
}

// sweep removes the records of images that are gone, and temporary files that a
// crash left an hour ago.
func (im *Images) sweep(entries []Entry) {
	keep := map[string]bool{"index": true, "lock": true, "lists.lock": true, "log": true, "log.old": true, "doomed": true, "doomed.lock": true}
	for _, e := range entries {
		keep[e.ID+".json"] = true
	}
	files, _ := os.ReadDir(im.dir)
	for _, f := range files {
		if keep[f.Name()] {
			continue
		}
		if f.Name()[0] == '.' {
			if fi, err := f.Info(); err != nil || time.Since(fi.ModTime()) < time.Hour {
				continue
			}
		}
		os.Remove(filepath.Join(im.dir, f.Name()))
	}
}

// WriteJSON replaces the file at path by v as JSON, atomically.
func WriteJSON(path string, v any) error {
	data, err := record.Encode(v)
	if err != nil {
		return err
	}
	return writeFile(path, append(data, '\n'))
}

func writeFile(path string, data []byte) error {
	return record.Replace(path, data, 0o644, false)
}

// Recorded are the images of our own store that there are readable records of, be they in
// the index or not: what was known when the store could last be read.
func (im *Images) Recorded() (all []*Image) {
	paths, _ := filepath.Glob(filepath.Join(im.dir, "*.json"))
	for _, path := range paths {
		if i, err := im.readOnce(strings.TrimSuffix(filepath.Base(path), ".json")); err == nil && !i.ReadOnly {
			all = append(all, i)
		}
	}
	return all
}
