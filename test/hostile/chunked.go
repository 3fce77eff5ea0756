package hostile

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"math/rand/v2"
	"strings"
)

// chunked is a layer that is zstd:chunked, of two files: big, which every one has, and
// one more. What its list of files says can be changed, while what is in the blob stays
// what the manifest and the configuration say: who does not trust the list, or finds it lie, can pull it.
type chunked struct {
	name, content string
	list          func(toc doc, files []doc, canary string) any // another list, or the changed one
	parts         func(lines []string) []string                 // of the archive without its files
	packList      func([]byte) []byte
	packSplit     func([]byte) []byte
	packFile      func([]byte) []byte // as the list says where it is, not as it is in the archive
	annotate      func(doc, int)      // of the layer, whose blob is that long
	link          bool                // the file is a symbolic link
	diffID        string
}

// big is what makes fetching parts worth it.
func big() []byte {
	data := make([]byte, 60_000)
	rand.NewChaCha8([32]byte{7}).Read(data)
	return data
}

func skippable(data []byte) []byte {
	return append(binary.LittleEndian.AppendUint32([]byte("\x50\x2a\x4d\x18"), uint32(len(data))), data...)
}

func (c chunked) make(canary string) Files {
	if c.name == "" {
		c.name = "small"
	}
	var blob, plain bytes.Buffer
	var lines []string
	split := func(kind int, name string, size int, payload []byte) {
		lines = append(lines, fmt.Sprintf(`{"type":%d,"name":%q,"size":%d,"payload":%q,"position":%d}`, kind, name, size, base64.StdEncoding.EncodeToString(payload), len(lines)))
	}
	between := func(data []byte) {
		plain.Write(data)
		blob.Write(frame(17, data, 0))
		split(2, "", 0, data)
	}
	var files []doc
	for _, f := range []struct {
		name string
		data []byte
	}{{"big", big()}, {c.name, []byte(c.content)}} {
		h := tar.Header{Name: f.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(f.data))}
		if c.link && f.name != "big" {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, canary+"/file", 0
		}
		var head bytes.Buffer
		w := tar.NewWriter(&head)
		if err := w.WriteHeader(&h); err != nil {
			panic(err) // of the corpus itself
		}
		between(head.Bytes())
		entry := doc{"type": "reg", "name": f.name, "size": len(f.data), "digest": Sum(f.data)}
		if h.Size > 0 {
			at := blob.Len()
			packed := frame(17, f.data, 0)
			if c.packFile != nil && f.name != "big" {
				packed = c.packFile(f.data)
			}
			blob.Write(packed)
			plain.Write(f.data)
			crc := crc64.Checksum(f.data, crc64.MakeTable(crc64.ISO))
			split(1, f.name, len(f.data), binary.BigEndian.AppendUint64(nil, crc))
			entry["offset"], entry["endOffset"] = at, blob.Len()
			between(make([]byte, (512-len(f.data)%512)%512))
		}
		files = append(files, entry)
	}
	between(make([]byte, 1024))
	toc := any(doc{"version": 1, "entries": files})
	if c.list != nil {
		toc = c.list(toc.(doc), files, canary)
	}
	packedList := frame(17, encode(toc), 0)
	if c.packList != nil {
		packedList = c.packList(encode(toc))
	}
	if c.parts != nil {
		lines = c.parts(lines)
	}
	blob.Write(skippable(nil))
	at := blob.Len() + 8
	blob.Write(skippable(packedList))
	packedSplit := frame(17, []byte(strings.Join(lines, "\n")+"\n"), 0)
	splitAt := blob.Len() + 8
	if c.packSplit != nil {
		packedSplit = c.packSplit([]byte(strings.Join(lines, "\n") + "\n"))
	}
	blob.Write(skippable(packedSplit))
	annotations := doc{
		"io.github.containers.zstd-chunked.manifest-position": fmt.Sprintf("%d:%d:%d:1", at, len(packedList), len(packedList)),
		"io.github.containers.zstd-chunked.manifest-checksum": Sum(packedList),
		"io.github.containers.zstd-chunked.tarsplit-position": fmt.Sprintf("%d:%d:%d", splitAt, len(packedSplit), len(packedSplit)),
	}
	if c.annotate != nil {
		c.annotate(annotations, blob.Len())
	}
	return oci{layer: blob.Bytes(), plain: plain.Bytes(), config: func(d doc) any {
		if c.diffID != "" {
			d["rootfs"].(doc)["diff_ids"] = []string{c.diffID}
		}
		return d
	}, manifest: func(m doc) any {
		l := m["layers"].([]doc)[0]
		l["mediaType"], l["annotations"] = typeLayer+"+zstd", annotations
		return m
	}}.make()
}

// ChunkedImages are images whose layer says falsely which files it has and where. The
// first is honest: its files are in the store when the others come, which is when a list
// is believed. Error is what must be said; with it they are pulled all the same, as a
// whole, but for those with Refused.
func ChunkedImages() []Image {
	n := 0
	image := func(name, want string, c chunked) Image {
		n++
		if c.content == "" {
			c.content = fmt.Sprintf("content %d", n) // no layer is another's
		}
		return Image{Name: "chunked-" + name, Files: c.make, Error: want}
	}
	second := func(edit func(f doc)) func(doc, []doc, string) any {
		return func(toc doc, files []doc, _ string) any { edit(files[1]); return toc }
	}
	position := func(key, text string) func(doc, int) {
		return func(a doc, _ int) { a["io.github.containers.zstd-chunked."+key] = text }
	}
	const whole = "Downloading all of layer.*"
	const parts = "the other files are here"
	const huge = 1 << 50
	// These are in the store, and lead elsewhere; what needs them comes later.
	lead := func(name string, link bool) Image {
		return image("leads-"+name, Any, chunked{name: "f" + name, link: link, list: func(toc doc, files []doc, canary string) any {
			if !link {
				files[1]["name"] = "../../../../../../../../../../../../../.." + canary + "/file"
			}
			files[1]["digest"], files[1]["size"] = Sum([]byte("secret")), len("secret")
			return toc
		}})
	}
	return []Image{
		image("honest", "", chunked{}),
		image("honest-again", parts, chunked{}),
		image("list-digest", whole+"its list of files is sha256", chunked{annotate: position("manifest-checksum", Sum([]byte("other")))}),
		image("list-outside", "", chunked{annotate: position("manifest-position", "1000000:500:500:1")}),
		image("list-negative", "", chunked{annotate: position("manifest-position", "-5:500:500:1")}),
		image("list-overflow", "", chunked{annotate: position("manifest-position", "9223372036854775807:9223372036854775807:1:1")}),
		image("list-long", "", chunked{annotate: func(a doc, n int) {
			a["io.github.containers.zstd-chunked.manifest-position"] = fmt.Sprintf("1:%d:1:1", int64(1)<<40)
		}}),
		image("list-bomb", whole+"(16 MiB|limit)", chunked{packList: func(b []byte) []byte { return frame(17, b, 400) }}),
		image("list-window", whole, chunked{packList: func(b []byte) []byte { return frame(31, b, 0) }}),
		image("list-many", whole+"more than 100000", chunked{list: func(doc, []doc, string) any {
			return `{"version":1,"entries":[{}` + strings.Repeat(",{}", 1_300_000) + "]}"
		}}),
		image("list-deep", whole+"nest", chunked{list: func(doc, []doc, string) any {
			return `{"version":1,"entries":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"
		}}),
		image("list-is-none", whole, chunked{list: func(doc, []doc, string) any { return "what?" }}),
		image("list-version", whole+"version 2", chunked{list: func(toc doc, _ []doc, _ string) any { toc["version"] = 2; return toc }}),
		image("list-empty", whole+"not in its list", chunked{list: func(toc doc, f []doc, _ string) any { toc["entries"] = f[:1]; return toc }}),
		image("name-dotdot", whole+"not in its list", chunked{list: func(toc doc, f []doc, canary string) any {
			f[1]["name"] = "../../../.." + canary + "/evil"
			return toc
		}}),
		image("name-absolute", whole+"not in its list", chunked{list: func(toc doc, f []doc, canary string) any { f[1]["name"] = canary + "/evil"; return toc }}),
		image("name-twice", Any, chunked{list: func(toc doc, f []doc, _ string) any {
			toc["entries"] = append(f, doc{"type": "reg", "name": "small", "size": 60_000, "digest": f[0]["digest"]})
			return toc
		}}),
		image("offset-outside", whole+"not within the blob", chunked{list: second(func(f doc) { f["endOffset"] = 10_000_000 })}),
		image("offset-negative", whole+"not within the blob", chunked{list: second(func(f doc) { f["offset"] = -5 })}),
		image("offset-backwards", whole+"not within the blob", chunked{list: second(func(f doc) { f["offset"] = f["endOffset"].(int) + 1 })}),
		image("offset-elsewhere", "", chunked{list: second(func(f doc) { f["offset"] = 1 })}),
		image("offset-overlaps", whole+"within another|"+whole+"EOF", chunked{list: func(toc doc, f []doc, _ string) any {
			toc["entries"] = append(f, doc{"type": "reg", "name": "more", "size": 5, "digest": Sum([]byte("other")), "offset": f[1]["offset"].(int) + 2, "endOffset": f[1]["endOffset"]})
			return toc
		}}),
		image("size-huge", whole+"MiB", chunked{list: second(func(f doc) { f["size"] = huge })}),
		image("size-many", whole+"MiB", chunked{list: func(toc doc, f []doc, _ string) any {
			for n := range 100 {
				f = append(f, doc{"type": "reg", "name": fmt.Sprint(n), "size": 1 << 20, "digest": Sum([]byte(fmt.Sprint(n))), "offset": f[1]["offset"], "endOffset": f[1]["endOffset"]})
			}
			toc["entries"] = f
			return toc
		}}),
		image("size-large", whole, chunked{list: second(func(f doc) { f["size"] = f["size"].(int) + 1 })}),
		image("size-small", whole, chunked{list: second(func(f doc) { f["size"] = 1 })}),
		image("digest-other", whole+"the list says", chunked{list: second(func(f doc) { f["digest"] = Sum([]byte("other")) })}),
		image("digest-of-another", whole, chunked{list: func(toc doc, f []doc, _ string) any {
			f[1]["digest"], f[1]["size"] = f[0]["digest"], f[0]["size"]
			return toc
		}}),
		image("digest-path", whole, chunked{list: second(func(f doc) { f["digest"] = "sha256:../../../../canary/file" })}),
		image("chunk-zeros", whole+"not as large as its parts", chunked{list: func(toc doc, f []doc, _ string) any {
			toc["entries"] = append(f, doc{"type": "chunk", "name": "small", "chunkType": "zeros", "chunkSize": huge})
			return toc
		}}),
		image("chunk-negative", whole+"not as large as its parts", chunked{list: func(toc doc, f []doc, _ string) any {
			toc["entries"] = append(f, doc{"type": "chunk", "name": "small", "chunkSize": -huge, "offset": f[1]["offset"]})
			return toc
		}}),
		image("file-bomb", parts, chunked{list: second(func(doc) {}), packFile: func(b []byte) []byte { return append(frame(17, b, 0), skippable(make([]byte, 100))...) }}),
		image("split-is-none", whole, chunked{parts: func([]string) []string { return []string{"what?"} }}),
		image("split-dotdot", whole, chunked{parts: func(l []string) []string {
			return []string{`{"type":1,"name":"../../../../etc/passwd","size":5,"position":0}`}
		}}),
		image("split-other", whole+"leads out", chunked{parts: func(l []string) []string {
			evil := Bytes("", func(t *Tar) { t.file("../evil", "x") })
			return []string{fmt.Sprintf(`{"type":2,"payload":%q,"position":0}`, base64.StdEncoding.EncodeToString(evil))}
		}}),
		image("split-bomb", whole, chunked{packSplit: func(b []byte) []byte { return frame(17, b, 400) }}),
		image("split-endless", whole+"more than 1 MiB", chunked{packSplit: func([]byte) []byte {
			return bytes.ReplaceAll(frame(17, nil, 1000), []byte("\x02\x00\x10\x00"), []byte("\x02\x00\x10\n")) // lines of nothing
		}}),
		image("split-outside", "", chunked{annotate: position("tarsplit-position", "5:100000000:1")}),
		image("content-other", "its content is sha256", chunked{diffID: Sum([]byte("another layer"))}),
		lead("out", false),
		image("taken", whole, chunked{content: "secret"}),
		lead("link", true),
		image("taken-through-link", whole, chunked{name: "other", content: "secret"}),
	}
}
