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
	i, _, err := im.Resolve(ref)
	return i, err
}

// ForPlatform is the image that a name stands for on a platform: itself, or if it is
// a list, the image in it that serves best. The error is an *AbsentError if that image is not
// in the store.
func (im *Images) ForPlatform(i *Image, p Platform) (*Image, error) {
	if !i.IsList() {
		return i, nil
	}
	var best *Instance
	rank := 0
	var offered []string
	for n := range i.List {
		one := &i.List[n]
		if r := p.Rank(one.Platform); r > rank {
			best, rank = one, r
		}
		offered = append(offered, one.Platform.String())
	}
	if best == nil {
		return nil, fmt.Errorf("%w for platform %s in the manifest list; there are %v", ErrNotFound, p, offered)
	}
	idx, err := im.load()
	if err != nil {
		return nil, err
	}
	for n := range idx.Images {
		if e := &idx.Images[n]; slices.Contains(e.Digests, best.Digest) && e.ID != i.ID {
			return im.read(e.ID)
		}
	}
	return nil, &AbsentError{*best}
}

// AbsentError says that an image of a list is not in the store.
type AbsentError struct{ Instance }

func (e *AbsentError) Error() string {
	return fmt.Sprintf("the image for platform %s of the manifest list, %s, is not in the store", e.Platform, e.Digest)
}

// Unwrap makes it ErrNotFound.
func (e *AbsentError) Unwrap() error { return ErrNotFound }

// Source is the name by which a registry has it; "" if that is not known.
func (e *AbsentError) Source() string {
	name, ok := strings.CutPrefix(e.Location, "docker://")
	if !ok {
		return ""
	}
	return name
}

// Resolve is Lookup, and tells which of the image's names ref stands for; ""
// when ref is an ID or has a digest.
func (im *Images) Resolve(ref string) (i *Image, name string, err error) {
	idx, err := im.load()
	if err != nil {
		return nil, "", err
	}
	e, name, err := idx.find(ref)
	if err != nil {
		return nil, "", err
	}
	i, err = im.read(e.ID)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %q", ErrNotFound, ref)
	}
	return i, name, err
}

// find is Resolve in an index that is at hand.
func (idx *Index) find(ref string) (*Entry, string, error) {
	id, byID := strings.CutPrefix(ref, "sha256:")
	if len(id) == 64 && isHex(id) {
		if e := idx.byID(id); e != nil {
			return e, "", nil
		}
		return nil, "", fmt.Errorf("%w: %q", ErrNotFound, ref)
	}
	var invalid error
	if !byID {
		r, err := Parse(ref)
		if err == nil {
			if e, name, err := idx.byName(r); e != nil || err != nil {
				return e, name, err
			}
		}
		invalid = err
	}
	if len(id) >= minPrefix && isHex(id) {
		if e, err := idx.byPrefix(id); e != nil || err != nil {
			return e, "", err
		}
	}
	if invalid != nil {
		return nil, "", invalid
	}
	return nil, "", fmt.Errorf("%w: %q", ErrNotFound, ref)
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
func (idx *Index) byName(r Reference) (*Entry, string, error) {
	if r.Registry != "" {
		full := r.Complete().Name()
		e, name := idx.match(func(repository string) bool { return repository == full }, r)
		return e, name, nil
	}
	local, hub := r, r.Complete()
	local.Registry = "localhost"
	for _, try := range []Reference{local, hub} {
		full := try.Name()
		if e, name := idx.match(func(repository string) bool { return repository == full }, r); e != nil {
			return e, name, nil
		}
	}
	return idx.unique(r)
}

// match returns the first image with a name whose repository satisfies is, and
// the tag or digest of r; and the name, unless it was found by digest.
func (idx *Index) match(is func(repository string) bool, r Reference) (*Entry, string) {
	want := r.Complete()
	for n := range idx.Images {
		e := &idx.Images[n]
		if want.Digest != "" && !slices.Contains(e.Digests, want.Digest) {
			continue
		}
		for _, name := range e.Names {
			repository, tag := split(name)
			switch {
			case !is(repository):
			case want.Digest != "":
				return e, ""
			case tag == want.Tag:
				return e, name
			}
		}
	}
	return nil, ""
}

// unique finds the one image that some registry calls r.
func (idx *Index) unique(r Reference) (*Entry, string, error) {
	var found *Entry
	var names []string
	suffix := "/" + r.Repository
	for n := range idx.Images {
		one := Index{Images: idx.Images[n : n+1]}
		e, name := one.match(func(repository string) bool { return strings.HasSuffix(repository, suffix) }, r)
		if e != nil {
			found = &idx.Images[n]
			names = append(names, name)
		}
	}
	switch len(names) {
	case 0:
		return nil, "", nil
	case 1:
		return found, names[0], nil
	}
	return nil, "", fmt.Errorf("%w %q: %s", ErrAmbiguous, r, strings.Join(names, ", "))
}

// split cuts a stored name into repository and tag.
func split(name string) (repository, tag string) {
	name, _, _ = strings.Cut(name, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		return name[:i], name[i+1:]
	}
	return name, ""
}
