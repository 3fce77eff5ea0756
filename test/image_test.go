package test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"
)

// The images that the scripts use. Nothing foreign, nothing from the internet:
//
//	box      the program box under all its names in /bin
//	full     box with everything that an image can say: entry point, user, volume, port…
//	layers   box in three layers, in which the upper ones hide files of the lower
//	checked  box with a HEALTHCHECK
//	random   box and a megabyte that no other image has and that cannot be compressed, /random
//	foreign  box as if it were for s390x
//	busybox  Debian's busybox-static, where it is installed
var testImages = map[string]func() (v1.Image, error){
	"box": boxImage, "full": fullImage, "layers": layersImage, "busybox": busyboxImage,
	"checked": checkedImage, "random": randomImage, "foreign": foreignImage,
}

var created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// entry is one file of a layer. A name that ends in / is a directory.
type entry struct {
	name, link string
	data       []byte
	mode       int64
	uid        int
}

func layerOf(entries ...entry) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.uid, Gid: e.uid, Size: int64(len(e.data)), ModTime: created, Typeflag: tar.TypeReg}
		switch {
		case e.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		case strings.HasSuffix(e.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
}

func imageOf(config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	image, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, must(image.ConfigFile()).with(config))
}

type configFile struct{ *v1.ConfigFile }

func must(c *v1.ConfigFile, err error) configFile {
	if err != nil {
		panic(err) // of an image in memory
	}
	return configFile{c}
}

func (c configFile) with(config v1.Config) *v1.ConfigFile {
	c.OS, c.Architecture, c.Created, c.Config = "linux", runtime.GOARCH, v1.Time{Time: created}, config
	return c.ConfigFile
}

func boxLayer() (v1.Layer, error) {
	program := filepath.Join(binaries(), "box")
	data, err := os.ReadFile(program)
	if err != nil {
		return nil, err
	}
	names, err := exec.Command(program, "programs").Output()
	if err != nil {
		return nil, err
	}
	entries := []entry{
		{name: "bin/", mode: 0o755}, {name: "bin/box", data: data, mode: 0o755},
		{name: "etc/", mode: 0o755}, {name: "tmp/", mode: 0o1777},
		{name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0::/root:/bin/box\nuser:x:1000:1000::/home/user:/bin/box\nnobody:x:65534:65534::/:/bin/box\n")},
		{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nuser:x:1000:\nextra:x:2000:user\nnobody:x:65534:\n")},
		{name: "home/user/", mode: 0o755, uid: 1000}, {name: "root/", mode: 0o700},
		{name: "etc/owned", mode: 0o600, uid: 1000, data: []byte("owned\n")},
	}
	for line := range strings.Lines(string(names)) {
		entries = append(entries, entry{name: "bin/" + strings.Fields(line)[0], link: "box", mode: 0o777})
	}
	return layerOf(entries...)
}

func boxImage() (v1.Image, error) {
	layer, err := boxLayer()
	if err != nil {
		return nil, err
	}
	return imageOf(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"hello"}}, layer)
}

func fullImage() (v1.Image, error) {
	layer, err := boxLayer()
	if err != nil {
		return nil, err
	}
	data, err := layerOf(entry{name: "data/", mode: 0o755, uid: 1000}, entry{name: "data/seed", mode: 0o644, uid: 1000, data: []byte("seed\n")})
	if err != nil {
		return nil, err
	}
	return imageOf(v1.Config{
		Entrypoint: []string{"box", "do"}, Cmd: []string{"echo", "default"}, User: "user", WorkingDir: "/data",
		Env:          []string{"PATH=/bin", "FLAVOUR=full"},
		ExposedPorts: map[string]struct{}{"8080/tcp": {}}, Volumes: map[string]struct{}{"/data": {}},
		Labels: map[string]string{"org.opencontainers.image.title": "full"}, StopSignal: "SIGUSR1",
	}, layer, data)
}

func layersImage() (v1.Image, error) {
	base, err := boxLayer()
	if err != nil {
		return nil, err
	}
	middle, err := layerOf(entry{name: "d/", mode: 0o755}, entry{name: "d/hidden", data: []byte("old\n"), mode: 0o644},
		entry{name: "d/kept", data: []byte("kept\n"), mode: 0o644}, entry{name: "o/", mode: 0o755},
		entry{name: "o/below", data: []byte("below\n"), mode: 0o644}, entry{name: "changed", data: []byte("old\n"), mode: 0o644})
	if err != nil {
		return nil, err
	}
	// Whiteouts, see image-spec layer.md: one file, and all that was in a directory.
	top, err := layerOf(entry{name: "d/.wh.hidden", mode: 0o644}, entry{name: "o/", mode: 0o755},
		entry{name: "o/.wh..wh..opq", mode: 0o644}, entry{name: "o/above", data: []byte("above\n"), mode: 0o644},
		entry{name: "changed", data: []byte("new\n"), mode: 0o644})
	if err != nil {
		return nil, err
	}
	return imageOf(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"hello"}}, base, middle, top)
}

func checkedImage() (v1.Image, error) {
	layer, err := boxLayer()
	if err != nil {
		return nil, err
	}
	check := &v1.HealthConfig{Test: []string{"CMD", "true"}, Interval: time.Second, Timeout: 20 * time.Second, Retries: 7}
	return imageOf(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sleep"}, Healthcheck: check}, layer)
}

func randomImage() (v1.Image, error) {
	base, err := boxLayer()
	if err != nil {
		return nil, err
	}
	data := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{1}).Read(data)
	top, err := layerOf(entry{name: "random", data: data, mode: 0o644})
	if err != nil {
		return nil, err
	}
	return imageOf(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"hello"}}, base, top)
}

func foreignImage() (v1.Image, error) {
	image, err := boxImage()
	if err != nil {
		return nil, err
	}
	config := must(image.ConfigFile()).DeepCopy()
	config.Architecture = "s390x"
	return mutate.ConfigFile(image, config)
}

// busybox is the path of a static busybox of this machine, or "".
func busybox() string {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		// Its own word for it; ldd may not be installed.
		if out, err := exec.Command("ldd", path).CombinedOutput(); exists(path) && (err != nil || strings.Contains(string(out), "not a dynamic")) {
			return path
		}
	}
	return ""
}

func busyboxImage() (v1.Image, error) {
	path := busybox()
	if path == "" {
		return nil, errors.New("no static busybox here")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	names, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, err
	}
	entries := []entry{{name: "bin/", mode: 0o755}, {name: "bin/busybox", data: data, mode: 0o755}, {name: "tmp/", mode: 0o1777},
		{name: "etc/", mode: 0o755}, {name: "etc/passwd", mode: 0o644, data: []byte("root:x:0:0::/:/bin/sh\n")}}
	for _, n := range strings.Fields(string(names)) {
		if n != "busybox" {
			entries = append(entries, entry{name: "bin/" + n, link: "busybox", mode: 0o777})
		}
	}
	layer, err := layerOf(entries...)
	if err != nil {
		return nil, err
	}
	return imageOf(v1.Config{Env: []string{"PATH=/bin"}, Cmd: []string{"sh"}}, layer)
}

// startRegistry is the script command "registry [USER:PASSWORD] [IMAGE…]": a
// registry in memory on loopback, at $registry, that holds the images.
func startRegistry(ts *testscript.TestScript, args []string) error {
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	open := httptest.NewServer(handler)
	ts.Defer(open.Close)
	served := open
	if len(args) > 0 && strings.Contains(args[0], ":") {
		user, password, _ := strings.Cut(args[0], ":")
		served = httptest.NewServer(guarded(handler, user, password))
		ts.Defer(served.Close)
		args = args[1:]
	}
	if len(args) == 0 {
		args = []string{"box"}
	}
	if err := fill(strings.TrimPrefix(open.URL, "http://"), args); err != nil {
		return err
	}
	ts.Setenv("registry", strings.TrimPrefix(served.URL, "http://"))
	return nil
}

// fill pushes test images to a registry.
func fill(address string, images []string, options ...remote.Option) error {
	for _, n := range images {
		makeImage, ok := testImages[n]
		if !ok {
			return fmt.Errorf("no image %q", n)
		}
		image, err := makeImage()
		if err != nil {
			return err
		}
		ref, err := name.ParseReference(address+"/"+n+":latest", name.Insecure)
		if err != nil {
			return err
		}
		if err := remote.Write(ref, image, options...); err != nil {
			return err
		}
	}
	return nil
}

// guarded asks for a name and a password (RFC 7617) before it answers.
func guarded(h http.Handler, user, password string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u, p, ok := r.BasicAuth()
		if !ok || u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`, http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// images is the script command "images NAME…": archives NAME.tar to load, each
// with the image localhost/NAME:latest.
func images(ts *testscript.TestScript, args []string) error {
	for _, n := range args {
		if err := writeArchive(ts.MkAbs(n+".tar"), n, "localhost/"+n+":latest"); err != nil {
			return err
		}
	}
	return nil
}

func writeArchive(path, image, reference string) error {
	makeImage, ok := testImages[image]
	if !ok {
		return fmt.Errorf("no image %q", image)
	}
	i, err := makeImage()
	if err != nil {
		return err
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		return err
	}
	return tarball.WriteToFile(path, tag, i)
}

// preparePodman makes podman do as well as it can, with native overlay.
func preparePodman(home string) error {
	conf := filepath.Join(home, ".config/containers")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		return err
	}
	for file, text := range map[string]string{
		"storage.conf":    "[storage]\ndriver = \"overlay\"\n",
		"registries.conf": "[[registry]]\nlocation = \"127.0.0.1\"\ninsecure = true\n",
		"containers.conf": "[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"file\"\n[containers]\nlog_driver = \"k8s-file\"\n",
		"policy.json":     `{"default": [{"type": "insecureAcceptAnything"}]}`,
	} {
		if err := os.WriteFile(filepath.Join(conf, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	// The scripts say moss.
	return os.WriteFile(filepath.Join(home, "moss"), []byte("#!/bin/sh\nexec podman \"$@\"\n"), 0o755)
}
