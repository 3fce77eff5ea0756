package storage

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	digest "github.com/opencontainers/go-digest"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/lockfile"
	"golang.org/x/sys/unix"

	"moss/record"
	"moss/storage/driver"
	"moss/storage/image"
)

// What the overlay driver keeps beside a layer's files: its own short name, which a
// link in overlay/l has, and those of the layers below it, uppermost first.
const (
	linkFile   = "link"
	lowerLinks = "lower"
	lowerIDs   = "lower-layers"
)

// mendShortNames gives layers short names again that have lost them. When the library
// removes a layer that was only begun, and that layer's file "link" is empty, which is how
// a kill or a power cut leaves it between two steps, the short names of all layers go with
// it (removeCommon in its drivers/overlay/overlay.go). So such files go before it looks.
func (s *Store) mendShortNames() error {
	r := s.relinker()
	if r == nil || !r.shortNamesAmiss() {
		return nil
	}
	return r.relink((*lockfile.LockFile).TryLock)
}

// mendSomeShortName is mendShortNames where an image was seen to be broken.
func (s *Store) mendSomeShortName() error {
	r := s.relinker()
	if r == nil {
		return errors.New("layers have no short names here")
	}
	return r.relink(wait)
}

func (s *Store) relinker() *rebuilder {
	if s.Driver.Name == driver.VFS {
		return nil
	}
	return &rebuilder{graph: filepath.Join(s.Root, "storage"), driver: "overlay"}
}

// relink mends under the locks, if they can be had: who has them is alive, and not yet
// where a kill would leave something to mend.
func (r *rebuilder) relink(lock func(*lockfile.LockFile) error) error {
	held, err := r.lock(lock)
	defer func() {
		for _, l := range slices.Backward(held) {
			l.Unlock()
		}
	}()
	if errors.Is(err, errBusy) {
		return nil
	}
	if err == nil {
		err = r.dropBadLinks()
	}
	if err != nil {
		return fmt.Errorf("cannot mend the short names of layers: %w", err)
	}
	if r.read("layers", &r.layers) {
		return nil
	}
	r.links(true)
	for _, d := range r.found {
		if d.Kept != "" {
			return fmt.Errorf("cannot mend layer %q: %s: %s", d.ID, d.Errors[0], d.Kept)
		}
		slog.Warn("a layer is mended", "layer", d.ID, "was", d.Errors[0])
	}
	return nil
}

// dropBadLinks removes files that say no short name: empty ones, and those of which only the
// length has reached the disk. A layer that is still led to gets back what the file said, so
// that the library removes that, too, if it removes the layer.
func (r *rebuilder) dropBadLinks() error {
	files, err := filepath.Glob(filepath.Join(r.graph, "overlay", "*", linkFile))
	names := sync.OnceValue(r.shortNames)
	for _, path := range files {
		if data, err := os.ReadFile(path); err != nil || isLink(string(data)) {
			continue
		}
		err := os.Remove(path)
		if name := names()[filepath.Base(filepath.Dir(path))]; err == nil && name != "" {
			err = record.Replace(path, []byte(name), 0o644, true)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// begun says whether a layer is not whole yet: the library removes it when it next looks,
// if nobody is about it.
func begun(l cs.Layer) bool { return l.Flags["incomplete"] == true }

// shortNamesAmiss says whether a layer of the list has no name, or was only begun. While
// somebody adds a layer it may seem so.
func (r *rebuilder) shortNamesAmiss() bool {
	list, _ := os.ReadFile(r.list("layers"))
	if bytes.Contains(list, []byte(`"incomplete":true`)) {
		return true
	}
	entries, _ := os.ReadDir(filepath.Join(r.graph, "overlay"))
	names, _ := os.ReadDir(filepath.Join(r.graph, "overlay", "l"))
	if len(names) >= len(entries)-1 { // beside the layers there is l
		return false
	}
	named := r.shortNames()
	return slices.ContainsFunc(entries, func(e os.DirEntry) bool {
		id := e.Name()
		return isID(id) && named[id] == "" && bytes.Contains(list, []byte(`"id":"`+id+`"`))
	})
}

// shortNames are the names in overlay/l, by the layer that each leads to.
func (r *rebuilder) shortNames() map[string]string {
	names := map[string]string{}
	entries, _ := os.ReadDir(filepath.Join(r.graph, "overlay", "l"))
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join(r.graph, "overlay", "l", e.Name()))
		id, ok := strings.CutPrefix(to, "../")
		if err == nil && ok && isLink(e.Name()) {
			names[strings.TrimSuffix(id, "/diff")] = e.Name()
		}
	}
	return names
}

var isLink = regexp.MustCompile(`^[A-Z0-9]{26}$`).MatchString

// links finds layers whose short name is lost, or who have lost what they stand on, and
// with repair gives them another.
func (r *rebuilder) links(repair bool) {
	parents, names := map[string]string{}, map[string]string{}
	for _, l := range r.layers {
		parents[l.ID] = l.Parent
	}
	for _, l := range r.layers {
		if _, err := os.Stat(r.files(l.ID)); err != nil || begun(l) {
			continue // Check tells of that
		}
		name, err := r.link(l.ID)
		if err == nil {
			names[l.ID] = name
			continue
		}
		d := image.Damage{Kind: "layer", ID: l.ID, Errors: []string{err.Error()}}
		if repair {
			names[l.ID], err = r.name(l.ID)
			r.made(&d, err)
		}
		r.tell(d)
	}
	for _, l := range r.layers {
		var links, ids []string
		for id := l.Parent; id != "" && names[id] != "" && len(ids) < len(r.layers); id = parents[id] {
			links, ids = append(links, "l/"+names[id]), append(ids, id)
		}
		if l.Parent == "" || names[l.ID] == "" || len(ids) == 0 {
			continue
		}
		for file, want := range map[string]string{lowerLinks: strings.Join(links, ":"), lowerIDs: strings.Join(ids, ":")} {
			path := filepath.Join(r.graph, "overlay", l.ID, file)
			have, err := os.ReadFile(path)
			if string(have) == want || file == lowerIDs && os.IsNotExist(err) { // older podmans write none
				continue
			}
			d := image.Damage{Kind: "layer", ID: l.ID, Errors: []string{fmt.Sprintf("its file %q does not say what is below it", file)}}
			if repair {
				r.made(&d, record.Replace(path, []byte(want), 0o644, true))
			}
			r.tell(d)
		}
	}
}

// name gives a layer its short name back, the one that others may still know it by if
// that is there, else a new one.
func (r *rebuilder) name(id string) (name string, err error) {
	if name = r.shortNames()[id]; name == "" {
		name = rand.Text()
		if err = os.MkdirAll(filepath.Join(r.graph, "overlay", "l"), 0o700); err == nil {
			err = os.Symlink(filepath.Join("..", id, "diff"), filepath.Join(r.graph, "overlay", "l", name))
		}
	}
	if err == nil {
		err = record.Replace(filepath.Join(r.graph, "overlay", id, linkFile), []byte(name), 0o644, true)
	}
	return name, err
}

func (r *rebuilder) made(d *image.Damage, err error) {
	if err != nil {
		d.Kept = err.Error()
		return
	}
	d.Repaired, d.Made = true, true
}

// link reads the short name of a layer that leads to it.
func (r *rebuilder) link(id string) (string, error) {
	data, err := os.ReadFile(filepath.Join(r.graph, "overlay", id, linkFile))
	if err != nil || !isLink(string(data)) {
		return "", fmt.Errorf("its short name is lost")
	}
	to, err := os.Readlink(filepath.Join(r.graph, "overlay", "l", string(data)))
	if err != nil || to != filepath.Join("..", id, "diff") {
		return "", fmt.Errorf("its short name %q does not lead to it", data)
	}
	return string(data), nil
}

// measure tells the size of a layer's archive, and with read its digest.
func (r *rebuilder) measure(id string, read bool) (digest.Digest, int64, error) {
	parts, root, err := openParts(filepath.Join(r.dir("layers"), id+".tar-split.gz"), r.files(id))
	if err != nil {
		return "", 0, err
	}
	defer parts.Close()
	defer unix.Close(root)
	if !read {
		size, err := sizeOf(parts)
		return "", size, err
	}
	m := &measure{hash: sha256.New()}
	if err := assemble(parts, root, m); err != nil {
		return "", 0, err
	}
	return digest.NewDigest(digest.SHA256, m.hash), m.size, nil
}
