package test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
)

// odd is the script command "odd NAME…": archives NAME.tar, each with one image,
// localhost/NAME:latest, in a form that a builder gives images, or with a layer of a
// form that tar allows. Without names it makes all, and lists them on stdout.
func odd(ts *testscript.TestScript, args []string) error {
	base, err := boxTar()
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = append(slices.Sorted(maps.Keys(oddForms)), slices.Sorted(maps.Keys(oddLayers))...)
		if err := os.WriteFile(ts.MkAbs("odd.list"), []byte(strings.Join(args, "\n")+"\n"), 0o644); err != nil {
			return err
		}
	}
	for _, name := range args {
		reference := "localhost/" + name + ":latest"
		var archive []byte
		form, isForm := oddForms[name]
		layer, isLayer := oddLayers[name]
		switch {
		case isForm:
			archive = form(base, reference)
		case isLayer:
			archive = dockerArchive(reference, oddConfig(base, layer()...), append([][]byte{base}, layer()...)...)
		default:
			return fmt.Errorf("no odd image %q", name)
		}
		if err := os.WriteFile(ts.MkAbs(name+".tar"), archive, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// boxTar is the layer of the image box, not compressed.
func boxTar() ([]byte, error) {
	layer, err := boxLayer()
	if err != nil {
		return nil, err
	}
	r, err := layer.Uncompressed()
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

func hexOf(data []byte) string    { return fmt.Sprintf("%x", sha256.Sum256(data)) }
func digestOf(data []byte) string { return "sha256:" + hexOf(data) }

type object = map[string]any

func encoded(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // of what is written here
	}
	return data
}

// oddConfig is an image configuration of layers.
func oddConfig(first []byte, more ...[]byte) object {
	diffIDs := []string{digestOf(first)}
	for _, l := range more {
		diffIDs = append(diffIDs, digestOf(l))
	}
	return object{
		"architecture": runtime.GOARCH, "os": "linux", "created": "2026-01-02T03:04:05Z",
		"config": object{"Env": []string{"PATH=/bin"}, "Cmd": []string{"hello"}},
		"rootfs": object{"type": "layers", "diff_ids": diffIDs},
	}
}

// files makes a tar file of plain files: name, content, name, content…
func files(pairs ...any) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		data := pairs[i+1].([]byte)
		put(w, &tar.Header{Name: pairs[i].(string), Typeflag: tar.TypeReg, Mode: 0o644}, string(data))
	}
	closed(w)
	return b.Bytes()
}

func put(w *tar.Writer, h *tar.Header, data string) {
	h.Size = int64(len(data))
	if h.ModTime.IsZero() {
		h.ModTime = created
	}
	err := w.WriteHeader(h)
	if err == nil {
		_, err = io.WriteString(w, data)
	}
	if err != nil {
		panic(err)
	}
}

func closed(w io.Closer) {
	if err := w.Close(); err != nil {
		panic(err) // of a buffer
	}
}

// layerTar makes a layer by a function that writes it.
func layerTar(write func(*tar.Writer)) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	write(w)
	closed(w)
	return b.Bytes()
}

// dockerArchive is what docker save, podman save and others write: manifest.json.
func dockerArchive(reference string, config object, layers ...[]byte) []byte {
	item := object{"Config": "c.json", "RepoTags": []string{reference}}
	pairs := []any{"c.json", encoded(config)}
	var names []string
	for i, l := range layers {
		names = append(names, fmt.Sprintf("%d.tar", i))
		pairs = append(pairs, names[i], l)
	}
	item["Layers"] = names
	return files(append(pairs, "manifest.json", encoded([]any{item}))...)
}

func gzipped(parts ...[]byte) []byte {
	var b bytes.Buffer
	for _, part := range parts {
		w := gzip.NewWriter(&b)
		w.Write(part)
		closed(w)
	}
	return b.Bytes()
}

// zstandard is a frame of blocks that are stored; see RFC 8878.
func zstandard(data []byte) []byte {
	out := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3} // no checksum, a window of 2^17
	for more := true; more; {
		block := data[:min(len(data), 1<<17)]
		data = data[len(block):]
		more = len(data) > 0
		header := len(block) << 3
		if !more {
			header |= 1
		}
		out = append(append(out, byte(header), byte(header>>8), byte(header>>16)), block...)
	}
	return out
}

// ociBlob adds a blob to the pairs of an image layout, and returns its descriptor.
func ociBlob(pairs *[]any, mediaType string, data []byte) object {
	*pairs = append(*pairs, "blobs/sha256/"+hexOf(data), data)
	return object{"mediaType": mediaType, "digest": digestOf(data), "size": len(data)}
}

const (
	ociConfigType   = "application/vnd.oci.image.config.v1+json"
	ociManifestType = "application/vnd.oci.image.manifest.v1+json"
	ociIndexType    = "application/vnd.oci.image.index.v1+json"
	ociLayerType    = "application/vnd.oci.image.layer.v1.tar"
)

func ociManifest(pairs *[]any, config object, layers ...object) object {
	m := object{"schemaVersion": 2, "mediaType": ociManifestType, "config": ociBlob(pairs, ociConfigType, encoded(config)), "layers": layers}
	return ociBlob(pairs, ociManifestType, encoded(m))
}

// ociLayout is the archive of blobs, with an index of the descriptors.
func ociLayout(pairs []any, manifests ...object) []byte {
	index := object{"schemaVersion": 2, "mediaType": ociIndexType, "manifests": manifests}
	return files(append(pairs, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`), "index.json", encoded(index))...)
}

func with(o object, key string, value any) object {
	out := maps.Clone(o)
	out[key] = value
	return out
}

func annotated(o object, key, value string) object {
	return with(o, "annotations", map[string]string{key: value})
}

// oddForms are the forms of whole images.
var oddForms = map[string]func(base []byte, reference string) []byte{
	// docker save before Docker 25: a directory for each layer, an equal one as a link,
	// and files of older ones still.
	"docker-old": func(base []byte, reference string) []byte {
		config := encoded(oddConfig(base, base))
		first, second := hexOf([]byte("1")), hexOf([]byte("2"))
		return layerTar(func(w *tar.Writer) {
			for _, id := range []string{first, second} {
				put(w, &tar.Header{Name: id + "/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
				put(w, &tar.Header{Name: id + "/VERSION", Typeflag: tar.TypeReg, Mode: 0o644}, "1.0")
				put(w, &tar.Header{Name: id + "/json", Typeflag: tar.TypeReg, Mode: 0o644}, `{"id":"`+id+`"}`)
			}
			put(w, &tar.Header{Name: first + "/layer.tar", Typeflag: tar.TypeReg, Mode: 0o644}, string(base))
			put(w, &tar.Header{Name: second + "/layer.tar", Typeflag: tar.TypeSymlink, Linkname: "../" + first + "/layer.tar", Mode: 0o777}, "")
			put(w, &tar.Header{Name: hexOf(config) + ".json", Typeflag: tar.TypeReg, Mode: 0o644}, string(config))
			put(w, &tar.Header{Name: "manifest.json", Typeflag: tar.TypeReg, Mode: 0o644}, string(encoded([]any{object{
				"Config": hexOf(config) + ".json", "RepoTags": []string{reference}, "Layers": []string{first + "/layer.tar", second + "/layer.tar"}}})))
			put(w, &tar.Header{Name: "repositories", Typeflag: tar.TypeReg, Mode: 0o644}, `{"localhost/docker-old":{"latest":"`+second+`"}}`)
		})
	},
	// Since Docker 25: an image layout, with the old manifest.json that points into it.
	"docker-new": func(base []byte, reference string) []byte {
		var pairs []any
		config := oddConfig(base)
		layer := ociBlob(&pairs, ociLayerType, base)
		manifest := ociManifest(&pairs, config, layer)
		item := object{"Config": "blobs/sha256/" + hexOf(encoded(config)), "RepoTags": []string{reference},
			"Layers": []string{"blobs/sha256/" + hexOf(base)}, "LayerSources": object{digestOf(base): layer}}
		pairs = append(pairs, "manifest.json", encoded([]any{item}), "repositories", []byte(`{}`))
		return ociLayout(pairs, with(manifest, "annotations", map[string]string{"io.containerd.image.name": reference, "org.opencontainers.image.ref.name": "latest"}))
	},
	// BuildKit: an index in the index, with attestations that are no images.
	"buildkit": func(base []byte, reference string) []byte {
		var pairs []any
		image := with(ociManifest(&pairs, oddConfig(base), ociBlob(&pairs, ociLayerType+"+gzip", gzipped(base))), "platform", object{"os": "linux", "architecture": runtime.GOARCH})
		statement := ociBlob(&pairs, "application/vnd.in-toto+json", []byte(`{"_type":"https://in-toto.io/Statement/v0.1"}`))
		attestation := with(ociManifest(&pairs, object{"architecture": "unknown", "os": "unknown", "config": object{}, "rootfs": object{"type": "layers", "diff_ids": []string{statement["digest"].(string)}}}, statement),
			"platform", object{"os": "unknown", "architecture": "unknown"})
		attestation["annotations"] = map[string]string{"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image["digest"].(string)}
		index := ociBlob(&pairs, ociIndexType, encoded(object{"schemaVersion": 2, "mediaType": ociIndexType, "manifests": []object{attestation, image}}))
		return ociLayout(pairs, with(index, "annotations", map[string]string{
			"io.containerd.image.name": reference, "org.opencontainers.image.created": "2026-01-02T03:04:05Z", "org.opencontainers.image.ref.name": "latest"}))
	},
	// BuildKit by type=docker with attestations turned off, layers by zstd.
	"zstd": func(base []byte, reference string) []byte {
		var pairs []any
		image := ociManifest(&pairs, oddConfig(base, emptyTar), ociBlob(&pairs, ociLayerType+"+zstd", zstandard(base)), ociBlob(&pairs, ociLayerType+"+zstd", zstandard(emptyTar)))
		return ociLayout(pairs, annotated(image, "io.containerd.image.name", reference))
	},
	// kaniko and crane: a docker archive whose layers are compressed, named by digest.
	"kaniko": func(base []byte, reference string) []byte {
		layer, config := gzipped(base), encoded(oddConfig(base))
		return files("sha256:"+hexOf(config), config, hexOf(layer)+".tar.gz", layer,
			"manifest.json", encoded([]any{object{"Config": "sha256:" + hexOf(config), "RepoTags": []string{reference}, "Layers": []string{hexOf(layer) + ".tar.gz"}}}))
	},
	// crane pull of several: equal layers once, an image with two names and one without.
	"crane": func(base []byte, reference string) []byte {
		layer, config, other := gzipped(base), encoded(oddConfig(base)), encoded(with(oddConfig(base), "author", "other"))
		item := func(config []byte, tags ...string) object {
			return object{"Config": "sha256:" + hexOf(config), "RepoTags": tags, "Layers": []string{hexOf(layer) + ".tar.gz"}}
		}
		return files("sha256:"+hexOf(config), config, "sha256:"+hexOf(other), other, hexOf(layer)+".tar.gz", layer,
			"manifest.json", encoded([]any{item(config, reference, "localhost/crane:second"), item(other)}))
	},
	// Nix: directories that nobody may write to, times of 1970, a layer's tar file with "./".
	"nix": func(base []byte, reference string) []byte {
		epoch := created.AddDate(-56, 0, -1)
		store := layerTar(func(w *tar.Writer) {
			for _, dir := range []string{"./", "./nix/", "./nix/store/", "./nix/store/abc-hello/"} {
				put(w, &tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o555, ModTime: epoch, Format: tar.FormatGNU}, "")
			}
			put(w, &tar.Header{Name: "./nix/store/abc-hello/hello", Typeflag: tar.TypeReg, Mode: 0o444, ModTime: epoch, Format: tar.FormatGNU}, "from nix\n")
			put(w, &tar.Header{Name: "./nix/store/abc-hello/same", Typeflag: tar.TypeLink, Linkname: "./nix/store/abc-hello/hello", Mode: 0o444, ModTime: epoch, Format: tar.FormatGNU}, "")
		})
		more := layerTar(func(w *tar.Writer) { // into the directories of the layer below
			for _, dir := range []string{"./", "./nix/", "./nix/store/", "./nix/store/def/"} {
				put(w, &tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o555, ModTime: epoch, Format: tar.FormatGNU}, "")
			}
			put(w, &tar.Header{Name: "./nix/store/def/more", Typeflag: tar.TypeReg, Mode: 0o444, ModTime: epoch, Format: tar.FormatGNU}, "more\n")
		})
		config := with(oddConfig(base, store, more), "created", "1970-01-01T00:00:01+00:00")
		return files("a/layer.tar", base, "b/layer.tar", store, "c/layer.tar", more, "x.json", encoded(config),
			"manifest.json", encoded([]any{object{"Config": "x.json", "RepoTags": []string{reference}, "Layers": []string{"./a/layer.tar", "b/layer.tar", "c/layer.tar"}}}))
	},
	// ko: a docker archive of go-containerregistry whose configuration has hardly anything, times of 0.
	"ko": func(base []byte, reference string) []byte {
		app := layerTar(func(w *tar.Writer) {
			put(w, &tar.Header{Name: "ko-app", Typeflag: tar.TypeDir, Mode: 0o555}, "")
			put(w, &tar.Header{Name: "/ko-app/app", Typeflag: tar.TypeReg, Mode: 0o555}, "ko\n")
			put(w, &tar.Header{Name: "/var/run/ko/LICENSE", Typeflag: tar.TypeReg, Mode: 0o444}, "license\n")
		})
		config := oddConfig(base, app)
		config["created"] = "0001-01-01T00:00:00Z"
		config["history"] = []object{{"author": "ko", "created_by": "ko build", "created": "0001-01-01T00:00:00Z"}}
		return dockerArchive(reference, config, gzipped(base), gzipped(app))
	},
	// A configuration with null wherever one may be, and words of nobody.
	"config-null": func(base []byte, reference string) []byte {
		config := oddConfig(base)
		config["config"] = object{"Env": []string{"PATH=/bin", "EMPTY=", "BARE"}, "Cmd": []string{"hello"}, "Entrypoint": nil, "Labels": nil, "Volumes": nil,
			"ExposedPorts": nil, "OnBuild": nil, "WorkingDir": "", "User": "", "Image": "sha256:x", "AttachStdout": false, "Unknown": []int{1}, "StopTimeout": 3}
		config["history"], config["container"], config["docker_version"], config["unknown"] = nil, "x", "1.2", object{"a": 1}
		return dockerArchive(reference, config, base)
	},
	// No history, no time, not even a type of the layers.
	"config-bare": func(base []byte, reference string) []byte {
		return dockerArchive(reference, object{"os": "linux", "architecture": runtime.GOARCH, "config": object{"Env": []string{"PATH=/bin"}},
			"rootfs": object{"diff_ids": []string{digestOf(base)}}}, base)
	},
	// The same empty layer, three times, and lines of history without any.
	"empty-layers": func(base []byte, reference string) []byte {
		config := oddConfig(base, emptyTar, emptyTar, emptyTar)
		config["history"] = []object{{"created_by": "base"}, {"created_by": "ENV", "empty_layer": true}, {"created_by": "a"}, {"created_by": "b"}, {"created_by": "c"}, {"created_by": "CMD", "empty_layer": true}}
		return dockerArchive(reference, config, base, emptyTar, gzipped(emptyTar), emptyTar)
	},
	// eStargz and others: a gzip file of several members; a media type that is not what it says.
	"members": func(base []byte, reference string) []byte {
		var pairs []any
		half := len(base) / 2
		image := ociManifest(&pairs, oddConfig(base, emptyTar), ociBlob(&pairs, ociLayerType+"+gzip", gzipped(base[:half], base[half:], nil)), ociBlob(&pairs, ociLayerType+"+gzip", emptyTar))
		return ociLayout(pairs, annotated(image, "org.opencontainers.image.ref.name", reference))
	},
	// A tar file without an end, and with one followed by something else.
	"ends": func(base []byte, reference string) []byte {
		cut := files("cut", []byte("cut\n"))
		cut = cut[:1024]
		trailing := append(files("trailing", []byte("trailing\n")), bytes.Repeat([]byte("x"), 700)...)
		return dockerArchive(reference, oddConfig(base, cut, trailing), base, cut, trailing)
	},
}

// emptyTar is a layer of nothing.
var emptyTar = make([]byte, 1024)
