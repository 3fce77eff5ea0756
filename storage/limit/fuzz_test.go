package limit

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"path"
	"strings"
	"testing"

	"moss/test/hostile"
)

// seeds are the archives of the hostile corpus.
func seeds(f *testing.F, packed bool) {
	for _, a := range hostile.Archives() {
		if data := a.Seed(packed); data != nil && (a.Pack != nil || !packed) {
			f.Add(data)
		}
	}
}

// FuzzReader: what comes out is what went in, up to the member that is refused; whoever
// reads it finds the members that were judged, and none of them leads out.
func FuzzReader(f *testing.F) {
	seeds(f, false)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data), NewJudge(Limits{Size: 1 << 24, Files: 1000}, ""))
		out, err := io.ReadAll(r)
		if !bytes.HasPrefix(data, out) {
			t.Fatal("other bytes come out")
		}
		if err == nil && len(out) != len(data) {
			t.Fatalf("%d of %d bytes come out, and no error", len(out), len(data))
		}
		for in := tar.NewReader(bytes.NewReader(out)); ; {
			h, err := in.Next()
			if err != nil {
				break
			}
			if clean := path.Clean(h.Name); h.Typeflag != tar.TypeXGlobalHeader && (clean == ".." || strings.HasPrefix(clean, "../")) {
				t.Fatalf("%q was let through", h.Name)
			}
			if h.Size > 1<<24 {
				t.Fatalf("%q of %d bytes was let through", h.Name, h.Size)
			}
		}
	})
}

// FuzzWindow: what comes out is what went in.
func FuzzWindow(f *testing.F) {
	seeds(f, true)
	f.Fuzz(func(t *testing.T, data []byte) {
		w := NewWindow(bytes.NewReader(data), Limits{})
		out, err := io.ReadAll(w)
		if !bytes.HasPrefix(data, out) || err == nil && len(out) != len(data) || err != w.Err() {
			t.Fatalf("%d of %d bytes come out: %v, %v", len(out), len(data), err, w.Err())
		}
	})
}

// FuzzJSON: a document that is accepted is what encoding/json says.
func FuzzJSON(f *testing.F) {
	for _, images := range [][]hostile.Image{hostile.DockerImages(), hostile.OCIImages()} {
		for _, i := range images {
			for _, file := range i.Files("/canary") {
				if len(file.Data) < 4<<10 {
					f.Add(file.Data)
				}
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var ours, theirs any
		err, want := JSON(data, &ours), json.Unmarshal(data, &theirs)
		if err == nil && want != nil || err != nil && want == nil && !strings.Contains(err.Error(), "values") {
			t.Fatalf("%v, encoding/json says %v", err, want)
		}
	})
}
