package registry

import (
	"encoding/json"
	"slices"
	"strings"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"

	"moss/storage"
)

// form is a layer as a registry has it: compressed in some way.
type form struct {
	Digest      digest.Digest
	Size        int64
	Compression string            // of storage.Method
	Annotations map[string]string `json:",omitempty"`
	Places      []string          // repositories that had it, the latest first

	// told is a form that only a manifest tells of: nobody has looked whether it is
	// that layer, and no other image's may be taken for it.
	told bool
}

// formsKey is where a layer's forms are kept, beside it in the store: they go when
// the layer goes.
const formsKey = "moss-forms"

const (
	maxForms  = 8
	maxPlaces = 16
)

// forms are those that a layer was pulled in, or pushed in before; from is its
// descriptor in the manifest of an image, or the zero value.
func forms(store *storage.Store, layer *cs.Layer, from imagespec.Descriptor) []form {
	var all []form
	if data, err := store.LayerNote(layer.ID, formsKey); err == nil {
		json.Unmarshal(data, &all) // what cannot be read is not known
	}
	pulled := form{Digest: layer.CompressedDigest, Size: storage.BlobSize(layer)}
	switch storage.Compression(layer) {
	case archive.Gzip:
		pulled.Compression = storage.Gzip
	case archive.Zstd:
		pulled.Compression = storage.Zstd
	}
	all = append(all, pulled, formOf(from))
	seen := map[digest.Digest]bool{}
	return slices.DeleteFunc(all, func(f form) bool {
		useless := f.Compression == "" || f.Size <= 0 || f.Digest.Validate() != nil || seen[f.Digest]
		seen[f.Digest] = true
		return useless
	})
}

// formOf is the form that a manifest's descriptor tells of.
func formOf(d imagespec.Descriptor) form {
	f := form{Digest: d.Digest, Size: d.Size, told: true}
	switch d.MediaType {
	case dockerLayer, imagespec.MediaTypeImageLayerGzip:
		f.Compression = storage.Gzip
	case imagespec.MediaTypeImageLayerZstd:
		f.Compression = storage.Zstd
		for key, value := range d.Annotations {
			if strings.HasPrefix(key, "io.github.containers.zstd-chunked.") {
				if f.Annotations == nil {
					f.Annotations = map[string]string{}
				}
				f.Annotations[key] = value
				f.Compression = storage.ZstdChunked
			}
		}
	}
	return f
}

// remember notes that a place has a form of a layer. A layer of another's store
// cannot be written to: then nothing is known the next time.
func remember(store *storage.Store, layer *cs.Layer, f form, place string) error {
	all := forms(store, layer, imagespec.Descriptor{})
	if n := slices.IndexFunc(all, func(o form) bool { return o.Digest == f.Digest }); n >= 0 {
		if len(all[n].Places) > 0 && all[n].Places[0] == place {
			return nil
		}
		f.Places = all[n].Places
		all = slices.Delete(all, n, n+1)
	}
	f.Places = append([]string{place}, slices.DeleteFunc(slices.Clone(f.Places), func(s string) bool { return s == place })...)
	f.Places = f.Places[:min(len(f.Places), maxPlaces)]
	all = append([]form{f}, all...)
	data, err := json.Marshal(all[:min(len(all), maxForms)])
	if err != nil {
		return err
	}
	return store.SetLayerNote(layer.ID, formsKey, data)
}

// descriptor is that of a form in a manifest of Docker's or OCI's type; ok is false
// if that type has no word for the compression.
func (f form) descriptor(docker bool) (d imagespec.Descriptor, ok bool) {
	d = imagespec.Descriptor{Digest: f.Digest, Size: f.Size}
	switch {
	case f.Compression == storage.Gzip && docker:
		d.MediaType = dockerLayer
	case f.Compression == storage.Gzip:
		d.MediaType = imagespec.MediaTypeImageLayerGzip
	case docker:
		return d, false
	default:
		d.MediaType = imagespec.MediaTypeImageLayerZstd
	}
	if len(f.Annotations) > 0 {
		d.Annotations = f.Annotations
	}
	return d, true
}
