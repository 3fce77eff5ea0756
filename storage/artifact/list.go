package artifact

import (
	"encoding/json"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage"
)

// ListOptions of AddToList.
type ListOptions struct {
	Options
	Config, ConfigType string // a file; "" is the empty configuration
	// SubjectManifest is the manifest of what the artifact is about; nil for nothing.
	SubjectManifest []byte
	SubjectType     string
}

// AddToList makes an artifact of files and adds it to a list. The list notes where
// the files are: they must still be there when it is pushed.
func AddToList(l *storage.List, paths []string, o ListOptions) (*storage.ListEntry, error) {
	blobs := map[digest.Digest]string{}
	read := func(path string) (digest.Digest, int64, error) {
		d, n, err := Measure(path)
		blobs[d] = path
		return d, n, err
	}
	m, err := Describe(paths, o.Options, read)
	if err != nil {
		return nil, err
	}
	inline := map[digest.Digest][]byte{m.Config.Digest: m.Config.Data}
	if o.Config != "" {
		m.Config = imagespec.Descriptor{MediaType: imagespec.MediaTypeImageConfig}
		if m.Config.Digest, m.Config.Size, err = read(o.Config); err != nil {
			return nil, err
		}
		inline = nil
	}
	if o.ConfigType != "" {
		m.Config.MediaType = o.ConfigType
	}
	if o.SubjectManifest != nil {
		m.Subject = &imagespec.Descriptor{MediaType: o.SubjectType, Digest: digest.FromBytes(o.SubjectManifest), Size: int64(len(o.SubjectManifest))}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	e := storage.ListEntry{MediaType: m.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw)), ArtifactType: m.ArtifactType}
	a := &l.Artifacts
	put(&a.Manifests, e.Digest, string(raw))
	put(&a.Files, e.Digest, paths)
	put(&a.Configs, e.Digest, m.Config.Digest)
	layers := []digest.Digest{}
	for _, layer := range m.Layers {
		layers = append(layers, layer.Digest)
	}
	put(&a.Layers, e.Digest, layers)
	for d, path := range blobs {
		put(&a.Detached, d, path)
	}
	for d, data := range inline {
		put(&a.Blobs, d, data)
	}
	l.Put(e, "")
	return l.Entry(e.Digest), nil
}

func put[V any](m *map[digest.Digest]V, d digest.Digest, v V) {
	if *m == nil {
		*m = map[digest.Digest]V{}
	}
	(*m)[d] = v
}
