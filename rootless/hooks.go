package rootless

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/runtime"
)

// hookFile is a file of oci-hooks(5), version 1.0.0.
type hookFile struct {
	Version string     `json:"version"`
	Hook    specs.Hook `json:"hook"`
	When    hookWhen   `json:"when"`
	Stages  []string   `json:"stages"`
}

// hookWhen are the conditions; all that are given must hold.
type hookWhen struct {
	Always        *bool             `json:"always,omitempty"`
	Annotations   map[string]string `json:"annotations,omitempty"` // regular expressions of keys and values
	Commands      []string          `json:"commands,omitempty"`    // regular expressions of the first argument
	HasBindMounts *bool             `json:"hasBindMounts,omitempty"`
}

// hooks reads the directories of hooks, of which later ones replace files of the
// same name, and returns those that the container meets; nil for none.
func hooks(spec *container.Spec) (*specs.Hooks, error) {
	files := map[string]string{}
	for _, dir := range spec.HooksDirs {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("cannot read hooks: %w", err)
		}
		for _, e := range entries {
			if strings.HasSuffix(e.Name(), ".json") {
				files[e.Name()] = filepath.Join(dir, e.Name())
			}
		}
	}
	var out specs.Hooks
	some := false
	for _, name := range slices.Sorted(maps.Keys(files)) {
		f, err := readHook(files[name])
		met := false
		if err == nil {
			met, err = f.When.met(spec)
		}
		if err == nil && met {
			some = true
			err = f.add(&out)
		}
		if err != nil {
			return nil, fmt.Errorf("cannot use hook %q: %w", files[name], err)
		}
	}
	if !some {
		return nil, nil
	}
	return &out, nil
}

func readHook(path string) (*hookFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var f hookFile
	if err := record.Decode(data, &f); err != nil {
		return nil, err
	}
	if f.Version != "1.0.0" {
		return nil, fmt.Errorf("its version is %q: only 1.0.0 is known", f.Version)
	}
	if !filepath.IsAbs(f.Hook.Path) {
		return nil, fmt.Errorf("path %q of its program is not absolute", f.Hook.Path)
	}
	if info, err := os.Stat(f.Hook.Path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return nil, fmt.Errorf("%q is not a program", f.Hook.Path)
	}
	if f.Hook.Timeout != nil && *f.Hook.Timeout <= 0 {
		return nil, errors.New("its timeout is not positive")
	}
	if len(f.Stages) == 0 {
		return nil, errors.New("it names no stages")
	}
	return &f, nil
}

// met says whether a container meets the conditions.
func (w *hookWhen) met(spec *container.Spec) (bool, error) {
	given := false
	if w.Always != nil {
		if given = true; !*w.Always {
			return false, nil
		}
	}
	if w.HasBindMounts != nil && *w.HasBindMounts {
		given = true
		if !slices.ContainsFunc(spec.Rootfs.Mounts, func(m container.Mount) bool { return m.Type == "bind" }) {
			return false, nil
		}
	}
	for key, value := range w.Annotations {
		given = true
		if ok, err := anyAnnotation(spec.Annotations, key, value); err != nil || !ok {
			return false, err
		}
	}
	if len(w.Commands) > 0 {
		given = true
		matched := false
		for _, pattern := range w.Commands {
			ok, err := regexp.MatchString(pattern, spec.Process.Args[0])
			if err != nil {
				return false, err
			}
			matched = matched || ok
		}
		if !matched {
			return false, nil
		}
	}
	return given, nil
}

func anyAnnotation(annotations map[string]string, key, value string) (bool, error) {
	keys, err := regexp.Compile(key)
	if err != nil {
		return false, err
	}
	values, err := regexp.Compile(value)
	if err != nil {
		return false, err
	}
	for k, v := range annotations {
		if keys.MatchString(k) && values.MatchString(v) {
			return true, nil
		}
	}
	return false, nil
}

func (f *hookFile) add(to *specs.Hooks) error {
	for _, stage := range f.Stages {
		list := hookList(to, stage)
		if list == nil {
			return fmt.Errorf("stage %q is unknown: want prestart, createRuntime, createContainer, startContainer, poststart or poststop", stage)
		}
		*list = append(*list, f.Hook)
	}
	return nil
}

// hookList is the list of one stage, nil for one that does not exist.
func hookList(h *specs.Hooks, stage string) *[]specs.Hook {
	switch stage {
	case "prestart":
		//lint:ignore SA1019 the specification still has it, and files of hooks name it
		return &h.Prestart
	case "createRuntime":
		return &h.CreateRuntime
	case "createContainer":
		return &h.CreateContainer
	case "startContainer":
		return &h.StartContainer
	case "poststart":
		return &h.Poststart
	case "poststop":
		return &h.Poststop
	}
	return nil
}

// hooks gives the document its hooks, with those of extra, and leaves for those that
// the monitor has moss-runtime run a bundle: some of them read its config.json.
func (l *launch) hooks(doc *runtime.Document, extra *specs.Hooks) error {
	spec := &l.c.Spec
	found, err := hooks(spec)
	if err != nil {
		return err
	}
	if extra != nil {
		if found == nil {
			found = new(specs.Hooks)
		}
		for _, stage := range []string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"} {
			*hookList(found, stage) = append(*hookList(found, stage), *hookList(extra, stage)...)
		}
	}
	if found == nil {
		return nil
	}
	doc.Spec.Hooks = found
	if !native(spec) {
		return nil // it runs them itself
	}
	bundle := filepath.Join(l.c.RunDir, "bundle")
	doc.State = &specs.State{Version: specs.Version, ID: spec.ID, Bundle: bundle, Annotations: spec.Annotations}
	if err := os.Mkdir(bundle, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	config, err := json.Marshal(doc.Spec)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), config, 0o600); err != nil {
		return err
	}
	return record.Write(l.cfg.Hooks, runtime.HooksDocument{Hooks: found, State: doc.State}, false)
}
