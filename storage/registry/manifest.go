package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage/image"
	"moss/storage/limit"
)

// The media types of manifests; image-spec media-types.md has Docker's equals.
const (
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerIndex    = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// Types of an image in one of the two forms: of its manifest, its configuration,
// and of a layer that is not compressed.
func Types(docker bool) (manifest, config, layer string) {
	if docker {
		return dockerManifest, dockerConfig, strings.TrimSuffix(dockerLayer, ".gzip")
	}
	return imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageConfig, imagespec.MediaTypeImageLayer
}

var manifestTypes = []string{
	imagespec.MediaTypeImageManifest, imagespec.MediaTypeImageIndex, dockerManifest, dockerIndex,
}

func isIndex(mediaType string, data []byte) bool {
	switch mediaType {
	case imagespec.MediaTypeImageIndex, dockerIndex:
		return true
	case imagespec.MediaTypeImageManifest, dockerManifest:
		return false
	}
	var has struct{ Manifests []json.RawMessage }
	return limit.JSON(data, &has) == nil && len(has.Manifests) > 0
}

// ParseManifest reads the manifest of one image, OCI's or Docker's schema 2.
func ParseManifest(data []byte) (*imagespec.Manifest, error) {
	var is struct {
		imagespec.Manifest
		Manifests []any
	}
	if err := limit.JSON(data, &is); err != nil {
		return nil, fmt.Errorf("cannot read manifest: %w", err)
	}
	m := is.Manifest
	// Two programs that take it for different things would run different images.
	if len(is.Manifests) > 0 {
		return nil, errors.New("cannot read manifest: it is an index as well")
	}
	if m.SchemaVersion == 1 {
		return nil, fmt.Errorf("cannot read manifest: Docker's schema 1 is too old; push the image again with a current tool")
	}
	for _, d := range append([]imagespec.Descriptor{m.Config}, m.Layers...) {
		if err := checkDescriptor(d); err != nil {
			return nil, fmt.Errorf("cannot read manifest: %w", err)
		}
	}
	return &m, nil
}

func checkDescriptor(d imagespec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %q: %w", d.Digest, err)
	}
	if d.Digest.Algorithm() != "sha256" {
		return fmt.Errorf("digest %q: only sha256 is supported", d.Digest)
	}
	if d.Size < 0 || d.Size == math.MaxInt64 {
		return fmt.Errorf("size %d of %q is impossible", d.Size, d.Digest)
	}
	return nil
}

// Choose returns the descriptor of the image in an index that serves want best.
func Choose(index []byte, want image.Platform) (imagespec.Descriptor, error) {
	var list imagespec.Index
	if err := limit.JSON(index, &list); err != nil {
		return imagespec.Descriptor{}, fmt.Errorf("cannot read index: %w", err)
	}
	var best imagespec.Descriptor
	rank := 0
	var offered []string
	for _, d := range list.Manifests {
		if d.Platform == nil {
			if len(list.Manifests) == 1 {
				return d, checkDescriptor(d)
			}
			continue
		}
		have := image.Platform{OS: d.Platform.OS, Arch: d.Platform.Architecture, Variant: d.Platform.Variant}
		if have.OS != "unknown" && !slices.Contains(offered, have.String()) {
			offered = append(offered, have.String())
		}
		if r := want.Rank(have); r > rank {
			best, rank = d, r
		}
	}
	if rank == 0 {
		return best, fmt.Errorf("no image for platform %s; there are %v", want, offered)
	}
	return best, checkDescriptor(best)
}
