package hostile

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// File is one of an image archive: with content, or a symbolic link, or a FIFO.
type File struct {
	Data []byte
	Link string
	Fifo bool
}

// Files is an image archive, or an image layout, by the names of its files.
type Files map[string]File

// Image is a hostile image: its documents, not its layers. Error is as in Archive.
type Image struct {
	Name    string
	Files   func(canary string) Files
	Error   string
	Instead map[string]string
}

// Tar is the archive as one file.
func (f Files) Tar() []byte {
	return Bytes("", func(t *Tar) {
		for _, name := range f.names() {
			switch file := f[name]; {
			case file.Link != "":
				t.symlink(name, file.Link)
			case file.Fifo:
				t.add(tar.Header{Name: name, Typeflag: tar.TypeFifo}, "")
			default:
				t.file(name, string(file.Data))
			}
		}
		t.end()
	})
}

func (f Files) names() []string {
	var all []string
	for name := range f {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// Write unpacks the archive into a directory.
func (f Files) Write(dir string) error {
	for _, name := range f.names() {
		path := filepath.Join(dir, name)
		if !strings.HasPrefix(path, dir+"/") {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		var err error
		switch file := f[name]; {
		case file.Link != "":
			err = os.Symlink(file.Link, path)
		case file.Fifo:
			err = syscall.Mkfifo(path, 0o644)
		default:
			err = os.WriteFile(path, file.Data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Sum is the digest of data.
func Sum(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// doc is a JSON object.
type doc = map[string]any

func encode(v any) []byte {
	if raw, ok := v.(string); ok {
		return []byte(raw)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // of the corpus itself
	}
	return b
}

const (
	typeIndex    = "application/vnd.oci.image.index.v1+json"
	typeManifest = "application/vnd.oci.image.manifest.v1+json"
	typeConfig   = "application/vnd.oci.image.config.v1+json"
	typeLayer    = "application/vnd.oci.image.layer.v1.tar"
)

// Plain is the layer of the images whose documents are hostile.
func Plain() []byte { return Bytes("", func(t *Tar) { t.file("f", "x"); t.end() }) }

func config(layers ...[]byte) doc {
	ids := []string{}
	for _, l := range layers {
		ids = append(ids, Sum(l))
	}
	return doc{"os": "linux", "architecture": runtime.GOARCH, "config": doc{"Cmd": []string{"true"}}, "rootfs": doc{"type": "layers", "diff_ids": ids}}
}

func blob(f Files, data []byte) string {
	sum := Sum(data)
	f["blobs/sha256/"+strings.TrimPrefix(sum, "sha256:")] = File{Data: data}
	return sum
}

func describe(mediaType string, data []byte) doc {
	return doc{"mediaType": mediaType, "digest": Sum(data), "size": len(data)}
}

// oci is an OCI layout, whose documents the edits may change before they are named by
// their digests. An edit may return another document, even one that is none.
type oci struct {
	config, manifest, index func(doc) any
	files                   func(Files)
	layer                   []byte // as it is packed
	plain                   []byte // what the configuration says of it
}

func (o oci) make() Files {
	edit := func(f func(doc) any, d doc) []byte {
		if f == nil {
			return encode(d)
		}
		return encode(f(d))
	}
	if o.layer == nil {
		o.layer = Plain()
	}
	if o.plain == nil {
		o.plain = o.layer
	}
	f := Files{"oci-layout": {Data: []byte(`{"imageLayoutVersion":"1.0.0"}`)}}
	c := edit(o.config, config(o.plain))
	m := edit(o.manifest, doc{"schemaVersion": 2, "mediaType": typeManifest, "config": describe(typeConfig, c), "layers": []doc{describe(typeLayer, o.layer)}})
	blob(f, o.layer)
	blob(f, c)
	blob(f, m)
	entry := describe(typeManifest, m)
	entry["annotations"] = doc{"org.opencontainers.image.ref.name": "localhost/hostile:latest"}
	f["index.json"] = File{Data: edit(o.index, doc{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []doc{entry}})}
	if o.files != nil {
		o.files(f)
	}
	return f
}

// Layer is an OCI layout with one layer, which is packed, of what is plain.
func Layer(packed, plain []byte) Files { return oci{layer: packed, plain: plain}.make() }

// Docker is the same as docker save writes it.
func Docker(packed, plain []byte) Files { return docker{layer: packed, plain: plain}.make() }

type docker struct {
	config   func(doc) any
	manifest func([]doc) any
	files    func(Files)
	layer    []byte
	plain    []byte
}

func (d docker) make() Files {
	if d.layer == nil {
		d.layer = Plain()
	}
	if d.plain == nil {
		d.plain = d.layer
	}
	c := any(config(d.plain))
	if d.config != nil {
		c = d.config(c.(doc))
	}
	m := any([]doc{{"Config": "config.json", "RepoTags": []string{"localhost/hostile:latest"}, "Layers": []string{"layer.tar"}}})
	if d.manifest != nil {
		m = d.manifest(m.([]doc))
	}
	f := Files{"config.json": {Data: encode(c)}, "layer.tar": {Data: d.layer}, "manifest.json": {Data: encode(m)}}
	if d.files != nil {
		d.files(f)
	}
	return f
}

// DockerImages are in the form of docker save.
func DockerImages() []Image {
	file := func(name string, f File) func(Files) { return func(all Files) { all[name] = f } }
	set := func(key string, value any) func(string) Files {
		return func(string) Files {
			return docker{manifest: func(m []doc) any { m[0][key] = value; return m }}.make()
		}
	}
	diffs := func(ids any) func(string) Files {
		return func(string) Files {
			return docker{config: func(c doc) any { c["rootfs"].(doc)["diff_ids"] = ids; return c }}.make()
		}
	}
	return []Image{
		{Name: "layer-outside", Files: func(canary string) Files {
			return docker{manifest: func(m []doc) any { m[0]["Layers"] = []string{"../../../../../../.." + canary + "/file"}; return m }}.make()
		}, Error: "file does not exist|no such file"},
		{Name: "layer-absolute", Files: func(canary string) Files {
			return docker{manifest: func(m []doc) any { m[0]["Layers"] = []string{canary + "/file"}; return m }}.make()
		}, Error: "file does not exist|no such file"},
		{Name: "layer-symlink-out", Files: func(canary string) Files {
			return docker{files: file("layer.tar", File{Link: canary + "/layer.tar"})}.make()
		}, Error: "does not exist|escapes"},
		{Name: "layer-symlink-dotdot", Files: func(canary string) Files {
			return docker{files: file("layer.tar", File{Link: "../../../../../../.." + canary + "/layer.tar"})}.make()
		}, Error: "does not exist|escapes"},
		{Name: "layer-symlink-cycle", Files: func(string) Files {
			return docker{files: func(f Files) { f["layer.tar"], f["b"] = File{Link: "b"}, File{Link: "layer.tar"} }}.make()
		}, Error: "does not exist|too many"},
		{Name: "layer-fifo", Files: func(string) Files { return docker{files: file("layer.tar", File{Fifo: true})}.make() }, Error: "does not exist|not a regular file"},
		{Name: "config-fifo", Files: func(string) Files { return docker{files: file("config.json", File{Fifo: true})}.make() }, Error: "does not exist|not a regular file"},
		{Name: "config-outside", Files: set("Config", "../../../../../../../etc/passwd"), Error: "does not exist|no such file"},
		{Name: "config-is-layer", Files: set("Config", "layer.tar"), Error: "configuration"},
		{Name: "manifest-huge", Files: func(string) Files {
			return docker{manifest: func([]doc) any { return "[" + strings.Repeat(" ", 5<<20) + "]" }}.make()
		}, Error: "at most 4194304"},
		{Name: "manifest-many", Files: func(string) Files {
			return docker{manifest: func([]doc) any { return "[{}" + strings.Repeat(",{}", 1_300_000) + "]" }}.make()
		}, Error: "more than 50000 values"},
		{Name: "manifest-deep", Files: func(string) Files {
			return docker{manifest: func([]doc) any {
				return `[{"Config":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}]"
			}}.make()
		}, Error: "nest more than 64"},
		{Name: "manifest-empty", Files: func(string) Files { return docker{manifest: func([]doc) any { return "[]" }}.make() }, Error: "no image"},
		{Name: "manifest-none", Files: func(string) Files { return docker{manifest: func([]doc) any { return "[null, 5]" }}.make() }, Error: "cannot unmarshal|manifest.json"},
		{Name: "manifest-cut", Files: func(string) Files {
			return docker{manifest: func([]doc) any { return `[{"Config":"config.json"` }}.make()
		}, Error: "unexpected end"},
		{Name: "many-images", Files: func(string) Files { // each with the same large configuration
			return docker{config: func(c doc) any { c["author"] = strings.Repeat("a", 3<<20); return c }, manifest: func(m []doc) any { return slices.Repeat(m, 300) }}.make()
		}, Error: "more than 24 MiB"},
		{Name: "many-layers", Files: func(string) Files {
			return docker{
				config:   func(c doc) any { return config(slices.Repeat([][]byte{Plain()}, 20_000)...) },
				manifest: func(m []doc) any { m[0]["Layers"] = slices.Repeat([]string{"layer.tar"}, 20_000); return m },
			}.make()
		}, Error: "20000 layers; the kernel mounts 500"},
		{Name: "diff-ids-few", Files: diffs([]string{}), Error: "0 layers, the manifest has 1"},
		{Name: "diff-ids-many", Files: diffs([]string{Sum(nil), Sum(Plain())}), Error: "2 layers, the manifest has 1"},
		{Name: "diff-id-wrong", Files: diffs([]string{Sum([]byte("other"))}), Error: "its content is sha256:.*the image says"},
		{Name: "diff-id-path", Files: diffs([]string{"sha256:../../../../../../../../canary/evil/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}), Error: "digest"},
		{Name: "diff-id-algorithm", Files: diffs([]string{"md5:" + strings.Repeat("a", 32)}), Error: "digest"},
		{Name: "tag-path", Files: set("RepoTags", []string{"../../canary/evil:latest"}), Error: "invalid reference"},
		{Name: "tag-control", Files: set("RepoTags", []string{"localhost/a\n\x1b[2J:latest"}), Error: "invalid reference"},
		{Name: "tag-huge", Files: set("RepoTags", []string{"localhost/" + strings.Repeat("a", 1<<20)}), Error: "invalid reference"},
		{Name: "keys-twice", Files: func(string) Files {
			return docker{manifest: func([]doc) any {
				return `[{"Config":"nothing","Config":"config.json","config":"config.json","RepoTags":null,"Layers":["nothing"],"Layers":["layer.tar"]}]`
			}}.make()
		}},
		{Name: "config-values", Files: func(canary string) Files {
			return docker{config: func(c doc) any {
				c["config"] = doc{"User": "../../x\n", "WorkingDir": "../../../.." + canary, "Env": []string{"=", "\x00", "LD_PRELOAD=" + canary}, "Volumes": doc{"../../../.." + canary: doc{}, "/proc/self": doc{}}}
				c["history"] = slices.Repeat([]doc{{"created_by": "\x1b[2J\n"}}, 1000)
				return c
			}}.make()
		}},
	}
}

// OCIImages are OCI layouts, and what a registry may answer.
func OCIImages() []Image {
	config := func(edit func(doc) any) func(string) Files {
		return func(string) Files { return oci{config: edit}.make() }
	}
	manifest := func(edit func(doc) any) func(string) Files {
		return func(string) Files { return oci{manifest: edit}.make() }
	}
	index := func(edit func(doc) any) func(string) Files {
		return func(string) Files { return oci{index: edit}.make() }
	}
	layers := func(d doc) doc { return d["layers"].([]doc)[0] }
	pull := func(s string) map[string]string { return map[string]string{"pull": s} }
	return []Image{
		{Name: "oci-layer-digest-wrong", Files: func(string) Files {
			return oci{files: func(f Files) {
				f["blobs/sha256/"+strings.TrimPrefix(Sum(Plain()), "sha256:")] = File{Data: []byte(strings.Repeat("x", len(Plain())))}
			}}.make()
		}, Error: "digest|content is|not a tar file"},
		{Name: "oci-layer-digest-path", Files: manifest(func(m doc) any {
			layers(m)["digest"] = "sha256:../../../../../../../canary/file"
			return m
		}), Error: "digest"},
		{Name: "oci-layer-size-wrong", Files: manifest(func(m doc) any { layers(m)["size"] = 5; return m }), Error: "bytes"},
		{Name: "oci-layer-size-negative", Files: manifest(func(m doc) any { layers(m)["size"] = -5; return m }), Error: "size -5"},
		{Name: "oci-layer-size-huge", Files: manifest(func(m doc) any { layers(m)["size"] = int64(1) << 62; return m }), Error: "bytes|no space|size", Instead: nil},
		{Name: "oci-layer-link", Files: func(canary string) Files {
			return oci{files: func(f Files) {
				f["blobs/sha256/"+strings.TrimPrefix(Sum(Plain()), "sha256:")] = File{Link: canary + "/layer.tar"}
			}}.make()
		}, Error: "does not exist|escapes", Instead: pull("not found|404")},
		{Name: "oci-layer-link-directory", Files: func(canary string) Files {
			return oci{files: func(f Files) {
				for _, name := range f.names() {
					if strings.HasPrefix(name, "blobs/") {
						delete(f, name)
					}
				}
				f["blobs"] = File{Link: canary}
			}}.make()
		}, Error: "does not exist|escapes|no such", Instead: pull("not found|404|unexpected")},
		{Name: "oci-index-fifo", Files: func(string) Files { return oci{files: func(f Files) { f["index.json"] = File{Fifo: true} }}.make() }, Error: "not a regular file|neither|does not exist", Instead: pull(".")},
		{Name: "oci-index-link", Files: func(canary string) Files {
			return oci{files: func(f Files) { f["index.json"] = File{Link: canary + "/index.json"} }}.make()
		}, Error: "escapes|neither|does not exist", Instead: pull(".")},
		{Name: "oci-index-huge", Files: index(func(d doc) any { return "{" + strings.Repeat(" ", 5<<20) + "}" }), Error: "at most 4194304"},
		{Name: "oci-index-many", Files: index(func(d doc) any { return `{"schemaVersion":2,"manifests":[{}` + strings.Repeat(",{}", 1_300_000) + "]}" }), Error: "more than 50000 values"},
		{Name: "oci-index-deep", Files: index(func(d doc) any {
			return `{"schemaVersion":2,"manifests":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}"
		}), Error: "nest more than 64"},
		{Name: "oci-index-cycle", Files: index(cycle), Error: "digest|nest too deeply|does not exist|no such file|not found"},
		{Name: "oci-index-chain", Files: func(string) Files {
			return oci{files: func(f Files) {
				top := f["index.json"].Data
				for range 10 {
					blob(f, top)
					top = encode(doc{"schemaVersion": 2, "mediaType": typeIndex, "manifests": []doc{describe(typeIndex, top)}})
				}
				f["index.json"] = File{Data: top}
			}}.make()
		}, Error: "nest too deeply"},
		{Name: "oci-index-digest-wrong", Files: index(func(d doc) any { d["manifests"].([]doc)[0]["digest"] = Sum([]byte("x")); return d }), Error: "does not exist|no such file|not found"},
		{Name: "oci-index-digest-none", Files: index(func(d doc) any { delete(d["manifests"].([]doc)[0], "digest"); return d }), Error: "digest"},
		{Name: "oci-index-digest-bare", Files: index(func(d doc) any { d["manifests"].([]doc)[0]["digest"] = "../../../../canary/file"; return d }), Error: "digest"},
		{Name: "oci-index-digest-algorithm", Files: index(func(d doc) any { d["manifests"].([]doc)[0]["digest"] = "md5:" + strings.Repeat("a", 32); return d }), Error: "digest"},
		{Name: "oci-manifest-and-index", Files: manifest(func(m doc) any { m["manifests"] = []doc{describe(typeManifest, Plain())}; return m }), Error: "an index as well"},
		{Name: "oci-manifest-many-layers", Files: manifest(func(m doc) any { m["layers"] = slices.Repeat([]doc{layers(m)}, 12_000); return m }), Error: "layers|values"},
		{Name: "oci-manifest-huge", Files: manifest(func(m doc) any { return "{" + strings.Repeat(" ", 5<<20) + "}" }), Error: "4194304"},
		{Name: "oci-manifest-is-list", Files: manifest(func(m doc) any { return `[1]` }), Error: "cannot unmarshal|manifest"},
		{Name: "oci-manifest-no-config", Files: manifest(func(m doc) any { delete(m, "config"); return m }), Error: "digest"},
		{Name: "oci-config-wrong", Files: manifest(func(m doc) any { m["config"] = describe(typeConfig, []byte("{}")); return m }), Error: "does not exist|no such file|not found|404"},
		{Name: "oci-config-huge", Files: config(func(c doc) any { c["author"] = strings.Repeat("a", 5<<20); return c }), Error: "4194304"},
		{Name: "oci-config-many", Files: config(func(c doc) any { c["history"] = slices.Repeat([]doc{{}}, 600_000); return c }), Error: "more than 50000 values"},
		{Name: "oci-config-deep", Files: config(func(c doc) any {
			return `{"config":` + strings.Repeat("[", 1_000_000) + strings.Repeat("]", 1_000_000) + "}"
		}), Error: "nest more than 64"},
		{Name: "oci-config-few-layers", Files: config(func(c doc) any { delete(c, "rootfs"); return c }), Error: "0 layers, the manifest has 1"},
		{Name: "oci-config-many-layers", Files: config(func(c doc) any { c["rootfs"].(doc)["diff_ids"] = slices.Repeat([]string{Sum(Plain())}, 3); return c }), Error: "3 layers, the manifest has 1"},
		{Name: "oci-config-other-diff", Files: config(func(c doc) any { c["rootfs"].(doc)["diff_ids"] = []string{Sum([]byte("x"))}; return c }), Error: "its content is"},
		{Name: "oci-name-control", Files: index(func(d doc) any {
			d["manifests"].([]doc)[0]["annotations"] = doc{"org.opencontainers.image.ref.name": "localhost/a\n\x1b[2J"}
			return d
		}), Error: "invalid reference", Instead: pull(Legal)},
		{Name: "oci-keys-twice", Files: manifest(func(m doc) any {
			return strings.Replace(string(encode(m)), `"schemaVersion":2`, fmt.Sprintf(`"schemaVersion":2,"Layers":[],"schemaversion":2,"layers":%s`, encode(m["layers"])), 1)
		}), Error: Any},
	}
}

// cycle makes an index that names itself, which no digest can do: one that is wrong.
func cycle(d doc) any {
	d["manifests"] = []doc{{"mediaType": typeIndex, "digest": Sum([]byte("cycle")), "size": 100}}
	return d
}
