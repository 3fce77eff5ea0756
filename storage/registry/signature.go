package registry

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage/image"
	"moss/storage/limit"
	"moss/storage/policy"
)

// Signatures of sigstore are an image of their own beside the signed one, under a
// tag that follows from its digest: each layer is a statement, its annotation the
// signature.
const (
	statementType       = "application/vnd.dev.cosign.simplesigning.v1+json"
	signatureAnnotation = "dev.cosignproject.cosign/signature"
	// maxSignatures is how many signatures of an image are looked at.
	maxSignatures = 64
)

func signatureTag(d string) string { return strings.Replace(d, ":", "-", 1) + ".sig" }

// mayPull asks the policy, without the registry, whether an image could be let in.
func mayPull(name image.Reference) error {
	p, err := policy.Load("")
	if err != nil {
		return err
	}
	return p.Rejects(name)
}

// permit asks the policy whether an image may be pulled under a name. A signature
// of the list that it was chosen from will do: the list has the image's digest.
func (c *client) permit(ctx context.Context, name image.Reference, img *remoteImage) error {
	p, err := policy.Load("")
	if err != nil {
		return err
	}
	digests := []string{digest.FromBytes(img.manifest).String()}
	if img.index != nil {
		digests = append(digests, digest.FromBytes(img.index).String())
	}
	var found []policy.Signature
	if p.WantsSignature(name) {
		for _, d := range digests {
			_, list, err := c.signatures(ctx, d)
			if err != nil {
				return fmt.Errorf("cannot read signatures of %q: %w", d, err)
			}
			found = append(found, list...)
		}
	}
	return p.Check(name, digests, found)
}

// signatures reads those of a manifest, and the manifest that they are in; nil if
// there are none.
func (c *client) signatures(ctx context.Context, d string) (*imagespec.Manifest, []policy.Signature, error) {
	data, _, err := c.manifest(ctx, signatureTag(d))
	var status *transport.Error
	if errors.As(err, &status) && status.StatusCode == http.StatusNotFound {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, nil, err
	}
	if len(m.Layers) > maxSignatures {
		return nil, nil, fmt.Errorf("there are %d, more than %d", len(m.Layers), maxSignatures)
	}
	var out []policy.Signature
	for _, l := range m.Layers {
		if l.MediaType != statementType || l.Annotations[signatureAnnotation] == "" {
			continue
		}
		statement, err := c.config(ctx, l) // a small blob, whose digest is checked
		if err != nil {
			return nil, nil, err
		}
		out = append(out, policy.Signature{Payload: statement, Base64: l.Annotations[signatureAnnotation]})
	}
	return m, out, nil
}

// Signer signs what is pushed.
type Signer struct {
	Key     crypto.Signer
	Creator string // the program and its version
}

// sign puts a signature of a manifest beside it, with those that are there.
func (c *client) sign(ctx context.Context, s *Signer, name image.Reference, d string) error {
	signature, err := policy.Sign(s.Key, name.String(), d, s.Creator)
	if err != nil {
		return err
	}
	m, _, err := c.signatures(ctx, d)
	if err != nil {
		return fmt.Errorf("cannot read signatures of %q: %w", d, err)
	}
	if m == nil {
		m = &imagespec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest}
	}
	layer, err := c.putBlob(ctx, signature.Payload)
	if err != nil {
		return fmt.Errorf("cannot write signature: %w", err)
	}
	layer.MediaType, layer.Annotations = statementType, map[string]string{signatureAnnotation: signature.Base64}
	m.Layers = append(m.Layers, layer)
	if more := len(m.Layers) - maxSignatures; more > 0 {
		m.Layers = slices.Delete(m.Layers, 0, more) // the oldest
	}
	config := imagespec.Image{RootFS: imagespec.RootFS{Type: "layers"}}
	for _, l := range m.Layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	text, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if m.Config, err = c.putBlob(ctx, text); err != nil {
		return fmt.Errorf("cannot write signature: %w", err)
	}
	m.Config.MediaType = imagespec.MediaTypeImageConfig
	document, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.putManifest(ctx, signatureTag(d), document, imagespec.MediaTypeImageManifest)
}

// SignOptions of Sign.
type SignOptions struct {
	Access
	Signer
	// All signs, of a list, each of its images too.
	All bool
}

// Sign puts a signature beside an image that a registry has, and returns the
// digests of what was signed.
func Sign(ctx context.Context, name string, o SignOptions) ([]string, error) {
	signed, err := signRemote(ctx, name, o)
	if err != nil {
		return nil, fmt.Errorf("cannot sign image %q: %w", name, err)
	}
	return signed, nil
}

func signRemote(ctx context.Context, name string, o SignOptions) ([]string, error) {
	ref, err := image.Parse(strings.TrimPrefix(name, "docker://"))
	if err != nil {
		return nil, err
	}
	if ref.Registry == "" {
		return nil, errors.New("want the full name that the image has in its registry")
	}
	ref = ref.Complete()
	c, err := connectTo(ctx, ref, o.Access)
	if err != nil {
		return nil, err
	}
	asked := c.ref.Tag
	if c.ref.Digest != "" {
		asked = c.ref.Digest
	}
	data, mediaType, err := c.manifest(ctx, asked)
	if err != nil {
		return nil, err
	}
	digests := []string{digest.FromBytes(data).String()}
	if o.All && isIndex(mediaType, data) {
		var list imagespec.Index
		if err := limit.JSON(data, &list); err != nil {
			return nil, err
		}
		for _, d := range list.Manifests {
			if err := checkDescriptor(d); err != nil {
				return nil, err
			}
			digests = append(digests, d.Digest.String())
		}
	}
	for _, d := range digests {
		if err := c.sign(ctx, &o.Signer, ref, d); err != nil {
			return nil, err
		}
	}
	return digests, nil
}
