package image

import (
	"fmt"
	"strings"

	"moss/storage/limit"
)

// Reference is a name of an image, split into its parts; see the grammar in
// distribution's reference specification.
type Reference struct {
	Registry   string // "docker.io"; "" in a short name
	Repository string // "library/busybox"
	Tag        string
	Digest     string // "sha256:…"
}

// Parse splits a reference without completing it: "busybox" has no registry and
// no tag.
func Parse(ref string) (Reference, error) {
	var r Reference
	bad := func(why string) (Reference, error) {
		return Reference{}, fmt.Errorf("%w %s: %s", ErrInvalid, limit.Quote(ref), why)
	}
	rest := strings.TrimPrefix(ref, "docker://")
	if name, digest, ok := strings.Cut(rest, "@"); ok {
		if !validDigest(digest) {
			return bad("the digest is not sha256: and 64 hexadecimal digits")
		}
		rest, r.Digest = name, digest
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') {
		rest, r.Tag = rest[:i], rest[i+1:]
		if !validTag(r.Tag) {
			return bad("the tag has characters other than letters, digits, _, . and -")
		}
	}
	if first, path, ok := strings.Cut(rest, "/"); ok && isRegistry(first) {
		r.Registry, rest = first, path
		if !validRegistry(first) {
			return bad("the registry is not a host name")
		}
	}
	r.Repository = rest
	if rest == "" {
		return bad("the repository is empty")
	}
	if len(r.Registry)+len(rest) > 255 {
		return bad("the name is longer than 255 characters")
	}
	for part := range strings.SplitSeq(rest, "/") {
		if !validPathPart(part) {
			if strings.ToLower(part) != part {
				return bad("a repository is written in lower case")
			}
			return bad("the repository has characters other than a-z, 0-9 and separators ., _, __ and -")
		}
	}
	if r.Registry == "" && len(rest) == 64 && isHex(rest) {
		return bad("64 hexadecimal digits are an image ID, not a name")
	}
	return r, nil
}

// Normalize completes a reference as pull understands it when no configuration
// says otherwise: docker.io, library/ and :latest. A digest makes the tag
// redundant; it is dropped, as podman does.
func Normalize(ref string) (string, error) {
	r, err := Parse(ref)
	if err != nil {
		return "", err
	}
	return r.Complete().String(), nil
}

// NormalizeLocal completes a name that is given to an image here (tag, load,
// import): a short name belongs to localhost, as with podman.
func NormalizeLocal(ref string) (string, error) {
	r, err := Parse(ref)
	if err != nil {
		return "", err
	}
	if r.Registry == "" {
		r.Registry = "localhost"
	}
	return r.Complete().String(), nil
}

// Complete fills in docker.io, library/ and :latest.
func (r Reference) Complete() Reference {
	switch r.Registry {
	case "", "index.docker.io":
		r.Registry = "docker.io"
	}
	if r.Registry == "docker.io" && !strings.Contains(r.Repository, "/") {
		r.Repository = "library/" + r.Repository
	}
	switch {
	case r.Digest != "":
		r.Tag = ""
	case r.Tag == "":
		r.Tag = "latest"
	}
	return r
}

// Name is the reference without tag and digest.
func (r Reference) Name() string {
	if r.Registry == "" {
		return r.Repository
	}
	return r.Registry + "/" + r.Repository
}

func (r Reference) String() string {
	s := r.Name()
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != "" {
		s += "@" + r.Digest
	}
	return s
}

// isRegistry tells a registry from the first directory of a repository, by the
// rule of distribution's reference package.
func isRegistry(s string) bool {
	return s == "localhost" || strings.ContainsAny(s, ".:") || strings.ToLower(s) != s
}

func validRegistry(s string) bool {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		host, port = s[1:end], strings.TrimPrefix(s[end+1:], ":")
		for _, c := range host {
			if !strings.ContainsRune("0123456789abcdefABCDEF:.", c) {
				return false
			}
		}
		return host != "" && digits(port)
	}
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
		if port == "" {
			return false
		}
	}
	for part := range strings.SplitSeq(host, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' {
			return false
		}
		for _, c := range part {
			if !alnum(c) && c != '-' {
				return false
			}
		}
	}
	return digits(port)
}

// validPathPart: [a-z0-9]+ separated by ".", "_", "__" or any number of "-".
func validPathPart(s string) bool {
	separator := "."
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			separator = ""
			i++
			continue
		}
		j := i
		for j < len(s) && strings.IndexByte("._-", s[j]) >= 0 {
			j++
		}
		sep := s[i:j]
		if separator != "" || sep == "" || (sep != "." && sep != "_" && sep != "__" && strings.Trim(sep, "-") != "") {
			return false
		}
		separator, i = sep, j
	}
	return separator == ""
}

func validTag(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, c := range s {
		if !alnum(c) && !strings.ContainsRune("_.-", c) {
			return false
		}
	}
	return true
}

func validDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && isHex(hex)
}

func isHex(s string) bool {
	for _, c := range s {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

func alnum(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}
