package test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"strings"
)

// oddLayers are layers in forms that tar allows, above the box.
var oddLayers = map[string]func() [][]byte{
	// Long names, by PAX and by GNU's headers of their own; a name in two halves; owners beyond eight digits.
	"names": func() [][]byte {
		deep := strings.Repeat("d", 90) + "/" + strings.Repeat("e", 90) + "/" + strings.Repeat("f", 200)
		return [][]byte{layerTar(func(w *tar.Writer) {
			put(w, &tar.Header{Name: "pax/" + deep, Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatPAX}, "pax\n")
			put(w, &tar.Header{Name: "gnu/" + deep, Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatGNU}, "gnu\n")
			put(w, &tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "gnu/" + deep, Mode: 0o777, Format: tar.FormatGNU}, "")
			put(w, &tar.Header{Name: "hard", Typeflag: tar.TypeLink, Linkname: "pax/" + deep, Mode: 0o644, Format: tar.FormatPAX}, "")
			put(w, &tar.Header{Name: strings.Repeat("u", 120) + "/" + strings.Repeat("v", 90), Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatUSTAR}, "ustar\n")
			put(w, &tar.Header{Name: "utf8/smørrebrød 日本 \t", Typeflag: tar.TypeReg, Mode: 0o644}, "utf8\n")
			put(w, &tar.Header{Name: "latin1/\xe6\xf8\xe5", Typeflag: tar.TypeReg, Mode: 0o644, Format: tar.FormatGNU}, "latin1\n")
			if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{"comment": "git archive writes one"}}); err != nil {
				panic(err)
			}
			put(w, &tar.Header{Name: "times", Typeflag: tar.TypeReg, Mode: 0o644, ModTime: created.AddDate(-70, 0, 0).Add(5), AccessTime: created, Format: tar.FormatPAX}, "times\n")
		}), v7()}
	},
	// Parents that have no entry, absolute names, names with a dot.
	"parents": func() [][]byte {
		return [][]byte{files("opt/a/b/c", []byte("c\n"), "/opt/absolute", []byte("absolute\n"), "./opt/./dot", []byte("dot\n"), "opt//double", []byte("double\n"))}
	},
	// Hard links across directories, to what comes before, to a link, and to a link that is symbolic.
	"hardlinks": func() [][]byte {
		return [][]byte{layerTar(func(w *tar.Writer) {
			put(w, &tar.Header{Name: "one/file", Typeflag: tar.TypeReg, Mode: 0o640, Uid: 1000}, "linked\n")
			put(w, &tar.Header{Name: "two/three/file", Typeflag: tar.TypeLink, Linkname: "one/file", Mode: 0o640, Uid: 1000}, "")
			put(w, &tar.Header{Name: "four", Typeflag: tar.TypeLink, Linkname: "/two/three/file", Mode: 0o640, Uid: 1000}, "")
			put(w, &tar.Header{Name: "symbolic", Typeflag: tar.TypeSymlink, Linkname: "one/file", Mode: 0o777}, "")
			put(w, &tar.Header{Name: "hard-symbolic", Typeflag: tar.TypeLink, Linkname: "symbolic"}, "")
		})}
	},
	// What a layer takes away: directories, all in a directory, a link; and puts there again as another kind.
	"whiteouts": func() [][]byte {
		return [][]byte{
			layerTar(func(w *tar.Writer) {
				for _, name := range []string{"gone/a/b", "opaque/below/x", "kind/file", "tree/x", "again/old", "linked/x"} {
					put(w, &tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644}, "below\n")
				}
				put(w, &tar.Header{Name: "to-dir", Typeflag: tar.TypeSymlink, Linkname: "linked", Mode: 0o777}, "")
				put(w, &tar.Header{Name: "dangling", Typeflag: tar.TypeSymlink, Linkname: "nowhere", Mode: 0o777}, "")
			}),
			layerTar(func(w *tar.Writer) {
				put(w, &tar.Header{Name: ".wh.gone", Typeflag: tar.TypeReg, Mode: 0o644}, "")
				put(w, &tar.Header{Name: "opaque/", Typeflag: tar.TypeDir, Mode: 0o711}, "")
				put(w, &tar.Header{Name: "opaque/above", Typeflag: tar.TypeReg, Mode: 0o644}, "above\n") // before the whiteout: it stays
				put(w, &tar.Header{Name: "opaque/.wh..wh..opq", Typeflag: tar.TypeReg, Mode: 0o644}, "")
				put(w, &tar.Header{Name: "kind/.wh.file", Typeflag: tar.TypeReg, Mode: 0o644}, "")
				put(w, &tar.Header{Name: "kind/file/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
				put(w, &tar.Header{Name: "kind/file/new", Typeflag: tar.TypeReg, Mode: 0o644}, "new\n")
				put(w, &tar.Header{Name: "tree", Typeflag: tar.TypeReg, Mode: 0o644}, "a file now\n")
				put(w, &tar.Header{Name: "again/.wh.old", Typeflag: tar.TypeReg, Mode: 0o644}, "")
				put(w, &tar.Header{Name: "to-dir", Typeflag: tar.TypeDir, Mode: 0o755}, "")
				put(w, &tar.Header{Name: "to-dir/y", Typeflag: tar.TypeReg, Mode: 0o644}, "a directory now\n")
				put(w, &tar.Header{Name: ".wh.dangling", Typeflag: tar.TypeReg, Mode: 0o644}, "")
				put(w, &tar.Header{Name: ".wh.never-there", Typeflag: tar.TypeReg, Mode: 0o644}, "")
				put(w, &tar.Header{Name: ".wh..wh.plnk", Typeflag: tar.TypeDir, Mode: 0o700}, "") // AUFS' own
			}),
			layerTar(func(w *tar.Writer) {
				put(w, &tar.Header{Name: "again/old", Typeflag: tar.TypeReg, Mode: 0o644}, "back\n")
			}),
		}
	},
	// Device nodes, which nobody without root can make, and a FIFO, which everybody can.
	"devices": func() [][]byte {
		return [][]byte{layerTar(func(w *tar.Writer) {
			put(w, &tar.Header{Name: "nodes/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
			put(w, &tar.Header{Name: "nodes/null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, "")
			put(w, &tar.Header{Name: "nodes/disk", Typeflag: tar.TypeBlock, Mode: 0o660, Devmajor: 8, Devminor: 0}, "")
			put(w, &tar.Header{Name: "nodes/fifo", Typeflag: tar.TypeFifo, Mode: 0o622}, "")
			put(w, &tar.Header{Name: "nodes/after", Typeflag: tar.TypeReg, Mode: 0o644}, "after\n")
			put(w, &tar.Header{Name: "dev/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
			put(w, &tar.Header{Name: "dev/console", Typeflag: tar.TypeChar, Mode: 0o600, Devmajor: 5, Devminor: 1}, "")
		})}
	},
	// Attributes of users, an access list, capabilities of a file, bits of the mode.
	"attributes": func() [][]byte {
		return [][]byte{layerTar(func(w *tar.Writer) {
			put(w, &tar.Header{Name: "user", Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.user.moss": "value"}}, "user\n")
			// cap_net_raw=ep and version 2; see capabilities(7), xattr(7).
			capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
			put(w, &tar.Header{Name: "capable", Typeflag: tar.TypeReg, Mode: 0o755, PAXRecords: map[string]string{"SCHILY.xattr.security.capability": capability}}, "capable\n")
			acl := "\x02\x00\x00\x00\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\xe8\x03\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff\x10\x00\x04\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff"
			put(w, &tar.Header{Name: "listed", Typeflag: tar.TypeReg, Mode: 0o640, PAXRecords: map[string]string{"SCHILY.xattr.system.posix_acl_access": acl}}, "listed\n")
			put(w, &tar.Header{Name: "label", Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{"SCHILY.xattr.security.selinux": "system_u:object_r:etc_t:s0\x00", "SCHILY.fflags": "nodump", "LIBARCHIVE.creationtime": "1"}}, "label\n")
			put(w, &tar.Header{Name: "setuid", Typeflag: tar.TypeReg, Mode: 0o4755, Uid: 1000, Gid: 1000}, "setuid\n")
			put(w, &tar.Header{Name: "sticky/", Typeflag: tar.TypeDir, Mode: 0o3777, Gid: 2000}, "")
			put(w, &tar.Header{Name: "closed", Typeflag: tar.TypeReg, Mode: 0}, "closed\n")
			put(w, &tar.Header{Name: "owner", Typeflag: tar.TypeReg, Mode: 0o644, Uid: 65534, Gid: 65534, Uname: "no-such-user", Gname: "no-such-group"}, "owner\n")
		})}
	},
	// One name, several times: the last one counts, whatever it is.
	"duplicates": func() [][]byte {
		return [][]byte{layerTar(func(w *tar.Writer) {
			put(w, &tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644}, "first\n")
			put(w, &tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o700}, "")
			put(w, &tar.Header{Name: "dir/kept", Typeflag: tar.TypeReg, Mode: 0o644}, "kept\n")
			put(w, &tar.Header{Name: "./file", Typeflag: tar.TypeReg, Mode: 0o600}, "second\n")
			put(w, &tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o755, Uid: 1000}, "")
			put(w, &tar.Header{Name: "becomes", Typeflag: tar.TypeReg, Mode: 0o644}, "file\n")
			put(w, &tar.Header{Name: "becomes", Typeflag: tar.TypeSymlink, Linkname: "file", Mode: 0o777}, "")
			put(w, &tar.Header{Name: "was", Typeflag: tar.TypeSymlink, Linkname: "/etc/owned", Mode: 0o777}, "")
			put(w, &tar.Header{Name: "was", Typeflag: tar.TypeReg, Mode: 0o644}, "not through the link\n")
		})}
	},
	// Sparse files, in GNU's old form and in PAX' latest; one is larger than 4 GiB.
	"sparse": func() [][]byte {
		var b bytes.Buffer
		b.Write(gnuSparse("gnu", 1<<20, "begin\n", "end\n"))
		b.Write(paxSparse("pax", 1<<20, "begin\n", "end\n"))
		b.Write(paxSparse("large", 5<<30, "begin\n", "end\n"))
		b.Write(make([]byte, 1024))
		return [][]byte{b.Bytes()}
	},
}

// header is a raw header of tar; see tar(5).
func header(name string, kind byte, size int64) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x000000000\x000000000\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00", size))
	copy(h[136:], fmt.Sprintf("%011o\x00", created.Unix()))
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	return h
}

// summed fills in the checksum.
func summed(h []byte) []byte {
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	return h
}

func padded(data string) []byte {
	return append([]byte(data), make([]byte, (512-len(data)%512)%512)...)
}

// v7 is a tar file from before there was a standard: no magic number.
func v7() []byte {
	h := header("old", 0, 3)
	clear(h[257:])
	out := append(summed(h), padded("v7\n")...)
	return append(out, make([]byte, 1024)...)
}

// gnuSparse is a file with a piece of text at its beginning, and one at its end.
func gnuSparse(name string, size int64, begin, end string) []byte {
	h := header(name, tar.TypeGNUSparse, int64(len(begin+end)))
	copy(h[257:], "ustar  \x00")
	copy(h[386:], fmt.Sprintf("%011o\x00%011o\x00%011o\x00%011o\x00", 0, len(begin), size-int64(len(end)), len(end)))
	copy(h[483:], fmt.Sprintf("%011o\x00", size))
	return append(summed(h), padded(begin+end)...)
}

func paxSparse(name string, size int64, begin, end string) []byte {
	var records strings.Builder
	for _, r := range []string{"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=" + name, fmt.Sprintf("GNU.sparse.realsize=%d", size)} {
		n := len(r) + 3
		for n != len(fmt.Sprintf("%d %s\n", n, r)) {
			n++
		}
		fmt.Fprintf(&records, "%d %s\n", n, r)
	}
	out := append(summed(header("PaxHeaders/"+name, tar.TypeXHeader, int64(records.Len()))), padded(records.String())...)
	data := append(padded(fmt.Sprintf("2\n0\n%d\n%d\n%d\n", len(begin), size-int64(len(end)), len(end))), begin+end...)
	out = append(out, summed(header("GNUSparseFile.0/"+name, tar.TypeReg, int64(len(data))))...)
	return append(out, padded(string(data))...)
}
