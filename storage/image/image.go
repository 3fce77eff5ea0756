// Package image names, resolves and lists images from the index: a plain copy of
// what the store says, which the fast path reads without opening the store.
package image

import "time"

// Image is an immutable view of one image in the store: the record
// <root>/images/<id>.json.
type Image struct {
	ID                string            // hexadecimal config digest
	Digest            string            `json:",omitempty"` // of the manifest, "sha256:…"
	Digests           []string          `json:",omitempty"`
	Names             []string          `json:",omitempty"` // fully qualified references
	NamesHistory      []string          `json:",omitempty"` // every name that it has had here, newest first
	ManifestType      string            `json:",omitempty"` // the manifest's media type
	Annotations       map[string]string `json:",omitempty"` // the manifest's
	Created           time.Time
	Size              int64  // bytes of all layers, unpacked
	OS, Arch, Variant string `json:",omitempty"`
	Author            string `json:",omitempty"`
	ReadOnly          bool   `json:",omitempty"` // lives in an additional store
	Config            Config
	History           []History `json:",omitempty"`
	DiffIDs           []string  `json:",omitempty"`
	// Lower are the layers' directories as overlay wants them: absolute,
	// uppermost first, through the store's short links.
	Lower []string `json:",omitempty"`
	// Layers are the store's layer IDs, uppermost first.
	Layers []string `json:",omitempty"`
	// LayerSizes are the bytes of each, unpacked.
	LayerSizes []int64 `json:",omitempty"`
	// List are the images of a manifest list, which is nothing but them. It is there,
	// and may be empty, for lists only.
	List []Instance `json:",omitzero"`
}

// Instance is an image in a list, by the digest of its manifest.
type Instance struct {
	Digest   string
	Platform Platform
	// Location is where it was when it was added, as containers-transports(5) says it.
	Location string `json:",omitempty"`
}

// IsList says whether it is a manifest list: a name for several images, each for a
// platform.
func (i *Image) IsList() bool { return i.List != nil }

// Config is the image configuration that running needs (image-spec config.md
// and Docker's additions).
type Config struct {
	User         string              `json:",omitempty"`
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string            `json:",omitempty"`
	Entrypoint   []string            `json:",omitempty"`
	Cmd          []string            `json:",omitempty"`
	Volumes      map[string]struct{} `json:",omitempty"`
	WorkingDir   string              `json:",omitempty"`
	Labels       map[string]string   `json:",omitempty"`
	StopSignal   string              `json:",omitempty"`
	Shell        []string            `json:",omitempty"`
	OnBuild      []string            `json:",omitempty"`
	Healthcheck  *Healthcheck        `json:",omitempty"`
}

// Healthcheck is Docker's HEALTHCHECK; durations in nanoseconds.
type Healthcheck struct {
	Test                                          []string      `json:",omitempty"`
	Interval, Timeout, StartPeriod, StartInterval time.Duration `json:",omitempty"`
	Retries                                       int           `json:",omitempty"`
}

// History is one line of an image's history.
type History struct {
	Created    time.Time `json:",omitzero"`
	CreatedBy  string    `json:",omitempty"`
	Comment    string    `json:",omitempty"`
	Author     string    `json:",omitempty"`
	Size       int64     `json:",omitempty"`
	EmptyLayer bool      `json:",omitempty"`
}
