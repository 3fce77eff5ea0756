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

// pull fetches each reference as the policy says, and prints IDs on stdout,
// unless only progress was asked for.
func (h *helper) pull(ctx context.Context, req *image.PullRequest) error {
	platform, err := image.ParsePlatform(req.Platform)
	if err != nil {
		return err
	}
	if len(req.References) == 0 {
		return errors.New("cannot pull: no image is named")
	}
	options := registry.PullOptions{
		Access: registry.Access{
			TLSVerify: req.TLSVerify, AuthFile: req.AuthFile, Creds: req.Creds,
			CertDir: req.CertDir, Retries: req.Retries, RetryDelay: req.RetryDelay, Parallel: req.Parallel, Stall: req.Stall,
		},
		Platform: platform, AllTags: req.AllTags,
	}
	var all error
	for _, ref := range req.References {
		options.Progress = registry.NewProgress(os.Stderr, req.Quiet)
		ids, err := h.pullOne(ctx, ref, req.Policy, options)
		options.Progress.Wait()
		all = errors.Join(all, err)
		if req.Progress != "stderr" {
			for _, id := range ids {
				fmt.Println(id)
			}
		}
	}
	return all
}

// pullOne decides by the policy whether the image that is here will do.
func (h *helper) pullOne(ctx context.Context, ref, policy string, o registry.PullOptions) ([]string, error) {
	local, err := h.images.Lookup(ref)
	if err != nil && !errors.Is(err, image.ErrNotFound) && !errors.Is(err, image.ErrAmbiguous) {
		return nil, fmt.Errorf("cannot pull image %q: %w", ref, err)
	}
	if local != nil && local.IsList() {
		local, _ = h.images.ForPlatform(local, o.Platform)
	}
	if local != nil && !local.Matches(o.Platform) {
		local = nil
	}
	switch policy {
	case "", "always":
	case "missing":
		if local != nil {
			return []string{local.ID}, nil
		}
	case "never":
		if local == nil {
			return nil, fmt.Errorf("cannot use image %q: %w, and the pull policy is never", ref, image.ErrNotFound)
		}
		return []string{local.ID}, nil
	case "newer":
		if local != nil && h.isCurrent(ctx, ref, local, o) {
			return []string{local.ID}, nil
		}
	default:
		return nil, fmt.Errorf("cannot pull image %q: unknown pull policy %q (always, missing, newer, never)", ref, policy)
	}
	ids, err := registry.Pull(ctx, h.store, ref, o)
	name := ref
	if full, err := image.Normalize(ref); err == nil {
		name = full
	}
	for _, id := range ids {
		h.note(event.Pull, id, name)
	}
	if err != nil {
		h.events.Write(&event.Event{Type: event.Image, Status: event.PullError, Name: name, Error: err.Error()})
	}
	if err == nil && h.store.SingleID {
		o.Progress.After("Note: you have no subordinate IDs; files of other owners in the image belong to root")
	}
	return ids, err
}

// isCurrent says whether the registry has nothing newer than local; a registry
// that does not answer has not.
func (h *helper) isCurrent(ctx context.Context, ref string, local *image.Image, o registry.PullOptions) bool {
	remote, err := registry.Digest(ctx, ref, o)
	if err != nil {
		o.Progress.Line("Keeping image %s: %v", ref, err)
		return true
	}
	for _, d := range local.Digests {
		if d == remote.String() {
			return true
		}
	}
	return false
}
