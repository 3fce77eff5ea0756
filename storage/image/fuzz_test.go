package image

import (
	"reflect"
	"strings"
	"testing"
)

// FuzzParse: what is accepted is short, has nothing that a terminal or a path would
// obey, and is the same again when it is written and read.
func FuzzParse(f *testing.F) {
	for _, ref := range []string{
		"busybox", "docker.io/library/busybox:1.36", "localhost:5000/a/b@sha256:" + strings.Repeat("a", 64), "[::1]:5000/x", "a__b.c-d/e:T",
		"../x", "a/../b", "a//b", "a:b:c", "x@sha256:12", "docker://x", ":", "@", "/", "a\n", "\x00", strings.Repeat("a/", 200), "Ä",
	} {
		f.Add(ref)
	}
	f.Fuzz(func(t *testing.T, ref string) {
		r, err := Parse(ref)
		if err != nil {
			if len(err.Error()) > 1000 || strings.ContainsAny(err.Error(), "\n\x00\x1b") {
				t.Fatalf("%.200q", err.Error())
			}
			return
		}
		text := r.String()
		if again, err := Parse(text); err != nil || again != r {
			t.Fatalf("%q becomes %q: %+v, %+v, %v", ref, text, r, again, err)
		}
		for part := range strings.SplitSeq(r.Repository, "/") {
			if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\n\\ ") {
				t.Fatalf("%q has the part %q", ref, part)
			}
		}
		full, err := Normalize(ref)
		if err != nil {
			t.Fatalf("%q: %v", ref, err)
		}
		if again, err := Normalize(full); err != nil || again != full {
			t.Fatalf("%q becomes %q, and then %q: %v", ref, full, again, err)
		}
	})
}

// FuzzIndex: an index that can be read is the same again when it is written.
func FuzzIndex(f *testing.F) {
	idx := Index{}
	f.Add(string(idx.encode()))
	idx = Index{Stores: []StoreState{{Path: "/a"}}, Images: []Entry{{ID: "1", Names: []string{"a", "b"}, Digests: []string{"c"}, Stamp: "s"}}}
	f.Add(string(idx.encode()))
	f.Fuzz(func(t *testing.T, data string) {
		got, err := decode(data)
		if err != nil {
			return
		}
		if again, err := decode(string(got.encode())); err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%q: %+v, %+v, %v", data, got, again, err)
		}
	})
}
