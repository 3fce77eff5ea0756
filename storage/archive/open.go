// Package archive copies images between the store and tar files or OCI layouts.
package archive

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"

	"go.podman.io/storage/pkg/archive"
	"golang.org/x/sys/unix"

	"moss/storage"
	"moss/storage/limit"
)

// maxDocument bounds what is read into memory.
const maxDocument = 4 << 20

// files are the files of an archive, by name: of a tar file or a directory.
type files interface {
	open(name string) (r io.ReadSeekCloser, size int64, err error)
	Close() error
}

// open makes the files of an archive readable in any order. A pipe or a
// compressed file is first copied to a temporary one.
func open(input *os.File, temp string, l limit.Limits) (files, error) {
	fi, err := input.Stat()
	if err != nil {
		return nil, err
	}
	if fi.IsDir() {
		return directory(input.Name()), nil
	}
	head := make([]byte, 10)
	n, err := io.ReadFull(input, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		if errors.Is(err, io.EOF) {
			err = errors.New("it is empty")
		}
		return nil, err
	}
	head = head[:n]
	plain := archive.DetectCompression(head) == archive.Uncompressed
	if plain && fi.Mode().IsRegular() {
		return indexTar(input)
	}
	return spool(io.MultiReader(bytes.NewReader(head), input), temp, l)
}

// spool copies a stream, decompressed, to a temporary file that has no name any
// more, so that nothing is left of it.
func spool(r io.Reader, temp string, l limit.Limits) (*tarFile, error) {
	plain, err := archive.DecompressStream(limit.NewWindow(r, l))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	f, err := storage.Nameless(temp)
	if err != nil {
		return nil, err
	}
	if _, err := io.Copy(f, limit.NewJudge(l, temp).Reader(plain)); err != nil {
		f.Close()
		return nil, err
	}
	t, err := indexTar(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	t.owned = true
	return t, nil
}

// tarFile is a seekable tar file and where its members are.
type tarFile struct {
	f       *os.File
	owned   bool
	members map[string]member
}

type member struct {
	offset, size int64
	link         string
	sparse       bool
}

// table bounds the table of an archive that was made to fill memory. The members are
// not unpacked: what they say of their size is found out when they are read.
var table = limit.Limits{Files: 100_000, Size: math.MaxInt64}

func indexTar(f *os.File) (*tarFile, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	t := &tarFile{f: f, members: make(map[string]member)}
	r, judge := tar.NewReader(f), limit.NewJudge(table, "")
	for {
		header, err := r.Next()
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is not a tar file, or damaged: %w", err)
		}
		if err := judge.Member(header); err != nil {
			return nil, err
		}
		name := clean(header.Name)
		switch header.Typeflag {
		case tar.TypeReg:
			offset, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				return nil, err
			}
			t.members[name] = member{offset: offset, size: header.Size, sparse: limit.IsSparse(header)}
		case tar.TypeSymlink: // docker save shares equal layers so
			t.members[name] = member{link: clean(path.Join(path.Dir(name), header.Linkname))}
		case tar.TypeLink:
			t.members[name] = member{link: clean(header.Linkname)}
		}
	}
}

// clean makes names comparable, and none of them leaves the archive.
func clean(name string) string { return path.Clean("/" + name)[1:] }

func (t *tarFile) open(name string) (io.ReadSeekCloser, int64, error) {
	name = clean(name)
	for range 8 { // links to links are few
		m, ok := t.members[name]
		if !ok {
			break
		}
		if m.sparse {
			return nil, 0, fmt.Errorf("%q is stored as a sparse file", name)
		}
		if m.link == "" {
			return section{io.NewSectionReader(t.f, m.offset, m.size)}, m.size, nil
		}
		name = m.link
	}
	return nil, 0, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
}

// section is a member; the file stays open for others.
type section struct{ *io.SectionReader }

func (section) Close() error { return nil }

func (t *tarFile) Close() error {
	if t.owned {
		return t.f.Close()
	}
	return nil
}

// directory is an unpacked archive.
type directory string

func (d directory) open(name string) (io.ReadSeekCloser, int64, error) {
	// The layout's own links stay inside; a hostile one must not reach out.
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	f, err := root.OpenFile(filepath.FromSlash(clean(name)), os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO is not waited for
	if err != nil {
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%q is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

func (d directory) Close() error { return nil }

// document reads a small file whole.
func document(a files, name string) ([]byte, error) {
	f, size, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > maxDocument {
		return nil, fmt.Errorf("%q has %d bytes; at most %d are accepted", name, size, maxDocument)
	}
	return io.ReadAll(io.LimitReader(f, maxDocument))
}

func readJSON(a files, name string, v any) error {
	data, err := document(a, name)
	if err != nil {
		return err
	}
	if err := limit.JSON(data, v); err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	return nil
}
