package runtime

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// A document read by the init stage has all that it looks at.
func TestLean(t *testing.T) {
	umask, height := uint32(7), uint(3)
	spec := &specs.Spec{
		Process: &specs.Process{Terminal: true, Args: []string{"a"}, Env: []string{"B=c"}, Cwd: "/d", ConsoleSize: &specs.Box{Height: height},
			User: specs.User{UID: 1, Umask: &umask}, Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_KILL"}},
			Rlimits: []specs.POSIXRlimit{{Type: "RLIMIT_CORE"}}, NoNewPrivileges: true},
		Root: &specs.Root{Path: "/r", Readonly: true}, Hostname: "h", Domainname: "d",
		Mounts:      []specs.Mount{{Destination: "/m", Options: []string{"ro"}}},
		Hooks:       &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/h"}}},
		Annotations: map[string]string{"x": "y"},
		Linux: &specs.Linux{
			UIDMappings: []specs.LinuxIDMapping{{Size: 1}}, GIDMappings: []specs.LinuxIDMapping{{Size: 2}},
			Sysctl: map[string]string{"a": "b"}, Namespaces: []specs.LinuxNamespace{{Type: "pid"}},
			Devices: []specs.LinuxDevice{{Path: "/dev/x"}}, Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActAllow},
			RootfsPropagation: "slave", MaskedPaths: []string{"/a"}, ReadonlyPaths: []string{"/b"}, MountLabel: "l",
			Personality: &specs.LinuxPersonality{Domain: specs.PerLinux32}, TimeOffsets: map[string]specs.LinuxTimeOffset{"boottime": {Secs: 1}},
		},
	}
	doc := Document{Spec: spec, Overlay: &Overlay{Lower: []string{"/l"}}, CopyUp: []CopyUp{{Target: "/t", Source: "/s", NoCopy: true}}, Sources: map[string]Source{"/t": {Within: "/w", Path: "p"}}, Secrets: []Secret{{File: "/f", Target: "/t", UID: 1, Mode: 0o400}}, User: "u",
		Groups: []string{"g"}, KeepGroups: true, SetHome: true, MakeCwd: true, Console: true, StartFD: 4,
		State: &specs.State{ID: "i"}, NoPivot: true}
	data, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readDocument(data)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*got, doc) {
		t.Errorf("%+v\nwant %+v", got, doc)
	}
	lean, err := doc.Lean()
	if err != nil {
		t.Fatal(err)
	}
	data, _ = json.Marshal(lean)
	if got, err := readDocument(data); err != nil || !reflect.DeepEqual(*got, doc) {
		t.Errorf("lean: %+v %v\nwant %+v", got, err, doc)
	}

	exec := ExecDocument{PID: 1, Process: spec.Process, User: "u", Groups: []string{"g"}, SetHome: true,
		Seccomp: spec.Linux.Seccomp, Cgroup: "/c", Console: true, Personality: spec.Linux.Personality}
	data, _ = json.Marshal(exec)
	if again, err := readExecDocument(data); err != nil || !reflect.DeepEqual(*again, exec) {
		t.Errorf("%+v %v", again, err)
	}
}
