package storage

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"

	"moss/record"
	"moss/storage/driver"
	"moss/storage/image"
	"moss/storage/limit"
)

// ListType and DockerListType are the media types of lists of images.
const (
	ListType       = imagespec.MediaTypeImageIndex
	DockerListType = "application/vnd.docker.distribution.manifest.list.v2+json"
)

// List is a manifest list, also called an image index: which image is for which
// platform. It is an image of the store without a layer and a configuration, as
// podman has it.
type List struct {
	SchemaVersion int                   `json:"schemaVersion"`
	MediaType     string                `json:"mediaType,omitempty"`
	ArtifactType  string                `json:"artifactType,omitempty"`
	Manifests     []ListEntry           `json:"manifests"`
	Subject       *imagespec.Descriptor `json:"subject,omitempty"`
	Annotations   map[string]string     `json:"annotations,omitempty"`

	// Locations say where the image of each digest is, in the words of
	// containers-transports(5).
	Locations map[digest.Digest]string `json:"-"`
	// Artifacts are the artifacts among the entries, of which nothing else is kept.
	Artifacts Artifacts `json:"-"`
}

// Artifacts is podman's record of the artifacts in a list: their manifests, and
// where the blobs are that those name.
type Artifacts struct {
	Manifests map[digest.Digest]string          `json:"manifests,omitempty"`
	Files     map[digest.Digest][]string        `json:"files,omitempty"`
	Configs   map[digest.Digest]digest.Digest   `json:"config,omitempty"`
	Layers    map[digest.Digest][]digest.Digest `json:"layers,omitempty"`
	Detached  map[digest.Digest]string          `json:"detached,omitempty"` // blobs by file
	Blobs     map[digest.Digest][]byte          `json:"blobs,omitempty"`
}

// ListEntry is one line of a list.
type ListEntry struct {
	MediaType    string            `json:"mediaType"`
	Digest       digest.Digest     `json:"digest"`
	Size         int64             `json:"size"`
	Platform     *ListPlatform     `json:"platform,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
	URLs         []string          `json:"urls,omitempty"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// ListPlatform is what an image in a list is for. Features is of Docker's lists.
type ListPlatform struct {
	Architecture string   `json:"architecture"`
	OS           string   `json:"os"`
	OSVersion    string   `json:"os.version,omitempty"`
	OSFeatures   []string `json:"os.features,omitempty"`
	Variant      string   `json:"variant,omitempty"`
	Features     []string `json:"features,omitempty"`
}

// The names under which podman keeps what belongs to a list.
const (
	listInstances = "instances.json"
	listArtifacts = "artifacts.json"
)

// NewList is an empty list.
func NewList() *List {
	return &List{SchemaVersion: 2, MediaType: ListType, Manifests: []ListEntry{}, Locations: map[digest.Digest]string{}}
}

// ParseList reads a list; ok is false for what is none.
func ParseList(data []byte) (l *List, ok bool) {
	l = NewList()
	l.Manifests = nil
	var has struct{ Manifests, Config json.RawMessage }
	if limit.JSON(data, &has) != nil || has.Manifests == nil || has.Config != nil || json.Unmarshal(data, l) != nil {
		return nil, false
	}
	for _, e := range l.Manifests {
		if e.Digest.Validate() != nil {
			return nil, false
		}
	}
	if l.Manifests == nil { // null in a list of podman's that is empty
		l.Manifests = []ListEntry{}
	}
	return l, true
}

// Entry returns the entry of a digest; nil if there is none.
func (l *List) Entry(d digest.Digest) *ListEntry {
	for i := range l.Manifests {
		if l.Manifests[i].Digest == d {
			return &l.Manifests[i]
		}
	}
	return nil
}

// Put adds an entry, or replaces the one of the same digest.
func (l *List) Put(e ListEntry, location string) {
	if old := l.Entry(e.Digest); old != nil {
		*old = e
	} else {
		l.Manifests = append(l.Manifests, e)
	}
	if location != "" {
		l.Locations[e.Digest] = location
	}
}

// Remove takes an entry away, and says whether there was one.
func (l *List) Remove(d digest.Digest) bool {
	before := len(l.Manifests)
	l.Manifests = slices.DeleteFunc(l.Manifests, func(e ListEntry) bool { return e.Digest == d })
	delete(l.Locations, d)
	return len(l.Manifests) < before
}

// SetSubject says what the list is about, by its manifest.
func (l *List) SetSubject(mediaType string, manifest []byte) {
	l.Subject = &imagespec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
}

// Encode is the list as a registry gets it, of the type "" (its own), oci or docker.
func (l *List) Encode(format string) ([]byte, error) {
	out := *l
	switch format {
	case "":
	case "oci":
		out.MediaType = ListType
	case "docker":
		out.MediaType = DockerListType
		if l.Subject != nil || len(l.Annotations) > 0 || l.ArtifactType != "" {
			return nil, errors.New("a list of format docker has no annotations, subject and artifact type; use oci")
		}
	default:
		return nil, fmt.Errorf("unknown format %q (oci, docker)", format)
	}
	return json.Marshal(&out)
}

// List reads the list that an image of the store is.
func (s *Store) List(id string) (*List, error) {
	data, err := s.Manifest(id)
	if err != nil {
		return nil, err
	}
	l, ok := ParseList(data)
	if !ok {
		return nil, fmt.Errorf("image %q is no manifest list", id)
	}
	if data, err := s.bigData(id, listInstances); err == nil {
		if err := json.Unmarshal(data, &l.Locations); err != nil {
			return nil, fmt.Errorf("cannot read where the images of list %q are: %w", id, err)
		}
	}
	if data, err := s.bigData(id, listArtifacts); err == nil {
		if err := json.Unmarshal(data, &l.Artifacts); err != nil {
			return nil, fmt.Errorf("cannot read the artifacts of list %q: %w", id, err)
		}
	}
	return l, nil
}

// CreateList records a new list under a name, which another image loses if it had it.
func (s *Store) CreateList(name string, l *List) (id string, err error) {
	data, instances, artifacts, err := l.parts(l.Locations)
	if err != nil {
		return "", err
	}
	var random [32]byte
	rand.Read(random[:]) // never fails; see crypto/rand
	id = hex.EncodeToString(random[:])
	if err := s.holdImage(id, []string{name}); err != nil {
		return "", err
	}
	_, err = s.lib.CreateImage(id, nil, "", "", &cs.ImageOptions{BigData: []cs.ImageBigDataOption{
		{Key: cs.ImageDigestBigDataKey, Data: data, Digest: digest.FromBytes(data)},
		{Key: listInstances, Data: instances}, {Key: listArtifacts, Data: artifacts},
	}})
	if err != nil {
		return "", err
	}
	return id, s.lib.AddNames(id, []string{name})
}

// LockLists makes those who change lists take turns: what one reads, no other
// changes until unlock.
func (s *Store) LockLists() (unlock func(), err error) {
	dir := filepath.Join(s.Root, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("cannot lock lists: %w", err)
	}
	return record.Lock(filepath.Join(dir, "lists.lock"))
}

// UpdateList replaces a list. Whoever is killed on the way leaves the old or the new
// one, with no image of either unknown.
func (s *Store) UpdateList(id string, l *List) error {
	if _, err := s.own(id); err != nil {
		return err
	}
	before, err := s.List(id)
	if err != nil {
		return err
	}
	both := maps.Clone(before.Locations)
	maps.Copy(both, l.Locations)
	data, instances, artifacts, err := l.parts(both)
	if err != nil {
		return err
	}
	if err := s.lib.SetImageBigData(id, listInstances, instances, nil); err != nil {
		return err
	}
	if err := s.lib.SetImageBigData(id, listArtifacts, artifacts, nil); err != nil {
		return err
	}
	digestOf := func(data []byte) (digest.Digest, error) { return digest.FromBytes(data), nil }
	if err := s.lib.SetImageBigData(id, cs.ImageDigestBigDataKey, data, digestOf); err != nil {
		return err
	}
	if _, instances, _, err = l.parts(l.Locations); err != nil || len(both) == len(l.Locations) {
		return err
	}
	return s.lib.SetImageBigData(id, listInstances, instances, nil)
}

func (l *List) parts(locations map[digest.Digest]string) (data, instances, artifacts []byte, err error) {
	if data, err = l.Encode(""); err == nil {
		instances, err = json.Marshal(locations)
	}
	if err == nil {
		artifacts, err = json.Marshal(&l.Artifacts)
	}
	return data, instances, artifacts, err
}

// Location is where an image of the store is, as podman writes it; run "" is the
// directory that the store was opened with.
func (s *Store) Location(id, run string) string {
	runRoot := filepath.Join(run, "storage")
	if run == "" {
		runRoot = s.lib.RunRoot()
	}
	name := "overlay"
	if s.Driver.Name == driver.VFS {
		name = "vfs"
	}
	return fmt.Sprintf("containers-storage:[%s@%s+%s]@%s", name, filepath.Join(s.Root, "storage"), runRoot, id)
}

// isList says whether an image is a list.
func (s *Store) isList(img *cs.Image) bool {
	if img.TopLayer != "" {
		return false
	}
	data, err := s.bigData(img.ID, cs.ImageDigestBigDataKey)
	if err != nil {
		return false
	}
	_, ok := ParseList(data)
	return ok
}

// describeList makes the record of a list.
func (s *Store) describeList(img *cs.Image) (*image.Image, error) {
	l, err := s.List(img.ID)
	if err != nil {
		return nil, err
	}
	i := &image.Image{
		ID: img.ID, Digest: img.Digest.String(), Digests: digests(img), Names: img.Names, ReadOnly: img.ReadOnly,
		Created: img.Created, ManifestType: l.MediaType, Annotations: l.Annotations, List: []image.Instance{},
	}
	for _, size := range img.BigDataSizes {
		i.Size += size
	}
	for _, e := range l.Manifests {
		one := image.Instance{Digest: e.Digest.String(), Location: l.Locations[e.Digest]}
		if p := e.Platform; p != nil {
			one.Platform = image.Platform{OS: p.OS, Arch: p.Architecture, Variant: p.Variant}
		}
		i.List = append(i.List, one)
	}
	return i, nil
}
