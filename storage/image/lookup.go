package image

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// minPrefix is the shortest part of an ID that Lookup takes for one: shorter
// hexadecimal words are too easily names.
const minPrefix = 3

// Lookup finds the image that ref means: an ID or its first digits, a name, a
// short name, or name@digest. A short name is first looked for under
// localhost, then docker.io/library, then in every registry. The error is
// ErrNotFound, ErrAmbiguous or ErrInvalid.
func (im *Images) Lookup(ref string) (*Image, error) {
	idx, err := im.load()
	if err != nil {
		return nil, err
	}
	e, err := idx.Find(ref)
	if err != nil {
		return nil, err
	}
	i, err := im.read(e.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, ref)
	}
	return i, err
}

// Find is Lookup in an index that is at hand.
func (idx *Index) Find(ref string) (*Entry, error) {
	id, byID := strings.CutPrefix(ref, "sha256:")
	if len(id) == 64 && isHex(id) {
		if e := idx.byID(id); e != nil {
			return e, nil
		}
		return nil, fmt.Errorf("%w: %q", ErrNotFound, ref)
	}
	var invalid error
	if !byID {
		r, err := Parse(ref)
		if err == nil {
			if e, err := idx.byName(r); e != nil || err != nil {
				return e, err
			}
		}
		invalid = err
	}
	if len(id) >= minPrefix && isHex(id) {
		if e, err := idx.byPrefix(id); e != nil || err != nil {
			return e, err
		}
	}
	if invalid != nil {
		return nil, invalid
	}
	return nil, fmt.Errorf("%w: %q", ErrNotFound, ref)
}

func (idx *Index) byID(id string) *Entry {
	for n := range idx.Images {
		if idx.Images[n].ID == id {
			return &idx.Images[n]
		}
	}
	return nil
}

func (idx *Index) byPrefix(prefix string) (*Entry, error) {
	var found *Entry
	for n := range idx.Images {
		if strings.HasPrefix(idx.Images[n].ID, prefix) {
			if found != nil {
				return nil, fmt.Errorf("%w the ID %q", ErrAmbiguous, prefix)
			}
			found = &idx.Images[n]
		}
	}
	return found, nil
}

// byName tries what a name may stand for, the likeliest first.
func (idx *Index) byName(r Reference) (*Entry, error) {
	if r.Registry != "" {
		return idx.match(func(repository string) bool { return repository == r.Complete().Name() }, r), nil
	}
	local, hub := r, r
	local.Registry = "localhost"
	for _, try := range []Reference{local, hub.Complete()} {
		name := try.Name()
		if e := idx.match(func(repository string) bool { return repository == name }, r); e != nil {
			return e, nil
		}
	}
	return idx.unique(r)
}

// match returns the first image with a name whose repository satisfies is, and
// the tag or digest of r.
func (idx *Index) match(is func(repository string) bool, r Reference) *Entry {
	want := r.Complete()
	for n := range idx.Images {
		e := &idx.Images[n]
		if want.Digest != "" && !slices.Contains(e.Digests, want.Digest) {
			continue
		}
		for _, name := range e.Names {
			repository, tag := split(name)
			if is(repository) && (want.Digest != "" || tag == want.Tag) {
				return e
			}
		}
	}
	return nil
}

// unique finds the one image that some registry calls r.
func (idx *Index) unique(r Reference) (*Entry, error) {
	var found *Entry
	var names []string
	for n := range idx.Images {
		one := Index{Images: idx.Images[n : n+1]}
		suffix := "/" + r.Repository
		e := one.match(func(repository string) bool { return strings.HasSuffix(repository, suffix) }, r)
		if e != nil {
			found = &idx.Images[n]
			names = append(names, found.Names[0])
		}
	}
	if len(names) > 1 {
		return nil, fmt.Errorf("%w %q: %s", ErrAmbiguous, r, strings.Join(names, ", "))
	}
	return found, nil
}

// split cuts a stored name into repository and tag.
func split(name string) (repository, tag string) {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, ""
}
