package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/registry"
)

// Builtin is the name of the image that moss carries itself.
const Builtin = "localhost/moss/box:latest"

// The directory is embedded, not the file in it, which only the Makefile makes.
//
//go:embed builtin
var builtin embed.FS

// LoadBuiltin puts the image that moss carries itself into the store.
func LoadBuiltin(store *storage.Store, progress *registry.Progress) ([]Loaded, error) {
	packed, err := builtin.ReadFile("builtin/box.tar.gz")
	if err != nil || len(packed) == 0 {
		return nil, errors.New("cannot load the built-in image: this moss-image was built without it (build it with make)")
	}
	temp, err := store.Temp()
	if err != nil {
		return nil, err
	}
	a, err := spool(bytes.NewReader(packed), temp, store.Limits)
	if err != nil {
		return nil, fmt.Errorf("cannot read the built-in image: %w", err)
	}
	defer a.Close()
	images, _, err := list(a)
	if err != nil {
		return nil, fmt.Errorf("cannot read the built-in image: %w", err)
	}
	id, err := put(store, a, images[0], progress)
	if err != nil {
		return nil, fmt.Errorf("cannot load the built-in image: %w", err)
	}
	return []Loaded{{id, images[0].names}}, nil
}

// PackBuiltin writes the built-in image to out: a docker archive with the static
// program binary as /bin/box. The same program gives the same bytes.
func PackBuiltin(binary, out string) error {
	program, err := os.ReadFile(binary)
	if err != nil {
		return fmt.Errorf("cannot pack image: %w", err)
	}
	headers, err := boxFiles(binary, int64(len(program)))
	if err != nil {
		return fmt.Errorf("cannot pack image: %w", err)
	}
	layer, err := packTar(headers, map[string][]byte{"bin/box": program})
	if err != nil {
		return fmt.Errorf("cannot pack image: %w", err)
	}
	epoch := time.Unix(0, 0).UTC()
	host := image.HostPlatform()
	config, err := json.Marshal(imagespec.Image{
		Created:  &epoch,
		Platform: imagespec.Platform{OS: host.OS, Architecture: host.Arch, Variant: host.Variant},
		Config: imagespec.ImageConfig{
			Env: []string{"PATH=/bin"}, Cmd: []string{"/bin/box", "hello"}, WorkingDir: "/",
			Labels: map[string]string{"org.opencontainers.image.title": "moss/box"},
		},
		RootFS:  imagespec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
		History: []imagespec.History{{Created: &epoch, CreatedBy: "moss-image pack-builtin"}},
	})
	if err != nil {
		return fmt.Errorf("cannot pack image: %w", err)
	}
	layerName := digest.FromBytes(layer).Encoded() + ".tar"
	configName := digest.FromBytes(config).Encoded() + ".json"
	manifest, err := json.Marshal([]dockerItem{{Config: configName, RepoTags: []string{Builtin}, Layers: []string{layerName}}})
	if err != nil {
		return fmt.Errorf("cannot pack image: %w", err)
	}
	contents := map[string][]byte{layerName: layer, configName: config, "manifest.json": manifest}
	headers = nil
	for _, name := range []string{"manifest.json", configName, layerName} {
		headers = append(headers, tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(contents[name]))})
	}
	packed, err := packTar(headers, contents)
	if err != nil {
		return fmt.Errorf("cannot pack image: %w", err)
	}
	if err := writeGzip(out, packed); err != nil {
		return fmt.Errorf("cannot pack image: %w", err)
	}
	return nil
}

// boxFiles are the files of the image: the program, and a link to it for each of
// the small programs that it is.
func boxFiles(binary string, size int64) ([]tar.Header, error) {
	list, err := exec.Command(binary, "programs").Output()
	if err != nil {
		return nil, fmt.Errorf("cannot ask %q for its programs: %w", binary, err)
	}
	headers := []tar.Header{
		{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "bin/box", Typeflag: tar.TypeReg, Mode: 0o755, Size: size},
	}
	for line := range strings.Lines(string(list)) {
		name, _, _ := strings.Cut(strings.TrimSpace(line), " ")
		headers = append(headers, tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "box", Mode: 0o777})
	}
	return append(headers, tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}), nil
}

func packTar(headers []tar.Header, contents map[string][]byte) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, h := range headers {
		h.ModTime, h.Format = time.Unix(0, 0), tar.FormatUSTAR
		if err := w.WriteHeader(&h); err != nil {
			return nil, err
		}
		if _, err := w.Write(contents[h.Name]); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return buf.Bytes(), err
}

func writeGzip(out string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(out), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	z, err := gzip.NewWriterLevel(f, gzip.BestCompression)
	if err != nil {
		return err
	}
	_, err = io.Copy(z, bytes.NewReader(data))
	if err := errors.Join(err, z.Close(), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), out)
}
