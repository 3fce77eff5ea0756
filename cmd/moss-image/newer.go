package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"sync"

	"moss/storage/image"
	"moss/storage/registry"
)

// newer asks the registries about all images at once: each takes a round trip or two.
func (h *helper) newer(ctx context.Context, req *image.NewerRequest) error {
	answers := make([]image.NewerAnswer, len(req.Images))
	var all sync.WaitGroup
	few := make(chan struct{}, 8)
	for i, asked := range req.Images {
		all.Go(func() {
			few <- struct{}{}
			defer func() { <-few }()
			is, err := h.isNewer(ctx, asked, req.TLSVerify)
			if answers[i].Newer = is; err != nil {
				answers[i].Error = err.Error()
			}
		})
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(answers)
}

func (h *helper) isNewer(ctx context.Context, asked image.NewerImage, verify *bool) (bool, error) {
	local, err := h.images.Lookup("sha256:" + asked.ID)
	if err != nil {
		return false, fmt.Errorf("cannot look up image %q: %w", asked.Reference, err)
	}
	platform, err := image.ParsePlatform(asked.Platform)
	if err != nil {
		return false, err
	}
	remote, err := registry.Digest(ctx, asked.Reference, registry.PullOptions{
		Access: registry.Access{TLSVerify: verify, AuthFile: asked.AuthFile, Realms: h.realms}, Platform: platform,
	})
	if err != nil {
		return false, err
	}
	return !slices.Contains(local.Digests, remote.String()), nil
}
