package archive

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/limit"
	"moss/storage/policy"
	"moss/storage/registry"
)

const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar"
	dockerLayerGz  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Loaded is one image that Load has put into the store.
type Loaded struct {
	ID    string
	Names []string
}

// packed is an image in an archive.
type packed struct {
	names    []string
	config   []byte
	manifest []byte
	layers   []packedLayer
	// Of a list of a store there are the list and its images.
	list    *storage.List
	members []packed
}

type packedLayer struct {
	file   string
	digest digest.Digest // of the file; "" when the archive does not say
	size   int64
}

// Load copies every image of an archive into the store: docker save's, podman
// save's, OCI layouts, packed, compressed or as a directory.
func Load(store *storage.Store, input *os.File, progress *registry.Progress) ([]Loaded, error) {
	temp, err := store.Temp()
	if err != nil {
		return nil, err
	}
	a, err := open(input, temp, store.Limits)
	if err != nil {
		return nil, fmt.Errorf("cannot read archive %q: %w", input.Name(), err)
	}
	defer a.Close()
	images, transport, err := list(a)
	if err != nil {
		return nil, fmt.Errorf("cannot read archive %q: %w", input.Name(), err)
	}
	if err := mayLoad(transport, input.Name()); err != nil {
		return nil, fmt.Errorf("cannot load images from %q: %w", input.Name(), err)
	}
	var all []Loaded
	for _, img := range images {
		record := put
		if img.list != nil {
			record = putList
		}
		id, err := record(store, a, img, progress)
		if err != nil {
			return all, fmt.Errorf("cannot load image from %q: %w", input.Name(), err)
		}
		all = append(all, Loaded{id, img.names})
	}
	return all, nil
}

// mayLoad asks the policy about an archive.
func mayLoad(transport, path string) error {
	p, err := policy.Load("")
	if err != nil {
		return err
	}
	if !filepath.IsAbs(path) || strings.HasPrefix(path, "/dev/") {
		path = "" // standard input
	}
	return p.Archive(transport, path)
}

// list finds out what kind of archive it is, by containers-transports(5)'s name, and
// what is in it.
func list(a files) (images []packed, transport string, err error) {
	data, err := document(a, "manifest.json")
	switch {
	case err == nil && strings.HasPrefix(strings.TrimSpace(string(data)), "["):
		images, err = listDocker(a, data)
		return images, "docker-archive", err
	case err == nil:
		img, err := listDir(a, data)
		return []packed{img}, "dir", err
	case !errors.Is(err, os.ErrNotExist):
		return nil, "", err
	}
	if _, _, err := a.open("index.json"); err == nil {
		images, err = listOCI(a)
		return images, "oci-archive", err
	}
	if _, _, err := a.open("repositories"); err == nil {
		return nil, "", errors.New("it was saved by a Docker older than 1.10")
	}
	return nil, "", errors.New("it is neither a docker archive nor an OCI layout (a root filesystem is read by import)")
}

// listDocker reads the manifest.json of docker save, old and new style.
func listDocker(a files, data []byte) ([]packed, error) {
	var items []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := limit.JSON(data, &items); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	var all []packed
	var held held
	for _, item := range items {
		img := packed{}
		for _, tag := range item.RepoTags {
			name, err := image.Normalize(tag)
			if err != nil {
				return nil, err
			}
			img.names = append(img.names, name)
		}
		for _, file := range item.Layers {
			img.layers = append(img.layers, packedLayer{file: file})
		}
		var err error
		if img.config, err = document(a, item.Config); err != nil {
			return nil, err
		}
		if img.manifest, err = dockerManifestOf(img.config, a, item.Layers); err != nil {
			return nil, err
		}
		if err := held.add(img); err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	if len(all) == 0 {
		return nil, errors.New("it has no image")
	}
	return all, nil
}

// held is how many bytes of documents are held in memory.
type held int64

// maxHeld is enough for thousands of images.
const maxHeld = 24 << 20

func (h *held) add(img packed) error {
	for _, one := range append(img.members, img) {
		*h += held(len(one.config) + len(one.manifest))
	}
	if *h > maxHeld {
		return fmt.Errorf("configurations and manifests of its images have more than %d MiB", maxHeld>>20)
	}
	return nil
}

// dockerManifestOf makes the manifest that the archive lacks; its layers are the
// uncompressed ones.
func dockerManifestOf(config []byte, a files, names []string) ([]byte, error) {
	_, diffIDs, err := registry.ParseConfig(config, len(names))
	if err != nil {
		return nil, err
	}
	m := imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: dockerManifest,
		Config:    descriptor(dockerConfig, config),
		Layers:    []imagespec.Descriptor{},
	}
	for n, name := range names {
		f, size, err := a.open(name)
		if err != nil {
			return nil, err
		}
		f.Close()
		m.Layers = append(m.Layers, imagespec.Descriptor{MediaType: dockerLayer, Digest: diffIDs[n], Size: size})
	}
	return json.Marshal(m)
}

func descriptor(mediaType string, data []byte) imagespec.Descriptor {
	return imagespec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

// listDir reads the dir: layout of podman and skopeo.
func listDir(a files, manifest []byte) (packed, error) {
	return fromManifest(a, manifest, func(d digest.Digest) string { return d.Encoded() })
}

// listOCI reads an image layout; see image-spec image-layout.md.
func listOCI(a files) ([]packed, error) {
	var layout imagespec.ImageLayout
	if err := readJSON(a, imagespec.ImageLayoutFile, &layout); err != nil {
		return nil, err
	}
	data, err := document(a, "index.json")
	if err != nil {
		return nil, err
	}
	var index imagespec.Index
	if err := limit.JSON(data, &index); err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	var all []packed
	var held held
	for _, d := range index.Manifests {
		if d.Platform != nil && d.Platform.OS == "unknown" {
			continue // an attestation, not an image
		}
		names, err := ociNames(d.Annotations)
		if err != nil {
			return nil, err
		}
		find := ociImage
		if d.Annotations[listAnnotation] == "true" && len(names) > 0 {
			find = ociList
		}
		img, err := find(a, d)
		if err != nil {
			return nil, err
		}
		img.names = names
		// Several names of one image are several entries.
		same := func(p packed) bool { return string(p.manifest) == string(img.manifest) }
		if n := slices.IndexFunc(all, same); n >= 0 {
			all[n].names = append(all[n].names, img.names...)
			continue
		}
		if err := held.add(img); err != nil {
			return nil, err
		}
		all = append(all, img)
	}
	if len(all) == 0 {
		return nil, errors.New("it has no image")
	}
	return all, nil
}

func ociImage(a files, d imagespec.Descriptor) (packed, error) {
	for range 4 {
		data, err := verified(a, blobFile(d.Digest), d.Digest)
		if err != nil {
			return packed{}, err
		}
		if d.MediaType != imagespec.MediaTypeImageIndex && !strings.Contains(d.MediaType, "manifest.list") {
			return fromManifest(a, data, blobFile)
		}
		if d, err = registry.Choose(data, image.HostPlatform()); err != nil {
			return packed{}, err
		}
	}
	return packed{}, errors.New("indexes nest too deeply")
}

// ociList reads a list that was saved with its images.
func ociList(a files, d imagespec.Descriptor) (img packed, err error) {
	if img.manifest, err = verified(a, blobFile(d.Digest), d.Digest); err != nil {
		return img, err
	}
	var ok bool
	if img.list, ok = storage.ParseList(img.manifest); !ok {
		return img, fmt.Errorf("%s is no manifest list", d.Digest)
	}
	var held held
	for _, e := range img.list.Manifests {
		data, err := verified(a, blobFile(e.Digest), e.Digest)
		if err != nil {
			return img, err
		}
		one, err := fromManifest(a, data, blobFile)
		if err == nil {
			err = held.add(one)
		}
		if err != nil {
			return img, err
		}
		img.members = append(img.members, one)
	}
	return img, nil
}

// putList records a list, and the images in it.
func putList(store *storage.Store, a files, img packed, progress *registry.Progress) (string, error) {
	img.list.Locations = map[digest.Digest]string{}
	for n, one := range img.members {
		id, err := put(store, a, one, progress)
		if err != nil {
			return "", err
		}
		img.list.Locations[img.list.Manifests[n].Digest] = store.Location(id, "")
	}
	unlock, err := store.LockLists()
	if err != nil {
		return "", err
	}
	defer unlock()
	id, err := store.CreateList(img.names[0], img.list)
	if err != nil {
		return "", err
	}
	return id, store.AddNames(id, img.names)
}

// blobFile is where a blob is, also of a digest that is none: nothing is there then.
func blobFile(d digest.Digest) string { return "blobs/" + strings.Replace(string(d), ":", "/", 1) }

// verified reads a document and checks its digest.
func verified(a files, file string, want digest.Digest) ([]byte, error) {
	if err := want.Validate(); err != nil {
		return nil, fmt.Errorf("digest %q: %w", want, err)
	}
	data, err := document(a, file)
	if err != nil {
		return nil, err
	}
	if got := want.Algorithm().FromBytes(data); got != want {
		return nil, fmt.Errorf("%q has the digest %s", file, got)
	}
	return data, nil
}

// ociNames reads the names that tools give images in an index. A bare tag names
// nothing.
func ociNames(annotations map[string]string) ([]string, error) {
	for _, key := range []string{"io.containerd.image.name", imagespec.AnnotationRefName} {
		name := annotations[key]
		if !strings.ContainsAny(name, "/:") {
			continue
		}
		full, err := image.NormalizeLocal(name)
		if err != nil {
			return nil, err
		}
		return []string{full}, nil
	}
	return nil, nil
}

// fromManifest follows a manifest to its config and layers.
func fromManifest(a files, manifest []byte, file func(digest.Digest) string) (packed, error) {
	m, err := registry.ParseManifest(manifest)
	if err != nil {
		return packed{}, err
	}
	img := packed{manifest: manifest}
	if img.config, err = verified(a, file(m.Config.Digest), m.Config.Digest); err != nil {
		return packed{}, err
	}
	for _, l := range m.Layers {
		img.layers = append(img.layers, packedLayer{file(l.Digest), l.Digest, l.Size})
	}
	return img, nil
}

// put unpacks the layers that the store lacks and records the image.
func put(store *storage.Store, a files, img packed, progress *registry.Progress) (string, error) {
	spec, diffIDs, err := registry.ParseConfig(img.config, len(img.layers))
	if err != nil {
		return "", err
	}
	progress.Line("Getting image source signatures")
	top, err := putLayers(store, a, img.layers, diffIDs, progress)
	if err != nil {
		return "", err
	}
	config := digest.FromBytes(img.config)
	progress.Blob("config", config, int64(len(img.config))).Done()
	progress.After("Writing manifest to image destination")
	record := storage.NewImage{Config: img.config, Manifest: img.manifest, Layer: top, Names: img.names}
	if spec.Created != nil {
		record.Created = *spec.Created
	}
	return store.AddImage(record)
}

// putLayers puts the layers that the store lacks into it, and returns the ID of the
// uppermost. They are unpacked a few at a time, and put on each other in their order.
func putLayers(store *storage.Store, a files, layers []packedLayer, diffIDs []digest.Digest, progress *registry.Progress) (top string, err error) {
	first := 0
	for ; first < len(layers) && store.HasLayer(storage.ChainID(top, diffIDs[first])); first++ {
		progress.Skipped(diffIDs[first])
		top = storage.ChainID(top, diffIDs[first])
	}
	layers, diffIDs = layers[first:], diffIDs[first:]
	if !store.CanStage() {
		return putOneByOne(store, a, layers, diffIDs, top, progress)
	}
	unpacked := make([]chan *storage.Staged, len(layers))
	for n := range layers {
		unpacked[n] = make(chan *storage.Staged, 1)
	}
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(min(runtime.NumCPU()+1, 4))
	go func() {
		for n, l := range layers {
			group.Go(func() error {
				defer close(unpacked[n])
				if ctx.Err() != nil {
					return nil // another has failed, and tells why
				}
				staged, err := stageLayer(store, a, l, diffIDs[n], progress)
				if err == nil {
					unpacked[n] <- staged
				}
				return err
			})
		}
	}()
	for n := range layers {
		staged := <-unpacked[n]
		switch {
		case staged == nil:
			err = cmp.Or(err, errUnpacked)
		case err != nil:
			staged.Discard()
		default:
			top, err = staged.Commit(top)
		}
	}
	if gerr := group.Wait(); gerr != nil {
		err = gerr
	}
	return top, err
}

// errUnpacked is that one of the layers was not unpacked, which has an error of its own.
var errUnpacked = errors.New("a layer was not unpacked")

// stageLayer unpacks one layer beside the store.
func stageLayer(store *storage.Store, a files, l packedLayer, diffID digest.Digest, progress *registry.Progress) (*storage.Staged, error) {
	f, bar, err := openLayer(a, l, diffID, progress)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The content is checked against the diffID; the digest of the packed form
	// is recorded only where a registry has vouched for it.
	staged, err := store.Stage(diffID, "", 0, storage.Rewindable(io.TeeReader(f, bar), f))
	if err != nil {
		bar.Abort()
		return nil, err
	}
	bar.Done()
	return staged, nil
}

func openLayer(a files, l packedLayer, diffID digest.Digest, progress *registry.Progress) (io.ReadSeekCloser, *registry.Bar, error) {
	f, size, err := a.open(l.file)
	if err != nil {
		return nil, nil, err
	}
	if l.digest != "" && size != l.size {
		f.Close()
		return nil, nil, fmt.Errorf("%q has %d bytes, the manifest says %d", l.file, size, l.size)
	}
	return f, progress.Blob("blob", diffID, size), nil
}

// putOneByOne is putLayers where a layer needs the one below to be unpacked.
func putOneByOne(store *storage.Store, a files, layers []packedLayer, diffIDs []digest.Digest, top string, progress *registry.Progress) (string, error) {
	for n, l := range layers {
		f, bar, err := openLayer(a, l, diffIDs[n], progress)
		if err != nil {
			return "", err
		}
		top, err = store.PutLayer(top, diffIDs[n], "", 0, io.TeeReader(f, bar))
		f.Close()
		if err != nil {
			bar.Abort()
			return "", err
		}
		bar.Done()
	}
	return top, nil
}
