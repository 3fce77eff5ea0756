package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	digest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"

	"moss/storage/image"
)

// Options say what an artifact is beside its files.
type Options struct {
	Type        string // "" for none
	FileType    string // of each file; "" is found out by its beginning
	Annotations map[string]string
	// NoTitles leaves the names of the files out.
	NoTitles bool
}

// Describe makes a manifest of files. Each is read once by read, which returns its
// digest and size.
func Describe(paths []string, o Options, read func(path string) (digest.Digest, int64, error)) (*imagespec.Manifest, error) {
	m := &imagespec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: imagespec.MediaTypeImageManifest,
		ArtifactType: o.Type, Config: imagespec.DescriptorEmptyJSON,
	}
	for _, path := range paths {
		l, err := describe(path, o, read)
		if err != nil {
			return nil, err
		}
		if title := l.Annotations[imagespec.AnnotationTitle]; title != "" && hasTitle(m, title) {
			return nil, fmt.Errorf("two files are called %q", title)
		}
		m.Layers = append(m.Layers, l)
	}
	return m, nil
}

func describe(path string, o Options, read func(path string) (digest.Digest, int64, error)) (imagespec.Descriptor, error) {
	l := imagespec.Descriptor{MediaType: o.FileType, Annotations: map[string]string{}}
	if !o.NoTitles {
		l.Annotations[imagespec.AnnotationTitle] = filepath.Base(path)
	}
	maps.Copy(l.Annotations, o.Annotations)
	if l.MediaType == "" {
		kind, err := kindOf(path)
		if err != nil {
			return l, err
		}
		l.MediaType = kind
	}
	var err error
	l.Digest, l.Size, err = read(path)
	return l, err
}

func hasTitle(m *imagespec.Manifest, title string) bool {
	return slices.ContainsFunc(m.Layers, func(l imagespec.Descriptor) bool { return l.Annotations[imagespec.AnnotationTitle] == title })
}

// kindOf is a file's media type by its first bytes.
func kindOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	begin := make([]byte, 512) // what DetectContentType looks at
	n, err := io.ReadFull(f, begin)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return "", err
	}
	return http.DetectContentType(begin[:n]), nil
}

// Measure reads a file for its digest and size.
func Measure(path string) (digest.Digest, int64, error) { return measure(path, io.Discard) }

func measure(path string, to io.Writer) (digest.Digest, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.IsDir() {
		return "", 0, errors.Join(err, fmt.Errorf("%q is a directory", path))
	}
	sum := digest.Canonical.Digester()
	n, err := io.Copy(io.MultiWriter(to, sum.Hash()), f)
	return sum.Digest(), n, err
}

// AddOptions of Add.
type AddOptions struct {
	Options
	Append  bool // to the artifact of the name
	Replace bool // the artifact of the name
}

// Add makes an artifact of files, and returns its digest.
func (s *Store) Add(name string, paths []string, o AddOptions) (digest.Digest, error) {
	w, err := s.Begin()
	if err != nil {
		return "", err
	}
	defer w.End()
	m, err := Describe(paths, o.Options, w.take)
	if err != nil {
		return "", err
	}
	m.Annotations = map[string]string{imagespec.AnnotationCreated: time.Now().UTC().Format(time.RFC3339Nano)}
	var was *Artifact
	if o.Append {
		if was, err = s.Find(name); err != nil {
			return "", err
		}
		added := m.Layers
		*m = was.Manifest
		m.Layers = slices.Clone(m.Layers)
		for _, l := range added {
			if title := l.Annotations[imagespec.AnnotationTitle]; title != "" && hasTitle(m, title) {
				return "", fmt.Errorf("it has a file %q already", title)
			}
			m.Layers = append(m.Layers, l)
		}
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	if was != nil {
		name, w.was = was.Name, was.Digest
		return w.Record(name, raw, true)
	}
	return w.Record(name, raw, o.Replace)
}

// take copies a file to its place.
func (w *Work) take(path string) (digest.Digest, int64, error) {
	f, err := os.CreateTemp(w.dir, "file-*")
	if err != nil {
		return "", 0, err
	}
	d, n, err := measure(path, f)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), w.Path(d))
	}
	return d, n, err
}

// ExtractOptions of Extract.
type ExtractOptions struct {
	Title, Digest string // the one file that is wanted; "" is all of them
	ExcludeTitle  bool   // files are called by their digests
}

// Extract copies files of an artifact into a directory, or one to a file. What was
// there of the same name is replaced, each file whole.
func (s *Store) Extract(a *Artifact, target string, o ExtractOptions) error {
	layers, err := o.chosen(a)
	if err != nil {
		return err
	}
	if info, err := os.Stat(target); err != nil || !info.IsDir() {
		if len(layers) > 1 {
			return fmt.Errorf("it has %d files, and %q is no directory: name one with --title or --digest", len(layers), target)
		}
		return s.extract(layers[0], target)
	}
	for _, l := range layers {
		name, err := fileName(l, o)
		if err == nil {
			err = s.extract(l, filepath.Join(target, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// chosen are the files that are wanted.
func (o ExtractOptions) chosen(a *Artifact) ([]imagespec.Descriptor, error) {
	layers := slices.DeleteFunc(slices.Clone(a.Manifest.Layers), func(l imagespec.Descriptor) bool {
		return o.Title != "" && l.Annotations[imagespec.AnnotationTitle] != o.Title || o.Digest != "" && l.Digest.String() != o.Digest
	})
	if len(layers) == 0 {
		return nil, fmt.Errorf("it has no file of title or digest %q", o.Title+o.Digest)
	}
	return layers, nil
}

// Files says where files of an artifact are in the store, and what they are called.
func (s *Store) Files(a *Artifact, o ExtractOptions) (all []image.ArtifactFile, err error) {
	layers, err := o.chosen(a)
	if err != nil {
		return nil, err
	}
	o.Digest = "" // one that was chosen so has its title
	for _, l := range layers {
		name, err := fileName(l, o)
		if err != nil {
			return nil, err
		}
		all = append(all, image.ArtifactFile{Path: s.Blob(l.Digest), Name: name})
	}
	return all, nil
}

// fileName is what a file is called in a directory: a title that could lead
// elsewhere is refused.
func fileName(l imagespec.Descriptor, o ExtractOptions) (string, error) {
	title := l.Annotations[imagespec.AnnotationTitle]
	if title == "" || o.Digest != "" || o.ExcludeTitle {
		return strings.Replace(l.Digest.String(), ":", "-", 1), nil
	}
	if title == "." || title == ".." || strings.ContainsAny(title, "/\x00") {
		return "", fmt.Errorf("its file %q has a title that is no name of a file", title)
	}
	return title, nil
}

func (s *Store) extract(l imagespec.Descriptor, to string) (err error) {
	from, err := os.Open(s.Blob(l.Digest))
	if err != nil {
		return err
	}
	defer from.Close()
	if info, err := os.Stat(to); err == nil && !info.Mode().IsRegular() { // a device, a pipe
		f, err := os.OpenFile(to, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, from)
		return errors.Join(err, f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".moss-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	check := l.Digest.Verifier()
	_, err = io.Copy(f, io.TeeReader(from, check))
	if err == nil && !check.Verified() {
		err = fmt.Errorf("blob %s is damaged in the store", l.Digest)
	}
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}

// ListRow is an artifact as "artifact ls" and "artifact inspect" tell of it.
type ListRow struct {
	Manifest       json.RawMessage
	Name           string
	Digest         digest.Digest
	TotalSizeBytes int64
	Created        time.Time
}

// Row describes the artifact.
func (a *Artifact) Row() ListRow { return ListRow{a.raw, a.Name, a.Digest, a.Size(), a.Created()} }
