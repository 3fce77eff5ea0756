package runtime

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"moss/record"
)

// The first use of a type by encoding/json walks over all types that it contains,
// for the Specification nearly a millisecond: a fifth of a container's start. So
// the init stages decode what they look at, and the rest only if it is needed; moss
// encodes no more than that. TestLean compares both ways.

// leanDocument is Document with a lean specification.
type leanDocument struct {
	Document
	Spec *leanSpec // hides Document's
}

type leanSpec struct {
	Process     *specs.Process    `json:"process,omitempty"`
	Root        *specs.Root       `json:"root,omitempty"`
	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Mounts      []specs.Mount     `json:"mounts,omitempty"`
	Hooks       record.Raw        `json:"hooks,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Linux       *leanLinux        `json:"linux,omitempty"`
}

type leanLinux struct {
	UIDMappings       []specs.LinuxIDMapping           `json:"uidMappings,omitempty"`
	GIDMappings       []specs.LinuxIDMapping           `json:"gidMappings,omitempty"`
	Sysctl            map[string]string                `json:"sysctl,omitempty"`
	Namespaces        []specs.LinuxNamespace           `json:"namespaces,omitempty"`
	Devices           []specs.LinuxDevice              `json:"devices,omitempty"`
	Seccomp           record.Raw                       `json:"seccomp,omitempty"`
	RootfsPropagation string                           `json:"rootfsPropagation,omitempty"`
	MaskedPaths       []string                         `json:"maskedPaths,omitempty"`
	ReadonlyPaths     []string                         `json:"readonlyPaths,omitempty"`
	MountLabel        string                           `json:"mountLabel,omitempty"`
	Personality       *specs.LinuxPersonality          `json:"personality,omitempty"`
	TimeOffsets       map[string]specs.LinuxTimeOffset `json:"timeOffsets,omitempty"`
}

// Lean is what the init stage reads of the document, in a form that is encoded
// in a third of the time.
func (d *Document) Lean() (any, error) {
	doc := leanDocument{Document: *d}
	doc.Document.Spec = nil
	from := d.Spec
	doc.Spec = &leanSpec{
		Process: from.Process, Root: from.Root, Hostname: from.Hostname, Domainname: from.Domainname,
		Mounts: from.Mounts, Annotations: from.Annotations,
	}
	if l := from.Linux; l != nil {
		doc.Spec.Linux = &leanLinux{
			UIDMappings: l.UIDMappings, GIDMappings: l.GIDMappings, Sysctl: l.Sysctl, Namespaces: l.Namespaces,
			Devices: l.Devices, RootfsPropagation: l.RootfsPropagation, MaskedPaths: l.MaskedPaths,
			ReadonlyPaths: l.ReadonlyPaths, MountLabel: l.MountLabel, Personality: l.Personality, TimeOffsets: l.TimeOffsets,
		}
		if d.SeccompBPF == "" && l.Seccomp != nil {
			raw, err := record.Encode(l.Seccomp)
			if err != nil {
				return nil, err
			}
			doc.Spec.Linux.Seccomp = raw
		}
	}
	if d.State != nil && from.Hooks != nil {
		raw, err := record.Encode(from.Hooks)
		if err != nil {
			return nil, err
		}
		doc.Spec.Hooks = raw
	}
	return &doc, nil
}

// readDocument decodes what the init stage looks at.
func readDocument(data []byte) (*Document, error) {
	var lean leanDocument
	if err := record.Decode(data, &lean); err != nil {
		return nil, err
	}
	doc := lean.Document
	from := lean.Spec
	if from == nil || from.Linux == nil {
		return &doc, nil // refused for what it lacks
	}
	l := from.Linux
	doc.Spec = &specs.Spec{
		Process: from.Process, Root: from.Root, Hostname: from.Hostname, Domainname: from.Domainname,
		Mounts: from.Mounts, Annotations: from.Annotations,
		Linux: &specs.Linux{
			UIDMappings: l.UIDMappings, GIDMappings: l.GIDMappings, Sysctl: l.Sysctl, Namespaces: l.Namespaces,
			Devices: l.Devices, RootfsPropagation: l.RootfsPropagation, MaskedPaths: l.MaskedPaths,
			ReadonlyPaths: l.ReadonlyPaths, MountLabel: l.MountLabel, Personality: l.Personality, TimeOffsets: l.TimeOffsets,
		},
	}
	if doc.State != nil && len(from.Hooks) > 0 {
		if err := record.Decode(from.Hooks, &doc.Spec.Hooks); err != nil {
			return nil, err
		}
	}
	if doc.SeccompBPF == "" && len(l.Seccomp) > 0 {
		if err := record.Decode(l.Seccomp, &doc.Spec.Linux.Seccomp); err != nil {
			return nil, err
		}
	}
	return &doc, nil
}

// readExecDocument likewise.
func readExecDocument(data []byte) (*ExecDocument, error) {
	var lean struct {
		ExecDocument
		Seccomp record.Raw // hides ExecDocument's
	}
	if err := record.Decode(data, &lean); err != nil {
		return nil, err
	}
	doc := lean.ExecDocument
	if doc.SeccompBPF == "" && len(lean.Seccomp) > 0 {
		if err := record.Decode(lean.Seccomp, &doc.Seccomp); err != nil {
			return nil, err
		}
	}
	return &doc, nil
}
