package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	ggcr "github.com/google/go-containerregistry/pkg/v1/types"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	cs "go.podman.io/storage"
	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sync/errgroup"

	"moss/storage"
	"moss/storage/image"
)

// PushOptions of Push.
type PushOptions struct {
	Access
	Format   string // oci, docker; "" keeps the image's
	Progress *Progress
}

// pusher is one push under way.
type pusher struct {
	store    *storage.Store
	client   *client
	remote   *remote.Pusher
	progress *Progress
	docker   bool
}

// Push sends an image to a registry under the name dest and returns the digest of
// its manifest. Layers that the registry has are not sent again.
func Push(ctx context.Context, store *storage.Store, img *image.Image, dest string, o PushOptions) (digest.Digest, error) {
	d, err := push(ctx, store, img, dest, o)
	if err != nil {
		return "", fmt.Errorf("cannot push image to %q: %w", dest, err)
	}
	return d, nil
}

func push(ctx context.Context, store *storage.Store, img *image.Image, dest string, o PushOptions) (digest.Digest, error) {
	ref, err := image.Parse(dest)
	if err != nil {
		return "", err
	}
	if ref.Digest != "" {
		return "", errors.New("the digest follows from the image; push to a tag")
	}
	ref = ref.Complete()
	sys := system(o.Access)
	configured, err := sysregistriesv2.FindRegistry(sys, ref.String())
	if err != nil {
		return "", fmt.Errorf("cannot read registries.conf: %w", err)
	}
	src := source{ref: ref, insecure: o.insecure(configured != nil && configured.Endpoint.Insecure || configured == nil && isLoopback(ref.Registry))}
	if configured != nil && configured.Blocked {
		return "", errors.New("the registry is blocked in registries.conf")
	}
	client, err := connect(ctx, sys, src, o.Access, "push,pull")
	if err != nil {
		return "", err
	}
	p := &pusher{store: store, client: client, progress: o.Progress}
	p.remote, err = remote.NewPusher(remote.WithTransport(client.http.Transport), remote.WithJobs(client.parallel))
	if err != nil {
		return "", err
	}
	return p.run(ctx, img, o.Format)
}

func (p *pusher) run(ctx context.Context, img *image.Image, format string) (digest.Digest, error) {
	original, err := p.store.Manifest(img.ID)
	if err != nil {
		return "", err
	}
	from, err := ParseManifest(original)
	if err != nil {
		return "", err
	}
	switch format {
	case "":
		p.docker = from.MediaType == dockerManifest
	case "docker", "v2s2":
		p.docker = true
	case "oci":
	default:
		return "", fmt.Errorf("unknown format %q (oci, docker)", format)
	}
	p.progress.Line("Getting image source signatures")
	layers, err := p.layers(ctx, img)
	if err != nil {
		return "", err
	}
	config, err := p.config(ctx, img)
	if err != nil {
		return "", err
	}
	manifest, mediaType, err := p.manifest(original, from, config, layers)
	if err != nil {
		return "", err
	}
	p.progress.After("Writing manifest to image destination")
	tag := p.client.repo.Tag(p.client.ref.Tag)
	if err := p.remote.Put(ctx, tag, document{manifest, mediaType}); err != nil {
		return "", err
	}
	return digest.FromBytes(manifest), nil
}

// manifest keeps the image's own, byte for byte, when everything in it is at the
// destination; the image then keeps its digest.
func (p *pusher) manifest(original []byte, from *imagespec.Manifest, config imagespec.Descriptor, layers []imagespec.Descriptor) ([]byte, string, error) {
	mediaType := imagespec.MediaTypeImageManifest
	config.MediaType = imagespec.MediaTypeImageConfig
	if p.docker {
		mediaType, config.MediaType = dockerManifest, dockerConfig
	}
	same := func(a, b imagespec.Descriptor) bool { return a.Digest == b.Digest }
	if from.Config.MediaType == config.MediaType && slices.EqualFunc(from.Layers, layers, same) {
		return original, mediaType, nil
	}
	data, err := json.Marshal(imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: mediaType,
		Config: config, Layers: layers, Annotations: from.Annotations,
	})
	return data, mediaType, err
}

func (p *pusher) config(ctx context.Context, img *image.Image) (imagespec.Descriptor, error) {
	data, err := p.store.Config(img.ID)
	if err != nil {
		return imagespec.Descriptor{}, err
	}
	d := imagespec.Descriptor{Digest: digest.FromBytes(data), Size: int64(len(data))}
	bar := p.progress.Blob("config", d.Digest, d.Size)
	if err := p.remote.Upload(ctx, p.client.repo, static.NewLayer(data, ggcr.OCIConfigJSON)); err != nil {
		bar.Abort()
		return d, fmt.Errorf("cannot upload configuration: %w", err)
	}
	bar.Done()
	return d, nil
}

// layers sends the layers, several at once, and returns how the registry has them.
func (p *pusher) layers(ctx context.Context, img *image.Image) ([]imagespec.Descriptor, error) {
	if len(img.Layers) == 0 {
		return []imagespec.Descriptor{}, nil
	}
	chain, err := p.store.Chain(img.Layers[0])
	if err != nil {
		return nil, err
	}
	all := make([]imagespec.Descriptor, len(chain))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.client.parallel)
	for n, layer := range chain {
		group.Go(func() error {
			var err error
			all[n], err = p.layer(ctx, layer)
			return err
		})
	}
	return all, group.Wait()
}

// layer sends one layer, unless the registry has it in the form that it was
// pulled in.
func (p *pusher) layer(ctx context.Context, layer *cs.Layer) (imagespec.Descriptor, error) {
	if d, ok := p.known(layer); ok && p.has(ctx, d) {
		p.progress.Skipped(d.Digest)
		return d, nil
	}
	blob, err := p.store.Gzip(layer)
	if err != nil {
		return imagespec.Descriptor{}, err
	}
	defer blob.Remove()
	d := imagespec.Descriptor{MediaType: imagespec.MediaTypeImageLayerGzip, Digest: blob.Digest, Size: blob.Size}
	if p.docker {
		d.MediaType = dockerLayer
	}
	if p.has(ctx, d) {
		p.progress.Skipped(d.Digest)
		return d, nil
	}
	bar := p.progress.Blob("blob", d.Digest, d.Size)
	if err := p.remote.Upload(ctx, p.client.repo, upload{blob, bar, d, layer.UncompressedDigest}); err != nil {
		bar.Abort()
		return d, fmt.Errorf("cannot upload layer %q: %w", layer.UncompressedDigest, err)
	}
	bar.Done()
	return d, nil
}

// known is the layer as it was downloaded, if it was and the format can say so.
func (p *pusher) known(layer *cs.Layer) (imagespec.Descriptor, bool) {
	d := imagespec.Descriptor{Digest: layer.CompressedDigest, Size: layer.CompressedSize}
	compression := storage.Compression(layer)
	switch {
	case d.Digest == "" || d.Size <= 0:
		return d, false
	case compression == archive.Gzip && p.docker:
		d.MediaType = dockerLayer
	case compression == archive.Gzip:
		d.MediaType = imagespec.MediaTypeImageLayerGzip
	case compression == archive.Zstd && !p.docker:
		d.MediaType = imagespec.MediaTypeImageLayerZstd
	default:
		return d, false
	}
	return d, true
}

// has asks whether the repository holds a blob; in doubt it does not.
func (p *pusher) has(ctx context.Context, d imagespec.Descriptor) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, p.client.url("blobs/%s", d.Digest), nil)
	if err != nil {
		return false
	}
	resp, err := p.client.http.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK && (resp.ContentLength < 0 || resp.ContentLength == d.Size)
}

// upload is a compressed layer in a file, as the library wants it.
type upload struct {
	blob   *storage.Blob
	bar    *Bar
	desc   imagespec.Descriptor
	diffID digest.Digest
}

func (u upload) Digest() (v1.Hash, error)             { return v1.NewHash(u.desc.Digest.String()) }
func (u upload) DiffID() (v1.Hash, error)             { return v1.NewHash(u.diffID.String()) }
func (u upload) Size() (int64, error)                 { return u.desc.Size, nil }
func (u upload) MediaType() (ggcr.MediaType, error)   { return ggcr.MediaType(u.desc.MediaType), nil }
func (u upload) Uncompressed() (io.ReadCloser, error) { return nil, errors.ErrUnsupported }

// Compressed may be asked for again when an upload was cut.
func (u upload) Compressed() (io.ReadCloser, error) {
	section := io.NewSectionReader(u.blob, 0, u.desc.Size)
	return io.NopCloser(io.TeeReader(section, u.bar)), nil
}

// document is a manifest, as the library wants it.
type document struct {
	data      []byte
	mediaType string
}

func (d document) RawManifest() ([]byte, error)       { return d.data, nil }
func (d document) MediaType() (ggcr.MediaType, error) { return ggcr.MediaType(d.mediaType), nil }
