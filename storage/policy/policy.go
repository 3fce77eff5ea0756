// Package policy reads containers-policy.json(5), which says which images may be
// pulled, checks signatures of the sigstore kind against its keys, and makes them.
package policy

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"moss/record/xdg"
	"moss/storage/image"
)

// ErrRejected says that the policy does not let an image in.
var ErrRejected = errors.New("rejected by the policy")

// Policy is the content of policy.json.
type Policy struct {
	Default    []Requirement                       `json:"default"`
	Transports map[string]map[string][]Requirement `json:"transports,omitempty"`

	path string
}

// The types of requirements.
const (
	Accept         = "insecureAcceptAnything"
	Reject         = "reject"
	SignedBy       = "signedBy"
	SigstoreSigned = "sigstoreSigned"
)

// Requirement is one thing that an image must satisfy.
type Requirement struct {
	Type     string    `json:"type"`
	KeyType  string    `json:"keyType,omitempty"`
	KeyPath  string    `json:"keyPath,omitempty"`
	KeyPaths []string  `json:"keyPaths,omitempty"`
	KeyData  []byte    `json:"keyData,omitempty"`
	KeyDatas [][]byte  `json:"keyDatas,omitempty"`
	Identity *Identity `json:"signedIdentity,omitempty"`

	// What needs others than a key to be trusted, which moss does not check.
	Fulcio              json.RawMessage `json:"fulcio,omitempty"`
	PKI                 json.RawMessage `json:"pki,omitempty"`
	RekorPublicKeyPath  string          `json:"rekorPublicKeyPath,omitempty"`
	RekorPublicKeyPaths []string        `json:"rekorPublicKeyPaths,omitempty"`
	RekorPublicKeyData  []byte          `json:"rekorPublicKeyData,omitempty"`
	RekorPublicKeyDatas [][]byte        `json:"rekorPublicKeyDatas,omitempty"`
}

// UserPath is the policy of this user, which Set writes; none that exists where it is not known.
func UserPath() string {
	return filepath.Join(cmp.Or(xdg.Config(os.Getenv), "/nonexistent"), "containers", "policy.json")
}

// systemPath is the policy of the machine.
const systemPath = "/etc/containers/policy.json"

// Load reads the policy in effect, from path if it is given. Where there is no file,
// every image is accepted; a file that cannot be read lets none in.
func Load(path string) (*Policy, error) {
	paths := []string{path}
	if path == "" {
		paths = []string{os.Getenv("CONTAINERS_POLICY_JSON")}
	}
	if paths[0] == "" {
		paths = []string{UserPath(), systemPath}
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) && len(paths) > 1 {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read policy: %w", err)
		}
		p, err := parse(data)
		if err != nil {
			return nil, fmt.Errorf("cannot read policy %q: %w", path, err)
		}
		p.path = path
		return p, nil
	}
	return &Policy{Default: []Requirement{{Type: Accept}}}, nil
}

// parse is strict: a word that is not understood could be one that forbids.
func parse(data []byte) (*Policy, error) {
	if err := noDuplicates(json.NewDecoder(bytes.NewReader(data))); err != nil {
		return nil, err
	}
	p := new(Policy)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("something follows the document")
	}
	if err := check(p.Default); err != nil {
		return nil, fmt.Errorf("default: %w", err)
	}
	for transport, scopes := range p.Transports {
		for scope, list := range scopes {
			if err := check(list); err != nil {
				return nil, fmt.Errorf("%s %q: %w", transport, scope, err)
			}
		}
	}
	return p, nil
}

// noDuplicates refuses a name that is twice in an object: of which a reader may take
// the one and another reader the other. The decoder does not mind the case of names,
// except for transports and scopes, which are at that depth below "transports".
func noDuplicates(d *json.Decoder, path ...string) error {
	token, err := d.Token()
	if err != nil {
		return err
	}
	asWritten := len(path) > 0 && len(path) < 3 && path[0] == "transports"
	seen := map[string]bool{}
	switch token {
	case json.Delim('{'):
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name := fmt.Sprint(key)
			if !asWritten {
				name = strings.ToLower(name)
			}
			if seen[name] {
				return fmt.Errorf("%q is there twice", key)
			}
			seen[name] = true
			if err := noDuplicates(d, append(slices.Clone(path), name)...); err != nil {
				return err
			}
		}
	case json.Delim('['):
		for d.More() {
			if err := noDuplicates(d, append(slices.Clone(path), "[]")...); err != nil {
				return err
			}
		}
	default:
		return nil
	}
	_, err = d.Token() // the end of it
	return err
}

func check(list []Requirement) error {
	if len(list) == 0 {
		return errors.New("there are no requirements; say insecureAcceptAnything or reject")
	}
	for i := range list {
		r := &list[i]
		keys := 0
		for _, given := range []bool{r.KeyPath != "", len(r.KeyPaths) > 0, len(r.KeyData) > 0, len(r.KeyDatas) > 0, r.Fulcio != nil, r.PKI != nil} {
			if given {
				keys++
			}
		}
		switch r.Type {
		case Accept, Reject:
			if keys > 0 || r.Identity != nil {
				return fmt.Errorf("%s has no keys", r.Type)
			}
		case SignedBy, SigstoreSigned:
			if keys != 1 {
				return fmt.Errorf("%s: want one of keyPath, keyPaths, keyData and keyDatas", r.Type)
			}
			if err := r.Identity.check(); err != nil {
				return err
			}
		default:
			return fmt.Errorf("unknown type %q", r.Type)
		}
	}
	return nil
}

// For are the requirements for an image of a registry, with the scope that they are
// of.
func (p *Policy) For(ref image.Reference) ([]Requirement, string) {
	docker := p.Transports["docker"]
	for _, scope := range scopes(ref.Complete()) {
		if list, ok := docker[scope]; ok {
			if scope == "" {
				scope = "docker:"
			}
			return list, scope
		}
	}
	return p.Default, "default"
}

// Archive says whether an archive at a path may be read; transport is
// docker-archive, oci-archive, oci or dir. Signatures are of registries only.
func (p *Policy) Archive(transport, path string) error {
	list, scope := p.Default, "default"
	scopes := p.Transports[transport]
	for at := path; ; at = filepath.Dir(at) {
		key := at
		if at == "/" || at == "." || path == "" {
			key = ""
		}
		if found, ok := scopes[key]; ok {
			list, scope = found, transport+":"+key
			break
		}
		if key == "" {
			break
		}
	}
	for _, r := range list {
		if r.Type != Accept {
			return fmt.Errorf("%w: %s says %s for %s", ErrRejected, p.path, r.Type, scope)
		}
	}
	return nil
}

// scopes are the names under which requirements for an image may stand, the most
// specific first.
func scopes(ref image.Reference) []string {
	out := []string{ref.String()}
	name := ref.Name()
	for {
		out = append(out, name)
		at := strings.LastIndexByte(name, '/')
		if at < 0 {
			break
		}
		name = name[:at]
	}
	host, _, _ := strings.Cut(name, ":")
	for {
		_, rest, ok := strings.Cut(host, ".")
		if !ok {
			break
		}
		host = rest
		out = append(out, "*."+host)
	}
	return append(out, "")
}

// Rejects says, before anything is asked of the registry, that an image cannot be
// let in whatever its signatures: nil if it may be.
func (p *Policy) Rejects(ref image.Reference) error {
	list, scope := p.For(ref)
	for i := range list {
		r := &list[i]
		reason := ""
		switch {
		case r.Type == Reject:
			reason = "it says reject"
		case r.Type == SignedBy:
			reason = "it wants a signature of GnuPG (signedBy), which moss does not check; sigstoreSigned has keys without it"
		case r.Fulcio != nil || r.PKI != nil || r.RekorPublicKeyPath != "" || len(r.RekorPublicKeyPaths)+len(r.RekorPublicKeyData)+len(r.RekorPublicKeyDatas) > 0:
			reason = "it wants a certificate or a log of signatures (fulcio, pki, rekor), which moss does not check; keyPath names a key"
		}
		if reason != "" {
			return fmt.Errorf("%w: %s, for %s: %s", ErrRejected, p.path, scope, reason)
		}
	}
	return nil
}

// WantsSignature says whether an image must be signed.
func (p *Policy) WantsSignature(ref image.Reference) bool {
	list, _ := p.For(ref)
	return slices.ContainsFunc(list, func(r Requirement) bool { return r.Type == SigstoreSigned })
}
