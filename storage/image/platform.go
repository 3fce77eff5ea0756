package image

import (
	"fmt"
	"runtime"
	"strings"
)

// Platform is os/arch[/variant] with the names of Go's GOOS and GOARCH.
type Platform struct{ OS, Arch, Variant string }

// HostPlatform is the platform that this machine runs.
func HostPlatform() Platform { return Platform{OS: "linux", Arch: runtime.GOARCH}.canonical() }

// ParsePlatform reads os/arch[/variant], or arch alone; "" is the host's.
// Machine names as uname(1) prints them are understood.
func ParsePlatform(s string) (Platform, error) {
	if s == "" {
		return HostPlatform(), nil
	}
	parts := strings.Split(s, "/")
	for _, part := range parts {
		if part == "" || len(parts) > 3 {
			return Platform{}, fmt.Errorf("%w platform %q: want os/arch[/variant]", ErrInvalid, s)
		}
	}
	p := Platform{OS: "linux"}
	switch len(parts) {
	case 1:
		p.Arch = parts[0]
		if p.Arch == "linux" {
			p.Arch = runtime.GOARCH
		}
	case 3:
		p.Variant = parts[2]
		fallthrough
	case 2:
		p.OS, p.Arch = parts[0], parts[1]
	}
	return p.canonical(), nil
}

// canonical applies the aliases of image-spec's image-index.md and of uname.
func (p Platform) canonical() Platform {
	p.OS, p.Arch, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Arch), strings.ToLower(p.Variant)
	switch p.Arch {
	case "x86_64", "x86-64":
		p.Arch = "amd64"
	case "i386", "i486", "i586", "i686", "x86":
		p.Arch = "386"
	case "aarch64":
		p.Arch = "arm64"
	case "armhf", "armv7l":
		p.Arch, p.Variant = "arm", "v7"
	case "armel":
		p.Arch, p.Variant = "arm", "v6"
	}
	switch {
	case p.Arch == "arm64" && (p.Variant == "v8" || p.Variant == "8"):
		p.Variant = "" // the only one there was; image-spec leaves it out
	case p.Arch == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Arch == "amd64" && p.Variant == "v1":
		p.Variant = ""
	}
	return p
}

func (p Platform) String() string {
	s := p.OS + "/" + p.Arch
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Rank says how well an image made for have serves a machine that wants p:
// 0 not at all, 1 a lesser variant that runs as well, 2 exactly.
func (p Platform) Rank(have Platform) int {
	p, have = p.canonical(), have.canonical()
	switch {
	case p.OS != have.OS || p.Arch != have.Arch:
		return 0
	case p.Variant == have.Variant:
		return 2
	case p.Arch == "arm" && have.Variant < p.Variant, have.Variant == "":
		return 1
	}
	return 0
}

// Matches says whether the image is made for p. An image that does not say what
// it is for matches everything.
func (i *Image) Matches(p Platform) bool {
	if i.OS == "" && i.Arch == "" {
		return true
	}
	return p.Rank(Platform{i.OS, i.Arch, i.Variant}) > 0
}
