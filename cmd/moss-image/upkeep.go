package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"moss/rootless/event"
	"moss/storage/image"
)

// collect answers a CollectRequest.
func (h *helper) collect(req *image.CollectRequest) error {
	found, err := h.store.Collect(req.All, req.DryRun)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// check answers a CheckRequest. The lists of the store have been looked at.
func (h *helper) check(ctx context.Context, req *image.CheckRequest, lists []image.Damage) error {
	found, err := h.store.Check(ctx, req)
	found = append(lists, found...)
	for _, d := range found {
		if d.Kind == "image" && d.Repaired {
			h.note(event.Remove, d.ID, strings.Join(d.Names, " "))
		}
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// adopt copies images of other stores into ours.
func (h *helper) adopt(req *image.AdoptRequest) error {
	refs := req.Images
	if req.All {
		all, err := h.images.List()
		if err != nil {
			return err
		}
		for _, img := range all {
			if img.ReadOnly {
				refs = append(refs, img.ID)
			}
		}
	}
	var all error
	for _, ref := range refs {
		img, err := h.images.Lookup(ref)
		if err == nil {
			if !req.Quiet {
				fmt.Fprintf(os.Stderr, "Copying %s (%d MB)...\n", ref, img.Size/1e6)
			}
			err = h.store.Adopt(img.ID)
		}
		if err != nil {
			all = errors.Join(all, fmt.Errorf("cannot adopt image %q: %w", ref, err))
			continue
		}
		h.note(event.Import, img.ID, strings.Join(img.Names, " "))
		fmt.Println(img.ID)
	}
	return all
}
