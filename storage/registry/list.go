package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"moss/storage"
	"moss/storage/image"
)

// Listed is an image of a registry as an entry of a list, and where it is.
type Listed struct {
	storage.ListEntry
	Location string // docker://NAME@DIGEST
}

// Entries are what a list that gets an image of a registry says of it. Of a list
// there it is the image for the platform, or with all every one.
func Entries(ctx context.Context, ref string, access Access, platform image.Platform, all bool) ([]Listed, error) {
	var out []Listed
	err := ask(ctx, ref, access, func(c *client, name image.Reference) (err error) {
		out, err = c.entries(ctx, name, platform, all)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot look up image %q: %w", ref, err)
	}
	return out, nil
}

// Manifest is the manifest or list that a registry has under a reference, as it is.
func Manifest(ctx context.Context, ref string, access Access) ([]byte, error) {
	var out []byte
	err := ask(ctx, ref, access, func(c *client, _ image.Reference) (err error) {
		out, _, err = c.manifest(ctx, c.wanted())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read manifest of %q: %w", ref, err)
	}
	return out, nil
}

// wanted is the tag or digest of the client's reference.
func (c *client) wanted() string {
	if c.ref.Digest != "" {
		return c.ref.Digest
	}
	return c.ref.Tag
}

// ask calls do with each place that has a reference until one answers.
func ask(ctx context.Context, ref string, access Access, do func(*client, image.Reference) error) error {
	sys := system(access)
	names, err := candidates(sys, ref, access)
	if err != nil {
		return err
	}
	var all error
	for _, candidate := range names {
		for _, src := range candidate.sources {
			c, err := connect(ctx, sys, src, access, "pull")
			if err == nil {
				err = do(c, candidate.name)
			}
			if err == nil {
				return nil
			}
			all = errors.Join(all, err)
			if ctx.Err() != nil {
				return all
			}
		}
	}
	return all
}

func (c *client) entries(ctx context.Context, name image.Reference, platform image.Platform, all bool) ([]Listed, error) {
	data, mediaType, err := c.manifest(ctx, c.wanted())
	if err != nil {
		return nil, err
	}
	where := func(d digest.Digest) string {
		at := name
		at.Tag, at.Digest = "", d.String()
		return "docker://" + at.String()
	}
	if !isIndex(mediaType, data) {
		e, err := c.entry(ctx, data, mediaType)
		return []Listed{{e, where(e.Digest)}}, err
	}
	list, ok := storage.ParseList(data)
	if !ok {
		return nil, errors.New("its list of images cannot be read")
	}
	if !all {
		chosen, err := Choose(data, platform)
		if err != nil {
			return nil, err
		}
		return []Listed{{*list.Entry(chosen.Digest), where(chosen.Digest)}}, nil
	}
	var out []Listed
	for _, e := range list.Manifests {
		out = append(out, Listed{e, where(e.Digest)})
	}
	return out, nil
}

// entry describes a manifest that is no list.
func (c *client) entry(ctx context.Context, data []byte, mediaType string) (storage.ListEntry, error) {
	e := storage.ListEntry{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	m, err := ParseManifest(data)
	if err != nil {
		return e, err
	}
	if e.ArtifactType = m.ArtifactType; e.ArtifactType != "" || !strings.Contains(m.Config.MediaType, "image") {
		return e, nil // an artifact is for every platform
	}
	config, err := c.config(ctx, m.Config)
	if err != nil {
		return e, err
	}
	e.Platform = new(storage.ListPlatform)
	if err := json.Unmarshal(config, e.Platform); err != nil {
		return e, fmt.Errorf("cannot read configuration: %w", err)
	}
	e.Platform.Features = nil
	return e, nil
}
