package registry

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"moss/storage/image"
	"moss/test/hostile"
)

// documents are those of the hostile corpus.
func documents(f *testing.F) {
	for _, i := range hostile.OCIImages() {
		for _, file := range i.Files("/canary") {
			if len(file.Data) < 4<<10 && json.Valid(file.Data) {
				f.Add(file.Data)
			}
		}
	}
}

// FuzzManifest: what is accepted names what it consists of by digests that can be a
// part of a path, and has no impossible sizes.
func FuzzManifest(f *testing.F) {
	documents(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := ParseManifest(data)
		if err != nil {
			return
		}
		for _, l := range append(m.Layers, m.Config) {
			if l.Digest.Validate() != nil || len(l.Digest.Encoded()) != 64 || l.Size < 0 {
				t.Fatalf("%+v", l)
			}
		}
	})
}

// FuzzConfig: every layer has a digest.
func FuzzConfig(f *testing.F) {
	documents(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		for layers := range 3 {
			_, ids, err := ParseConfig(data, layers)
			if err != nil {
				continue
			}
			if len(ids) != layers {
				t.Fatalf("%d of %d", len(ids), layers)
			}
			for _, id := range ids {
				if id.Validate() != nil || len(id.Encoded()) != 64 {
					t.Fatalf("%q", id)
				}
			}
		}
	})
}

// FuzzChoose: what is chosen of an index can be asked for.
func FuzzChoose(f *testing.F) {
	documents(f)
	f.Add([]byte(`{"manifests":[{"digest":"sha256:1","platform":{"os":"linux","architecture":"arm","variant":"v7"}},{"platform":null}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if d, err := Choose(data, image.HostPlatform()); err == nil && (d.Digest.Validate() != nil || d.Size < 0) {
			t.Fatalf("%+v", d)
		}
	})
}

// FuzzLogins: whatever stands in a file of credentials, asking for one of them ends.
func FuzzLogins(f *testing.F) {
	for _, file := range []string{
		`{"auths":{"example.com":{"auth":"dTpw"}}}`, `{"auths":{"example.com/a/b":{"auth":"dTpw","identitytoken":"t"}},"credHelpers":{"x":""}}`,
		`{"credsStore":"","auths":{"":{}}}`, `{"auths":{"example.com":{"auth":"!"}}}`, `[]`, `{"auths":null}`, `{`, ``, "\x00",
	} {
		f.Add([]byte(file), "example.com/a")
	}
	f.Add([]byte(`{}`), "https://example.com/v1/")
	path := filepath.Join(f.TempDir(), "auth.json")
	f.Setenv("PATH", f.TempDir()) // no helper is there to be asked
	f.Fuzz(func(t *testing.T, data []byte, arg string) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := NewLogins(Access{AuthFile: path}, "")
		if err != nil {
			return
		}
		key, err := l.Key(arg)
		if err != nil {
			return
		}
		l.User(key)
	})
}
