package storage_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/storagetest"
)

func TestMain(m *testing.M) { storagetest.Main(m) }

func makeTar(t *testing.T, headers ...tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		data := []byte(h.Uname) // a test's content rides in the user's name
		h.Uname, h.ModTime = "", time.Unix(1e9, 0)
		if h.Typeflag == 0 {
			h.Typeflag, h.Size = tar.TypeReg, int64(len(data))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// add puts an image of the layers into the store.
func add(t *testing.T, store *storage.Store, names []string, layers ...[]byte) string {
	t.Helper()
	var spec imagespec.Image
	top := ""
	for _, l := range layers {
		d := digest.FromBytes(l)
		spec.RootFS.DiffIDs = append(spec.RootFS.DiffIDs, d)
		spec.History = append(spec.History, imagespec.History{CreatedBy: d.String()})
		var err error
		if top, err = store.PutLayer(top, d, "", 0, bytes.NewReader(l)); err != nil {
			t.Fatal(err)
		}
	}
	config, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	id, err := store.AddImage(storage.NewImage{Config: config, Manifest: []byte("{}"), Layer: top, Names: names})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// A mapped copy is the merged image, whiteouts obeyed, with everything but the
// owners as it was.
func TestMapped(t *testing.T) {
	store, images := storagetest.Open(t)
	lower := makeTar(t,
		tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o2750},
		tar.Header{Name: "dir/gone", Uname: "gone"},
		tar.Header{Name: "opaque/", Typeflag: tar.TypeDir},
		tar.Header{Name: "opaque/old", Uname: "old"},
		tar.Header{Name: "setuid", Uname: "program", Mode: 0o4755},
		tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "setuid", Mode: 0o4755},
		tar.Header{Name: "soft", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd", Mode: 0o777},
		tar.Header{Name: "attr", Uname: "x", PAXRecords: map[string]string{"SCHILY.xattr.user.test": "value"}, Format: tar.FormatPAX},
	)
	upper := makeTar(t,
		tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o2750},
		tar.Header{Name: "dir/.wh.gone"},
		tar.Header{Name: "opaque/.wh..wh..opq"},
		tar.Header{Name: "opaque/new", Uname: "new"},
	)
	id := add(t, store, []string{"localhost/x:1"}, lower, upper)
	img := storagetest.Images(t, store)[0]
	// A single-ID namespace can only map to itself.
	ids := []image.IDMap{{Container: 0, Host: 0, Size: 1}}
	shifted := 0
	if !store.SingleID {
		ids, shifted = []image.IDMap{{Container: 0, Host: 7, Size: 1}}, 7
	}
	req := image.MappedRequest{Image: id, UIDMap: ids, GIDMap: ids}
	if dir, ok := images.Mapped(req); ok {
		t.Errorf("there is a copy in %q already", dir)
	}
	started := 0
	watch := func(func() int64) func() { started++; return func() {} }
	dir, err := storage.Mapped(store.Root, img, req, watch)
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"dir/gone", "opaque/old", "dir/.wh.gone"} {
		if _, err := os.Lstat(filepath.Join(dir, gone)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", gone, err)
		}
	}
	stat := func(name string) unix.Stat_t {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dir, name), &st); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if int(st.Uid) != shifted || int(st.Gid) != shifted {
			t.Errorf("%s belongs to %d:%d, want %d", name, st.Uid, st.Gid, shifted)
		}
		return st
	}
	if st := stat("setuid"); st.Mode != unix.S_IFREG|0o4755 || st.Nlink != 2 || st.Ino != stat("hard").Ino || st.Mtim.Sec != 1e9 {
		t.Errorf("setuid: %+v", st)
	}
	if st := stat("dir"); st.Mode != unix.S_IFDIR|0o2750 || st.Mtim.Sec != 1e9 {
		t.Errorf("dir: %+v", st)
	}
	stat("opaque/new")
	if target, err := os.Readlink(filepath.Join(dir, "soft")); err != nil || target != "/etc/passwd" {
		t.Errorf("soft: %q, %v", target, err)
	}
	value := make([]byte, 20)
	if n, err := unix.Lgetxattr(filepath.Join(dir, "attr"), "user.test", value); err != nil || string(value[:n]) != "value" {
		t.Errorf("attribute: %q, %v", value[:max(n, 0)], err)
	}
	again, err := storage.Mapped(store.Root, img, req, watch)
	if err != nil || again != dir || started != 1 {
		t.Errorf("the second time: %q, %v, made %d times", again, err, started)
	}
	if found, ok := images.Mapped(req); !ok || found != dir {
		t.Errorf("the reader finds %q, %v", found, ok)
	}
	// The same without bytes: size and redirect say where they are.
	req.Redirect = true
	if dir, err = storage.Mapped(store.Root, img, req, watch); err != nil {
		t.Fatal(err)
	}
	if st := stat("setuid"); st.Mode != unix.S_IFREG|0o4755 || st.Blocks > 8 || st.Size != 7 || st.Nlink != 2 || st.Mtim.Sec != 1e9 {
		t.Errorf("setuid without bytes: %+v", st)
	}
	n, err := unix.Lgetxattr(filepath.Join(dir, "opaque/new"), "user.overlay.redirect", value)
	if err == nil {
		_, err = unix.Lgetxattr(filepath.Join(dir, "opaque/new"), "user.overlay.metacopy", value[n:])
	}
	if err != nil || string(value[:n]) != "/opaque/new"[:n] {
		t.Errorf("redirect: %q, %v", value[:max(n, 0)], err)
	}
	small := image.MappedRequest{Image: id, UIDMap: []image.IDMap{{Container: 5, Host: 5, Size: 1}}, GIDMap: ids}
	// Who is not in the mapping is nobody: an ID that the container cannot be.
	tiny, err := storage.Mapped(store.Root, img, small, nil)
	if err != nil {
		t.Fatalf("a mapping that is too small: %v", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(tiny, &st); err != nil || st.Uid == 5 {
		t.Errorf("an unmapped owner is user %d of the container, %v", st.Uid, err)
	}
	// The copy goes with the image, and nothing stays.
	if err := store.DeleteImage(id); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(filepath.Join(store.Root, "mapped"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// Deleting an image leaves the layers that another needs.
func TestDeleteShared(t *testing.T) {
	store, _ := storagetest.Open(t)
	a, b, c := makeTar(t, tar.Header{Name: "a", Uname: "a"}), makeTar(t, tar.Header{Name: "b", Uname: "b"}), makeTar(t, tar.Header{Name: "c", Uname: "c"})
	first, second := add(t, store, nil, a, b), add(t, store, []string{"localhost/second:1"}, a, c)
	if err := store.DeleteImage(first); err != nil {
		t.Fatal(err)
	}
	all := storagetest.Images(t, store)
	if len(all) != 1 || all[0].ID != second || len(all[0].Lower) != 2 {
		t.Fatalf("the store has %+v", all)
	}
	base := storage.ChainID("", digest.FromBytes(a))
	if store.HasLayer(storage.ChainID(base, digest.FromBytes(b))) || !store.HasLayer(base) {
		t.Error("the wrong layers are gone")
	}
	if err := store.DeleteImage(first); !errors.Is(err, image.ErrNotFound) {
		t.Errorf("deleting it again: %v", err)
	}
}

// A name belongs to one image: the last that was given it.
func TestNameMoves(t *testing.T) {
	store, _ := storagetest.Open(t)
	old := add(t, store, []string{"localhost/x:1"}, makeTar(t, tar.Header{Name: "a"}))
	fresh := add(t, store, []string{"localhost/x:1"}, makeTar(t, tar.Header{Name: "b"}))
	for _, img := range storagetest.Images(t, store) {
		if want := img.ID == fresh; (len(img.Names) == 1) != want {
			t.Errorf("image %.6s (old is %.6s) has the names %v", img.ID, old, img.Names)
		}
	}
}

// The steps of a build go with the image, unless another image has them too.
func TestParents(t *testing.T) {
	line := func(s string) image.History { return image.History{CreatedBy: s} }
	base := &image.Image{ID: "base", Names: []string{"base"}, DiffIDs: []string{"1"}, History: []image.History{line("a")}}
	step1 := &image.Image{ID: "step1", DiffIDs: []string{"1", "2"}, History: []image.History{line("a"), line("b")}}
	step2 := &image.Image{ID: "step2", DiffIDs: []string{"1", "2"}, History: []image.History{line("a"), line("b"), line("c")}}
	final := &image.Image{ID: "final", Names: []string{"f"}, DiffIDs: []string{"1", "2", "3"}, History: []image.History{line("a"), line("b"), line("c"), line("d")}}
	other := &image.Image{ID: "other", Names: []string{"o"}, DiffIDs: []string{"1", "2", "4"}, History: []image.History{line("a"), line("b"), line("x")}}
	ids := func(list []*image.Image) string {
		var s []string
		for _, i := range list {
			s = append(s, i.ID)
		}
		return strings.Join(s, " ")
	}
	if got := ids(final.Steps([]*image.Image{base, step1, step2, final})); got != "step2 step1" {
		t.Errorf("parents: %s", got)
	}
	if got := ids(final.Steps([]*image.Image{base, step1, step2, final, other})); got != "step2" {
		t.Errorf("parents with another image: %s", got)
	}
}

// A layer that was begun, and killed before its short name was written, takes nothing of the
// others along when it goes.
func TestEmptyLink(t *testing.T) {
	for what, link := range map[string]string{"empty": "", "never written": strings.Repeat("\x00", 26)} {
		store, _ := storagetest.Open(t)
		add(t, store, []string{"localhost/a:latest"}, makeTar(t, tar.Header{Name: "a", Uname: "a"}), makeTar(t, tar.Header{Name: "b", Uname: "b"}))
		graph, begun := filepath.Join(store.Root, "storage"), strings.Repeat("0", 64)
		list, name := filepath.Join(graph, "overlay-layers", "layers.json"), filepath.Join(graph, "overlay", "l", strings.Repeat("A", 26))
		data, err := os.ReadFile(list)
		if err == nil {
			data = append(bytes.TrimSuffix(bytes.TrimSpace(data), []byte("]")), `,{"id":"`+begun+`","flags":{"incomplete":true}}]`...)
			err = errors.Join(os.WriteFile(list, data, 0o600), os.MkdirAll(filepath.Join(graph, "overlay", begun, "diff"), 0o700),
				os.Symlink("../"+begun+"/diff", name), os.WriteFile(filepath.Join(graph, "overlay", begun, "link"), []byte(link), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
		store.Close()
		run := filepath.Join(filepath.Dir(store.Root), "run")
		if found, err := storage.Rebuild(store.Root, run, nil, false); err != nil || len(found) > 0 {
			t.Errorf("%s: what was begun is called damaged: %v %+v", what, err, found)
		}
		again, err := storage.Open(store.Root, run, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		add(t, again, []string{"localhost/b:latest"}, makeTar(t, tar.Header{Name: "c", Uname: "c"})) // it is cleaned up
		if got := storagetest.Images(t, again); len(got) != 2 {
			t.Errorf("%s: %d images are whole, of 2", what, len(got))
		}
		for _, path := range []string{filepath.Join(graph, "overlay", begun), name} {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s: what was begun stays: %q, %v", what, path, err)
			}
		}
	}
}

// A layer that is opened and closed at once is closed: nobody waits for what has not begun.
func TestDiffUnread(t *testing.T) {
	store, _ := storagetest.Open(t)
	add(t, store, nil, makeTar(t, tar.Header{Name: "file", Uname: "content"}))
	chain, err := store.Chain(storagetest.Images(t, store)[0].Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	closed := make(chan error)
	go func() {
		for range 2000 {
			diff, err := store.Diff(chain[0])
			if err == nil {
				runtime.Gosched()
				err = diff.Close()
			}
			if err != nil {
				closed <- err
				return
			}
		}
		closed <- nil
	}()
	select {
	case err := <-closed:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits for ever")
	}
}

// A layer read back is byte for byte what was put in; one that was changed on
// disk is noticed.
func TestDiff(t *testing.T) {
	store, _ := storagetest.Open(t)
	data := makeTar(t, tar.Header{Name: "dir/", Typeflag: tar.TypeDir}, tar.Header{Name: "dir/f", Uname: "content", Uid: 0})
	add(t, store, nil, data)
	img := storagetest.Images(t, store)[0]
	chain, err := store.Chain(img.Layers[0])
	if err != nil {
		t.Fatal(err)
	}
	read := func() ([]byte, error) {
		r, err := store.Diff(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var buf bytes.Buffer
		_, err = buf.ReadFrom(r)
		return buf.Bytes(), err
	}
	if got, err := read(); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes of %d, %v", len(got), len(data), err)
	}
	if err := os.WriteFile(filepath.Join(img.Lower[0], "dir/f"), []byte("CONTENT"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := read(); err == nil {
		t.Error("a changed layer is not noticed")
	}
}

// The layer's directory can be mounted as it is.
func TestLower(t *testing.T) {
	store, _ := storagetest.Open(t)
	add(t, store, nil, makeTar(t, tar.Header{Name: "a", Uname: "a"}), makeTar(t, tar.Header{Name: "b", Uname: "b"}))
	img := storagetest.Images(t, store)[0]
	if store.Driver.Name != "native" {
		t.Skipf("no native overlay here: %s", store.Driver.Why)
	}
	target := t.TempDir()
	err := syscall.Mount("overlay", target, "overlay", syscall.MS_RDONLY, "userxattr,lowerdir="+strings.Join(img.Lower, ":"))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(target, syscall.MNT_DETACH)
	for _, name := range []string{"a", "b"} {
		if data, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(data) != name {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}
