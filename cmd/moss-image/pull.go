package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"moss/rootless/event"
	"moss/storage"
	"moss/storage/archive"
	"moss/storage/image"
	"moss/storage/registry"
)

// pull fetches each reference as the policy says, and prints IDs on stdout,
// unless only progress was asked for.
func (h *helper) pull(ctx context.Context, req *image.PullRequest) error {
	var platforms []image.Platform
	for text := range strings.SplitSeq(req.Platform, ",") {
		platform, err := image.ParsePlatform(text)
		if err != nil {
			return err
		}
		platforms = append(platforms, platform)
	}
	if len(req.References) == 0 {
		return errors.New("cannot pull: no image is named")
	}
	options := registry.PullOptions{
		Access: registry.Access{
			TLSVerify: req.TLSVerify, AuthFile: req.AuthFile, Creds: req.Creds,
			CertDir: req.CertDir, Retries: req.Retries, RetryDelay: req.RetryDelay, Parallel: req.Parallel, Stall: req.Stall, Realms: h.realms,
		},
		Platform: platforms[0], Platforms: platforms, AllTags: req.AllTags, Together: h.together,
	}
	var all error
	for _, ref := range req.References {
		options.Progress = registry.NewProgress(os.Stderr, req.Quiet)
		ids, err := h.pullAny(ctx, ref, req.Policy, options)
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

// pullAny fetches what a reference of containers-transports(5) means.
func (h *helper) pullAny(ctx context.Context, ref, policy string, o registry.PullOptions) ([]string, error) {
	transport, rest, _ := strings.Cut(ref, ":")
	switch transport {
	case "docker":
		if name, ok := strings.CutPrefix(rest, "//"); ok {
			ref = name
		}
	case "docker-archive", "oci-archive", "oci", "dir":
		return h.pullArchive(rest, o)
	case "containers-storage", "docker-daemon", "sif", "ostree":
		return nil, fmt.Errorf("cannot pull image %q: moss pulls from registries and by the transports docker-archive, oci-archive, oci and dir", ref)
	}
	return h.pullOne(ctx, ref, policy, o)
}

// pullArchive fetches the images of an archive or a directory.
func (h *helper) pullArchive(path string, o registry.PullOptions) (ids []string, err error) {
	if o.AllTags || len(o.Platforms) > 1 {
		return nil, fmt.Errorf("cannot pull %q: --all-tags and several platforms are for registries", path)
	}
	input, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) && strings.Contains(path, ":") {
		err = fmt.Errorf("%w (all its images are pulled: no reference follows the path)", err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot pull image: %w", err)
	}
	defer input.Close()
	loaded, err := archive.Load(h.store, input, o.Progress)
	for _, img := range loaded {
		h.note(event.Pull, img.ID, strings.Join(img.Names, " "))
		ids = append(ids, img.ID)
	}
	return ids, err
}

// together gives several images one name, that of a list of them.
func (h *helper) together(name string, ids []string) error {
	wrong := func(err error) error { return fmt.Errorf("cannot make list %q: %w", name, err) }
	unlock, err := h.store.LockLists()
	if err != nil {
		return wrong(err)
	}
	defer unlock()
	if err := h.refresh(); err != nil {
		return wrong(err)
	}
	l := storage.NewList()
	for _, id := range ids {
		img, err := h.images.Lookup(id)
		if err != nil {
			return wrong(err)
		}
		entries, err := h.describeLocal(img, image.Platform{}, true)
		if err != nil {
			return wrong(err)
		}
		for _, e := range entries {
			l.Put(e.ListEntry, e.Location)
		}
	}
	if old, _, found := h.images.Resolve(name); found == nil && old.IsList() {
		err = h.store.UpdateList(old.ID, l)
	} else {
		_, err = h.store.CreateList(name, l)
	}
	if err != nil {
		return wrong(err)
	}
	return nil
}

// pullOne decides by the policy whether the image that is here will do.
func (h *helper) pullOne(ctx context.Context, ref, policy string, o registry.PullOptions) ([]string, error) {
	if o.AllTags {
		if r, err := image.Parse(ref); err == nil && r.Tag+r.Digest != "" {
			return nil, fmt.Errorf("cannot pull image %q: with --all-tags it must have no tag and no digest", ref)
		}
	}
	local, err := h.images.Lookup(ref)
	if err != nil && !errors.Is(err, image.ErrNotFound) && !errors.Is(err, image.ErrAmbiguous) {
		return nil, fmt.Errorf("cannot pull image %q: %w", ref, err)
	}
	if local != nil && len(o.Platforms) > 1 && !h.holds(local, o.Platforms) {
		local = nil
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
	if err == nil && h.store.SingleID && h.store.Driver.FileSystem.Owners {
		o.Progress.After("Note: you have no subordinate IDs; files of other owners in the image belong to root")
	}
	return ids, err
}

// holds says whether a list of the store has an image for each platform.
func (h *helper) holds(list *image.Image, platforms []image.Platform) bool {
	return list.IsList() && !slices.ContainsFunc(platforms, func(p image.Platform) bool {
		_, err := h.images.ForPlatform(list, p)
		return err != nil
	})
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
