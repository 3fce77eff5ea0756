package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/storagetest"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == HelperCommand { // as moss-image answers
		if err := Answer(os.Stdin, os.Stdout); err != nil {
			os.Exit(1)
		}
		return
	}
	storagetest.Main(m)
}

// fake is a registry on loopback that answers Range and can be made to misbehave.
type fake struct {
	host   string
	inner  http.Handler
	blobs  atomic.Int64                                                          // bytes of blobs sent
	hook   func(w http.ResponseWriter, r *http.Request, body []byte) (done bool) // sees blobs before they are sent
	secret string                                                                // user:password, if one is needed
	mu     sync.Mutex
	asked  []string
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{inner: ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.host = strings.TrimPrefix(server.URL, "http://")
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r.Method+" "+r.URL.Path)
	f.mu.Unlock()
	if f.secret != "" && r.Header.Get("Authorization") != "Basic "+base64.StdEncoding.EncodeToString([]byte(f.secret)) {
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.Method != http.MethodGet || !strings.Contains(r.URL.Path, "/blobs/sha256:") {
		f.inner.ServeHTTP(w, r)
		return
	}
	all := r.Clone(r.Context())
	all.Header.Del("Range")
	rec := httptest.NewRecorder()
	f.inner.ServeHTTP(rec, all)
	if rec.Code != http.StatusOK {
		w.WriteHeader(rec.Code)
		return
	}
	body := rec.Body.Bytes()
	if f.hook != nil && f.hook(w, r, body) {
		return
	}
	http.ServeContent(countTo{w, &f.blobs}, r, "", time.Time{}, bytes.NewReader(body))
}

type countTo struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c countTo) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

// serve puts an image into the fake registry and returns its name.
func (f *fake) serve(t *testing.T, repo string, img v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(f.host + "/" + repo)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img); err != nil {
		t.Fatal(err)
	}
	return ref.String()
}

func randomImage(t *testing.T, size, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	// As for this machine: random says nothing about its platform.
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", image.HostPlatform().Arch
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

var plainHTTP = false

func options() PullOptions {
	return PullOptions{Access: Access{TLSVerify: &plainHTTP}, Progress: &Progress{}}
}

func mustPull(t *testing.T, store *storage.Store, ref string) string {
	t.Helper()
	ids, err := Pull(context.Background(), store, ref, options())
	if err != nil {
		t.Fatal(err)
	}
	return ids[0]
}

func idOf(t *testing.T, img v1.Image) string {
	t.Helper()
	h, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h.Hex
}

func leftovers(t *testing.T, store *storage.Store) []os.DirEntry {
	t.Helper()
	left, err := os.ReadDir(filepath.Join(store.Root, "storage-tmp"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return left
}

// A pulled image is listed with its layers unpacked; pulling again fetches no blob.
func TestPull(t *testing.T) {
	f, img := newFake(t), randomImage(t, 10_000, 3)
	store, images := storagetest.Open(t)
	ref := f.serve(t, "a/b:1", img)
	if id := mustPull(t, store, ref); id != idOf(t, img) {
		t.Errorf("the ID is %s, want %s", id, idOf(t, img))
	}
	all := storagetest.Images(t, store)
	if len(all) != 1 || !slices.Equal(all[0].Names, []string{ref}) || len(all[0].Lower) != 3 {
		t.Fatalf("the store says %+v", all)
	}
	for _, dir := range all[0].Lower {
		if files, err := os.ReadDir(dir); err != nil || len(files) == 0 {
			t.Errorf("layer %s: %v, %v", dir, files, err)
		}
	}
	if got, err := images.Lookup("a/b:1"); err != nil || got.ID != all[0].ID {
		t.Errorf("Lookup: %v, %v", got, err)
	}
	before := f.blobs.Load()
	mustPull(t, store, ref)
	if sent := f.blobs.Load() - before; sent > 5000 {
		t.Errorf("pulling again fetched %d bytes of blobs", sent)
	}
	if left := leftovers(t, store); len(left) != 0 {
		t.Errorf("left over: %v", left)
	}
}

// Of an index, this machine's image is taken, or the one asked for.
func TestPlatform(t *testing.T) {
	f, mine, other := newFake(t), randomImage(t, 100, 1), randomImage(t, 100, 1)
	store, _ := storagetest.Open(t)
	host := image.HostPlatform()
	index := mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: other, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "s390x"}}},
		mutate.IndexAddendum{Add: mine, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: host.Arch}}})
	ref, err := name.ParseReference(f.host + "/multi:1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index); err != nil {
		t.Fatal(err)
	}
	if id := mustPull(t, store, ref.String()); id != idOf(t, mine) {
		t.Errorf("pulled %s", id)
	}
	o := options()
	o.Platform = image.Platform{OS: "linux", Arch: "s390x"}
	if ids, err := Pull(context.Background(), store, ref.String(), o); err != nil || ids[0] != idOf(t, other) {
		t.Errorf("pulled %v, %v", ids, err)
	}
	o.Platform.Arch = "riscv64"
	if _, err := Pull(context.Background(), store, ref.String(), o); err == nil || !strings.Contains(err.Error(), "s390x") {
		t.Errorf("a platform that is not there: %v", err)
	}
}

// A connection that is cut costs only what was lost.
func TestResumeAfterCut(t *testing.T) {
	f, img := newFake(t), randomImage(t, 1_000_000, 1)
	store, _ := storagetest.Open(t)
	ref := f.serve(t, "cut:1", img)
	var cuts, ranged atomic.Int64
	f.hook = func(w http.ResponseWriter, r *http.Request, body []byte) bool {
		if len(body) < 500_000 {
			return false
		}
		if r.Header.Get("Range") != "" {
			ranged.Add(1)
		}
		if cuts.Add(1) > 2 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		from := 0
		if n, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); n == 1 && err == nil {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)-from))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
			w.WriteHeader(http.StatusPartialContent)
		}
		w.Write(body[from : from+300_000])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	if id := mustPull(t, store, ref); id != idOf(t, img) {
		t.Errorf("pulled %s", id)
	}
	if ranged.Load() != 2 {
		t.Errorf("%d downloads went on where they stopped, want 2", ranged.Load())
	}
	if sent := f.blobs.Load(); sent > 500_000+5000 {
		t.Errorf("the last download was of %d bytes", sent)
	}
}

// What an earlier process left is used, even if it is wrong.
func TestResumePartial(t *testing.T) {
	for _, damage := range []bool{false, true} {
		f, img := newFake(t), randomImage(t, 1_000_000, 1)
		store, _ := storagetest.Open(t)
		ref := f.serve(t, "left:1", img)
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		r, err := layers[0].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		blob, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := layers[0].Digest()
		if err != nil {
			t.Fatal(err)
		}
		dir, err := store.Temp()
		if err != nil {
			t.Fatal(err)
		}
		part := slices.Clone(blob[:900_000])
		if damage {
			part[10] ^= 1
		}
		if err := os.WriteFile(filepath.Join(dir, "sha256-"+digest.Hex), part, 0o600); err != nil {
			t.Fatal(err)
		}
		mustPull(t, store, ref)
		sent := f.blobs.Load()
		if !damage && sent > 200_000 {
			t.Errorf("%d bytes were sent again", sent)
		}
		if damage && sent < 1_000_000 {
			t.Errorf("a damaged part was trusted: only %d bytes were sent", sent)
		}
	}
}

// A registry that lies about a layer, a configuration or a size is not believed,
// and nothing of the image stays.
func TestLies(t *testing.T) {
	flip := func(body []byte) []byte {
		body = slices.Clone(body)
		body[len(body)/2] ^= 1
		return body
	}
	for what, lie := range map[string]func(w http.ResponseWriter, r *http.Request, body []byte) bool{
		"layer": func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			if len(body) < 50_000 {
				return false
			}
			w.Write(flip(body))
			return true
		},
		"configuration": func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			if len(body) > 50_000 {
				return false
			}
			w.Write(flip(body))
			return true
		},
		"longer": func(w http.ResponseWriter, r *http.Request, body []byte) bool {
			w.Write(append(slices.Clone(body), 'x'))
			return true
		},
	} {
		t.Run(what, func(t *testing.T) {
			f, img := newFake(t), randomImage(t, 100_000, 1)
			store, _ := storagetest.Open(t)
			ref := f.serve(t, "lie:1", img)
			f.hook = lie
			if _, err := Pull(context.Background(), store, ref, options()); err == nil {
				t.Error("the lie was believed")
			}
			if all := storagetest.Images(t, store); len(all) != 0 {
				t.Errorf("the store has %v", all)
			}
		})
	}
}

// A layer that is what the manifest says but not what the configuration says is
// refused, and leaves no layer.
func TestWrongDiffID(t *testing.T) {
	f, img := newFake(t), randomImage(t, 1000, 1)
	store, _ := storagetest.Open(t)
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.RootFS.DiffIDs[0].Hex = strings.Repeat("0", 64)
	wrong, err := mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	ref := f.serve(t, "wrong:1", wrong)
	_, err = Pull(context.Background(), store, ref, options())
	if err == nil || !strings.Contains(err.Error(), "the image says") {
		t.Errorf("Pull: %v", err)
	}
	if store.HasLayer(strings.Repeat("0", 64)) {
		t.Error("the layer stays")
	}
}

// Nobody fills our memory with a manifest.
func TestOversizeManifest(t *testing.T) {
	store, _ := storagetest.Open(t)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return
		}
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		for range 6 << 10 {
			if _, err := w.Write(bytes.Repeat([]byte(" "), 1<<10)); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	_, err := Pull(context.Background(), store, strings.TrimPrefix(server.URL, "http://")+"/x:1", options())
	if err == nil || !strings.Contains(err.Error(), "4194304") {
		t.Errorf("Pull: %v", err)
	}
}

// Plain HTTP needs to be asked for, on loopback too.
func TestPlainHTTP(t *testing.T) {
	f := newFake(t)
	store, _ := storagetest.Open(t)
	ref := f.serve(t, "x:1", randomImage(t, 100, 1))
	conf := filepath.Join(t.TempDir(), "registries.conf")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	write := func(s string) {
		if err := os.WriteFile(conf, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	verify := true
	o := PullOptions{Progress: &Progress{}, Access: Access{TLSVerify: &verify}}
	if _, err := Pull(context.Background(), store, ref, o); err == nil || !strings.Contains(err.Error(), "--tls-verify=false") {
		t.Errorf("Pull with --tls-verify: %v", err)
	}
	// This test's registry is on loopback, where plain HTTP is as good.
	o.Access = Access{}
	if _, err := Pull(context.Background(), store, ref, o); err != nil {
		t.Errorf("Pull from loopback: %v", err)
	}
	conf = filepath.Join(t.TempDir(), "insecure.conf")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	write(fmt.Sprintf("[[registry]]\nlocation = %q\ninsecure = true\n", f.host))
	if _, err := Pull(context.Background(), store, ref, o); err != nil {
		t.Errorf("Pull with insecure = true: %v", err)
	}
}

// registries.conf: short names, aliases, mirrors, blocked registries.
func TestRegistriesConf(t *testing.T) {
	f := newFake(t)
	store, _ := storagetest.Open(t)
	f.serve(t, "mirror/library/tool:latest", randomImage(t, 100, 1))
	conf := filepath.Join(t.TempDir(), "registries.conf")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	text := fmt.Sprintf(`unqualified-search-registries = ["docker.io"]
[aliases]
"short" = "docker.io/library/tool"
[[registry]]
location = "docker.io"
blocked = false
[[registry.mirror]]
location = "%s/mirror"
insecure = true
[[registry]]
location = "bad.example.com"
blocked = true
`, f.host)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := PullOptions{Progress: &Progress{}}
	for _, ref := range []string{"tool", "short", "docker.io/library/tool:latest"} {
		if _, err := Pull(context.Background(), store, ref, o); err != nil {
			t.Errorf("Pull %q: %v", ref, err)
		}
	}
	if all := storagetest.Images(t, store); len(all) != 1 || !slices.Equal(all[0].Names, []string{"docker.io/library/tool:latest"}) {
		t.Errorf("the store has %+v", all)
	}
	if _, err := Pull(context.Background(), store, "bad.example.com/x", o); err == nil || !strings.Contains(err.Error(), "blocked") {
		t.Errorf("a blocked registry: %v", err)
	}
}

// Credentials come from --creds or the auth file, by the most specific key.
func TestCredentials(t *testing.T) {
	f := newFake(t)
	store, _ := storagetest.Open(t)
	ref := f.serve(t, "team/app:1", randomImage(t, 100, 1))
	f.secret = "me:secret"
	o := options()
	if _, err := Pull(context.Background(), store, ref, o); err == nil || !strings.Contains(strings.ToLower(err.Error()), "unauthorized") {
		t.Errorf("without credentials: %v", err)
	}
	o.Creds = "me:secret"
	if _, err := Pull(context.Background(), store, ref, o); err != nil {
		t.Errorf("--creds: %v", err)
	}
	auth := func(s string) map[string]string {
		return map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(s))}
	}
	data, err := json.Marshal(map[string]any{"auths": map[string]any{
		f.host: auth("other:wrong"), f.host + "/team": auth("me:secret"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	o.Creds, o.AuthFile = "", filepath.Join(t.TempDir(), "auth.json")
	if err := os.WriteFile(o.AuthFile, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Pull(context.Background(), store, ref, o); err != nil {
		t.Errorf("--authfile: %v", err)
	}
}

// What is pushed is what was pulled, down to the digest; a second push sends no
// layer.
func TestPush(t *testing.T) {
	f, img := newFake(t), randomImage(t, 10_000, 2)
	store, _ := storagetest.Open(t)
	ref := f.serve(t, "from:1", img)
	mustPull(t, store, ref)
	local := storagetest.Images(t, store)[0]
	o := PushOptions{Access: Access{TLSVerify: &plainHTTP}, Progress: &Progress{}}
	// The registry shares blobs between repositories, so the layers are there.
	got, err := Push(context.Background(), store, local, f.host+"/to:1", o)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := img.Digest(); err != nil || got.String() != want.String() {
		t.Errorf("pushed as %s, want %s", got, want)
	}
	// A fresh registry gets the layers, compressed anew: other digests, the same content.
	g := newFake(t)
	o.Format = "oci"
	if _, err := Push(context.Background(), store, local, g.host+"/to:2", o); err != nil {
		t.Fatal(err)
	}
	again, err := name.ParseReference(g.host + "/to:2")
	if err != nil {
		t.Fatal(err)
	}
	pushed, err := remote.Image(again)
	if err != nil {
		t.Fatal(err)
	}
	if id := idOf(t, pushed); id != local.ID {
		t.Errorf("the image has become %s", id)
	}
	layers, err := pushed.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for n, l := range layers {
		if diffID, err := l.DiffID(); err != nil || diffID.String() != local.DiffIDs[n] {
			t.Errorf("layer %d is %v, %v", n, diffID, err)
		}
	}
	g.asked = nil
	if _, err := Push(context.Background(), store, local, g.host+"/to:3", o); err != nil {
		t.Fatal(err)
	}
	for _, line := range g.asked {
		if strings.Contains(line, "/uploads") {
			t.Errorf("the second push uploads again: %s", line)
		}
	}
}
