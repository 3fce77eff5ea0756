package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage"
	"moss/storage/artifact"
	"moss/storage/image"
)

// PullArtifact fetches an artifact and returns its digest. Its blobs are downloaded
// as those of images are.
func PullArtifact(ctx context.Context, root string, ref string, access Access, progress *Progress) (digest.Digest, error) {
	var d digest.Digest
	err := ask(ctx, ref, access, func(c *client, name image.Reference) (err error) {
		d, err = c.pullArtifact(ctx, root, name, progress)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("cannot pull artifact %q: %w", ref, err)
	}
	return d, nil
}

func (c *client) pullArtifact(ctx context.Context, root string, name image.Reference, progress *Progress) (digest.Digest, error) {
	data, mediaType, err := c.manifest(ctx, c.wanted())
	if err != nil {
		return "", err
	}
	if isIndex(mediaType, data) {
		return "", errors.New("it is a list of images, and no artifact")
	}
	m, err := ParseManifest(data)
	if err != nil {
		return "", err
	}
	if err := c.permit(ctx, name, &remoteImage{manifest: data}); err != nil {
		return "", err
	}
	dir, err := (&storage.Store{Root: root}).Temp()
	if err != nil {
		return "", err
	}
	store := artifact.Open(root)
	w, err := store.Begin()
	if err != nil {
		return "", err
	}
	defer w.End()
	for _, blob := range append([]imagespec.Descriptor{m.Config}, m.Layers...) {
		if store.HasBlob(blob.Digest) || blob.Digest == imagespec.DescriptorEmptyJSON.Digest {
			progress.Skipped(blob.Digest)
			continue
		}
		if _, err := os.Stat(w.Path(blob.Digest)); err == nil {
			continue // named twice
		}
		bar := progress.Blob("blob", blob.Digest, blob.Size)
		f, err := c.blob(ctx, dir, blob, func() bool { return false }, bar)
		if err != nil {
			bar.Abort()
			return "", err
		}
		bar.Done()
		err = errors.Join(os.Rename(f.Name(), w.Path(blob.Digest)), f.Chmod(0o644), f.Close())
		if err != nil {
			return "", err
		}
	}
	progress.After("Writing manifest to image destination")
	return w.Record(name.String(), data, true)
}

// PushArtifact sends an artifact to a registry under the name dest.
func PushArtifact(ctx context.Context, root string, a *artifact.Artifact, dest string, access Access, progress *Progress) error {
	p, err := newPusher(ctx, nil, dest, PushOptions{Access: access, Progress: progress})
	if err == nil {
		err = p.files(ctx, artifact.Open(root), a)
	}
	if err != nil {
		return fmt.Errorf("cannot push artifact %q to %q: %w", a.Name, dest, err)
	}
	return nil
}

func (p *pusher) files(ctx context.Context, store *artifact.Store, a *artifact.Artifact) error {
	for _, d := range append([]imagespec.Descriptor{a.Manifest.Config}, a.Manifest.Layers...) {
		if len(d.Data) > 0 && digest.FromBytes(d.Data) == d.Digest {
			if _, err := p.client.putBlob(ctx, d.Data); err != nil {
				return err
			}
			continue
		}
		err := p.blob(ctx, d, func() (io.ReadCloser, error) { return os.Open(store.Blob(d.Digest)) })
		if err != nil {
			return err
		}
	}
	p.Progress.After("Writing manifest to image destination")
	return p.client.putManifest(ctx, p.client.ref.Tag, a.Raw(), a.Manifest.MediaType)
}
