package archive

import (
	"archive/tar"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/registry"
)

// The formats that Save writes.
const (
	DockerArchive = "docker-archive"
	OCIArchive    = "oci-archive"
	OCIDir        = "oci-dir"
	DockerDir     = "docker-dir"
)

// Saved is an image to save, and the names that it is saved under. Of a manifest list, which
// the OCI formats can hold, it has the list and its images by their digests.
type Saved struct {
	Image   *image.Image
	Names   []string
	List    *storage.List
	Members map[digest.Digest]*image.Image
}

// listAnnotation says in the index of a layout that an index in it is a list of the store,
// with all its images: others take it for an image, for one of several platforms.
const listAnnotation = "io.moss.list"

// SaveOptions say how images are saved. Output "" is the stream.
type SaveOptions struct {
	Format, Output string
	// Plain leaves layers as they are, in the formats that compress them.
	Plain bool
}

// dockerItem is one image in the manifest.json of a docker archive.
type dockerItem struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// Save writes images to output: to a stream, or with the directory formats to
// the directory of that name. What cannot be finished is removed again.
func Save(store *storage.Store, images []Saved, o SaveOptions, stdout io.Writer, progress *registry.Progress) error {
	output := o.Output
	if o.Format == OCIDir || o.Format == DockerDir {
		if output == "" {
			return fmt.Errorf("cannot save images: format %s needs a directory to write to", o.Format)
		}
		return saveDir(store, images, o, progress)
	}
	if output == "" {
		return saveTar(store, images, o, stdout, progress)
	}
	if fi, err := os.Stat(output); err == nil && !fi.Mode().IsRegular() {
		return saveStream(store, images, o, progress)
	}
	f, err := os.CreateTemp(filepath.Dir(output), ".moss-save-*")
	if err != nil {
		return fmt.Errorf("cannot save images: %w", err)
	}
	defer os.Remove(f.Name()) // gone already when all went well
	err = saveTar(store, images, o, f, progress)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), output)
	}
	if err != nil {
		return fmt.Errorf("cannot save images to %q: %w", output, err)
	}
	return nil
}

// saveStream writes to what is there and not a file: a pipe, /dev/stdout.
func saveStream(store *storage.Store, images []Saved, o SaveOptions, progress *registry.Progress) error {
	output := o.Output
	f, err := os.OpenFile(output, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("cannot save images: %w", err)
	}
	err = saveTar(store, images, o, f, progress)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("cannot save images to %q: %w", output, err)
	}
	return nil
}

func saveTar(store *storage.Store, images []Saved, o SaveOptions, w io.Writer, progress *registry.Progress) error {
	t := tar.NewWriter(w)
	sink := &tarSink{w: t, seen: make(map[string]bool)}
	var err error
	switch o.Format {
	case "", DockerArchive:
		err = saveDocker(store, images, sink, progress)
	case OCIArchive:
		err = saveOCI(store, images, o, sink, progress)
	default:
		return fmt.Errorf("cannot save images: unknown format %q (docker-archive, oci-archive, oci-dir, docker-dir)", o.Format)
	}
	if err != nil {
		return err
	}
	return t.Close()
}

func saveDir(store *storage.Store, images []Saved, o SaveOptions, progress *registry.Progress) error {
	output := o.Output
	made := false
	if err := os.Mkdir(output, 0o755); err == nil {
		made = true
	} else if left, rerr := os.ReadDir(output); rerr != nil || len(left) > 0 {
		return fmt.Errorf("cannot save images to %q: %w", output, errors.Join(rerr, os.ErrExist))
	}
	sink := dirSink(output)
	var err error
	if o.Format == OCIDir {
		err = saveOCI(store, images, o, sink, progress)
	} else if len(images) != 1 {
		err = errors.New("docker-dir holds one image")
	} else {
		err = saveDockerDir(store, images[0], o, sink, progress)
	}
	if err != nil && made {
		err = errors.Join(err, os.RemoveAll(output))
	}
	if err != nil {
		return fmt.Errorf("cannot save images to %q: %w", output, err)
	}
	return nil
}

// sink takes the files of an archive in the order in which they are written; a
// file that is there already is not written again.
type sink interface {
	has(name string) bool
	put(name string, size int64, r io.Reader) error
}

type tarSink struct {
	w    *tar.Writer
	seen map[string]bool
}

func (s *tarSink) has(name string) bool { return s.seen[name] }

func (s *tarSink) put(name string, size int64, r io.Reader) error {
	if err := s.putDirs(filepath.Dir(name)); err != nil {
		return err
	}
	s.seen[name] = true
	// No time of day: the same images give the same archive.
	h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size, ModTime: time.Unix(0, 0)}
	if err := s.w.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(s.w, r)
	return err
}

// putDirs writes the directories that a file is in: skopeo and podman, where they are no
// root, make none that the archive does not have.
func (s *tarSink) putDirs(dir string) error {
	if dir == "." || s.seen[dir] {
		return nil
	}
	if err := s.putDirs(filepath.Dir(dir)); err != nil {
		return err
	}
	s.seen[dir] = true
	return s.w.WriteHeader(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755, ModTime: time.Unix(0, 0)})
}

type dirSink string

func (s dirSink) has(name string) bool {
	_, err := os.Lstat(filepath.Join(string(s), name))
	return err == nil
}

func (s dirSink) put(name string, _ int64, r io.Reader) error {
	path := filepath.Join(string(s), name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

func putJSON(s sink, name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return putBytes(s, name, data)
}

func putBytes(s sink, name string, data []byte) error {
	if s.has(name) {
		return nil
	}
	return s.put(name, int64(len(data)), bytes.NewReader(data))
}

// saveDocker writes what docker load and podman load read, layers uncompressed.
func saveDocker(store *storage.Store, images []Saved, s sink, progress *registry.Progress) error {
	var items []dockerItem
	for _, img := range images {
		progress.Line("Getting image source signatures")
		item := dockerItem{Config: img.Image.ID + ".json", RepoTags: img.Names, Layers: []string{}}
		chain, err := chainOf(store, img.Image)
		if err != nil {
			return err
		}
		for _, layer := range chain {
			name := layer.UncompressedDigest.Encoded() + ".tar"
			item.Layers = append(item.Layers, name)
			if err := putLayerTar(store, layer, name, s, progress); err != nil {
				return err
			}
		}
		config, err := store.Config(img.Image.ID)
		if err != nil {
			return err
		}
		if err := putBytes(s, item.Config, config); err != nil {
			return err
		}
		progress.Blob("config", digest.FromBytes(config), int64(len(config))).Done()
		items = append(items, item)
	}
	progress.After("Writing manifest to image destination")
	return putJSON(s, "manifest.json", items)
}

func chainOf(store *storage.Store, img *image.Image) ([]*cs.Layer, error) {
	if len(img.Layers) == 0 {
		return nil, nil
	}
	return store.Chain(img.Layers[0])
}

func putLayerTar(store *storage.Store, layer *cs.Layer, name string, s sink, progress *registry.Progress) error {
	if s.has(name) {
		return nil
	}
	diff, err := store.Diff(layer)
	if err != nil {
		return err
	}
	defer diff.Close()
	bar := progress.Blob("blob", layer.UncompressedDigest, layer.UncompressedSize)
	if err := s.put(name, layer.UncompressedSize, io.TeeReader(diff, bar)); err != nil {
		bar.Abort()
		return fmt.Errorf("cannot save layer %q: %w", layer.ID, err)
	}
	bar.Done()
	return nil
}

// saveOCI writes an image layout; see image-spec image-layout.md.
func saveOCI(store *storage.Store, images []Saved, o SaveOptions, s sink, progress *registry.Progress) error {
	index := imagespec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageIndex}
	for _, img := range images {
		save := saveManifest
		if img.List != nil {
			save = saveList
		}
		d, err := save(store, img, o, s, progress)
		if err != nil {
			return err
		}
		for _, name := range img.Names {
			named := d
			named.Annotations = map[string]string{imagespec.AnnotationRefName: name}
			if img.List != nil {
				named.Annotations[listAnnotation] = "true"
			}
			index.Manifests = append(index.Manifests, named)
		}
		if len(img.Names) == 0 {
			index.Manifests = append(index.Manifests, d)
		}
	}
	progress.After("Writing manifest to image destination")
	if err := putJSON(s, "index.json", index); err != nil {
		return err
	}
	return putJSON(s, imagespec.ImageLayoutFile, imagespec.ImageLayout{Version: imagespec.ImageLayoutVersion})
}

// saveManifest writes one image, and describes it.
func saveManifest(store *storage.Store, img Saved, o SaveOptions, s sink, progress *registry.Progress) (d imagespec.Descriptor, err error) {
	manifest, err := saveBlobs(store, img.Image, ociTypes.plain(o.Plain), blobFile, s, progress)
	if err != nil {
		return d, err
	}
	d = descriptor(imagespec.MediaTypeImageManifest, manifest)
	return d, putBytes(s, blobFile(d.Digest), manifest)
}

// saveList writes a list with all its images. Their layers are compressed, so that their
// digests are others.
func saveList(store *storage.Store, img Saved, o SaveOptions, s sink, progress *registry.Progress) (d imagespec.Descriptor, err error) {
	list := *img.List
	list.Manifests = []storage.ListEntry{}
	for _, e := range img.List.Manifests {
		member := img.Members[e.Digest]
		if member == nil {
			return d, fmt.Errorf("cannot save manifest list %q: its image %s is not in the store: pull it first", cmp.Or(strings.Join(img.Names, ", "), img.Image.ID), e.Digest)
		}
		one, err := saveManifest(store, Saved{Image: member}, o, s, progress)
		if err != nil {
			return d, err
		}
		e.MediaType, e.Digest, e.Size = one.MediaType, one.Digest, one.Size
		list.Manifests = append(list.Manifests, e)
	}
	data, err := list.Encode("oci")
	if err != nil {
		return d, err
	}
	d = descriptor(storage.ListType, data)
	return d, putBytes(s, blobFile(d.Digest), data)
}

// saveDockerDir writes the dir: layout of podman and skopeo.
func saveDockerDir(store *storage.Store, img Saved, o SaveOptions, s sink, progress *registry.Progress) error {
	file := func(d digest.Digest) string { return d.Encoded() }
	manifest, err := saveBlobs(store, img.Image, dockerTypes.plain(o.Plain), file, s, progress)
	if err != nil {
		return err
	}
	if err := putBytes(s, "manifest.json", manifest); err != nil {
		return err
	}
	progress.After("Writing manifest to image destination")
	return putBytes(s, "version", []byte("Directory Transport Version: 1.1\n"))
}

// types are the media types of a format.
type types struct {
	manifest, config, layer string
	uncompressed            bool
}

// plain are the types with layers that are not compressed, if that is asked for.
func (t types) plain(yes bool) types {
	if t.uncompressed = yes; yes {
		t.layer = strings.TrimSuffix(strings.TrimSuffix(t.layer, "+gzip"), ".gzip")
	}
	return t
}

var (
	ociTypes    = types{imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageConfig, imagespec.MediaTypeImageLayerGzip, false}
	dockerTypes = types{dockerManifest, dockerConfig, dockerLayerGz, false}
)

// saveBlobs writes configuration and compressed layers, and returns the manifest.
func saveBlobs(store *storage.Store, img *image.Image, t types, file func(digest.Digest) string, s sink, progress *registry.Progress) ([]byte, error) {
	progress.Line("Getting image source signatures")
	config, err := store.Config(img.ID)
	if err != nil {
		return nil, err
	}
	chain, err := chainOf(store, img)
	if err != nil {
		return nil, err
	}
	m := imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: t.manifest,
		Config: descriptor(t.config, config), Layers: []imagespec.Descriptor{},
	}
	for _, layer := range chain {
		save := saveBlob
		if t.uncompressed {
			save = savePlain
		}
		d, err := save(store, layer, file, s, progress)
		if err != nil {
			return nil, err
		}
		d.MediaType = t.layer
		m.Layers = append(m.Layers, d)
	}
	progress.Blob("config", m.Config.Digest, m.Config.Size).Done()
	if err := putBytes(s, file(m.Config.Digest), config); err != nil {
		return nil, err
	}
	return json.Marshal(m)
}

func saveBlob(store *storage.Store, layer *cs.Layer, file func(digest.Digest) string, s sink, progress *registry.Progress) (imagespec.Descriptor, error) {
	bar := progress.Blob("blob", layer.UncompressedDigest, layer.UncompressedSize)
	blob, err := store.Gzip(layer)
	if err != nil {
		bar.Abort()
		return imagespec.Descriptor{}, err
	}
	defer blob.Remove()
	bar.Done()
	d := imagespec.Descriptor{Digest: blob.Digest, Size: blob.Size}
	if s.has(file(d.Digest)) {
		return d, nil
	}
	return d, s.put(file(d.Digest), d.Size, blob)
}

// savePlain is saveBlob for a layer as it is: its digest is known, and the bytes
// go straight to the archive.
func savePlain(store *storage.Store, layer *cs.Layer, file func(digest.Digest) string, s sink, progress *registry.Progress) (imagespec.Descriptor, error) {
	d := imagespec.Descriptor{Digest: layer.UncompressedDigest, Size: layer.UncompressedSize}
	return d, putLayerTar(store, layer, file(d.Digest), s, progress)
}

// Merge joins the requests for one image under several names.
func Merge(images []Saved) []Saved {
	var all []Saved
	for _, img := range images {
		n := slices.IndexFunc(all, func(s Saved) bool { return s.Image.ID == img.Image.ID })
		if n < 0 {
			all = append(all, img)
			continue
		}
		for _, name := range img.Names {
			if !slices.Contains(all[n].Names, name) {
				all[n].Names = append(all[n].Names, name)
			}
		}
	}
	return all
}
