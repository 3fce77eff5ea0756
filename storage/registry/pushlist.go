package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage"
	"moss/storage/image"
)

// ListPushOptions of PushList.
type ListPushOptions struct {
	PushOptions
	// Images sends the images of the list too; else the registry must have them.
	Images bool
	// ListFormat is the list's: oci, docker; "" keeps it.
	ListFormat string
	// Variants are compressions: for each the list gets every image of the store once more.
	Variants []string
	// Find returns the image of the store with a manifest of that digest, or nil.
	Find func(digest string) *image.Image
}

// annotationZstd says that an entry of a list has layers compressed with zstd: who
// cannot read them takes the entry without it.
const annotationZstd = "io.github.containers.compression.zstd"

// PushList sends a list to a registry under the name dest and returns its digest
// there. Images that are sent may get another digest, by their compression: the list
// at the registry has it.
func PushList(ctx context.Context, store *storage.Store, l *storage.List, dest string, o ListPushOptions) (digest.Digest, error) {
	d, err := pushList(ctx, store, l, dest, o)
	if err != nil {
		return "", fmt.Errorf("cannot push manifest list to %q: %w", dest, err)
	}
	return d, nil
}

func pushList(ctx context.Context, store *storage.Store, l *storage.List, dest string, o ListPushOptions) (digest.Digest, error) {
	p, err := newPusher(ctx, store, dest, o.PushOptions)
	if err != nil {
		return "", err
	}
	sent := *l
	sent.Manifests = nil
	for i, e := range l.Manifests {
		if o.Images {
			p.Progress.Line("Copying image %s (%d/%d)", e.Digest, i+1, len(l.Manifests))
			if err := p.entry(ctx, l, &e, o); err != nil {
				return "", fmt.Errorf("image %s: %w", e.Digest, err)
			}
		}
		sent.Manifests = append(sent.Manifests, e)
	}
	if len(o.Variants) > 0 {
		if err := p.variants(ctx, l, &sent, o); err != nil {
			return "", err
		}
	}
	if sent.Manifests == nil {
		sent.Manifests = []storage.ListEntry{}
	}
	data, err := sent.Encode(o.ListFormat)
	if err != nil {
		return "", err
	}
	mediaType := sent.MediaType
	if o.ListFormat == "docker" {
		mediaType = storage.DockerListType
	} else if o.ListFormat == "oci" || mediaType == "" {
		mediaType = storage.ListType
	}
	p.Progress.After("Writing manifest list to image destination")
	d := digest.FromBytes(data)
	if err := p.client.putManifest(ctx, p.client.ref.Tag, data, mediaType); err != nil {
		return "", err
	}
	return d, p.sign(ctx, d)
}

// entry sends what an entry is about, from where it is, and makes the entry say what
// the registry has.
func (p *pusher) entry(ctx context.Context, l *storage.List, e *storage.ListEntry, o ListPushOptions) error {
	if manifest, ok := l.Artifacts.Manifests[e.Digest]; ok {
		return p.artifact(ctx, l, e, []byte(manifest))
	}
	if img := o.Find(e.Digest.String()); img != nil {
		d, err := p.image(ctx, img, "")
		if err == nil {
			e.MediaType, e.Digest, e.Size = d.MediaType, d.Digest, d.Size
			p.annotate(e)
		}
		return err
	}
	from, ok := strings.CutPrefix(l.Locations[e.Digest], "docker://")
	if !ok {
		return errors.New("it is not in the store any more")
	}
	return p.relay(ctx, from)
}

// annotate says how the layers of an entry are compressed.
func (p *pusher) annotate(e *storage.ListEntry) {
	if !p.Force || p.Compression.Format == storage.Gzip {
		return
	}
	e.Annotations = maps.Clone(e.Annotations)
	if e.Annotations == nil {
		e.Annotations = map[string]string{}
	}
	e.Annotations[annotationZstd] = "true"
}

// variants sends each image of the store in further compressions.
func (p *pusher) variants(ctx context.Context, l, sent *storage.List, o ListPushOptions) error {
	for _, compression := range o.Variants {
		other := *p
		other.Compression, other.Force = storage.Method{Format: compression}, true
		if err := other.Compression.Check(); err != nil {
			return err
		}
		for _, e := range l.Manifests {
			img := o.Find(e.Digest.String())
			if img == nil {
				return fmt.Errorf("image %s: it is not in the store, and cannot be compressed again: pull it first", e.Digest)
			}
			d, err := other.image(ctx, img, "")
			if err != nil {
				return fmt.Errorf("image %s: %w", e.Digest, err)
			}
			if sent.Entry(d.Digest) != nil {
				continue // it has that compression already
			}
			e.MediaType, e.Digest, e.Size = d.MediaType, d.Digest, d.Size
			other.annotate(&e)
			sent.Manifests = append(sent.Manifests, e)
		}
	}
	return nil
}

// artifact sends an artifact of the list, whose blobs are files and parts of the
// list.
func (p *pusher) artifact(ctx context.Context, l *storage.List, e *storage.ListEntry, manifest []byte) error {
	m, err := ParseManifest(manifest)
	if err != nil {
		return err
	}
	for _, d := range append([]imagespec.Descriptor{m.Config}, m.Layers...) {
		if data, ok := l.Artifacts.Blobs[d.Digest]; ok {
			if _, err := p.client.putBlob(ctx, data); err != nil {
				return err
			}
			continue
		}
		err := p.blob(ctx, d, func() (io.ReadCloser, error) { return os.Open(l.Artifacts.Detached[d.Digest]) })
		if err != nil {
			return err
		}
	}
	return p.client.putManifest(ctx, e.Digest.String(), manifest, e.MediaType)
}

// blob sends a blob, unless the registry has it. What open yields must be the blob.
func (p *pusher) blob(ctx context.Context, d imagespec.Descriptor, open func() (io.ReadCloser, error)) error {
	if p.client.has(ctx, d) {
		p.Progress.Skipped(d.Digest)
		return nil
	}
	bar := p.Progress.Blob("blob", d.Digest, d.Size)
	err := p.client.retry(ctx, func() error {
		session, err := p.client.begin(ctx)
		if err != nil {
			return err
		}
		read := 0
		_, _, err = p.client.stream(ctx, session, func(w io.Writer) error {
			from, err := open()
			if err != nil {
				return err
			}
			defer from.Close()
			check := d.Digest.Verifier()
			n, err := io.Copy(io.MultiWriter(w, check, writerFunc(func(n int) { bar.Add(n); read += n })), from)
			if err == nil && (n != d.Size || !check.Verified()) {
				err = fmt.Errorf("blob %s has changed", d.Digest)
			}
			return err
		})
		if err != nil {
			bar.Add(-read)
		}
		return err
	})
	if err != nil {
		bar.Abort()
		return fmt.Errorf("cannot upload blob %s: %w", d.Digest, err)
	}
	bar.Done()
	return nil
}

// relay copies a manifest, and what it names, from a registry.
func (p *pusher) relay(ctx context.Context, from string) error {
	source, err := image.Parse(from)
	if err != nil {
		return err
	}
	access := p.Access
	if source.Registry != p.client.ref.Registry {
		access.Creds = "" // those are of the destination
	}
	return ask(ctx, from, access, func(c *client, _ image.Reference) error {
		data, mediaType, err := c.manifest(ctx, c.wanted())
		if err != nil {
			return err
		}
		if isIndex(mediaType, data) {
			return errors.New("a list in a list cannot be copied")
		}
		m, err := ParseManifest(data)
		if err != nil {
			return err
		}
		for _, d := range append([]imagespec.Descriptor{m.Config}, m.Layers...) {
			if c.ref.Registry == p.client.ref.Registry && c.ref.Repository != p.client.ref.Repository && !p.client.has(ctx, d) {
				p.client.mount(ctx, d.Digest, c.ref.Repository) // if not, it is sent
			}
			err := p.blob(ctx, d, func() (io.ReadCloser, error) {
				resp, err := c.get(ctx, c.url("blobs/%s", d.Digest), nil, http.StatusOK)
				if err != nil {
					return nil, err
				}
				return resp.Body, nil
			})
			if err != nil {
				return err
			}
		}
		var says struct{ MediaType string }
		if json.Unmarshal(data, &says) == nil && says.MediaType != "" {
			mediaType = says.MediaType
		}
		return p.client.putManifest(ctx, digest.FromBytes(data).String(), data, mediaType)
	})
}
