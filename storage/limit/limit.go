// Package limit bounds what a foreign archive or document may cost: bytes and files
// on the disk, memory, depth. Whoever made it may have meant harm.
package limit

import (
	"archive/tar"
	"fmt"
	"io"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"moss/config"
)

// Limits of one archive. The zero value of a field is the default.
type Limits struct {
	Size   int64 // bytes of all files together, and of what follows the end
	Files  int64 // members; directories and long names count for more
	Depth  int64 // directories in one name
	Window int64 // bytes that a compressed stream may look back: the memory it takes
}

// The defaults. Files is what an image of all of TeX does not reach, and what keeps
// the list of names, which a library holds in memory, small. Window is what xz -8 and
// zstd --ultra -20 take; a stream that looks further back is let in as long as it is
// itself no longer than that.
const (
	DefaultSize   = 1 << 40
	DefaultFiles  = 500_000
	DefaultDepth  = 512
	DefaultWindow = 32 << 20
)

// Of reads the limits that the configuration sets.
func Of(c *config.Config) Limits {
	return Limits{
		Size: c.Int("moss.unpack_max_size", 0), Files: c.Int("moss.unpack_max_files", 0),
		Depth: c.Int("moss.unpack_max_depth", 0), Window: c.Int("moss.unpack_max_window", 0),
	}
}

func (l Limits) filled() Limits {
	for _, f := range []struct {
		at    *int64
		value int64
	}{{&l.Size, DefaultSize}, {&l.Files, DefaultFiles}, {&l.Depth, DefaultDepth}, {&l.Window, DefaultWindow}} {
		if *f.at <= 0 {
			*f.at = f.value
		}
	}
	return l
}

// Error is why an archive is not unpacked; Key of moss.conf(5) raises the limit.
type Error struct {
	What string
	Key  string
}

func (e *Error) Error() string {
	if e.Key == "" {
		return e.What
	}
	return fmt.Sprintf("%s (%s in moss.conf raises the limit)", e.What, e.Key)
}

// Judge looks at each member of one archive before it is unpacked.
type Judge struct {
	limits Limits
	dir    string // where it is unpacked to; "" is nowhere: no space is needed
	size   int64
	files  int64
	unsure int64 // bytes that were let through since the space was looked at
}

// NewJudge makes a judge of an archive that is unpacked to a directory.
func NewJudge(l Limits, dir string) *Judge { return &Judge{limits: l.filled(), dir: dir} }

// Member says why a member must not be unpacked, nil if it may.
func (j *Judge) Member(h *tar.Header) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	if err := j.member(h); err != nil {
		return fmt.Errorf("archive entry %s: %w", Quote(h.Name), err)
	}
	return nil
}

func (j *Judge) member(h *tar.Header) error {
	if err := j.name(h.Name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeLink:
		if err := j.name(h.Linkname); err != nil {
			return fmt.Errorf("link to %s: %w", Quote(h.Linkname), err)
		}
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) >= unix.PathMax {
			return fmt.Errorf("it links to a name of %d bytes", len(h.Linkname))
		}
	case tar.TypeReg, tar.TypeDir, tar.TypeFifo, tar.TypeChar, tar.TypeBlock, tar.TypeCont, tar.TypeGNUSparse:
	default:
		return fmt.Errorf("unknown type %q", h.Typeflag)
	}
	j.files += cost(h)
	if j.files > j.limits.Files {
		return &Error{fmt.Sprintf("it is one too many: more than %d files, of which directories and long names count for several", j.limits.Files), "unpack_max_files"}
	}
	return j.Bytes(h.Size)
}

// cost is how many files a member counts for, by the memory that is kept of it while
// the others are unpacked: a name, and all of a directory.
func cost(h *tar.Header) int64 {
	kept := len(h.Name)
	if h.Typeflag != tar.TypeDir {
		return 1 + int64(kept)/128
	}
	for key, value := range h.PAXRecords {
		kept += len(key) + len(value)
	}
	return 4 + int64(kept)/128
}

// Bytes counts bytes that will be written.
func (j *Judge) Bytes(n int64) error {
	if n < 0 || j.size > j.limits.Size-n {
		return &Error{fmt.Sprintf("it is too large: more than %s", size(j.limits.Size)), "unpack_max_size"}
	}
	j.size += n
	if j.unsure += n; j.unsure < 64<<20 {
		return nil
	}
	j.unsure = 0
	return Space(j.dir, n)
}

// Reader counts what is read of a stream that is written somewhere.
func (j *Judge) Reader(src io.Reader) io.Reader { return counted{src, j} }

type counted struct {
	io.Reader
	judge *Judge
}

func (c counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if over := c.judge.Bytes(int64(n)); over != nil {
		return 0, over
	}
	return n, err
}

// name says what is wrong with the name of a member.
func (j *Judge) name(name string) error {
	if len(name) >= unix.PathMax {
		return fmt.Errorf("its name has %d bytes; the kernel takes %d", len(name), unix.PathMax-1)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("its name has a NUL byte")
	}
	clean := path.Clean(name)
	if clean == ".." || strings.HasPrefix(clean, "../") {
		return ErrOutside
	}
	depth := int64(0)
	for part := range strings.SplitSeq(clean, "/") {
		if len(part) > unix.NAME_MAX {
			return fmt.Errorf("a part of its name has %d bytes; the kernel takes %d", len(part), unix.NAME_MAX)
		}
		if part != "" && part != "." {
			depth++
		}
	}
	if depth > j.limits.Depth {
		return &Error{fmt.Sprintf("it is too deep: in more than %d directories", j.limits.Depth), "unpack_max_depth"}
	}
	return nil
}

// ErrOutside is a name that leads out of the archive.
var ErrOutside = fmt.Errorf("it leads out of the archive's directory")

// Quote is a name as an error shows it: on one line, and not all of it if it is long.
func Quote(name string) string {
	const most = 120
	if len(name) > most {
		return fmt.Sprintf("%q… (%d bytes)", name[:most], len(name))
	}
	return fmt.Sprintf("%q", name)
}

// Space says that a file system has no room for n bytes more. A little is left free:
// whoever is at the keyboard needs it to mend things.
func Space(dir string, n int64) error {
	var fs unix.Statfs_t
	if dir == "" || unix.Statfs(dir, &fs) != nil {
		return nil // the write will tell
	}
	free := int64(fs.Bavail) * fs.Bsize
	if kept := min(int64(fs.Blocks)*fs.Bsize/100, 512<<20); n > free-kept {
		return fmt.Errorf("%w: %s are needed, %s are free, of which %s are left", unix.ENOSPC, size(n), size(free), size(kept))
	}
	return nil
}

func size(n int64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%d MiB", n>>20)
}
