package limit

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// NewWindow makes a reader of a stream that may be compressed, byte for byte. Of zstd
// and xz, each frame says how far its decompressor must look back, up to gigabytes:
// it is cut before one that looks further than the limits allow. One that may look as far
// as xz -9 and zstd --ultra -22 do is cut only when there is so much to look back to: what
// is shorter takes no more memory.
func NewWindow(src io.Reader, l Limits) *Window {
	w := &Window{src: bufio.NewReaderSize(src, 64<<10), most: l.filled().Window}
	w.step = w.begin
	return w
}

// Window is a stream that is cut before it takes too much memory.
type Window struct {
	src  *bufio.Reader
	most int64
	pass int64  // bytes that are looked at already
	step func() // looks at the next ones; nil: nothing will be looked at any more
	err  error

	check int64 // bytes after a block of xz, or after a frame of zstd
	block int64 // how long the block, or the index, has become
	left  int64 // numbers of an index that are to come

	wide uint64 // how far the one frame looks back that may look further than most
	out  int64  // how much at most has been decompressed of it
	now  bool   // it is being read
}

// Err is why it was cut, nil if it was not.
func (w *Window) Err() error { return w.err }

// Read implements io.Reader.
func (w *Window) Read(p []byte) (int, error) {
	for w.pass == 0 && w.step != nil && w.err == nil {
		w.step()
	}
	if w.err != nil {
		return 0, w.err
	}
	if w.step == nil && w.pass == 0 {
		return w.src.Read(p)
	}
	n, err := w.src.Read(p[:min(int64(len(p)), w.pass)])
	w.pass -= int64(n)
	return n, err
}

// peek are the next n bytes. If there are not so many, or they are not as they must be,
// it is for the decompressor to say so: nothing is looked at any more.
func (w *Window) peek(n int) []byte {
	b, err := w.src.Peek(n)
	if err != nil {
		w.step = nil
		return nil
	}
	return b
}

// maxWide is what the strongest levels of xz and zstd take.
const maxWide = 128 << 20

// look refuses a window, or watches what comes of the first that is wide.
func (w *Window) look(back uint64) {
	switch w.now = false; {
	case back <= uint64(w.most):
	case back <= maxWide && w.wide == 0: // one only: the memory of another would be its own
		w.wide, w.now = back, true
	default:
		w.refuse(back)
	}
}

// came counts what is decompressed.
func (w *Window) came(n int64) {
	if w.now {
		if w.out += n; w.out > w.most {
			w.refuse(w.wide)
		}
	}
}

func (w *Window) refuse(back uint64) {
	if w.err == nil {
		w.err = &Error{fmt.Sprintf("it wants %s of memory to be decompressed; at most %s are given", size(int64(min(back, 1<<62))), size(w.most)), "unpack_max_window"}
	}
}

const (
	zstdMagic = "\x28\xb5\x2f\xfd"
	xzMagic   = "\xfd7zXZ\x00"
)

func (w *Window) begin() {
	switch b := w.peek(4); {
	case b == nil:
	case string(b) == zstdMagic || isSkippable(b):
		w.step = w.frame
	case string(b) == xzMagic[:4]:
		w.step = w.stream
	default:
		w.step = nil
	}
}

// isSkippable says whether a frame of zstd holds nothing to decompress; RFC 8878, 3.1.2.
func isSkippable(b []byte) bool { return b[0]&0xf0 == 0x50 && string(b[1:4]) == "\x2a\x4d\x18" }

// frame looks at the beginning of a frame of zstd; RFC 8878, 3.1.1.
func (w *Window) frame() {
	b := w.peek(8)
	if b == nil {
		return
	}
	if isSkippable(b) {
		w.pass = 8 + int64(binary.LittleEndian.Uint32(b[4:]))
		return
	}
	if string(b[:4]) != zstdMagic {
		w.step = nil
		return
	}
	flags := b[4]
	single := flags&0x20 != 0
	length := 5 + [...]int{0, 1, 2, 4}[flags&3]
	content := [...]int{0, 2, 4, 8}[flags>>6]
	if !single {
		length++
	} else if content == 0 {
		content = 1
	}
	if b = w.peek(length + content); b == nil {
		return
	}
	if single {
		var n [8]byte
		copy(n[:], b[length:])
		w.now = false
		if size := binary.LittleEndian.Uint64(n[:]); size > uint64(w.most) {
			w.refuse(size)
		}
	} else {
		base := uint64(1) << (10 + b[5]>>3)
		w.look(base + base/8*uint64(b[5]&7))
	}
	w.pass, w.check, w.step = int64(length+content), int64(flags&4), w.zstdBlock
}

// zstdBlock looks at the header of a block; RFC 8878, 3.1.1.2.
func (w *Window) zstdBlock() {
	b := w.peek(3)
	if b == nil {
		return
	}
	head := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16
	w.pass = 3 + head>>3
	switch head >> 1 & 3 {
	case 1: // one byte, repeated
		w.pass = 4
		w.came(head >> 3)
	case 2:
		w.came(128 << 10) // or less
	default:
		w.came(head >> 3)
	}
	if head&1 != 0 {
		w.pass, w.step = w.pass+w.check, w.frame
	}
}

// stream looks at the beginning of a stream of xz, or at the padding between two; see
// section 2 of the .xz file format.
func (w *Window) stream() {
	if b := w.peek(4); b != nil && string(b) == "\x00\x00\x00\x00" {
		w.pass = 4
		return
	}
	b := w.peek(12)
	if b == nil {
		return
	}
	if string(b[:6]) != xzMagic {
		w.step = nil
		return
	}
	w.check = [...]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[b[7]&15]
	w.pass, w.step = 12, w.xzBlock
}

// xzBlock looks at the header of a block: how large is the dictionary of its LZMA2?
func (w *Window) xzBlock() {
	b := w.peek(1)
	if b == nil {
		return
	}
	if b[0] == 0 {
		w.pass, w.block, w.left, w.step = 1, 1, -1, w.index
		return
	}
	if b = w.peek((int(b[0]) + 1) * 4); b == nil {
		return
	}
	w.pass, w.block, w.step = int64(len(b)), 0, w.chunk
	filters, rest := int(b[1]&3)+1, b[2:]
	var n, id uint64
	for range int(b[1]>>6&1) + int(b[1]>>7) {
		_, rest = number(rest)
	}
	for range filters {
		id, rest = number(rest)
		n, rest = number(rest)
		if n > uint64(len(rest)) {
			w.step = nil
			return
		}
		if id == 0x21 && n == 1 {
			bits := rest[0] & 63
			w.look(uint64(2|bits&1) << (bits/2 + 11))
		}
		rest = rest[n:]
	}
}

// number takes a multibyte integer of xz.
func number(b []byte) (uint64, []byte) {
	n, used := binary.Uvarint(b)
	return n, b[max(used, 0):]
}

// chunk looks at the header of a chunk of LZMA2, of which a block is made.
func (w *Window) chunk() {
	b := w.peek(1)
	if b == nil {
		return
	}
	switch control := b[0]; {
	case control == 0:
		w.block++
		w.pass, w.step = 1+-w.block&3+w.check, w.xzBlock
		return
	case control < 3: // not compressed
		if b = w.peek(3); b != nil {
			w.pass = 3 + int64(b[1])<<8 + int64(b[2]) + 1
			w.came(w.pass - 3)
		}
	case control < 0x80:
		w.step = nil
	default:
		if b = w.peek(5); b != nil {
			w.pass = 5 + int64(b[3])<<8 + int64(b[4]) + 1
			w.came(int64(control&0x1f)<<16 + int64(b[1])<<8 + int64(b[2]) + 1)
			if control >= 0xc0 {
				w.pass++
			}
		}
	}
	w.block += w.pass
}

// index passes the list of a stream's blocks, and the stream's end.
func (w *Window) index() {
	if w.left == 0 {
		w.pass, w.step = -w.block&3+4+12, w.stream
		return
	}
	b, _ := w.src.Peek(10)
	n, used := binary.Uvarint(b)
	if used <= 0 || n > 1<<40 {
		w.step = nil
		return
	}
	if w.left--; w.left < -1 {
		w.left = int64(n) * 2
	}
	w.pass = int64(used)
	w.block += w.pass
}
