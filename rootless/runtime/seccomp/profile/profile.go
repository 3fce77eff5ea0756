// Package profile builds the seccomp profile of containers that ask for no other:
// apart from its parent, because its tables would slow down every init stage.
package profile

import (
	"fmt"
	"os"
	"slices"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Default is moby's default profile for the bounding set of a specification's
// process, tightened: the way around its rule on socket families, socketcall(2)
// of 32-bit programs, is closed, so that AF_ALG and AF_VSOCK stay shut there as
// well. (i386 has had socket(2) proper since Linux 4.3, and the C libraries use
// it.)
func Default(spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	p, err := moby.GetDefaultProfile(withCapabilities(spec))
	if err != nil {
		return nil, fmt.Errorf("cannot build the default seccomp profile: %w", err)
	}
	return tighten(p), nil
}

// Load reads a profile file in Docker's or OCI's JSON, for the bounding set of a
// specification's process.
func Load(path string, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read seccomp profile: %w", err)
	}
	return Parse(path, data, spec)
}

// Parse is Load of a profile that has been read.
func Parse(name string, data []byte, spec *specs.Spec) (*specs.LinuxSeccomp, error) {
	p, err := moby.LoadProfile(string(data), withCapabilities(spec))
	if err != nil {
		return nil, fmt.Errorf("cannot read seccomp profile %q: %w", name, err)
	}
	return p, nil
}

// withCapabilities guards moby's package, which looks at the bounding set
// without asking whether there is one.
func withCapabilities(spec *specs.Spec) *specs.Spec {
	if spec != nil && spec.Process != nil && spec.Process.Capabilities != nil {
		return spec
	}
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{}}}
}

// tighten takes socketcall out of the rules without conditions: the compiler
// allows, of socketcall, what is allowed without conditions by its own name, and
// so all but socket(2).
func tighten(p *specs.LinuxSeccomp) *specs.LinuxSeccomp {
	for i := range p.Syscalls {
		s := &p.Syscalls[i]
		if s.Action == specs.ActAllow && len(s.Args) == 0 && slices.Contains(s.Names, "socketcall") {
			s.Names = slices.DeleteFunc(slices.Clone(s.Names), func(n string) bool { return n == "socketcall" })
		}
	}
	return p
}
