package image

import "time"

// Request is what moss asks of moss-image, the helper that alone opens the
// store: one JSON document on its descriptor 3. The helper prints progress and
// results itself, on the descriptors it inherits, and exits with moss's codes.
// Exactly one verb field is set.
type Request struct {
	Root string // <root>: the store is <root>/storage
	Run  string // <run>: the store's run directory is <run>/storage

	Events string `json:",omitempty"` // where to record what is done; "" for nowhere

	Index  *IndexRequest  `json:",omitempty"` // rewrite the index from the store, print nothing
	Pull   *PullRequest   `json:",omitempty"`
	Push   *PushRequest   `json:",omitempty"`
	Login  *LoginRequest  `json:",omitempty"`
	Logout *LogoutRequest `json:",omitempty"`
	// Sweep deletes what removed images have left (Images.Remove), and prints nothing.
	Sweep  *IndexRequest  `json:",omitempty"`
	Search *SearchRequest `json:",omitempty"`
	Sign   *SignRequest   `json:",omitempty"`
	Trust  *TrustRequest  `json:",omitempty"`
	Tag    *TagRequest    `json:",omitempty"`
	Untag  *TagRequest    `json:",omitempty"`
	Save   *SaveRequest   `json:",omitempty"`
	Load   *LoadRequest   `json:",omitempty"`
	Import *ImportRequest `json:",omitempty"`
	Commit *CommitRequest `json:",omitempty"`
	// Builtin loads the image that moss carries itself as localhost/moss/box:latest.
	Builtin *IndexRequest `json:",omitempty"`
	// Mapped makes (or finds) a tree of an image's merged layers whose owners
	// are shifted by a mapping, and prints its directory.
	Mapped *MappedRequest `json:",omitempty"`
	CDI    *CDIRequest    `json:",omitempty"`
	// Held says that descriptor 3 stays open for as long as somebody waits for the
	// answer. When it is closed before, he was killed, and moss-image ends as well.
	Held bool `json:",omitempty"`
	// The upkeep of the store; see upkeep.go.
	Collect *CollectRequest `json:",omitempty"`
	Check   *CheckRequest   `json:",omitempty"`
	Adopt   *AdoptRequest   `json:",omitempty"`
	List    *ListRequest    `json:",omitempty"` // manifest lists
	// Artifact does something with artifacts.
	Artifact *ArtifactRequest `json:",omitempty"`
	// Newer asks registries whether names mean other images there.
	Newer *NewerRequest `json:",omitempty"`
	// ExportVolume writes a volume as tar to standard output, ImportVolume reads one.
	ExportVolume *VolumeRequest `json:",omitempty"`
	ImportVolume *VolumeRequest `json:",omitempty"`
}

// VolumeRequest is for archives of volumes, which have to do with images only that
// they are unpacked as layers are.
type VolumeRequest struct {
	Dir   string // the volume's files
	Input string `json:",omitempty"` // "" is standard input
}

// IndexRequest has no options.
type IndexRequest struct{}

// PullRequest fetches references into the store and prints each image's ID.
type PullRequest struct {
	References []string
	Platform   string // os/arch[/variant], several with commas between; "" is the host's
	Policy     string // always, missing, newer, never
	TLSVerify  *bool  // nil: registries.conf and loopback's default
	AuthFile   string
	Creds      string // USER[:PASSWORD]
	CertDir    string
	Quiet      bool
	AllTags    bool
	// Progress "stderr" draws on stderr and prints no ID: for run and create.
	Progress string
	Retries  int // 0 is the default; less is none
	// RetryDelay is the pause before each further try; 0 is the default.
	RetryDelay time.Duration `json:",omitempty"`
	Parallel   int           `json:",omitempty"` // how many blobs at once; 0: 6
	// Stall is how long the registry may say nothing; 0 is the default.
	Stall time.Duration `json:",omitempty"`
}

// PushRequest sends an image to a registry.
type PushRequest struct {
	Image, Destination string
	TLSVerify          *bool
	AuthFile, Creds    string
	CertDir            string
	Quiet              bool
	DigestFile         string
	Format             string        // oci, docker; "" keeps the image's
	Compression        string        `json:",omitempty"` // gzip, zstd, zstd:chunked; "" is gzip
	Level              int           `json:",omitempty"` // 0 is the usual one
	SignKey            string        `json:",omitempty"` // file of a private key; "" signs nothing
	PassphraseFile     string        `json:",omitempty"` // of the key; "": somebody is asked
	Force              bool          `json:",omitempty"` // compress again what is there in another compression
	Retries            int           // as of a pull
	RetryDelay         time.Duration `json:",omitempty"`
	Parallel           int           `json:",omitempty"`
}

// LoginRequest keeps credentials for a registry, or with Get prints whose there are.
type LoginRequest struct {
	Key            string // a registry, or a namespace of one; "": registries.conf says
	User, Password string
	PasswordStdin  bool // the password is on standard input
	Get            bool
	Verbose        bool // say where they are kept
	TLSVerify      *bool
	AuthFile       string
	CompatFile     string // Docker's config.json, in place of AuthFile
	CertDir        string
}

// SearchRequest looks for images in registries, and prints a list of Found.
type SearchRequest struct {
	Term            string
	Limit           int // of each registry; 0: 25
	Tags            bool
	TLSVerify       *bool
	AuthFile, Creds string
	CertDir         string
}

// Found is a repository of a registry, or a tag of one.
type Found struct {
	Index       string // the registry
	Name        string // the full name
	Description string
	Stars       int
	IsOfficial  bool
	IsAutomated bool
	Tag         string
}

// SignRequest signs images that registries have, and prints the digests; or makes a
// pair of keys.
type SignRequest struct {
	Images              []string
	Key, PassphraseFile string
	All                 bool   // each image of a list
	NewKey              string // makes NewKey.private and NewKey.pub
	TLSVerify           *bool
	AuthFile, CertDir   string
}

// TrustRequest prints the policy as JSON, or with Raw as it is; or with Scope
// changes it.
type TrustRequest struct {
	Path  string // "": the policy in effect
	Raw   bool
	Scope string // "default", a registry or a part of one
	Type  string // accept, reject, sigstoreSigned
	Keys  []string
}

// TrustEntry is one requirement of the policy, with podman's names.
type TrustEntry struct {
	Transport string   `json:"transport"`
	Name      string   `json:"name,omitempty"`
	RepoName  string   `json:"repo_name,omitempty"`
	Keys      []string `json:"keys,omitempty"`
	Store     string   `json:"sigstore,omitempty"`
	Type      string   `json:"type"`
	ID        string   `json:"gpg_id,omitempty"`
}

// LogoutRequest forgets them.
type LogoutRequest struct {
	Key                  string // as of a login
	All                  bool
	AuthFile, CompatFile string
}

// StreamEnd follows the tar stream of a CommitRequest: a stream without it was cut.
const StreamEnd = "moss: the end of the stream\n"

// CommitRequest makes an image of a base and a tar stream on standard input, and
// prints its ID. The stream is a layer on top of the base's, or, with Squash, the
// whole root file system.
type CommitRequest struct {
	Container string // its name
	Base      string // image ID
	Squash    bool
	Name      string // as the user gave it, or ""
	Author    string // "" keeps the base's
	Message   string
	CreatedBy string
	Format    string // oci, docker; "" is oci
	Config    Config // what the image says, before Changes
	Changes   []string
	Quiet     bool
}

// TagRequest gives an image more names, or takes them away.
type TagRequest struct {
	Image string
	Names []string // full ones
	// Verb and Source are what the log of names says of it; see LogEntry.
	Verb   string
	Source string `json:",omitempty"`
}

// SaveRequest writes images to an archive: format docker-archive, oci-archive,
// oci-dir or docker-dir. Output "" is stdout.
type SaveRequest struct {
	Images []string
	Format string
	Output string
	Plain  bool `json:",omitempty"` // layers that are not compressed, of the formats that could be
	Quiet  bool
}

// LoadRequest reads an archive; Input "" is stdin. A URL is fetched.
type LoadRequest struct {
	Input string
	Quiet bool
}

// ImportRequest makes an image of a tarball of a root filesystem. Source is a
// path, a URL or "-". What of the platform is "" is the host's.
type ImportRequest struct {
	Source  string
	Name    string
	Message string
	Changes []string // Containerfile instructions
	Quiet   bool
	OS      string `json:",omitempty"`
	Arch    string `json:",omitempty"`
	Variant string `json:",omitempty"`
}

// MappedRequest: maps as in rootless/runtime/birth.IDMap, container to
// intermediate IDs.
type MappedRequest struct {
	Image          string
	UIDMap, GIDMap []IDMap
	// Redirect makes inodes only, whose bytes are in the image's own layers: for
	// an overlay with those as data-only ones. Else the tree is a copy.
	Redirect bool `json:",omitempty"`
}

// IDMap is one line of a mapping.
type IDMap struct{ Container, Host, Size int }

// NewerRequest prints a NewerAnswer for each image, in their order.
type NewerRequest struct {
	Images    []NewerImage
	TLSVerify *bool
}

// NewerImage is a name and the image that it has meant.
type NewerImage struct {
	Reference, ID string
	Platform      string // as of a pull
	AuthFile      string
}

// NewerAnswer says whether the name means another one now, or why that is not known.
type NewerAnswer struct {
	Newer bool
	Error string `json:",omitempty"`
}
