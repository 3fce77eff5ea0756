package image

// ArtifactRequest does something with artifacts. Verb is add and pull, which print the
// digest, push, ls (prints the artifacts as JSON), inspect (the same of those named),
// files (prints a list of ArtifactFile as JSON: those of one, or the one that Title or
// Digest names), extract, or rm (prints Deleted: lines).
type ArtifactRequest struct {
	Verb  string
	Names []string `json:",omitempty"` // names or digests; one for add, push, extract
	Paths []string `json:",omitempty"` // the files of add, the target of extract

	Type        string            `json:",omitempty"`
	FileType    string            `json:",omitempty"`
	Annotations map[string]string `json:",omitempty"`
	Append      bool              `json:",omitempty"`
	Replace     bool              `json:",omitempty"`

	Title        string `json:",omitempty"`
	Digest       string `json:",omitempty"`
	ExcludeTitle bool   `json:",omitempty"`

	All    bool `json:",omitempty"`
	Ignore bool `json:",omitempty"`

	Access
	Quiet       bool   `json:",omitempty"`
	Destination string `json:",omitempty"` // of push
	DigestFile  string `json:",omitempty"`
}

// ArtifactFile is a file of an artifact of the store.
type ArtifactFile struct {
	Path string // where it is
	Name string // its title, or its digest
}
