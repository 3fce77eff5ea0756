package hostile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"

	"github.com/ulikunitz/xz"
)

func gz(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// frame is a frame of zstd of stored blocks, that wants a window of 2^log bytes, with
// so many mebibytes of zeros after the data; RFC 8878.
func frame(log int, data []byte, zeros int) []byte {
	b := []byte("\x28\xb5\x2f\xfd\x00")
	b = append(b, byte((log-10)<<3))
	block := func(kind, size int) {
		v := size<<3 | kind<<1
		b = append(b, byte(v), byte(v>>8), byte(v>>16))
	}
	for chunk := range slices.Chunk(data, 100_000) {
		block(0, len(chunk))
		b = append(b, chunk...)
	}
	for range zeros * 8 { // one byte, repeated
		block(1, 128<<10)
		b = append(b, 0)
	}
	return append(b, 1, 0, 0) // the last one, empty
}

// dictionary is a stream of xz that wants the largest dictionary that there is, and is
// cut in its first block.
func dictionary(data []byte) []byte {
	b := []byte("\xfd7zXZ\x00\x00\x00")
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b[6:8]))
	head := []byte{2, 0, 0x21, 1, 40, 0, 0, 0}
	b = append(b, head...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(head))
	for n, chunk := range slices.Collect(slices.Chunk(data, 1<<16)) {
		b = append(b, byte(min(n, 1)+1), byte((len(chunk)-1)>>8), byte(len(chunk)-1))
		b = append(b, chunk...)
	}
	return b
}

// bombed packs an archive, and then many times the same zeros, as streams of their own.
func bombed(pack func([]byte) []byte, times int) func([]byte) []byte {
	return func(data []byte) []byte {
		zeros := pack(make([]byte, 4<<20))
		return append(pack(data), bytes.Repeat(zeros, times)...)
	}
}

func xzip(data []byte) []byte {
	var b bytes.Buffer
	w, err := xz.NewWriter(&b)
	if err != nil {
		panic(err) // of a buffer
	}
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// bzip2 are 45 million zeros, compressed.
func bzip2() []byte {
	b, err := base64.StdEncoding.DecodeString(zeros)
	if err != nil {
		panic(err)
	}
	return b
}

const zeros = "QlpoOTFBWSZTWckBtsgBWKtAIMAAEAAACCAAMMwFKaZSSFJsVJIUni7kinChIZIDbZA="

func streams() []Archive {
	// Each is another layer: one that is there already is not read again.
	n := 0
	whole := func() func(*Tar) {
		n++
		name := fmt.Sprintf("f%d", n)
		return func(t *Tar) { t.file(name, "x"); t.end() }
	}
	size := "too large.*unpack_max_size"
	cut := func(pack func([]byte) []byte) func([]byte) []byte {
		return func(data []byte) []byte { b := pack(data); return b[:len(b)*2/3] }
	}
	random := func(t *Tar) { // what cannot be compressed away
		b := make([]byte, 300_000)
		for i := range b {
			b[i] = byte(i * i >> 7)
		}
		t.file("f", string(b))
	}
	return []Archive{
		{Name: "empty", Write: func(*Tar) {}, Error: "empty|it is not a tar|EOF", Instead: map[string]string{"layer": Any, "cp": Legal}},
		{Name: "no-end", Write: func(t *Tar) { t.file("f", "x") }},
		{Name: "cut", Write: func(t *Tar) { t.raw(block{name: "f", kind: '0', size: octal(5000)}, "x") }, Error: "unexpected EOF"},
		{Name: "cut-header", Write: func(t *Tar) {
			t.file("f", "x")
			t.out.Write(make([]byte, 0))
			t.out.Write(bytes.Repeat([]byte("x"), 300))
		}, Error: "EOF"},
		{Name: "two-archives", Write: func(t *Tar) { t.file("two", "x"); t.end(); t.file("../canary/evil", "x"); t.end() }},
		{Name: "garbage-after", Write: func(t *Tar) { t.file("before", "x"); t.end(); t.out.Write(bytes.Repeat([]byte("garbage"), 10_000)) }},
		{Name: "zeros-after", Large: true, Write: whole(), Pack: bombed(gz, 8), Error: size},
		{Name: "bomb-gzip", Large: true, Write: func(t *Tar) { t.raw(block{name: "bomb", kind: '0', size: octal(8 << 30)}, "") }, Pack: bombed(gz, 4), Error: `"bomb": .*unpack_max_size`},
		{Name: "bomb-zstd", Large: true, Write: whole(), Pack: func(b []byte) []byte { return frame(20, b, 4096) }, Error: size},
		{Name: "bomb-xz", Large: true, Write: whole(), Pack: bombed(xzip, 256), Error: size},
		{Name: "bomb-bzip2", Large: true, Write: whole(), Pack: func([]byte) []byte { return bytes.Repeat(bzip2(), 100) }, Error: size},
		{Name: "window-zstd", Write: random, Pack: func(b []byte) []byte { return frame(31, b, 300) }, Error: "wants .* of memory.*unpack_max_window"},
		{Name: "window-zstd-second", Write: random, Pack: func(b []byte) []byte { return append(frame(20, b, 0), frame(31, nil, 300)...) }, Error: "unpack_max_window"},
		{Name: "window-zstd-wide", Write: func(t *Tar) { t.file("wide", "x") }, Pack: func(b []byte) []byte { return frame(27, b, 0) }},
		{Name: "window-zstd-wide-long", Write: random, Pack: func(b []byte) []byte { return frame(27, b, 40) }, Error: "unpack_max_(window|size)"},
		{Name: "window-zstd-wide-twice", Write: random, Pack: func(b []byte) []byte { return append(frame(27, b, 0), frame(27, nil, 20)...) }, Error: "unpack_max_window"},
		{Name: "window-xz", Write: random, Pack: dictionary, Error: "wants .* of memory.*unpack_max_window"},
		{Name: "window-xz-second", Write: random, Pack: func(b []byte) []byte { return append(xzip(b), dictionary(b)...) }, Error: "unpack_max_window"},
		{Name: "gzip-twice", Write: whole(), Pack: func(b []byte) []byte { return gz(gz(b)) }, Error: "twice|not a tar file|invalid tar header|EOF"},
		{Name: "gzip-cut", Write: random, Pack: cut(gz), Error: "EOF"},
		{Name: "zstd-cut", Write: random, Pack: cut(func(b []byte) []byte { return frame(20, b, 0) }), Error: "EOF|zstd|premature end"},
		{Name: "xz-cut", Write: random, Pack: cut(xzip), Error: "EOF|xz"},
		{Name: "gzip-garbage-after", Write: whole(), Pack: func(b []byte) []byte { return append(gz(b), strings.Repeat("garbage", 100)...) }, Error: "gzip: invalid header"},
		{Name: "gzip-wrong-sum", Write: random, Pack: func(b []byte) []byte { z := gz(b); z[len(z)-5]++; return z }, Error: "checksum"},
		{Name: "magic-in-name", Write: func(t *Tar) { t.add(tar.Header{Name: "BZhx"}, "x"); t.end() }, Error: "twice|bzip2", Instead: nil},
	}
}
