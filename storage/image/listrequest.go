package image

import "time"

// ListRequest does something with a manifest list. Verb is create (prints the list's
// ID), add (the same), annotate (the same), remove (the same), inspect (prints the
// list) or push.
type ListRequest struct {
	Verb string
	List string
	// Images are what create and add put in: names or IDs of the store, or of
	// registries; with Artifact the paths of files. For annotate, remove: the digest, or
	// what has it.
	Images []string `json:",omitempty"`
	All    bool     `json:",omitempty"` // all images of lists among those; push: the images, too
	Amend  bool     `json:",omitempty"` // create: the list may be there

	Platform    Platform          `json:",omitzero"` // overrides what the image says
	OSVersion   string            `json:",omitempty"`
	OSFeatures  []string          `json:",omitempty"`
	Features    []string          `json:",omitempty"`
	Annotations map[string]string `json:",omitempty"`
	Index       bool              `json:",omitempty"` // Annotations are the list's own
	Subject     string            `json:",omitempty"`

	Artifact *ArtifactOptions `json:",omitempty"`

	Access
	Quiet       bool     `json:",omitempty"`
	Destination string   `json:",omitempty"` // of push
	Format      string   `json:",omitempty"` // of push: oci, docker; "" is the list's
	DigestFile  string   `json:",omitempty"`
	Compression string   `json:",omitempty"` // of layers that are sent
	Level       int      `json:",omitempty"`
	Force       bool     `json:",omitempty"` // Compression also where the registry has another
	Variants    []string `json:",omitempty"` // compressions to add for each platform
	// SignKey is the file of a private key that push signs with; "" signs nothing.
	SignKey        string `json:",omitempty"`
	PassphraseFile string `json:",omitempty"` // of the key; "": somebody is asked
}

// ArtifactOptions say what an artifact is made of beside its files.
type ArtifactOptions struct {
	Type          string `json:",omitempty"` // of the artifact
	FileType      string `json:",omitempty"` // of each file; "" is found out
	Config        string `json:",omitempty"` // a file; "" is the empty configuration
	ConfigType    string `json:",omitempty"`
	Subject       string `json:",omitempty"`
	ExcludeTitles bool   `json:",omitempty"`
}

// Access is how to reach a registry.
type Access struct {
	TLSVerify  *bool         `json:",omitempty"` // nil: as registries.conf says
	AuthFile   string        `json:",omitempty"`
	Creds      string        `json:",omitempty"` // USER[:PASSWORD]
	CertDir    string        `json:",omitempty"`
	Retries    int           `json:",omitempty"` // 0 is the default; less is none
	RetryDelay time.Duration `json:",omitempty"`
}
