package command

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/runtime"
)

// check finds what cannot be done, before anything is.
func check(spec *specs.Spec) error {
	if !strings.HasPrefix(spec.Version, "1.") {
		return fmt.Errorf("ociVersion %q is not supported: 1.x is", spec.Version)
	}
	if spec.Root == nil || spec.Root.Path == "" {
		return errors.New("it has no root filesystem")
	}
	if spec.Process == nil {
		return errors.New("it has no process")
	}
	if err := checkProcess(spec.Process); err != nil {
		return err
	}
	if spec.Linux == nil {
		spec.Linux = &specs.Linux{}
	}
	if _, err := runtime.Request(spec); err != nil {
		return err
	}
	for _, m := range spec.Mounts {
		if m.Destination == "" {
			return errors.New("a mount has no destination")
		}
	}
	if err := checkHooks(spec.Hooks); err != nil {
		return err
	}
	return checkUnsupported(spec)
}

func checkProcess(p *specs.Process) error {
	if !filepath.IsAbs(p.Cwd) {
		return fmt.Errorf("working directory %q is not an absolute path", p.Cwd)
	}
	if len(p.Args) == 0 {
		return errors.New("the process has no arguments")
	}
	seen := map[string]bool{}
	for _, l := range p.Rlimits {
		if seen[l.Type] {
			return fmt.Errorf("limit %q is given twice", l.Type)
		}
		seen[l.Type] = true
	}
	return nil
}

func checkHooks(h *specs.Hooks) error {
	if h == nil {
		return nil
	}
	//nolint:staticcheck // deprecated, but of the specification
	//lint:ignore SA1019 the specification still has them, and wants them run
	for _, hooks := range [][]specs.Hook{h.Prestart, h.CreateRuntime, h.CreateContainer, h.StartContainer, h.Poststart, h.Poststop} {
		for _, hook := range hooks {
			if !filepath.IsAbs(hook.Path) {
				return fmt.Errorf("hook %q is not an absolute path", hook.Path)
			}
		}
	}
	return nil
}

// checkUnsupported names what the specification can ask for and this runtime does
// not do: silence would be a container other than the one described.
func checkUnsupported(spec *specs.Spec) error {
	switch l := spec.Linux; {
	case l.IntelRdt != nil:
		return errors.New("linux.intelRdt is not supported")
	case l.MemoryPolicy != nil:
		return errors.New("linux.memoryPolicy is not supported")
	case len(l.NetDevices) > 0:
		return errors.New("linux.netDevices is not supported")
	}
	return nil
}
