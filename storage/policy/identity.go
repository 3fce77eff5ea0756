package policy

import (
	"errors"
	"fmt"
	"strings"

	"moss/storage/image"
)

// Identity says which name the signature of an image must have been made for.
type Identity struct {
	Type             string `json:"type"`
	DockerReference  string `json:"dockerReference,omitempty"`
	DockerRepository string `json:"dockerRepository,omitempty"`
	Prefix           string `json:"prefix,omitempty"`
	SignedPrefix     string `json:"signedPrefix,omitempty"`
}

const repoDigestOrExact = "matchRepoDigestOrExact"

func (id *Identity) check() error {
	if id == nil {
		return nil
	}
	missing := func(value, name string) error {
		if value == "" {
			return fmt.Errorf("signedIdentity %s: %s is missing", id.Type, name)
		}
		return nil
	}
	switch id.Type {
	case "matchExact", repoDigestOrExact, "matchRepository":
		return nil
	case "exactReference":
		return missing(id.DockerReference, "dockerReference")
	case "exactRepository":
		return missing(id.DockerRepository, "dockerRepository")
	case "remapIdentity":
		return errors.Join(missing(id.Prefix, "prefix"), missing(id.SignedPrefix, "signedPrefix"))
	}
	return fmt.Errorf("unknown signedIdentity %q", id.Type)
}

// full parses a name of a signature: docker.io is filled in, and no tag.
func full(name string) (image.Reference, error) {
	r, err := image.Parse(name)
	if err != nil {
		return r, err
	}
	tag, digest := r.Tag, r.Digest
	r = r.Complete()
	r.Tag, r.Digest = tag, digest
	return r, nil
}

// matches says whether a signature that was made for a name is one for ref.
func (id *Identity) matches(signed string, ref image.Reference) bool {
	s, err := full(signed)
	if err != nil {
		return false
	}
	want, kind := ref, repoDigestOrExact
	if id != nil {
		kind = id.Type
	}
	switch kind {
	case "matchRepository":
		return s.Name() == want.Name()
	case "exactReference":
		exact, err := full(id.DockerReference)
		return err == nil && (s.Tag != "" || s.Digest != "") && s == exact
	case "exactRepository":
		exact, err := full(id.DockerRepository)
		return err == nil && s.Name() == exact.Name()
	case "remapIdentity":
		if rest, ok := strings.CutPrefix(want.Name(), id.Prefix); ok && (rest == "" || rest[0] == '/') {
			remapped, err := full(id.SignedPrefix + rest)
			if err != nil {
				return false
			}
			remapped.Tag, remapped.Digest = want.Tag, want.Digest
			want = remapped
		}
		kind = repoDigestOrExact
	}
	if kind == repoDigestOrExact && want.Digest != "" {
		return s.Name() == want.Name()
	}
	return (s.Tag != "" || s.Digest != "") && s == want
}
