package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"time"

	"moss/cmd/moss/cli/format"
	"moss/storage/image"
)

// imageSet is every image, and what is found out about them when it is asked for.
type imageSet struct {
	c     *call
	all   []*image.Image
	using map[string][]string
}

// imageSet reads the index.
func (c *call) imageSet() (*imageSet, error) {
	all, err := c.Engine.Images.List()
	return &imageSet{c: c, all: all}, err
}

// users are the containers that use an image.
func (s *imageSet) users(id string) []string {
	if s.using == nil {
		if s.using, _ = s.c.Engine.Using(); s.using == nil { // a count is no reason to fail
			s.using = map[string][]string{}
		}
	}
	return s.using[id]
}

// imageRow is one name of an image as templates see it.
type imageRow struct {
	set  *imageSet
	img  *image.Image
	name string
	full bool
}

// ID is shortened unless --no-trunc is given.
func (r imageRow) ID() string {
	if r.full {
		return "sha256:" + r.img.ID
	}
	return format.ShortID(r.img.ID)
}

func (r imageRow) Id() string { return r.img.ID }

func (r imageRow) Repository() string {
	if r.name == "" {
		return "<none>"
	}
	repository, _ := splitName(r.name)
	return repository
}

func (r imageRow) Tag() string {
	if r.name == "" {
		return "<none>"
	}
	_, tag := splitName(r.name)
	return tag
}

func (r imageRow) Digest() string {
	if r.img.Digest == "" {
		return "<none>"
	}
	return r.img.Digest
}
func (r imageRow) Digests() []string         { return r.img.Digests }
func (r imageRow) Created() string           { return format.Ago(r.img.Created) }
func (r imageRow) CreatedSince() string      { return r.Created() }
func (r imageRow) CreatedAt() string         { return r.img.Created.Format(timeLayout) }
func (r imageRow) CreatedTime() time.Time    { return r.img.Created }
func (r imageRow) Size() string              { return format.Size(r.img.Size, " ") }
func (r imageRow) VirtualSize() string       { return r.Size() }
func (r imageRow) SharedSize() string        { return format.Size(0, " ") }
func (r imageRow) Names() []string           { return r.img.Names }
func (r imageRow) RepoTags() []string        { return r.img.Names }
func (r imageRow) RepoDigests() []string     { return repoDigests(r.img) }
func (r imageRow) ReadOnly() bool            { return r.img.ReadOnly }
func (r imageRow) Dangling() bool            { return r.img.Dangling(r.set.all) }
func (r imageRow) Containers() int           { return len(r.set.users(r.img.ID)) }
func (r imageRow) History() string           { return strings.Join(r.img.NamesHistory, ", ") }
func (r imageRow) Arch() string              { return r.img.Arch }
func (r imageRow) Os() string                { return r.img.OS }
func (r imageRow) IsManifestList() bool      { return r.img.IsList() }
func (r imageRow) Labels() map[string]string { return r.img.Config.Labels }
func (r imageRow) ParentId() string          { return parentID(r.img, r.set.all) }

func parentID(img *image.Image, all []*image.Image) string {
	if p := img.Parent(all); p != nil {
		return p.ID
	}
	return ""
}

// imageJSON is one image in "images --format json", with podman's names; a
// template's "json" has that name of it, too, which the row is of.
type imageJSON struct {
	Repository  string `json:"repository,omitempty"`
	Tag         string `json:"tag,omitempty"`
	Id          string
	ParentId    string
	RepoTags    []string
	RepoDigests []string
	Size        int64
	SharedSize  int64
	VirtualSize int64
	Labels      map[string]string
	Containers  int
	Arch        string `json:",omitempty"`
	Os          string `json:",omitempty"`
	Dangling    bool   `json:",omitempty"`
	ReadOnly    bool   `json:",omitempty"`
	Names       []string
	Digest      string
	History     []string `json:",omitempty"`
	Created     int64
	CreatedAt   string
}

func (s *imageSet) json(img *image.Image) imageJSON {
	return imageJSON{
		Id: img.ID, ParentId: parentID(img, s.all), RepoTags: img.Names, RepoDigests: repoDigests(img), Size: img.Size, VirtualSize: img.Size,
		Labels: img.Config.Labels, Containers: len(s.users(img.ID)), Arch: img.Arch, Os: img.OS, Dangling: img.Dangling(s.all), ReadOnly: img.ReadOnly,
		Names: img.Names, Digest: img.Digest, History: img.NamesHistory, Created: img.Created.Unix(), CreatedAt: img.Created.UTC().Format(time.RFC3339Nano),
	}
}

// MarshalJSON is for {{json .}}.
func (r imageRow) MarshalJSON() ([]byte, error) {
	v := r.set.json(r.img)
	v.Repository, v.Tag = r.Repository(), r.Tag()
	return json.Marshal(v)
}

// repoDigests are the names with the digest in place of the tag.
func repoDigests(img *image.Image) []string {
	out := []string{}
	for _, name := range img.Names {
		repository, _ := splitName(name)
		for _, digest := range img.Digests {
			if ref := repository + "@" + digest; !slices.Contains(out, ref) {
				out = append(out, ref)
			}
		}
	}
	return out
}
