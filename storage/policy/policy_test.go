package policy

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"moss/storage/image"
)

func parseRef(t *testing.T, s string) image.Reference {
	t.Helper()
	r, err := image.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return r.Complete()
}

// The most specific scope counts, down from the tag to the domain and the default.
func TestScopes(t *testing.T) {
	p, err := parse([]byte(`{"default": [{"type": "reject"}], "transports": {"docker": {
		"docker.io/library/busybox:latest": [{"type": "insecureAcceptAnything"}],
		"registry.example.com:5000/team": [{"type": "insecureAcceptAnything"}],
		"registry.example.com:5000/team/secret": [{"type": "reject"}],
		"*.example.org": [{"type": "insecureAcceptAnything"}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	for name, allowed := range map[string]bool{
		"busybox": true, "busybox:1": false, "docker.io/library/busybox": true,
		"registry.example.com:5000/team/app:1": true, "registry.example.com:5000/team": true,
		"registry.example.com:5000/teams": false, "registry.example.com:5000/team/secret:x": false,
		"registry.example.com:5000/team/secrets": true, "registry.example.com/team/app": false,
		"a.example.org/x": true, "b.a.example.org:5000/x": true, "example.org/x": false, "badexample.org/x": false,
	} {
		err := p.Rejects(parseRef(t, name))
		if allowed != (err == nil) || err != nil && !errors.Is(err, ErrRejected) {
			t.Errorf("%s: %v, want allowed %v", name, err, allowed)
		}
	}
}

// What is not understood lets nothing in.
func TestStrict(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{}`, `{"default": []}`, `{"default": [{"type": "accept"}]}`, `{"default": [{}]}`,
		`{"default": [{"type": "reject"}], "Default": [{"type": "insecureAcceptAnything"}]}`,
		`{"default": [{"type": "reject"}], "default": [{"type": "insecureAcceptAnything"}]}`,
		`{"default": [{"type": "insecureAcceptAnything"}], "more": 1}`, `{"default": [{"type": "insecureAcceptAnything"}]} {}`,
		`{"default": [{"type": "insecureAcceptAnything", "keyPath": "/x"}]}`,
		`{"default": [{"type": "sigstoreSigned"}]}`, `{"default": [{"type": "sigstoreSigned", "keyPath": "/x", "keyData": "eA=="}]}`,
		`{"default": [{"type": "sigstoreSigned", "keyPath": "/x", "signedIdentity": {"type": "any"}}]}`,
		`{"default": [{"type": "sigstoreSigned", "keyPath": "/x", "signedIdentity": {"type": "exactReference"}}]}`,
		`{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"x": []}}}`,
		`{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"x": [{"type": "reject"}], "x": [{"type": "insecureAcceptAnything"}]}}}`,
	} {
		if _, err := parse([]byte(text)); err == nil {
			t.Errorf("accepted: %s", text)
		}
	}
	if _, err := parse([]byte(`{"default": [{"type": "insecureAcceptAnything"}], "transports": {"docker": {"a/B": [{"type": "reject"}], "a/b": [{"type": "reject"}]}}}`)); err != nil {
		t.Errorf("scopes that differ in case: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	sum := "@sha256:" + strings.Repeat("a", 64)
	remap := &Identity{Type: "remapIdentity", Prefix: "mirror.example/hub", SignedPrefix: "docker.io"}
	for _, c := range []struct {
		id          *Identity
		signed, ref string
		want        bool
	}{
		{nil, "r.example/a:1", "r.example/a:1", true},
		{nil, "r.example/a:1", "r.example/a:2", false},
		{nil, "r.example/a", "r.example/a:latest", false},
		{nil, "r.example/a:1", "r.example/a" + sum, true},
		{nil, "r.example/b:1", "r.example/a" + sum, false},
		{nil, "busybox:latest", "docker.io/library/busybox", true},
		{nil, "not a name", "r.example/a:1", false},
		{&Identity{Type: "matchExact"}, "r.example/a:1", "r.example/a" + sum, false},
		{&Identity{Type: "matchRepository"}, "r.example/a", "r.example/a:1", true},
		{&Identity{Type: "matchRepository"}, "r.example/ab", "r.example/a:1", false},
		{&Identity{Type: "exactReference", DockerReference: "x.example/y:1"}, "x.example/y:1", "r.example/a:1", true},
		{&Identity{Type: "exactReference", DockerReference: "x.example/y:1"}, "x.example/y:2", "r.example/a:1", false},
		{&Identity{Type: "exactRepository", DockerRepository: "x.example/y"}, "x.example/y:2", "r.example/a:1", true},
		{remap, "docker.io/library/busybox:1", "mirror.example/hub/library/busybox:1", true},
		{remap, "docker.io/library/busybox:1", "mirror.example/hubs/library/busybox:1", false},
		{remap, "r.example/a:1", "r.example/a:1", true},
	} {
		if got := c.id.matches(c.signed, parseRef(t, c.ref)); got != c.want {
			t.Errorf("%+v: signed %q, image %q: %v", c.id, c.signed, c.ref, got)
		}
	}
}

// A signature is good for one key, one name, one image and one content.
func TestSignature(t *testing.T) {
	dir := t.TempDir()
	if err := NewKey(filepath.Join(dir, "ec"), []byte("open")); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadKey(filepath.Join(dir, "ec.private"), []byte("shut")); !errors.Is(err, errPassphrase) {
		t.Errorf("wrong passphrase: %v", err)
	}
	ec, err := LoadKey(filepath.Join(dir, "ec.private"), []byte("open"))
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ref := parseRef(t, "r.example/a:1")
	digest, other := "sha256:"+strings.Repeat("a", 64), "sha256:"+strings.Repeat("b", 64)
	for _, key := range []crypto.Signer{ec, ed, rs} {
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		p := &Policy{Default: []Requirement{{Type: SigstoreSigned, KeyData: pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})}}}
		s, err := Sign(key, ref.String(), digest, "test")
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Check(ref, []string{digest}, []Signature{s}); err != nil {
			t.Errorf("%T: %v", key, err)
		}
		changed := Signature{[]byte(strings.Replace(string(s.Payload), digest, other, 1)), s.Base64}
		for why, err := range map[string]error{
			"another image":   p.Check(ref, []string{other}, []Signature{s}),
			"another name":    p.Check(parseRef(t, "r.example/a:2"), []string{digest}, []Signature{s}),
			"changed":         p.Check(ref, []string{other}, []Signature{changed}),
			"no signature":    p.Check(ref, []string{digest}, nil),
			"empty signature": p.Check(ref, []string{digest}, []Signature{{s.Payload, ""}}),
		} {
			if !errors.Is(err, ErrRejected) {
				t.Errorf("%T: %s: %v", key, why, err)
			}
		}
	}
}

// Set keeps what others say, and a policy is in one piece.
func TestSet(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.json")
	for _, step := range [][2]string{{"docker.io", Reject}, {"default", "accept"}, {"*.example.org", Reject}, {"docker.io/library/busybox:1", "accept"}} {
		if err := Set(path, step[0], step[1], nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, scope := range []string{"Not a name", "library/busybox", "docker.io/", "https://docker.io", ""} {
		if err := Set(path, scope, Reject, nil); err == nil {
			t.Errorf("scope %q is accepted", scope)
		}
	}
	p, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(p.Entries()); n != 4 {
		t.Errorf("%d entries", n)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Set(path, "default", Reject, nil); err == nil {
		t.Error("a damaged policy is written over")
	}
}
