package rootless

import (
	"bytes"
	"context"
	"fmt"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/oci"
	"moss/rootless/runtime"
	"moss/storage/image"
)

// cdi finds what the container's CDI devices want; nil when it has none. moss-image
// reads the specifications, which are YAML.
func (e *Engine) cdi(ctx context.Context, spec *container.Spec) (*image.CDIEdits, error) {
	if len(spec.Security.CDI) == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	req := image.Request{CDI: &image.CDIRequest{Dirs: spec.Security.CDIDirs, Devices: spec.Security.CDI}}
	if err := e.ImageHelper(ctx, req, &out); err != nil {
		return nil, err
	}
	edits := new(image.CDIEdits)
	return edits, record.Decode(out.Bytes(), edits)
}

// cdiMounts adds the nodes and mounts of CDI devices.
func cdiMounts(edits *image.CDIEdits, in *oci.Input) error {
	for _, n := range edits.Nodes {
		nodes, err := oci.DeviceMounts(n.Host, n.Path)
		if err != nil {
			return err
		}
		in.Mounts = append(in.Mounts, nodes...)
	}
	for _, m := range edits.Mounts {
		kind, options := m.Type, m.Options
		if kind == "" || kind == "none" {
			kind = "bind"
		}
		if len(options) == 0 {
			options = []string{"rbind", "rprivate", "nosuid", "nodev"}
		}
		in.Mounts = append(in.Mounts, specs.Mount{Destination: m.Path, Source: m.Host, Type: kind, Options: options})
	}
	return nil
}

// cdiProcess adds their variables and groups, and returns their hooks.
func cdiProcess(edits *image.CDIEdits, doc *runtime.Document) (*specs.Hooks, error) {
	doc.Spec.Process.Env = override(doc.Spec.Process.Env, edits.Env)
	for _, gid := range edits.GIDs {
		doc.Groups = append(doc.Groups, strconv.Itoa(int(gid)))
	}
	var hooks *specs.Hooks
	for _, h := range edits.Hooks {
		if hooks == nil {
			hooks = new(specs.Hooks)
		}
		list := hookList(hooks, h.Stage)
		if list == nil {
			return nil, fmt.Errorf("cannot use CDI devices: stage %q of a hook is unknown", h.Stage)
		}
		hook := specs.Hook{Path: h.Path, Args: h.Args, Env: h.Env}
		if h.Timeout > 0 {
			hook.Timeout = &h.Timeout
		}
		*list = append(*list, hook)
	}
	return hooks, nil
}
