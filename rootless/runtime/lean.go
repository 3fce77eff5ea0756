package runtime

import (
	"encoding/json"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// The first use of a type by encoding/json walks over all types that it contains,
// for the Specification nearly a millisecond: a fifth of a container's start. So
// the init stages decode what they look at, and the rest only if it is needed.
// TestLean compares both ways of reading.

// leanDocument is Document with a lean specification.
type leanDocument struct {
	Document
	Spec *leanSpec // hides Document's
}

type leanSpec struct {
	Process     *specs.Process    `json:"process"`
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname"`
	Domainname  string            `json:"domainname"`
	Mounts      []specs.Mount     `json:"mounts"`
	Hooks       json.RawMessage   `json:"hooks"`
	Annotations map[string]string `json:"annotations"`
	Linux       *leanLinux        `json:"linux"`
}

type leanLinux struct {
	UIDMappings       []specs.LinuxIDMapping           `json:"uidMappings"`
	GIDMappings       []specs.LinuxIDMapping           `json:"gidMappings"`
	Sysctl            map[string]string                `json:"sysctl"`
	Namespaces        []specs.LinuxNamespace           `json:"namespaces"`
	Devices           []specs.LinuxDevice              `json:"devices"`
	Seccomp           json.RawMessage                  `json:"seccomp"`
	RootfsPropagation string                           `json:"rootfsPropagation"`
	MaskedPaths       []string                         `json:"maskedPaths"`
	ReadonlyPaths     []string                         `json:"readonlyPaths"`
	MountLabel        string                           `json:"mountLabel"`
	Personality       *specs.LinuxPersonality          `json:"personality"`
	TimeOffsets       map[string]specs.LinuxTimeOffset `json:"timeOffsets"`
}

// readDocument decodes what the init stage looks at.
func readDocument(data []byte) (*Document, error) {
	var lean leanDocument
	if err := json.Unmarshal(data, &lean); err != nil {
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
		if err := json.Unmarshal(from.Hooks, &doc.Spec.Hooks); err != nil {
			return nil, err
		}
	}
	if doc.SeccompBPF == "" && len(l.Seccomp) > 0 {
		if err := json.Unmarshal(l.Seccomp, &doc.Spec.Linux.Seccomp); err != nil {
			return nil, err
		}
	}
	return &doc, nil
}

// readExecDocument likewise.
func readExecDocument(data []byte) (*ExecDocument, error) {
	var lean struct {
		ExecDocument
		Seccomp json.RawMessage // hides ExecDocument's
	}
	if err := json.Unmarshal(data, &lean); err != nil {
		return nil, err
	}
	doc := lean.ExecDocument
	if doc.SeccompBPF == "" && len(lean.Seccomp) > 0 {
		if err := json.Unmarshal(lean.Seccomp, &doc.Seccomp); err != nil {
			return nil, err
		}
	}
	return &doc, nil
}
