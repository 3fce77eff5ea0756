package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var idA, idB, idC = strings.Repeat("a1", 32), strings.Repeat("b2", 32), "a1b" + strings.Repeat("0", 61)

func testIndex(t testing.TB, entries ...Entry) *Images {
	t.Helper()
	root := t.TempDir()
	store := filepath.Join(root, "images.json")
	if err := os.WriteFile(store, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Update(root, []StoreState{StatStore(store)}, entries, func(e Entry) (*Image, error) {
		return &Image{ID: e.ID, Names: e.Names, Digests: e.Digests}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return Open(root)
}

// What a user types finds the image that podman would take.
func TestLookup(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0d", 32)
	im := testIndex(t,
		Entry{ID: idA, Names: []string{"docker.io/library/busybox:latest", "quay.io/x/tool:1"}, Digests: []string{digest}},
		Entry{ID: idB, Names: []string{"localhost/busybox:latest", "docker.io/me/tool:2"}},
		Entry{ID: idC, Names: []string{"localhost:5000/deb:12", "quay.io/y/tool:1", "ghcr.io/only/one:latest"}},
	)
	for ref, want := range map[string]string{
		"busybox":                   idB, // localhost first
		"docker.io/busybox":         idA,
		"docker.io/library/busybox": idA,
		"index.docker.io/busybox":   idA,
		"busybox:latest":            idB,
		"me/tool:2":                 idB,
		"localhost:5000/deb:12":     idC,
		"deb:12":                    idC,
		"one":                       idC,
		"only/one":                  idC,
		"busybox@" + digest:         idA,
		"quay.io/x/tool@" + digest:  idA,
		idA:                         idA,
		"sha256:" + idA:             idA,
		"b2b2":                      idB,
		"sha256:b2b":                idB,
		"a1a":                       idA,
	} {
		got, err := im.Lookup(ref)
		if err != nil || got.ID != want {
			t.Errorf("Lookup(%q) = %v, %v; want %.6s", ref, got, err, want)
		}
	}
	for ref, want := range map[string]error{
		"nosuch": ErrNotFound, "busybox:1": ErrNotFound, "usybox": ErrNotFound, "b2": ErrNotFound,
		"fff": ErrNotFound, "ghcr.io/x/tool:1": ErrNotFound, strings.Repeat("0", 64): ErrNotFound,
		"busybox@sha256:" + strings.Repeat("11", 32): ErrNotFound,
		"tool:1": ErrAmbiguous, "a1": ErrNotFound, "Busybox": ErrInvalid, "a b": ErrInvalid, "": ErrInvalid,
		"x@sha256:12": ErrInvalid, "../x": ErrInvalid,
	} {
		if got, err := im.Lookup(ref); !errors.Is(err, want) {
			t.Errorf("Lookup(%q) = %v, %v; want %v", ref, got, err, want)
		}
	}
	if _, name, err := im.Resolve("one"); err != nil || name != "ghcr.io/only/one:latest" {
		t.Errorf("Resolve: %q, %v", name, err)
	}
}

func TestNormalize(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0d", 32)
	for ref, want := range map[string]string{
		"busybox":              "docker.io/library/busybox:latest",
		"me/x:1":               "docker.io/me/x:1",
		"docker.io/busybox":    "docker.io/library/busybox:latest",
		"docker://quay.io/a/b": "quay.io/a/b:latest",
		"localhost/x":          "localhost/x:latest",
		"localhost:5000/x":     "localhost:5000/x:latest",
		"[::1]:5000/x":         "[::1]:5000/x:latest",
		"x:1@" + digest:        "docker.io/library/x@" + digest,
		"a__b/c-d--e/f.g":      "docker.io/a__b/c-d--e/f.g:latest",
	} {
		if got, err := Normalize(ref); err != nil || got != want {
			t.Errorf("Normalize(%q) = %q, %v; want %q", ref, got, err, want)
		}
	}
	for _, ref := range []string{"", ":1", "a//b", "a_-b", "-a", "a.", "x:-1", "x:" + strings.Repeat("t", 129),
		"UPPER", "x@md5:1", "a/b@sha256:" + strings.Repeat("G", 64), strings.Repeat("a", 64), "host:/x", "h!st.io/x", "x\n"} {
		if got, err := Normalize(ref); !errors.Is(err, ErrInvalid) {
			t.Errorf("Normalize(%q) = %q, %v", ref, got, err)
		}
	}
	if got, err := NormalizeLocal("x"); err != nil || got != "localhost/x:latest" {
		t.Errorf("NormalizeLocal: %q, %v", got, err)
	}
}

// The index is fresh until a store changes.
func TestFresh(t *testing.T) {
	im := testIndex(t, Entry{ID: idA, Names: []string{"localhost/x:latest"}})
	if !im.Fresh() {
		t.Error("a new index is not fresh")
	}
	store := filepath.Join(im.root, "images.json")
	if err := os.WriteFile(store, []byte("{ }"), 0o600); err != nil {
		t.Fatal(err)
	}
	if im.Fresh() {
		t.Error("the index is fresh though the store has changed")
	}
	if Open(t.TempDir()).Fresh() {
		t.Error("an index that is not there is fresh")
	}
}

// Only what changed is written again, and what is gone goes.
func TestUpdate(t *testing.T) {
	im := testIndex(t, Entry{ID: idA, Stamp: "1"}, Entry{ID: idB, Stamp: "1"}, Entry{ID: idC, Stamp: "1"})
	var built []string
	err := Update(im.root, nil, []Entry{{ID: idA, Stamp: "1"}, {ID: idB, Stamp: "2"}}, func(e Entry) (*Image, error) {
		built = append(built, e.ID)
		return &Image{ID: e.ID, Author: "new"}, nil
	})
	if err != nil || len(built) != 1 || built[0] != idB {
		t.Fatalf("built %v, %v", built, err)
	}
	all, err := im.List()
	if err != nil || len(all) != 2 {
		t.Errorf("List: %v, %v", all, err)
	}
	if _, err := os.Stat(filepath.Join(im.dir, idC+".json")); err == nil {
		t.Error("the record of a removed image is still there")
	}
}

func TestPlatform(t *testing.T) {
	for _, c := range []struct {
		want, have string
		rank       int
	}{
		{"linux/amd64", "linux/amd64", 2}, {"amd64", "linux/amd64", 2}, {"linux/x86_64", "linux/amd64", 2},
		{"linux/amd64", "linux/arm64", 0}, {"linux/arm64", "linux/arm64/v8", 2}, {"linux/arm/v7", "linux/arm/v6", 1},
		{"linux/arm/v6", "linux/arm/v7", 0}, {"linux/amd64/v3", "linux/amd64", 1}, {"linux/amd64", "windows/amd64", 0},
		{"linux/amd64", "linux/amd64/v3", 0},
	} {
		want, err := ParsePlatform(c.want)
		have, err2 := ParsePlatform(c.have)
		if err != nil || err2 != nil || want.Rank(have) != c.rank {
			t.Errorf("%s on %s: %d, %v; want %d", c.have, c.want, want.Rank(have), err, c.rank)
		}
	}
	for _, s := range []string{"linux/", "a/b/c/d", "/"} {
		if _, err := ParsePlatform(s); err == nil {
			t.Errorf("ParsePlatform(%q) takes it", s)
		}
	}
}

// BenchmarkLookup is what one run pays, in a store of 100 images.
func BenchmarkLookup(b *testing.B) {
	var entries []Entry
	for n := range 100 {
		id := fmt.Sprintf("%064x", n)
		entries = append(entries, Entry{ID: id, Names: []string{fmt.Sprintf("docker.io/library/image%d:latest", n)},
			Digests: []string{"sha256:" + id}, Stamp: "0123456789abcdef"})
	}
	root := testIndex(b, entries...).root
	for b.Loop() {
		im := Open(root)
		if !im.Fresh() {
			b.Fatal("not fresh")
		}
		if _, err := im.Lookup("image50"); err != nil {
			b.Fatal(err)
		}
	}
}
