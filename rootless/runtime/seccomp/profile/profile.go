// Package profile builds the seccomp profile of containers that ask for no other:
// apart from its parent, because its tables would slow down every init stage.
package profile

import (
	"fmt"
	"slices"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Default is moby's default profile for a bounding set of capabilities
// ("CAP_CHOWN", …), tightened: the way around its rule on socket families,
// socketcall(2) of 32-bit programs, is closed, so that AF_ALG and AF_VSOCK stay
// shut there as well. (i386 has had socket(2) proper since Linux 4.3, and the C
// libraries use it.)
func Default(bounding []string) (*specs.LinuxSeccomp, error) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: bounding}}}
	p, err := moby.GetDefaultProfile(spec)
	if err != nil {
		return nil, fmt.Errorf("cannot build the default seccomp profile: %w", err)
	}
	return tighten(p), nil
}

// Load reads a profile in Docker's or OCI's JSON for a bounding set of
// capabilities.
func Load(data []byte, bounding []string) (*specs.LinuxSeccomp, error) {
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: bounding}}}
	p, err := moby.LoadProfile(string(data), spec)
	if err != nil {
		return nil, fmt.Errorf("cannot read seccomp profile: %w", err)
	}
	return p, nil
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
