package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"moss/storage/image"
)

// cdiSpec is a file of the Container Device Interface, versions 0.3.0 to 1.0.0.
type cdiSpec struct {
	Version string      `yaml:"cdiVersion"`
	Kind    string      `yaml:"kind"` // vendor/class
	Devices []cdiDevice `yaml:"devices"`
	Edits   cdiEdits    `yaml:"containerEdits"` // for any of its devices
}

type cdiDevice struct {
	Name  string   `yaml:"name"`
	Edits cdiEdits `yaml:"containerEdits"`
}

type cdiEdits struct {
	Env   []string `yaml:"env"`
	Nodes []struct {
		Path     string `yaml:"path"`
		HostPath string `yaml:"hostPath"`
	} `yaml:"deviceNodes"`
	Mounts []struct {
		HostPath      string   `yaml:"hostPath"`
		ContainerPath string   `yaml:"containerPath"`
		Type          string   `yaml:"type"`
		Options       []string `yaml:"options"`
	} `yaml:"mounts"`
	Hooks []struct {
		Stage   string   `yaml:"hookName"`
		Path    string   `yaml:"path"`
		Args    []string `yaml:"args"`
		Env     []string `yaml:"env"`
		Timeout int      `yaml:"timeout"`
	} `yaml:"hooks"`
	GIDs       []uint32 `yaml:"additionalGids"`
	IntelRdt   any      `yaml:"intelRdt"`
	NetDevices []any    `yaml:"netDevices"`
}

// cdi answers a CDIRequest.
func cdi(req *image.CDIRequest) error {
	specs, err := readCDI(req.Dirs)
	if err != nil {
		return err
	}
	var out image.CDIEdits
	var used []*cdiSpec
	for _, name := range req.Devices {
		spec, device, err := findCDI(specs, name)
		if err == nil && !slices.Contains(used, spec) {
			used = append(used, spec)
			err = spec.Edits.add(&out)
		}
		if err == nil {
			err = device.Edits.add(&out)
		}
		if err != nil {
			return fmt.Errorf("cannot use CDI device %q: %w", name, notIn(err, req.Dirs))
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

var errNoCDI = errors.New("no such device")

func notIn(err error, dirs []string) error {
	if err == errNoCDI {
		return fmt.Errorf("no specification in %s has it", strings.Join(dirs, ", "))
	}
	return err
}

// readCDI reads the specifications of each directory, those that go first first.
func readCDI(dirs []string) ([][]*cdiSpec, error) {
	var all [][]*cdiSpec
	for _, dir := range slices.Backward(dirs) {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read CDI specifications: %w", err)
		}
		var specs []*cdiSpec
		for _, e := range entries {
			switch filepath.Ext(e.Name()) {
			case ".json", ".yaml", ".yml":
			default:
				continue
			}
			path := filepath.Join(dir, e.Name())
			data, err := os.ReadFile(path)
			spec := new(cdiSpec)
			if err == nil {
				err = yaml.Unmarshal(data, spec) // JSON is YAML too
			}
			if err == nil {
				err = spec.check()
			}
			if err != nil {
				return nil, fmt.Errorf("cannot read CDI specification %q: %w", path, err)
			}
			specs = append(specs, spec)
		}
		all = append(all, specs)
	}
	return all, nil
}

func (s *cdiSpec) check() error {
	if !strings.HasPrefix(s.Version, "0.") && !strings.HasPrefix(s.Version, "1.0") && !strings.HasPrefix(s.Version, "1.1") {
		return fmt.Errorf("version %q is unknown", s.Version)
	}
	if vendor, class, ok := strings.Cut(s.Kind, "/"); !ok || vendor == "" || class == "" {
		return fmt.Errorf("its kind %q is not VENDOR/CLASS", s.Kind)
	}
	return nil
}

// findCDI finds a device. Two of one directory's files that both have it leave open
// which is meant.
func findCDI(all [][]*cdiSpec, name string) (*cdiSpec, *cdiDevice, error) {
	kind, device, _ := strings.Cut(name, "=")
	for _, specs := range all {
		var in *cdiSpec
		var found *cdiDevice
		for _, s := range specs {
			for i := range s.Devices {
				if s.Kind != kind || s.Devices[i].Name != device {
					continue
				}
				if found != nil {
					return nil, nil, errors.New("two specifications of one directory have it")
				}
				in, found = s, &s.Devices[i]
			}
		}
		if found != nil {
			return in, found, nil
		}
	}
	return nil, nil, errNoCDI
}

// add lays the edits over those so far.
func (e *cdiEdits) add(to *image.CDIEdits) error {
	switch {
	case e.IntelRdt != nil:
		return errors.New("it sets up Resource Director Technology, which only root may")
	case len(e.NetDevices) > 0:
		return errors.New("it moves a network device of the host, which only root may")
	}
	to.Env = append(to.Env, e.Env...)
	for _, n := range e.Nodes {
		if n.HostPath == "" {
			n.HostPath = n.Path
		}
		to.Nodes = append(to.Nodes, image.CDINode{Host: n.HostPath, Path: n.Path})
	}
	for _, m := range e.Mounts {
		to.Mounts = append(to.Mounts, image.CDINode{Host: m.HostPath, Path: m.ContainerPath, Type: m.Type, Options: m.Options})
	}
	for _, h := range e.Hooks {
		to.Hooks = append(to.Hooks, image.CDIHook{Stage: h.Stage, Path: h.Path, Args: h.Args, Env: h.Env, Timeout: h.Timeout})
	}
	for _, gid := range e.GIDs {
		if !slices.Contains(to.GIDs, gid) {
			to.GIDs = append(to.GIDs, gid)
		}
	}
	return nil
}
