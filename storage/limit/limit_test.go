package limit

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
)

// packed is an archive of the headers; each file has as many bytes as it says.
func packed(t testing.TB, headers ...*tar.Header) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Mode == 0 && h.Typeflag != tar.TypeXGlobalHeader {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		io.CopyN(w, rand.NewChaCha8([32]byte{}), h.Size)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func ordinary(t testing.TB) []byte {
	return packed(t,
		&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "x"}},
		&tar.Header{Name: "d/", Typeflag: tar.TypeDir},
		&tar.Header{Name: "d/empty", Typeflag: tar.TypeReg},
		&tar.Header{Name: "d/" + strings.Repeat("long/", 60) + "x", Typeflag: tar.TypeReg, Size: 511},
		&tar.Header{Name: "block", Typeflag: tar.TypeReg, Size: 512},
		&tar.Header{Name: "xattr", Typeflag: tar.TypeReg, Size: 70_000, PAXRecords: map[string]string{"SCHILY.xattr.user.a": strings.Repeat("v", 3000)}},
		&tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/../../etc"},
		&tar.Header{Name: "h", Typeflag: tar.TypeLink, Linkname: "./block"},
		&tar.Header{Name: "f", Typeflag: tar.TypeFifo},
	)
}

func TestReader(t *testing.T) {
	plain := ordinary(t)
	streams := map[string][]byte{
		"ordinary": plain, "trailing": append(bytes.Clone(plain), make([]byte, 9000)...), "empty": nil, "zeros": make([]byte, 10240),
		// Nothing after the last member, not even what fills its block.
		"cut": packed(t, &tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: 5})[:517],
	}
	if out, err := sparse(t); err == nil {
		streams["sparse"] = out
	}
	for name, in := range streams {
		for _, reader := range []io.Reader{bytes.NewReader(in), iotest.OneByteReader(bytes.NewReader(in)), iotest.DataErrReader(bytes.NewReader(in))} {
			r := NewReader(reader, NewJudge(Limits{}, ""))
			out, err := io.ReadAll(r)
			if err != nil || r.Err() != nil {
				t.Errorf("%s: %v, %v", name, err, r.Err())
			}
			if !bytes.Equal(in, out) {
				t.Errorf("%s: %d bytes come out of %d", name, len(out), len(in))
			}
		}
	}
}

// sparse is an archive of GNU tar's with holes.
func sparse(t *testing.T) ([]byte, error) {
	dir := t.TempDir()
	if err := exec.Command("truncate", "-s", "1M", dir+"/x").Run(); err != nil {
		return nil, err
	}
	return exec.Command("sh", "-c", "cd "+dir+"; printf x | dd of=x bs=1 seek=500000 conv=notrunc status=none; cp x y; tar cS --format=posix x; ").Output()
}

func TestRefused(t *testing.T) {
	few := Limits{Size: 1000, Files: 20, Depth: 3}
	var many []*tar.Header
	for n := range 30 {
		many = append(many, &tar.Header{Name: fmt.Sprint(n), Typeflag: tar.TypeReg})
	}
	head := bytes.Repeat(packed(t, &tar.Header{Name: "x", Typeflag: tar.TypeReg, PAXRecords: map[string]string{"a": strings.Repeat("b", 500_000)}})[:500_000&^511+1024], 10)
	for _, test := range []struct {
		want string
		data []byte
	}{
		{`"../x": it leads out`, packed(t, &tar.Header{Name: "../x", Typeflag: tar.TypeReg})},
		{`"a/../../x": it leads out`, packed(t, &tar.Header{Name: "a/../../x", Typeflag: tar.TypeReg})},
		{`link to "../../x": it leads out`, packed(t, &tar.Header{Name: "x", Typeflag: tar.TypeLink, Linkname: "../../x"})},
		{"has 256 bytes", packed(t, &tar.Header{Name: strings.Repeat("x", 256), Typeflag: tar.TypeReg})},
		{"has 5000 bytes", packed(t, &tar.Header{Name: strings.Repeat("x/", 2500), Typeflag: tar.TypeDir})},
		{`links to a name of 5000 bytes`, packed(t, &tar.Header{Name: "x", Typeflag: tar.TypeSymlink, Linkname: strings.Repeat("x/", 2500)})},
		{"more than 1000 bytes (unpack_max_size", packed(t, &tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: 600}, &tar.Header{Name: "y", Typeflag: tar.TypeReg, Size: 600})},
		{"more than 20 files", packed(t, many...)},
		{"in more than 3 directories (unpack_max_depth", packed(t, &tar.Header{Name: "a/b/c/d", Typeflag: tar.TypeReg})},
		{"follows the end", append(packed(t), make([]byte, 5000)...)},
		{"not a tar file", bytes.Repeat([]byte("x"), 2000)},
		{"unexpected EOF", packed(t, &tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: 900})[:600]},
		{"a header of more than", head},
	} {
		r := NewReader(bytes.NewReader(test.data), NewJudge(few, ""))
		out, err := io.ReadAll(r)
		if err == nil || err != r.Err() || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, %v", test.want, err, r.Err())
		}
		if !bytes.HasPrefix(test.data, out) {
			t.Errorf("%q: other bytes come out", test.want)
		}
	}
}

func TestWindow(t *testing.T) {
	plain := bytes.Repeat(ordinary(t), 4)
	small, large := &bytes.Buffer{}, &bytes.Buffer{}
	for out, window := range map[*bytes.Buffer]int{small: 1 << 20, large: 64 << 20} {
		for range 2 { // two frames
			w, err := zstd.NewWriter(out, zstd.WithWindowSize(window), zstd.WithSingleSegment(false))
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(w, io.MultiReader(bytes.NewReader(plain)))
			w.Close()
			out.WriteString("\x51\x2a\x4d\x18\x03\x00\x00\x00abc")
		}
	}
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	z.Write(plain)
	z.Close()
	xz := func(args ...string) []byte {
		c := exec.Command("xz", append(args, "-c")...)
		c.Stdin = bytes.NewReader(plain)
		out, err := c.Output()
		if err != nil {
			t.Fatalf("xz, of xz-utils: %v", err)
		}
		return out
	}
	// More to look back to than memory is given, of a window that is larger yet.
	var long bytes.Buffer
	wide, err := zstd.NewWriter(&long, zstd.WithWindowSize(64<<20), zstd.WithSingleSegment(false))
	if err != nil {
		t.Fatal(err)
	}
	io.CopyN(wide, strings.NewReader(strings.Repeat("a line of text\n", 3<<20)), 40<<20)
	wide.Close()
	blocks := xz("-0", "--block-size=100000", "--x86", "--lzma2=preset=0")
	for name, test := range map[string]struct {
		data []byte
		ok   bool
	}{
		"zstd": {small.Bytes(), true}, "large zstd": {large.Bytes(), false}, "small, then large zstd": {slices.Concat(small.Bytes(), large.Bytes()), false},
		"xz": {slices.Concat(blocks, make([]byte, 4), xz("-6")), true}, "xz -9": {xz("-9"), true}, "small, then large xz": {slices.Concat(blocks, xz("-9")), true}, "two large ones": {slices.Concat(xz("-9"), xz("-9")), false},
		"zstd of much": {long.Bytes(), false},
		"gzip":         {gz.Bytes(), true}, "plain": {plain, true}, "short": {[]byte("x"), true}, "cut": {small.Bytes()[:7], true}, "none": {nil, true},
	} {
		for _, reader := range []io.Reader{bytes.NewReader(test.data), iotest.OneByteReader(bytes.NewReader(test.data))} {
			w := NewWindow(reader, Limits{})
			out, err := io.ReadAll(w)
			if (err == nil) != test.ok || (w.Err() == nil) != test.ok {
				t.Errorf("%s: %v", name, err)
			}
			if test.ok && !bytes.Equal(out, test.data) {
				t.Errorf("%s: %d bytes come out of %d", name, len(out), len(test.data))
			}
		}
	}
}

func TestJSON(t *testing.T) {
	var v any
	for text, want := range map[string]string{
		`{"a":[1,"{[,\"{["]}`: "", `{"a":`: "unexpected end",
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000): "64 deep",
		`[{}` + strings.Repeat(",{}", 100_000) + `]`:          "50000 values",
	} {
		err := JSON([]byte(text), &v)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.20s: %v", text, err)
		}
	}
}

func TestObjects(t *testing.T) {
	var v struct{ A []struct{} }
	list := func(n int) []byte { return []byte(`{"a":[{}` + strings.Repeat(",{}", n-1) + "]}") }
	if err := Objects(list(100), &v, 102); err != nil || len(v.A) != 100 {
		t.Errorf("%d, %v", len(v.A), err)
	}
	if err := Objects(list(101), &v, 102); err == nil || !strings.Contains(err.Error(), "102 objects") {
		t.Error(err)
	}
}

// TestJudgeLooksAtSpace: what does not fit on the disk is refused before it is written.
func TestJudgeLooksAtSpace(t *testing.T) {
	j := NewJudge(Limits{Size: 1 << 61}, t.TempDir())
	if err := j.Bytes(1 << 20); err != nil {
		t.Error(err)
	}
	if err := j.Bytes(1 << 60); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Error(err)
	}
}

func TestSpace(t *testing.T) {
	if err := Space(t.TempDir(), 1); err != nil {
		t.Error(err)
	}
	if err := Space(t.TempDir(), 1<<60); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Error(err)
	}
	var e *Error
	if err := NewJudge(Limits{}, "").Bytes(DefaultSize + 1); !errors.As(err, &e) || e.Key != "unpack_max_size" {
		t.Error(err)
	}
}
