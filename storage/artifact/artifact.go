// Package artifact keeps OCI artifacts: files with types and a name, as registries
// have them. They are in an OCI layout below the image store, where podman looks too.
package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/storage/pkg/lockfile"

	"moss/record"
	"moss/storage/image"
	"moss/storage/limit"
)

// ErrExists says that the name is another artifact's.
var ErrExists = errors.New("artifact exists")

// Artifact is one of the store.
type Artifact struct {
	Manifest imagespec.Manifest
	Name     string
	Digest   digest.Digest

	raw []byte
}

// Raw is the manifest as it is.
func (a *Artifact) Raw() []byte { return a.raw }

// Size is the bytes of its files.
func (a *Artifact) Size() (n int64) {
	for _, l := range a.Manifest.Layers {
		n += l.Size
	}
	return n
}

// Created is when it was made; zero if it does not say.
func (a *Artifact) Created() time.Time {
	t, _ := time.Parse(time.RFC3339Nano, a.Manifest.Annotations[imagespec.AnnotationCreated])
	return t
}

// Store is the artifacts of one user.
type Store struct{ dir string }

// Open names the artifacts below root; it reads nothing yet.
func Open(root string) *Store { return &Store{filepath.Join(root, "storage", "artifacts")} }

// Blob is the file of a blob of the store.
func (s *Store) Blob(d digest.Digest) string {
	return filepath.Join(s.dir, imagespec.ImageBlobsDir, d.Algorithm().String(), d.Encoded())
}

// HasBlob says whether the store has a blob.
func (s *Store) HasBlob(d digest.Digest) bool {
	_, err := os.Stat(s.Blob(d))
	return err == nil
}

func (s *Store) index() (*imagespec.Index, error) {
	index := &imagespec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageIndex, Manifests: []imagespec.Descriptor{}}
	data, err := os.ReadFile(filepath.Join(s.dir, imagespec.ImageIndexFile))
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err == nil {
		err = json.Unmarshal(data, index)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the artifacts: %w", err)
	}
	return index, nil
}

// List returns every artifact, by name.
func (s *Store) List() ([]*Artifact, error) {
	index, err := s.index()
	if err != nil {
		return nil, err
	}
	var all []*Artifact
	for _, d := range index.Manifests {
		a, err := s.read(d)
		if err != nil {
			return nil, fmt.Errorf("cannot read artifact %q: %w", d.Annotations[imagespec.AnnotationRefName], err)
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b *Artifact) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func (s *Store) read(d imagespec.Descriptor) (*Artifact, error) {
	if err := d.Digest.Validate(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(s.Blob(d.Digest))
	if err != nil {
		return nil, err
	}
	a := &Artifact{Name: d.Annotations[imagespec.AnnotationRefName], Digest: d.Digest, raw: data}
	if err := json.Unmarshal(data, &a.Manifest); err != nil {
		return nil, err
	}
	return a, check(&a.Manifest)
}

// check refuses a manifest that names what is no digest.
func check(m *imagespec.Manifest) error {
	for _, d := range append([]imagespec.Descriptor{m.Config}, m.Layers...) {
		if err := d.Digest.Validate(); err != nil {
			return fmt.Errorf("digest %q: %w", d.Digest, err)
		}
	}
	return nil
}

// Find finds an artifact by its name, or by the first digits of its digest. The error
// is image.ErrNotFound or image.ErrAmbiguous.
func (s *Store) Find(ref string) (*Artifact, error) {
	all, err := s.List()
	if err != nil {
		return nil, err
	}
	names := []string{ref}
	for _, normalize := range []func(string) (string, error){image.NormalizeLocal, image.Normalize} {
		if name, err := normalize(ref); err == nil {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if i := slices.IndexFunc(all, func(a *Artifact) bool { return a.Name == name }); i >= 0 {
			return all[i], nil
		}
	}
	var found *Artifact
	prefix := strings.TrimPrefix(ref, "sha256:")
	for _, a := range all {
		if len(prefix) < 3 || !strings.HasPrefix(a.Digest.Encoded(), prefix) || found != nil && found.Digest == a.Digest {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("%w the digest %q", image.ErrAmbiguous, ref)
		}
		found = a
	}
	if found == nil {
		return nil, notFound{ref}
	}
	return found, nil
}

// notFound is image.ErrNotFound in the words of artifacts.
type notFound struct{ name string }

func (e notFound) Error() string { return fmt.Sprintf("no such artifact: %q", e.name) }
func (notFound) Unwrap() error   { return image.ErrNotFound }

// lock makes those who change the store take turns, podman among them.
func (s *Store) lock() (unlock func(), err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, err
	}
	l, err := lockfile.GetLockFile(filepath.Join(s.dir, "index.lock"))
	if err != nil {
		return nil, err
	}
	l.Lock()
	return l.Unlock, nil
}

// Work is an artifact that is being made: its blobs are in a directory of their own
// until it is whole.
type Work struct {
	store *Store
	dir   string
	done  func()
	was   digest.Digest // what Record replaces, and nothing else; "" is anything
}

// Begin begins an artifact; End ends it, whether it was Recorded or not.
func (s *Store) Begin() (*Work, error) {
	if old, err := os.ReadDir(s.dir); err == nil {
		for _, entry := range old {
			if strings.HasPrefix(entry.Name(), record.ScratchPrefix) {
				record.SweepScratch(filepath.Join(s.dir, entry.Name()))
			}
		}
	}
	dir, done, err := record.Scratch(s.dir)
	if err != nil {
		return nil, err
	}
	return &Work{store: s, dir: dir, done: done}, nil
}

// End removes what was not recorded.
func (w *Work) End() { w.done() }

// Path is where the file of a blob is to be put.
func (w *Work) Path(d digest.Digest) string { return filepath.Join(w.dir, d.Encoded()) }

// Record puts the artifact into the store under a name, with the blobs that were put
// at their Paths and those that the store has. With replace another artifact loses
// the name; else the error is ErrExists. The artifact is there whole or not at all.
func (w *Work) Record(name string, manifest []byte, replace bool) (digest.Digest, error) {
	s := w.store
	unlock, err := s.lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	index, err := s.index()
	if err != nil {
		return "", err
	}
	named := func(d imagespec.Descriptor) bool { return d.Annotations[imagespec.AnnotationRefName] == name }
	if !replace && slices.ContainsFunc(index.Manifests, named) {
		return "", ErrExists
	}
	isOther := func(d imagespec.Descriptor) bool { return named(d) && d.Digest != w.was }
	if w.was != "" && (slices.ContainsFunc(index.Manifests, isOther) || !slices.ContainsFunc(index.Manifests, named)) {
		return "", errors.New("somebody else has changed it meanwhile")
	}
	var m imagespec.Manifest
	if err := limit.JSON(manifest, &m); err != nil {
		return "", err
	}
	d := digest.FromBytes(manifest)
	if err := os.WriteFile(w.Path(d), manifest, 0o644); err != nil {
		return "", err
	}
	if m.Config.Digest == imagespec.DescriptorEmptyJSON.Digest {
		if err := os.WriteFile(w.Path(m.Config.Digest), imagespec.DescriptorEmptyJSON.Data, 0o644); err != nil {
			return "", err
		}
	}
	if err := record.SyncTree(w.dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(s.Blob(d)), 0o755); err != nil {
		return "", err
	}
	for _, blob := range append([]imagespec.Descriptor{{Digest: d}, m.Config}, m.Layers...) {
		err := os.Rename(w.Path(blob.Digest), s.Blob(blob.Digest))
		if errors.Is(err, fs.ErrNotExist) && s.HasBlob(blob.Digest) {
			err = nil
		}
		if err != nil {
			return "", err
		}
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, named)
	index.Manifests = append(index.Manifests, imagespec.Descriptor{
		MediaType: m.MediaType, Digest: d, Size: int64(len(manifest)), Annotations: map[string]string{imagespec.AnnotationRefName: name},
	})
	if err := s.writeIndex(index); err != nil {
		return "", err
	}
	return d, s.sweep(index)
}

func (s *Store) writeIndex(index *imagespec.Index) error {
	layout := filepath.Join(s.dir, imagespec.ImageLayoutFile)
	if _, err := os.Stat(layout); errors.Is(err, fs.ErrNotExist) {
		data, err := json.Marshal(imagespec.ImageLayout{Version: imagespec.ImageLayoutVersion})
		if err == nil {
			err = record.Replace(layout, data, 0o644, false)
		}
		if err != nil {
			return err
		}
	}
	data, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return record.Replace(filepath.Join(s.dir, imagespec.ImageIndexFile), data, 0o644, true)
}

// Remove removes an artifact, and the blobs that no other has.
func (s *Store) Remove(a *Artifact) error {
	unlock, err := s.lock()
	if err != nil {
		return err
	}
	defer unlock()
	index, err := s.index()
	if err != nil {
		return err
	}
	before := len(index.Manifests)
	index.Manifests = slices.DeleteFunc(index.Manifests, func(d imagespec.Descriptor) bool {
		return d.Digest == a.Digest && d.Annotations[imagespec.AnnotationRefName] == a.Name
	})
	if len(index.Manifests) == before {
		return notFound{a.Name}
	}
	if err := s.writeIndex(index); err != nil {
		return err
	}
	return s.sweep(index)
}

// sweep removes the blobs that no artifact of the index has.
func (s *Store) sweep(index *imagespec.Index) error {
	used := map[string]bool{}
	for _, d := range index.Manifests {
		a, err := s.read(d)
		if err != nil {
			return nil // what is damaged may need any of them
		}
		used[d.Digest.Encoded()], used[a.Manifest.Config.Digest.Encoded()] = true, true
		for _, l := range a.Manifest.Layers {
			used[l.Digest.Encoded()] = true
		}
	}
	dir := filepath.Join(s.dir, imagespec.ImageBlobsDir, "sha256")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, entry := range entries {
		if !used[entry.Name()] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, entry.Name())))
		}
	}
	return err
}
