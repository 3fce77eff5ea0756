package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"moss/storage/image"
)

// Signature is one that is kept beside an image: what was signed, and the
// signature of it, in base64.
type Signature struct {
	Payload []byte
	Base64  string
}

// payload is what is signed: the "simple signing" document.
type payload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

const payloadType = "cosign container image signature"

// Check says whether an image may be let in: ref is its name, digests are those
// that stand for its manifest, signatures what was found for them.
func (p *Policy) Check(ref image.Reference, digests []string, signatures []Signature) error {
	if err := p.Rejects(ref); err != nil {
		return err
	}
	list, scope := p.For(ref)
	for i := range list {
		r := &list[i]
		if r.Type != SigstoreSigned {
			continue
		}
		if err := r.satisfied(ref.Complete(), digests, signatures); err != nil {
			return fmt.Errorf("%w: %s, for %s: %w", ErrRejected, p.path, scope, err)
		}
	}
	return nil
}

// satisfied looks for one signature by one of the keys, for the name and the image.
func (r *Requirement) satisfied(ref image.Reference, digests []string, signatures []Signature) error {
	keys, err := r.keys()
	if err != nil {
		return err
	}
	if len(signatures) == 0 {
		return errors.New("the image has no signature")
	}
	why := errors.New("no signature is by a key of the policy")
	for _, s := range signatures {
		if !signedByOne(keys, s) {
			continue
		}
		var doc payload
		if err := json.Unmarshal(s.Payload, &doc); err != nil || doc.Critical.Type != payloadType {
			why = errors.New("what is signed is no statement about an image")
			continue
		}
		if !contains(digests, doc.Critical.Image.Digest) {
			why = fmt.Errorf("the signature is for another image, %q", doc.Critical.Image.Digest)
			continue
		}
		if !r.Identity.matches(doc.Critical.Identity.Reference, ref) {
			why = fmt.Errorf("the signature is for another name, %q", doc.Critical.Identity.Reference)
			continue
		}
		return nil
	}
	return why
}

func contains(list []string, s string) bool {
	for _, one := range list {
		if one == s && s != "" {
			return true
		}
	}
	return false
}

// keys reads the public keys of a requirement.
func (r *Requirement) keys() (out []crypto.PublicKey, err error) {
	texts := r.KeyDatas
	if len(r.KeyData) > 0 {
		texts = append(texts, r.KeyData)
	}
	paths := r.KeyPaths
	if r.KeyPath != "" {
		paths = append(paths, r.KeyPath)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("cannot read key: %w", err)
		}
		texts = append(texts, data)
	}
	for _, text := range texts {
		key, err := parsePublic(text)
		if err != nil {
			return nil, fmt.Errorf("cannot read key %s: %w", strings.Join(paths, " "), err)
		}
		out = append(out, key)
	}
	return out, nil
}

func parsePublic(text []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil || block.Type != "PUBLIC KEY":
		return nil, errors.New("it is no PEM file of a public key")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("something follows the key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey, ed25519.PublicKey:
	case *rsa.PublicKey:
		if key.Size() < 256 {
			return nil, errors.New("an RSA key has at least 2048 bits")
		}
	default:
		return nil, fmt.Errorf("keys of type %T are not known", key)
	}
	return key, nil
}

func signedByOne(keys []crypto.PublicKey, s Signature) bool {
	signature, err := base64.StdEncoding.DecodeString(s.Base64)
	if err != nil {
		return false
	}
	sum := sha256.Sum256(s.Payload)
	for _, key := range keys {
		good := false
		switch key := key.(type) {
		case *ecdsa.PublicKey:
			good = ecdsa.VerifyASN1(key, sum[:], signature)
		case ed25519.PublicKey:
			good = ed25519.Verify(key, s.Payload, signature)
		case *rsa.PublicKey:
			good = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature) == nil
		}
		if good {
			return true
		}
	}
	return false
}

// Sign states that the manifest of a digest is the image of a name.
func Sign(key crypto.Signer, name, digest, creator string) (Signature, error) {
	var doc payload
	doc.Critical.Identity.Reference, doc.Critical.Image.Digest, doc.Critical.Type = name, digest, payloadType
	doc.Optional = map[string]any{"creator": creator, "timestamp": time.Now().Unix()}
	data, err := json.Marshal(doc)
	if err != nil {
		return Signature{}, err
	}
	message, hash := data, crypto.Hash(0)
	if _, pure := key.(ed25519.PrivateKey); !pure {
		sum := sha256.Sum256(data)
		message, hash = sum[:], crypto.SHA256
	}
	signature, err := key.Sign(rand.Reader, message, hash)
	if err != nil {
		return Signature{}, fmt.Errorf("cannot sign image %q: %w", name, err)
	}
	return Signature{data, base64.StdEncoding.EncodeToString(signature)}, nil
}
