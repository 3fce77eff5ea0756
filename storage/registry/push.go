package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	cs "go.podman.io/storage"
	"golang.org/x/sync/errgroup"

	"moss/storage"
	"moss/storage/image"
)

// PushOptions of Push.
type PushOptions struct {
	Access
	Format   string // oci, docker; "" keeps the image's, unless the compression needs oci
	Progress *Progress
	// Compression of the layers that the registry does not have; its Format "" is gzip.
	Compression storage.Method
	// Force uploads layers again that the registry has in another compression.
	Force bool
	// Signer signs what is pushed; nil for nobody.
	Signer *Signer
	// Elsewhere names repositories of a registry that may hold a layer, to take it from.
	Elsewhere func(registry string, diffID digest.Digest) []string
}

// pusher is one push under way.
type pusher struct {
	PushOptions
	store  *storage.Store
	client *client
	docker bool
	name   image.Reference // what is pushed, as it is signed
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
	p, err := newPusher(ctx, store, dest, o)
	if err != nil {
		return "", err
	}
	d, err := p.image(ctx, img, p.client.ref.Tag)
	return d.Digest, err
}

// newPusher greets the registry of dest.
func newPusher(ctx context.Context, store *storage.Store, dest string, o PushOptions) (*pusher, error) {
	ref, err := image.Parse(dest)
	if err != nil {
		return nil, err
	}
	if ref.Digest != "" {
		return nil, errors.New("the digest follows from the image; push to a tag")
	}
	o.Compression.Format = cmp.Or(o.Compression.Format, storage.Gzip)
	if err := o.Compression.Check(); err != nil {
		return nil, err
	}
	client, err := connectTo(ctx, ref.Complete(), o.Access)
	if err != nil {
		return nil, err
	}
	return &pusher{PushOptions: o, store: store, client: client, name: ref.Complete()}, nil
}

// connectTo greets the registry of a name, to write to it. Mirrors are for reading.
func connectTo(ctx context.Context, ref image.Reference, access Access) (*client, error) {
	sys := system(access)
	configured, err := sysregistriesv2.FindRegistry(sys, ref.String())
	if err != nil {
		return nil, fmt.Errorf("cannot read registries.conf: %w", err)
	}
	src := source{ref: ref, insecure: access.insecure(isLoopback(ref.Registry))}
	if configured != nil {
		if configured.Blocked {
			return nil, fmt.Errorf("registry of %q is blocked in registries.conf", ref)
		}
		named, err := reference.ParseNormalizedNamed(ref.String())
		if err != nil {
			return nil, fmt.Errorf("%w %q: %w", image.ErrInvalid, ref, err)
		}
		places, err := configured.PullSourcesFromReference(named)
		if err != nil {
			return nil, fmt.Errorf("cannot read registries.conf: %w", err)
		}
		last := places[len(places)-1] // the registry itself, where its location says
		if src.ref, err = image.Parse(last.Reference.String()); err != nil {
			return nil, fmt.Errorf("cannot use location %q of registries.conf: %w", last.Reference, err)
		}
		src.insecure = access.insecure(last.Endpoint.Insecure)
	}
	access.patience = commitPatience
	return connect(ctx, sys, src, access, "push,pull")
}

// commitPatience is how long a registry may take to answer: some copy a large
// layer to its place when its upload ends.
const commitPatience = 15 * time.Minute

// image sends an image under a tag, or with "" under its digest, and returns its
// manifest's descriptor.
func (p *pusher) image(ctx context.Context, img *image.Image, tag string) (imagespec.Descriptor, error) {
	none := imagespec.Descriptor{}
	original, err := p.store.Manifest(img.ID)
	if err != nil {
		return none, err
	}
	from, err := ParseManifest(original)
	if err != nil {
		return none, err
	}
	if err := p.choose(from); err != nil {
		return none, err
	}
	p.Progress.Line("Getting image source signatures")
	layers, err := p.layers(ctx, img, from.Layers)
	if err != nil {
		return none, err
	}
	config, err := p.config(ctx, img)
	if err != nil {
		return none, err
	}
	manifest, mediaType, err := p.manifest(original, from, config, layers)
	if err != nil {
		return none, err
	}
	p.Progress.After("Writing manifest to image destination")
	d := imagespec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(manifest), Size: int64(len(manifest))}
	if err := p.client.putManifest(ctx, cmp.Or(tag, d.Digest.String()), manifest, mediaType); err != nil {
		return none, err
	}
	return d, p.sign(ctx, d.Digest)
}

// sign signs a manifest that was sent, if somebody signs.
func (p *pusher) sign(ctx context.Context, d digest.Digest) error {
	if p.Signer == nil {
		return nil
	}
	p.Progress.After("Creating signature for " + d.String())
	return p.client.sign(ctx, p.Signer, p.name, d.String())
}

// choose decides between Docker's and OCI's manifest.
func (p *pusher) choose(from *imagespec.Manifest) error {
	isZstd := p.Compression.Format != storage.Gzip
	switch p.Format {
	case "":
		p.docker = from.MediaType == dockerManifest && !isZstd
	case "docker", "v2s2":
		if isZstd {
			return fmt.Errorf("a manifest of format docker cannot have layers compressed with %s; use --format oci", p.Compression.Format)
		}
		p.docker = true
	case "oci":
		p.docker = false
	default:
		return fmt.Errorf("unknown format %q (oci, docker)", p.Format)
	}
	return nil
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
	bar := p.Progress.Blob("config", digest.FromBytes(data), int64(len(data)))
	d, err := p.client.putBlob(ctx, data)
	if err != nil {
		bar.Abort()
		return d, fmt.Errorf("cannot upload configuration: %w", err)
	}
	bar.Done()
	return d, nil
}

// layers sends the layers, several at once, and returns how the registry has them. In
// the image's own manifest they are the descriptors in from.
func (p *pusher) layers(ctx context.Context, img *image.Image, from []imagespec.Descriptor) ([]imagespec.Descriptor, error) {
	if len(img.Layers) == 0 {
		return []imagespec.Descriptor{}, nil
	}
	chain, err := p.store.Chain(img.Layers[0])
	if err != nil {
		return nil, err
	}
	if len(from) != len(chain) {
		from = make([]imagespec.Descriptor, len(chain)) // of an image whose empty layers are not stored
	}
	all := make([]imagespec.Descriptor, len(chain))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(p.client.parallel)
	sent := map[digest.Digest]int{} // a layer that is there twice is sent once
	for n, layer := range chain {
		if _, twice := sent[layer.UncompressedDigest]; twice {
			continue
		}
		sent[layer.UncompressedDigest] = n
		group.Go(func() error {
			var err error
			all[n], err = p.layer(ctx, layer, from[n])
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	for n, layer := range chain {
		all[n] = all[sent[layer.UncompressedDigest]]
	}
	return all, nil
}

// layer sends one layer, unless the registry has it in a form that will do.
func (p *pusher) layer(ctx context.Context, layer *cs.Layer, from imagespec.Descriptor) (imagespec.Descriptor, error) {
	known := slices.DeleteFunc(forms(p.store, layer, from), func(f form) bool {
		_, ok := f.descriptor(p.docker)
		return !ok || p.Force && f.Compression != p.Compression.Format
	})
	for _, f := range known {
		if d, _ := f.descriptor(p.docker); p.client.has(ctx, d) {
			p.Progress.Skipped(d.Digest)
			return d, p.remember(layer, f)
		}
	}
	session := ""
	for _, f := range known {
		mounted := false
		if mounted, session = p.take(ctx, layer, f); mounted {
			d, _ := f.descriptor(p.docker)
			p.Progress.Line("Copying blob %s mounted from another repository", d.Digest)
			return d, p.remember(layer, f)
		}
	}
	f, err := p.send(ctx, layer, session)
	if err != nil {
		return imagespec.Descriptor{}, fmt.Errorf("cannot upload layer %q: %w", layer.UncompressedDigest, err)
	}
	d, _ := f.descriptor(p.docker)
	return d, p.remember(layer, f)
}

// remember notes where a layer now is. Nothing is lost when it cannot: the layer is
// compressed again the next time.
func (p *pusher) remember(layer *cs.Layer, f form) error {
	if !f.told && p.store.HasLayer(layer.ID) {
		return remember(p.store, layer, f, p.client.ref.Name())
	}
	return nil
}

// take has the registry mount a layer from one of its other repositories; else it
// returns the address of an upload that it may have begun.
func (p *pusher) take(ctx context.Context, layer *cs.Layer, f form) (mounted bool, session string) {
	registry := p.client.ref.Registry
	places := []string{}
	for _, place := range f.Places {
		if r, err := image.Parse(place); err == nil && r.Registry == registry {
			places = append(places, r.Repository)
		}
	}
	if p.Elsewhere != nil {
		places = append(places, p.Elsewhere(registry, layer.UncompressedDigest)...)
	}
	tried := map[string]bool{p.client.ref.Repository: true}
	for _, from := range places {
		if tried[from] || len(tried) > 4 {
			continue
		}
		tried[from] = true
		if mounted, session = p.client.mount(ctx, f.Digest, from); mounted {
			return true, ""
		}
	}
	return false, session
}

// send compresses a layer into an upload; session is one that was begun, or "".
func (p *pusher) send(ctx context.Context, layer *cs.Layer, session string) (form, error) {
	f := form{Compression: p.Compression.Format}
	bar := p.Progress.Blob("blob", layer.UncompressedDigest, layer.UncompressedSize)
	err := p.client.retry(ctx, func() (err error) {
		if session == "" {
			if session, err = p.client.begin(ctx); err != nil {
				return err
			}
		}
		at := session
		session = ""
		read := 0
		f.Digest, f.Size, err = p.client.stream(ctx, at, func(w io.Writer) error {
			notes, err := p.store.Compress(layer, p.Compression, w, writerFunc(func(n int) { bar.Add(n); read += n }))
			f.Annotations = maps.Clone(notes)
			return err
		})
		if err != nil {
			bar.Add(-read)
		}
		return err
	})
	if err != nil {
		bar.Abort()
		return f, err
	}
	bar.Done()
	return f, nil
}

// writerFunc is told how much is written.
type writerFunc func(n int)

func (f writerFunc) Write(p []byte) (int, error) {
	f(len(p))
	return len(p), nil
}
