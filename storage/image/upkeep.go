package image

import "time"

// CollectRequest finds what no record knows in the directories of the image store,
// removes it unless DryRun, and prints it as JSON, a list of Garbage.
type CollectRequest struct {
	DryRun bool `json:",omitempty"`
	All    bool `json:",omitempty"` // also what waits for the next try of a pull
}

// Garbage is something on the disk that nothing needs.
type Garbage struct {
	Kind  string // for people: layer, download…
	Path  string
	Bytes int64 // that it takes on the disk
}

// CheckRequest looks for damage in the image store, and prints it as JSON, a list of
// Damage.
type CheckRequest struct {
	Quick  bool          `json:",omitempty"` // do not read the content of layers
	Lists  bool          `json:",omitempty"` // look at the lists of the store only
	Repair bool          `json:",omitempty"` // remove what is damaged
	Max    time.Duration `json:",omitempty"` // how old a layer without an image may be; 0: a day
	InUse  []string      `json:",omitempty"` // IDs of images that containers use: they are not removed
}

// Damage is something of a store that is not as it should be.
type Damage struct {
	Kind   string // image, layer, container, volume…
	ID     string
	Names  []string `json:",omitempty"`
	Errors []string
	// Repaired says that it was removed, or made again; Kept why it was not.
	Repaired bool   `json:",omitempty"`
	Made     bool   `json:",omitempty"` // it was made again
	Kept     string `json:",omitempty"`
}

// AdoptRequest copies images of podman's store into moss's, without a registry, and
// prints their IDs.
type AdoptRequest struct {
	Images []string
	All    bool `json:",omitempty"`
	Quiet  bool `json:",omitempty"`
}
