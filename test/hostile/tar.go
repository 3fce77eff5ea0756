// Package hostile makes archives and images that are meant to do harm, for the tests
// of everything that unpacks.
package hostile

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"
)

// Tar writes a tar stream, also what archive/tar refuses to write.
type Tar struct {
	out io.Writer
	// Canary is a directory of the host that must stay as it is, absolute, and Up a
	// relative path to the root directory of the host from wherever it is unpacked.
	Canary, Up string
}

var when = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// add writes a member as archive/tar does.
func (t *Tar) add(h tar.Header, data string) {
	if h.Mode == 0 {
		h.Mode = 0o755
	}
	h.Size, h.ModTime = int64(len(data)), when
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	w := tar.NewWriter(t.out)
	if err := w.WriteHeader(&h); err != nil {
		panic(fmt.Sprintf("%q: %v", h.Name, err)) // the corpus itself is wrong
	}
	io.WriteString(w, data)
	w.Flush() // no end: more may follow
}

func (t *Tar) file(name, data string) { t.add(tar.Header{Name: name, Mode: 0o644}, data) }
func (t *Tar) dir(name string)        { t.add(tar.Header{Name: name + "/", Typeflag: tar.TypeDir}, "") }
func (t *Tar) symlink(name, to string) {
	t.add(tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: to}, "")
}
func (t *Tar) link(name, to string) {
	t.add(tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: to}, "")
}
func (t *Tar) device(name string, kind byte, major, minor int64) {
	t.add(tar.Header{Name: name, Typeflag: kind, Devmajor: major, Devminor: minor}, "")
}

// pax writes a file, or a directory if the name ends in a slash, with records.
func (t *Tar) pax(name, data string, records map[string]string) {
	h := tar.Header{Name: name, PAXRecords: records, Format: tar.FormatPAX}
	if strings.HasSuffix(name, "/") {
		h.Typeflag = tar.TypeDir
	}
	t.add(h, data)
}

// end is the end of an archive.
func (t *Tar) end() { t.out.Write(make([]byte, 1024)) }

// block is a header of USTAR, whose fields may lie.
type block struct {
	name, link string
	kind       byte
	size       string // as it stands in the header: octal, or base 256
	mode, uid  string
	magic      string
}

func octal(n int64) string { return fmt.Sprintf("%011o\x00", n) }

// base256 is a number as GNU tar writes what octal digits cannot; see its manual.
func base256(n int64) string {
	b := make([]byte, 12)
	for i := range 8 {
		b[11-i] = byte(n >> (8 * i))
	}
	for i := range 4 {
		b[i] = byte(n >> 63)
	}
	b[0] |= 0x80
	return string(b)
}

func (t *Tar) raw(b block, data string) {
	head := make([]byte, 512)
	put := func(at, length int, s, other string) {
		if s == "" {
			s = other
		}
		copy(head[at:at+length], s)
	}
	put(0, 100, b.name, "")
	put(100, 8, b.mode, "0000644\x00")
	put(108, 8, b.uid, "0000000\x00")
	put(116, 8, "", "0000000\x00")
	put(124, 12, b.size, octal(int64(len(data))))
	put(136, 12, "", octal(when.Unix()))
	head[156] = b.kind
	put(157, 100, b.link, "")
	put(257, 8, b.magic, "ustar\x0000")
	sum := int64(8 * ' ')
	for i, c := range head {
		if i < 148 || i >= 156 {
			sum += int64(c)
		}
	}
	copy(head[148:156], fmt.Sprintf("%06o\x00 ", sum))
	t.out.Write(head)
	io.WriteString(t.out, data)
	t.out.Write(make([]byte, -len(data)&511))
}

// record is one of PAX, whatever it says.
func record(key, value string) string {
	size := len(key) + len(value) + 3
	for n := size + len(fmt.Sprint(size)); ; n++ {
		if s := fmt.Sprintf("%d %s=%s\n", n, key, value); len(s) == n {
			return s
		}
	}
}

// Bytes is what a function writes, for a canary.
func Bytes(canary string, write func(*Tar)) []byte {
	b := bytes.NewBuffer([]byte{}) // not nil: nothing at all is an archive too
	write(&Tar{out: b, Canary: canary, Up: strings.Repeat("../", 40)})
	return b.Bytes()
}
