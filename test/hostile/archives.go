package hostile

import (
	"archive/tar"
	"encoding/binary"
	"fmt"
	"strings"
)

// Archive is a hostile tar archive: a layer, or what import, volume import and cp read.
type Archive struct {
	Name  string
	Write func(*Tar)
	Pack  func([]byte) []byte // compresses it; nil: not
	// Error is a regular expression for what must be said; "" is success: the form
	// is legal, or does no harm where it is unpacked. Instead says it of an entrance, or
	// of a group: "layer" is pull, load and import.
	Error   string
	Instead map[string]string
	Large   bool // too large to be varied
}

// Seed is an archive to begin with for a fuzz test, nil if it is too large for that.
func (a Archive) Seed(packed bool) []byte {
	if a.Large {
		return nil
	}
	data := Bytes("/canary", a.Write)
	if packed && a.Pack != nil {
		data = a.Pack(data)
	}
	return data
}

// Legal is the entry of Instead for an entrance where the form does no harm.
const Legal = "-"

// Archives is the corpus.
func Archives() []Archive {
	all := names()
	for _, some := range [][]Archive{links(), kinds(), whiteouts(), headers(), sizes(), attributes(), streams()} {
		all = append(all, some...)
	}
	return all
}

func names() []Archive {
	leads := "leads out"
	return []Archive{
		{Name: "dotdot", Write: func(t *Tar) { t.file("../canary/evil", "x") }, Error: `"../canary/evil": it leads out`},
		{Name: "dotdot-far", Write: func(t *Tar) { t.file(t.Up+t.Canary[1:]+"/evil", "x") }, Error: leads},
		{Name: "dotdot-inside", Write: func(t *Tar) { t.dir("a"); t.file("a/../../../canary/evil", "x") }, Error: leads},
		{Name: "dotdot-back", Write: func(t *Tar) { t.dir("a"); t.file("a/../b", "x") }, Instead: map[string]string{"cp": leads}},
		{Name: "dotdot-only", Write: func(t *Tar) { t.add(tar.Header{Name: "../", Typeflag: tar.TypeDir, Mode: 0o777}, "") }, Error: leads},
		{Name: "dotdot-pax", Write: func(t *Tar) {
			t.raw(block{name: "p", kind: 'x'}, record("path", "../../canary/evil"))
			t.file("x", "x")
		}, Error: leads},
		{Name: "dotdot-gnu", Write: func(t *Tar) {
			t.raw(block{name: "././@LongLink", kind: 'L', magic: "ustar  \x00"}, "../../canary/evil\x00")
			t.raw(block{name: "x", kind: '0', magic: "ustar  \x00"}, "x")
		}, Error: leads},
		{Name: "absolute", Write: func(t *Tar) { t.file(t.Canary+"/evil", "x") }},
		{Name: "absolute-overwrites", Write: func(t *Tar) { t.file(t.Canary+"/file", "x") }},
		{Name: "root-is-file", Write: func(t *Tar) { t.add(tar.Header{Name: ".", Mode: 0o4777}, "x") }, Error: `non-directory|no name`},
		{Name: "root-is-link", Write: func(t *Tar) { t.symlink(".", t.Canary); t.file("evil", "x") }, Error: `non-directory|no name`},
		{Name: "root-mode", Write: func(t *Tar) { t.add(tar.Header{Name: "./", Typeflag: tar.TypeDir, Mode: 0o7777, Uid: 1}, "") }},
		{Name: "newline", Write: func(t *Tar) { t.file("a\nb", "x"); t.file("a\r\x1b[2J\x07", "x") }},
		{Name: "newline-refused", Write: func(t *Tar) { t.file("../a\nError: all is well", "x") }, Error: `"../a\\nError: all is well": it leads out`},
		{Name: "control-refused", Write: func(t *Tar) { t.file("../\x1b]0;x\x07\x1b[2J", "x") }, Error: `"../\\x1b\]0;x\\a\\x1b\[2J": it leads out`},
		{Name: "nul-pax", Write: func(t *Tar) {
			t.raw(block{name: "p", kind: 'x'}, record("path", "good\x00/../../canary/evil"))
			t.file("x", "x")
		}, Error: "invalid tar header|NUL"},
		{Name: "invalid-utf8", Write: func(t *Tar) { t.raw(block{name: "a\xff\xfe\xc0\xaf", kind: '0'}, "x") }},
		{Name: "overlong-slash", Write: func(t *Tar) { t.raw(block{name: "..\xc0\xafcanary\xc0\xafevil", kind: '0'}, "x") }},
		{Name: "long-part", Write: func(t *Tar) { t.file(strings.Repeat("n", 256), "x") }, Error: `"nnn.*has 256 bytes`},
		{Name: "long-name", Write: func(t *Tar) { t.file(strings.Repeat("d/", 2100)+"x", "x") }, Error: `4201 bytes`},
		{Name: "huge-name-pax", Large: true, Write: func(t *Tar) {
			t.raw(block{name: "p", kind: 'x'}, record("path", strings.Repeat("n/", 500_000)))
			t.file("x", "x")
		}, Error: `n/"… \(1000000 bytes\)`},
		{Name: "huge-name-gnu", Large: true, Write: func(t *Tar) {
			t.raw(block{name: "././@LongLink", kind: 'L', magic: "ustar  \x00"}, strings.Repeat("n", 1<<20-1)+"\x00")
			t.raw(block{name: "x", kind: '0', magic: "ustar  \x00"}, "x")
		}, Error: `nn"… \(1048575 bytes\)`},
		{Name: "deep", Write: func(t *Tar) { t.file(strings.Repeat("d/", 600)+"x", "x") }, Error: "unpack_max_depth"},
		{Name: "deep-by-links", Write: func(t *Tar) { // each link leads as deep as a name may be
			const way = "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d"
			t.dir(way)
			t.symlink("l0", way)
			for n := range 6 {
				t.dir(fmt.Sprintf("l%d/%s", n, way))
				t.symlink(fmt.Sprintf("l%d", n+1), fmt.Sprintf("l%d/%s", n, way))
			}
		}},
		{Name: "empty-name", Write: func(t *Tar) { t.raw(block{kind: '0'}, "x") }, Error: `non-directory|no name`},
		{Name: "twice-other-kinds", Write: func(t *Tar) {
			t.file("x", "x")
			t.dir("x")
			t.file("x/y", "x")
			t.symlink("x", t.Canary)
			t.link("y", "x")
			t.add(tar.Header{Name: "x", Typeflag: tar.TypeFifo}, "")
		}, Instead: map[string]string{"layer": Any, "cp": "directory"}},
	}
}

func links() []Archive {
	// A layer has no other root: the directory is made there. cp finds none.
	inside := map[string]string{"cp": "no such file"}
	return []Archive{
		{Name: "symlink-parent", Write: func(t *Tar) { t.symlink("d", t.Canary); t.file("d/evil", "x"); t.file("d/file", "x") }, Instead: inside},
		{Name: "symlink-parent-dotdot", Write: func(t *Tar) { t.symlink("d", t.Up+t.Canary[1:]); t.file("d/evil", "x") }, Instead: inside},
		{Name: "symlink-chain", Write: func(t *Tar) {
			t.symlink("a", "..")
			t.symlink("a/b", "..")
			t.symlink("c", "a/b/a/b/a/b"+t.Canary)
			t.file("c/evil", "x")
		}, Instead: inside},
		{Name: "symlink-cycle", Write: func(t *Tar) { t.symlink("a", "b"); t.symlink("b", "a"); t.file("a/evil", "x") }, Error: `"?a/evil"?.*too many|too many levels|too many links`},
		{Name: "symlink-self", Write: func(t *Tar) { t.symlink("a", "a"); t.dir("a"); t.file("a/evil", "x") }, Instead: map[string]string{"layer": Any, "cp": "."}},
		{Name: "symlink-proc", Write: func(t *Tar) { t.symlink("p", "/proc/self/root"); t.file("p"+t.Canary+"/evil", "x") }, Instead: map[string]string{"cp": Any}},
		{Name: "symlink-proc-fd", Write: func(t *Tar) {
			for n := range 6 {
				t.symlink(fmt.Sprintf("p%d", n), fmt.Sprintf("/proc/self/fd/%d", n))
				t.file(fmt.Sprintf("p%d/evil", n), "x")
			}
		}, Instead: map[string]string{"cp": Any}},
		{Name: "symlink-is-file", Write: func(t *Tar) { t.symlink("f", t.Canary+"/file"); t.file("f", "x") }, Instead: map[string]string{"layer": Any}},
		{Name: "symlink-is-directory", Write: func(t *Tar) {
			t.symlink("d", t.Canary)
			t.add(tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o7777, Uid: 1}, "")
		}, Instead: map[string]string{"layer": Any, "cp": "directory"}},
		{Name: "directory-becomes-symlink", Write: func(t *Tar) {
			t.dir("d")
			t.file("d/a", "x")
			t.symlink("d", t.Canary)
			t.file("d/evil", "x")
			t.file("d/file", "x")
		}, Instead: map[string]string{"layer": Any, "cp": "directory"}},
		{Name: "directory-becomes-symlink-late", Write: func(t *Tar) { // its mode and time are set at the end
			t.add(tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o7777}, "")
			t.symlink("d", t.Canary)
		}, Instead: map[string]string{"layer": Any, "cp": "directory"}},
		{Name: "symlink-huge", Write: func(t *Tar) { t.symlink("l", strings.Repeat("t/", 4000)) }, Error: `"l": it links to a name of 8000 bytes`},
		{Name: "hardlink-out", Write: func(t *Tar) { t.link("l", t.Up+t.Canary[1:]+"/file"); t.file("l", "x") }, Error: `"l": link to .*leads out`},
		{Name: "hardlink-absolute", Write: func(t *Tar) { t.link("l", t.Canary+"/file") }, Error: "no such file"},
		{Name: "hardlink-through-symlink", Write: func(t *Tar) { t.symlink("d", t.Canary); t.link("l", "d/file") }, Error: "no such file"},
		{Name: "hardlink-to-symlink", Write: func(t *Tar) {
			t.symlink("s", t.Canary+"/file")
			t.link("l", "s")
			t.file("l", "x")
		}, Instead: map[string]string{"layer": Any}},
		{Name: "hardlink-to-symlink-attributes", Write: func(t *Tar) {
			t.symlink("s", t.Canary+"/file")
			t.add(tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "s", Mode: 0o4777, Uid: 1}, "")
		}},
		{Name: "hardlink-missing", Write: func(t *Tar) { t.link("l", "nothing") }, Error: "no such file"},
		{Name: "hardlink-later", Write: func(t *Tar) { t.link("l", "later"); t.file("later", "x") }, Error: "no such file"},
		{Name: "hardlink-self", Write: func(t *Tar) { t.link("l", "l") }, Error: "no such file"},
		{Name: "hardlink-directory", Write: func(t *Tar) { t.dir("d"); t.link("l", "d") }, Error: "not permitted|is a directory"},
		{Name: "hardlink-root", Write: func(t *Tar) { t.link("l", ".") }, Error: "not permitted|leads out|no such file|is a directory|exists"},
		{Name: "hardlink-many", Write: func(t *Tar) {
			t.file("f", "x")
			for n := range 500 {
				t.link(fmt.Sprintf("l%d", n), "f")
			}
		}},
	}
}

// Any is the entry of Instead for an entrance where it may fail or not, as what is
// there decides.
const Any = "?"

func kinds() []Archive {
	devices := map[string]string{"cp": "without root"}
	return []Archive{
		{Name: "device-disk", Write: func(t *Tar) { t.device("disk", tar.TypeBlock, 8, 0) }, Instead: devices},
		{Name: "device-memory", Write: func(t *Tar) { t.device("mem", tar.TypeChar, 1, 1); t.device("dev/kmsg", tar.TypeChar, 1, 11) }, Instead: devices},
		{Name: "device-written-to", Write: func(t *Tar) { t.device("x", tar.TypeChar, 1, 1); t.file("x", "x") }, Instead: map[string]string{"layer": Any, "cp": "without root"}},
		{Name: "device-whiteout", Write: func(t *Tar) { t.device("bin", tar.TypeChar, 0, 0) }, Instead: map[string]string{"cp": Any}},
		{Name: "fifo-written-to", Write: func(t *Tar) { t.add(tar.Header{Name: "p", Typeflag: tar.TypeFifo}, ""); t.file("p", "x") }, Instead: map[string]string{"layer": Any}},
		{Name: "unknown-kind", Write: func(t *Tar) { t.raw(block{name: "x", kind: 'Q'}, "x") }, Error: `"x": unknown type 'Q'`},
		{Name: "volume-kind", Write: func(t *Tar) { t.raw(block{name: "x", kind: 'M'}, "x") }, Error: `"x": unknown type 'M'`},
		{Name: "setuid", Write: func(t *Tar) {
			t.add(tar.Header{Name: "su", Mode: 0o6777}, "#!/bin/sh\n")
			t.add(tar.Header{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o7777}, "")
		}},
		{Name: "setuid-by-link", Write: func(t *Tar) {
			t.add(tar.Header{Name: "f", Mode: 0o644}, "x")
			t.add(tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "f", Mode: 0o6777}, "")
		}},
		{Name: "owner-outside", Write: func(t *Tar) { t.add(tar.Header{Name: "f", Uid: 1 << 30, Gid: 1 << 30}, "x") }, Error: "subordinate|invalid argument", Instead: map[string]string{"cp": Legal}},
		{Name: "owner-negative", Write: func(t *Tar) { t.raw(block{name: "f", kind: '0', uid: "\xff\xff\xff\xff\xff\xff\xff\xff"}, "x") }, Error: "invalid|subordinate", Instead: map[string]string{"cp": Any, "layer": Any, "volume": Any}},
	}
}

func whiteouts() []Archive {
	plain := map[string]string{"cp": Legal, "volume": Legal}
	return []Archive{
		{Name: "whiteout-dotdot", Write: func(t *Tar) { t.file(".wh...", "") }, Error: "invalid whiteout|whiteout", Instead: plain},
		{Name: "whiteout-dot", Write: func(t *Tar) { t.dir("d"); t.file("d/.wh..", "") }, Error: "invalid whiteout|whiteout", Instead: plain},
		{Name: "whiteout-nothing", Write: func(t *Tar) { t.file(".wh.", "") }, Error: "invalid whiteout|whiteout", Instead: plain},
		{Name: "whiteout-through-link", Write: func(t *Tar) { t.symlink("d", t.Canary); t.file("d/.wh.file", ""); t.file("d/.wh.sub", "") }, Instead: map[string]string{"cp": "no such file"}},
		{Name: "whiteout-outside", Write: func(t *Tar) { t.file("../canary/.wh.file", "") }, Error: "leads out"},
		{Name: "whiteout-slash", Write: func(t *Tar) { t.file(".wh../canary/file", "") }},
		{Name: "whiteout-then-file", Write: func(t *Tar) { t.file(".wh.bin", ""); t.file("bin/x", "x") }, Instead: map[string]string{"layer": Any}},
		{Name: "opaque-root", Write: func(t *Tar) { t.file(".wh..wh..opq", "") }},
		{Name: "opaque-through-link", Write: func(t *Tar) { t.symlink("d", t.Canary); t.file("d/.wh..wh..opq", "") }, Instead: map[string]string{"layer": Any, "cp": "no such file"}},
		{Name: "opaque-link", Write: func(t *Tar) { t.symlink(".wh..wh..opq", t.Canary) }},
		{Name: "aufs-links", Write: func(t *Tar) {
			t.file(".wh..wh.plnk/1.1", "x")
			t.link("l", ".wh..wh.plnk/1.1")
			t.link("m", ".wh..wh.plnk/../../../canary/file")
		}, Error: "no such file|leads out|invalid|whiteout"},
	}
}

func headers() []Archive {
	return []Archive{
		{Name: "no-tar", Write: func(t *Tar) { fmt.Fprint(t.out, strings.Repeat("this is no archive\n", 200)) }, Error: "not a tar file|invalid tar"},
		{Name: "bad-checksum", Write: func(t *Tar) {
			bad := Bytes(t.Canary, func(t *Tar) { t.file("a", "x"); t.file("b", "y") })
			bad[1024+148]++
			t.out.Write(bad)
		}, Error: "invalid tar header"},
		{Name: "pax-huge", Large: true, Write: func(t *Tar) {
			t.raw(block{name: "p", kind: 'x'}, record("comment", strings.Repeat("c", 32<<20)))
			t.file("x", "x")
		}, Error: "too long|too large|header"},
		{Name: "pax-endless", Large: true, Write: func(t *Tar) { // headers of headers
			for range 200 {
				t.raw(block{name: "p", kind: 'x'}, record("comment", strings.Repeat("c", 1<<20-100)))
			}
			t.file("x", "x")
		}, Error: "a header of more than", Instead: map[string]string{"cp": Legal}},
		{Name: "pax-claims-huge", Write: func(t *Tar) { t.raw(block{name: "p", kind: 'x', size: base256(1 << 50)}, "30 path=x\n") }, Error: "EOF|too long|invalid"},
		{Name: "pax-bad-record", Write: func(t *Tar) { t.raw(block{name: "p", kind: 'x'}, "99999999999999999999 path=x\n"); t.file("x", "x") }, Error: "invalid tar header"},
		{Name: "pax-size-lies", Write: func(t *Tar) { // the data would be headers of others
			inner := string(Bytes(t.Canary, func(t *Tar) { t.file("../canary/evil", "x") }))
			t.raw(block{name: "p", kind: 'x'}, record("size", "0"))
			t.raw(block{name: "x", kind: '0'}, inner)
		}, Error: "leads out"},
		{Name: "pax-size-hides", Write: func(t *Tar) { // the header says none, the record a header's length
			t.raw(block{name: "p", kind: 'x'}, record("size", "1024"))
			t.raw(block{name: "x", kind: '0', size: octal(0)}, "")
			t.file("../canary/evil", "x")
		}},
		{Name: "pax-size-negative", Write: func(t *Tar) { t.raw(block{name: "p", kind: 'x'}, record("size", "-512")); t.file("x", "x") }, Error: "invalid tar header"},
		{Name: "pax-global-path", Write: func(t *Tar) { t.raw(block{name: "g", kind: 'g'}, record("path", "../canary/evil")); t.file("x", "x") }},
		{Name: "gnu-name-endless", Large: true, Write: func(t *Tar) {
			for range 200 {
				t.raw(block{name: "././@LongLink", kind: 'L', magic: "ustar  \x00"}, strings.Repeat("n", 1<<19)+"\x00")
			}
			t.raw(block{name: "x", kind: '0', magic: "ustar  \x00"}, "x")
		}, Error: "a header of more than", Instead: map[string]string{"cp": "524288 bytes"}},
		{Name: "link-with-content", Write: func(t *Tar) { // is what follows content, or a header?
			t.raw(block{name: "l", kind: '2', link: "x", size: octal(512)}, "")
			t.file("../canary/evil", "x")
		}, Error: "leads out"},
		{Name: "directory-with-content", Write: func(t *Tar) { t.raw(block{name: "d/", kind: '5', size: octal(512)}, ""); t.file("../canary/evil", "x") }, Error: "leads out"},
	}
}

// oldSparse is the header of a sparse file as GNU tar wrote it until 1.14.
func oldSparse(t *Tar, name string, real int64, at, length int64, data string) {
	var h [512]byte
	b := Bytes(t.Canary, func(t *Tar) { t.raw(block{name: name, kind: 'S', magic: "ustar  \x00"}, data) })
	copy(h[:], b)
	copy(h[386:], base256(at))
	copy(h[398:], base256(length))
	copy(h[483:], base256(real))
	sum := 8 * int64(' ')
	for i, c := range h {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	t.out.Write(h[:])
	t.out.Write(b[512:])
}

func sizes() []Archive {
	size := "unpack_max_size|no space left"
	return []Archive{
		{Name: "size-huge", Write: func(t *Tar) { t.raw(block{name: "big", kind: '0', size: base256(1 << 62)}, "x") }, Error: `"big": .*(` + size + ")"},
		{Name: "size-negative", Write: func(t *Tar) { t.raw(block{name: "x", kind: '0', size: base256(-512)}, "x") }, Error: "invalid tar header"},
		{Name: "size-overflow", Write: func(t *Tar) { t.raw(block{name: "x", kind: '0', size: base256(1<<63 - 1)}, "x") }, Error: size + "|invalid tar header"},
		{Name: "size-too-long", Write: func(t *Tar) { t.raw(block{name: "x", kind: '0', size: octal(10_000)}, "x"); t.end() }, Error: "unexpected EOF"},
		{Name: "size-too-short", Write: func(t *Tar) { t.raw(block{name: "x", kind: '0', size: octal(1)}, strings.Repeat("x", 2000)) }, Error: "invalid tar header"},
		{Name: "size-sum", Large: true, Write: func(t *Tar) {
			for n := range 6 {
				t.file(fmt.Sprintf("f%d", n), strings.Repeat("\x00", 9<<19))
			}
		}, Error: `"f5": .*unpack_max_size`},
		{Name: "count", Large: true, Write: func(t *Tar) {
			for n := range 25_000 {
				t.raw(block{name: fmt.Sprintf("f%d", n), kind: '0'}, "")
			}
		}, Error: `"f20000": .*unpack_max_files`},
		{Name: "count-directories", Large: true, Write: func(t *Tar) {
			for n := range 25_000 {
				t.raw(block{name: fmt.Sprintf("d%d/", n), kind: '5'}, "")
			}
		}, Error: "unpack_max_files"},
		{Name: "count-long-names", Large: true, Write: func(t *Tar) {
			long := strings.Repeat(strings.Repeat("n", 250)+"/", 12)
			for n := range 2000 {
				t.file(fmt.Sprintf("%sf%d", long, n), "")
			}
		}, Error: "unpack_max_files"},
		{Name: "sparse-huge", Write: func(t *Tar) { oldSparse(t, "s", 1<<60, 1<<60-1, 1, "x") }, Error: `"s": .*(` + size + ")"},
		{Name: "sparse-overlaps", Write: func(t *Tar) {
			t.raw(block{name: "p", kind: 'x'}, record("GNU.sparse.major", "0")+record("GNU.sparse.minor", "1")+record("GNU.sparse.size", "100")+
				record("GNU.sparse.numblocks", "2")+record("GNU.sparse.map", "0,60,20,60"))
			t.raw(block{name: "s", kind: '0'}, strings.Repeat("x", 120))
		}, Error: "invalid tar header"},
		{Name: "sparse-beyond", Write: func(t *Tar) { oldSparse(t, "s", 10, 5, 100, strings.Repeat("x", 100)) }, Error: "invalid tar header"},
		{Name: "sparse-many", Large: true, Write: func(t *Tar) { // a map of gigabytes, by its number of entries
			t.raw(block{name: "p", kind: 'x'}, record("GNU.sparse.major", "1")+record("GNU.sparse.minor", "0")+record("GNU.sparse.realsize", "512")+record("GNU.sparse.name", "s"))
			t.raw(block{name: "s", kind: '0'}, "4294967295\n"+strings.Repeat("1\n0\n", 500_000))
		}, Error: "invalid tar header|EOF|too long|header"},
		{Name: "sparse-name", Write: func(t *Tar) {
			t.raw(block{name: "p", kind: 'x'}, record("GNU.sparse.major", "1")+record("GNU.sparse.minor", "0")+record("GNU.sparse.realsize", "5")+record("GNU.sparse.name", "../canary/evil"))
			t.raw(block{name: "s", kind: '0'}, "1\n0\n5\n"+strings.Repeat("\x00", 505)+"xxxxx")
		}, Error: "leads out"},
	}
}

func attributes() []Archive {
	x := func(name string) string { return "SCHILY.xattr." + name }
	// A file capability of version 2: all of them, effective; capabilities(7).
	all := binary.LittleEndian.AppendUint32(nil, 0x02000001)
	for range 4 {
		all = binary.LittleEndian.AppendUint32(all, 0xffffffff)
	}
	return []Archive{
		{Name: "xattr-opaque", Write: func(t *Tar) { t.pax("bin/", "", map[string]string{x("user.overlay.opaque"): "y"}) }},
		{Name: "xattr-redirect", Write: func(t *Tar) {
			t.pax("d/", "", map[string]string{x("user.overlay.redirect"): "/../../../.." + t.Canary, x("trusted.overlay.redirect"): "/etc"})
		}},
		{Name: "xattr-metacopy", Write: func(t *Tar) {
			t.pax("f", "", map[string]string{x("user.overlay.metacopy"): " ", x("user.overlay.redirect"): t.Canary + "/file"})
			t.pax("g", "", map[string]string{x("trusted.overlay.metacopy"): " ", x("trusted.overlay.redirect"): t.Canary + "/file"})
		}},
		{Name: "xattr-whiteout", Write: func(t *Tar) {
			t.pax("d/", "", map[string]string{x("user.overlay.opaque"): "x"})
			t.pax("d/f", "", map[string]string{x("user.overlay.whiteout"): "y"})
		}},
		{Name: "xattr-override", Write: func(t *Tar) {
			t.pax("f", "x", map[string]string{x("user.containers.override_stat"): "0:0:0104777", x("user.fuseoverlayfs.opaque"): "y"})
		}},
		{Name: "xattr-security", Write: func(t *Tar) {
			t.pax("f", "x", map[string]string{x("security.selinux"): "system_u:object_r:shadow_t:s0", x("security.ima"): "x"})
		}, Instead: map[string]string{"layer": Any, "volume": Any}},
		{Name: "xattr-huge", Write: func(t *Tar) { t.pax("f", "x", map[string]string{x("user.big"): strings.Repeat("v", 200_000)}) }, Error: "too long|too large|no space|argument list"},
		{Name: "xattr-many", Write: func(t *Tar) {
			many := map[string]string{}
			for n := range 2000 {
				many[x(fmt.Sprintf("user.n%d", n))] = strings.Repeat("v", 100)
			}
			t.pax("f", "x", many)
		}, Error: "no space|too (long|large)|argument list"},
		{Name: "capability", Write: func(t *Tar) { t.pax("f", "x", map[string]string{x("security.capability"): string(all)}) }},
		{Name: "capability-directory", Write: func(t *Tar) { t.pax("d/", "", map[string]string{x("security.capability"): string(all)}) }, Instead: map[string]string{"layer": Any, "volume": Any, "cp": Any}},
		{Name: "capability-bad", Write: func(t *Tar) { t.pax("f", "x", map[string]string{x("security.capability"): "x"}) }, Error: "invalid argument", Instead: map[string]string{"cp": "attribute security.capability"}},
	}
}
