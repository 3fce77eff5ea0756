package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"moss/rootless/event"
	"moss/storage/image"
	"moss/storage/registry"
)

// push sends an image to a registry.
func (h *helper) push(ctx context.Context, req *image.PushRequest) error {
	img, name, err := h.images.Resolve(req.Image)
	if err != nil {
		return fmt.Errorf("cannot push image: %w", err)
	}
	dest := req.Destination
	if dest == "" {
		dest = name
	}
	if dest == "" {
		return errors.New("cannot push image: an ID does not say where to; give a destination")
	}
	progress := registry.NewProgress(os.Stderr, req.Quiet)
	digest, err := registry.Push(ctx, h.store, img, dest, registry.PushOptions{
		Access: registry.Access{TLSVerify: req.TLSVerify, AuthFile: req.AuthFile, Creds: req.Creds, CertDir: req.CertDir, Parallel: req.Parallel},
		Format: req.Format, Progress: progress,
	})
	progress.Wait()
	if err == nil {
		h.note(event.Push, img.ID, dest)
	}
	if err != nil || req.DigestFile == "" {
		return err
	}
	if err := os.WriteFile(req.DigestFile, []byte(digest.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write digest: %w", err)
	}
	return nil
}
