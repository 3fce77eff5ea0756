package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// manyImages is how many images the store has in the rows that say so.
const manyImages = 500

// nameRows: names, removal and lists, with one image in the store and with many.
func (b *bench) nameRows() []row {
	// Other rows have removed every image.
	loaded := func(p string) func(int) error {
		return once(func() error { return b.spawn(p, "load", "-q", "-i", b.archive) })
	}
	tag := func(p string) side {
		return side{name: p, before: loaded(p), timed: b.command(p, "tag", image, "localhost/tag{}:latest"), after: b.command(p, "untag", image, "localhost/tag{}:latest")}
	}
	rmi := func(p string) side {
		return side{name: p, before: func(i int) error {
			path, err := b.images("small.tar", 1, "small")
			if err == nil {
				err = b.spawn(p, "load", "-q", "-i", path)
			}
			time.Sleep(100 * time.Millisecond)
			return err
		}, timed: b.command(p, "rmi", "localhost/small:0")}
	}
	rows := []row{
		{name: "tag", must: 0.1, stretch: 0.08, moss: tag("moss"), other: tag("podman")},
		{name: "rmi of a small image", must: 0.1, stretch: 0.08, moss: rmi("moss"), other: rmi("podman")},
	}
	if b.quick {
		return rows
	}
	filled := func(p string) func(int) error {
		return once(func() error {
			path, err := b.images("many.tar", manyImages, "many")
			if err != nil {
				return err
			}
			return b.spawn(p, "load", "-q", "-i", path)
		})
	}
	fill := map[string]func(int) error{"moss": filled("moss"), "podman": filled("podman")}
	list := func(p string) side { return side{name: p, before: fill[p], timed: b.command(p, "images")} }
	many := func(p string) side {
		s := tag(p)
		ready := s.before
		s.before = func(i int) error { return errors.Join(ready(i), fill[p](i)) }
		return s
	}
	return append(rows,
		row{name: fmt.Sprintf("images, with %d images", manyImages), must: 0.1, stretch: 0.05, pairs: 5, moss: list("moss"), other: list("podman")},
		row{name: fmt.Sprintf("tag, with %d images", manyImages), must: 0.1, stretch: 0.08, pairs: 5, moss: many("moss"), other: many("podman")})
}

// loadRow: an archive of 1 GB, as podman save writes it.
func (b *bench) loadRow() row {
	archive := filepath.Join(b.dir, "large.tar")
	written := once(func() error {
		if _, err := b.large(); err != nil {
			return err
		}
		return errors.Join(b.spawn("moss", "pull", "-q", "--tls-verify=false", b.registry+"/large:latest"),
			b.spawn("moss", "save", "-q", "-o", archive, b.registry+"/large:latest"), b.spawn("moss", "rmi", "-fa"))
	})
	load := func(p string) side {
		return side{name: p, before: written, timed: b.command(p, "load", "-q", "-i", archive), after: func(int) error { return b.spawn(p, "rmi", "-fa") }}
	}
	return row{name: "load, 10 layers, 1 GB", must: 0.5, stretch: 0.4, pairs: 3, moss: load("moss"), other: load("podman")}
}

// images writes an archive of n images localhost/NAME:0, :1…, of one layer of their
// own each, and one that all have.
func (b *bench) images(file string, n int, name string) (string, error) {
	path := filepath.Join(b.dir, file)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(name string, data []byte) error {
		if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(data))}); err != nil {
			return err
		}
		_, err := w.Write(data)
		return err
	}
	layer := func(name, text string) []byte {
		var l bytes.Buffer
		t := tar.NewWriter(&l)
		t.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(text))})
		t.Write([]byte(text))
		t.Close() // a buffer takes all
		return l.Bytes()
	}
	digest := func(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }
	base := layer("base", name)
	err := put("base.tar", base)
	var items []map[string]any
	for i := range n {
		own := layer("own", fmt.Sprint(name, i))
		config, jerr := json.Marshal(map[string]any{
			"os": "linux", "architecture": runtime.GOARCH, "created": time.Unix(1e9+int64(i), 0).UTC(), "config": map[string]any{"Labels": map[string]string{"n": fmt.Sprint(i)}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + digest(base), "sha256:" + digest(own)}},
		})
		err = errors.Join(err, jerr, put(fmt.Sprint(i, ".tar"), own), put(fmt.Sprint(i, ".json"), config))
		items = append(items, map[string]any{"Config": fmt.Sprint(i, ".json"), "RepoTags": []string{fmt.Sprint("localhost/", name, ":", i)}, "Layers": []string{"base.tar", fmt.Sprint(i, ".tar")}})
	}
	list, jerr := json.Marshal(items)
	if err = errors.Join(err, jerr, put("manifest.json", list), w.Close()); err != nil {
		return "", err
	}
	return path, os.WriteFile(path, out.Bytes(), 0o644)
}
