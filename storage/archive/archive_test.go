package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/registry"
	"moss/storage/storagetest"
)

func TestMain(m *testing.M) { storagetest.Main(m) }

var quiet = &registry.Progress{}

type entry struct {
	tar.Header
	data string
}

func file(name, data string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, data}
}

func makeTar(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		e.Size = int64(len(e.data))
		e.ModTime = time.Unix(1e9, 0)
		if err := w.WriteHeader(&e.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func configFor(t *testing.T, layers ...[]byte) []byte {
	t.Helper()
	created := time.Unix(1e9, 0).UTC()
	spec := imagespec.Image{Created: &created, Platform: imagespec.Platform{OS: "linux", Architecture: image.HostPlatform().Arch}}
	spec.RootFS.Type = "layers"
	for _, l := range layers {
		spec.RootFS.DiffIDs = append(spec.RootFS.DiffIDs, digest.FromBytes(l))
	}
	data, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// dockerSave makes what docker save made before version 25: a directory for each
// layer, equal layers as links.
func dockerSave(t *testing.T, tags ...string) (archive []byte, id string) {
	t.Helper()
	layer := makeTar(t, file("hello", "hello"))
	top := makeTar(t, file("top", "top"))
	config := configFor(t, layer, layer, top)
	id = digest.FromBytes(config).Encoded()
	items, err := json.Marshal([]dockerItem{{Config: id + ".json", RepoTags: tags, Layers: []string{"a/layer.tar", "b/layer.tar", "c/layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	return makeTar(t,
		file("a/layer.tar", string(layer)),
		entry{tar.Header{Name: "b/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../a/layer.tar"}, ""},
		file("c/layer.tar", string(top)),
		file(id+".json", string(config)), file("manifest.json", string(items)),
	), id
}

func write(t *testing.T, data []byte) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "archive")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return reopen(t, path)
}

func reopen(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func load(t *testing.T, store *storage.Store, f *os.File) []Loaded {
	t.Helper()
	loaded, err := Load(store, f, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// Docker's archives are read plain, compressed, and from a pipe.
func TestLoadDocker(t *testing.T) {
	data, id := dockerSave(t, "busybox:1", "quay.io/x/y:z")
	want := []Loaded{{id, []string{"docker.io/library/busybox:1", "quay.io/x/y:z"}}}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	z.Write(data)
	z.Close()

	t.Run("plain", func(t *testing.T) {
		store, _ := storagetest.Open(t)
		if got := load(t, store, write(t, data)); !reflect.DeepEqual(got, want) {
			t.Errorf("loaded %v", got)
		}
		all := storagetest.Images(t, store)
		if len(all) != 1 || len(all[0].Lower) != 3 {
			t.Fatalf("the store has %+v", all)
		}
		if data, err := os.ReadFile(filepath.Join(all[0].Lower[0], "top")); err != nil || string(data) != "top" {
			t.Errorf("the top layer holds %q, %v", data, err)
		}
	})
	t.Run("gzip", func(t *testing.T) {
		store, _ := storagetest.Open(t)
		if got := load(t, store, write(t, packed.Bytes())); !reflect.DeepEqual(got, want) {
			t.Errorf("loaded %v", got)
		}
	})
	t.Run("pipe", func(t *testing.T) {
		store, _ := storagetest.Open(t)
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		go func() {
			w.Write(data)
			w.Close()
		}()
		if got := load(t, store, r); !reflect.DeepEqual(got, want) {
			t.Errorf("loaded %v", got)
		}
	})
}

// What is saved in any format loads as the same image, under the same name.
func TestSaveAndLoad(t *testing.T) {
	store, _ := storagetest.Open(t)
	data, id := dockerSave(t, "busybox:1", "other:2")
	load(t, store, write(t, data))
	img := storagetest.Images(t, store)[0]
	for _, format := range []string{DockerArchive, OCIArchive, OCIDir, DockerDir} {
		t.Run(format, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			saved := []Saved{{Image: img, Names: []string{"docker.io/library/busybox:1"}}}
			if err := Save(store, saved, SaveOptions{Format: format, Output: out}, nil, quiet); err != nil {
				t.Fatal(err)
			}
			other, _ := storagetest.Open(t)
			got := load(t, other, reopen(t, out))
			want := []Loaded{{id, []string{"docker.io/library/busybox:1"}}}
			if format == DockerDir { // has no place for names
				want[0].Names = nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("loaded %v", got)
			}
		})
	}
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := Save(store, []Saved{{Image: img}}, SaveOptions{Format: OCIArchive}, w, quiet); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same image is saved differently each time")
	}
}

// An archive that is damaged or hostile leaves no image and reads no other file.
func TestLoadRefuses(t *testing.T) {
	store, _ := storagetest.Open(t)
	layer := makeTar(t, file("x", "x"))
	config := configFor(t, layer)
	manifest := func(config, layer string) entry {
		return file("manifest.json", `[{"Config":"`+config+`","RepoTags":["x:1"],"Layers":["`+layer+`"]}]`)
	}
	good, _ := dockerSave(t)
	for what, data := range map[string][]byte{
		"empty":          {},
		"no tar":         []byte(strings.Repeat("no tar file ", 1000)),
		"cut":            good[:len(good)/2],
		"no manifest":    makeTar(t, file("etc/passwd", "")),
		"no layer":       makeTar(t, file("c", string(config)), manifest("c", "gone")),
		"another layer":  makeTar(t, file("c", string(config)), file("l", string(makeTar(t, file("y", "y")))), manifest("c", "l")),
		"link out":       makeTar(t, entry{tar.Header{Name: "c", Typeflag: tar.TypeSymlink, Linkname: "../../../../etc/passwd"}, ""}, manifest("c", "c")),
		"link loop":      makeTar(t, entry{tar.Header{Name: "c", Typeflag: tar.TypeSymlink, Linkname: "c"}, ""}, manifest("c", "c")),
		"config too big": makeTar(t, file("c", strings.Repeat(" ", maxDocument+1)), manifest("c", "c")),
	} {
		if loaded, err := Load(store, write(t, data), quiet); err == nil {
			t.Errorf("%s: loaded %v", what, loaded)
		}
	}
	if all := storagetest.Images(t, store); len(all) != 0 {
		t.Errorf("the store has %v", all)
	}
	dir := t.TempDir()
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, "manifest.json")); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(store, reopen(t, dir), quiet); err == nil || !strings.Contains(err.Error(), "escapes") {
		t.Errorf("a directory with a link out: %v", err)
	}
}

// An imported root filesystem becomes an image that says what the changes say.
func TestImport(t *testing.T) {
	store, _ := storagetest.Open(t)
	data := makeTar(t, file("bin/x", "x"))
	id, err := Import(store, write(t, data), ImportOptions{
		Name: "localhost/imp:1", Message: "by hand",
		Changes: []string{`CMD ["/bin/x", "y"]`, "ENV=A=b", `LABEL a="b c" d=e`, "EXPOSE 80 53/udp", "USER me", "workdir /w", `VOLUME ["/v"]`, "STOPSIGNAL SIGINT", "ENTRYPOINT run it"},
	}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	all := storagetest.Images(t, store)
	if len(all) != 1 || all[0].ID != id || !slices.Equal(all[0].Names, []string{"localhost/imp:1"}) || all[0].History[0].Comment != "by hand" {
		t.Fatalf("the store has %+v", all)
	}
	want := image.Config{
		User: "me", WorkingDir: "/w", StopSignal: "SIGINT", Env: []string{"A=b"},
		Cmd: []string{"/bin/x", "y"}, Entrypoint: []string{"/bin/sh", "-c", "run it"},
		Labels: map[string]string{"a": "b c", "d": "e"}, Volumes: map[string]struct{}{"/v": {}},
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "53/udp": {}},
	}
	if !reflect.DeepEqual(all[0].Config, want) {
		t.Errorf("the configuration is %+v", all[0].Config)
	}
	for _, changes := range [][]string{{"RUN x"}, {"ENV"}, {`LABEL a="b`}, {"FROM x"}} {
		if _, err := Import(store, write(t, data), ImportOptions{Changes: changes}, quiet); err == nil {
			t.Errorf("changes %q are taken", changes)
		}
	}
	if _, err := Import(store, write(t, []byte("no tar")), ImportOptions{}, quiet); err == nil {
		t.Error("what is no tar file is taken")
	}
}

// The built-in image is the same whenever it is packed, and loads.
func TestBuiltin(t *testing.T) {
	store, _ := storagetest.Open(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "box")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	var packed [2][]byte
	for n := range packed {
		out := filepath.Join(dir, "box.tar.gz")
		if err := PackBuiltin(program, out); err != nil {
			t.Fatal(err)
		}
		var err error
		if packed[n], err = os.ReadFile(out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(packed[0], packed[1]) {
		t.Error("packing it twice gives different bytes")
	}
	got := load(t, store, write(t, packed[0]))
	if len(got) != 1 || !slices.Equal(got[0].Names, []string{Builtin}) {
		t.Fatalf("loaded %v", got)
	}
	all := storagetest.Images(t, store)
	if fi, err := os.Stat(filepath.Join(all[0].Lower[0], "bin/box")); err != nil || fi.Mode().Perm() != 0o755 {
		t.Errorf("/bin/box: %v, %v", fi, err)
	}
}
