package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	digest "github.com/opencontainers/go-digest"

	"moss/rootless/event"
	"moss/storage"
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
	signer, err := loadSigner(req.SignKey, req.PassphraseFile)
	if err != nil {
		return fmt.Errorf("cannot push image: %w", err)
	}
	progress := registry.NewProgress(os.Stderr, req.Quiet)
	options := registry.PushOptions{
		Access: registry.Access{
			TLSVerify: req.TLSVerify, AuthFile: req.AuthFile, Creds: req.Creds, CertDir: req.CertDir,
			Retries: req.Retries, RetryDelay: req.RetryDelay, Parallel: req.Parallel, Realms: h.realms,
		},
		Format: req.Format, Progress: progress, Compression: storage.Method{Format: req.Compression, Level: req.Level}, Force: req.Force,
		Elsewhere: h.elsewhere(), Signer: signer,
	}
	var pushed digest.Digest
	if img.IsList() {
		pushed, err = h.pushList(ctx, img, dest, registry.ListPushOptions{PushOptions: options, Images: true, ListFormat: req.Format})
	} else {
		pushed, err = registry.Push(ctx, h.store, img, dest, options)
	}
	progress.Wait()
	if err == nil {
		h.note(event.Push, img.ID, dest)
	}
	if err != nil || req.DigestFile == "" {
		return err
	}
	if err := os.WriteFile(req.DigestFile, []byte(pushed.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write digest: %w", err)
	}
	return nil
}

// pushList sends a manifest list, and images of the store that are in it.
func (h *helper) pushList(ctx context.Context, img *image.Image, dest string, o registry.ListPushOptions) (digest.Digest, error) {
	l, err := h.store.List(img.ID)
	if err != nil {
		return "", err
	}
	if o.Find, err = h.byDigest(); err != nil {
		return "", err
	}
	return registry.PushList(ctx, h.store, l, dest, o)
}

// byDigest returns what finds the image of the store with a manifest of that digest, or nil.
func (h *helper) byDigest() (func(digest string) *image.Image, error) {
	all, err := h.images.List()
	return func(d string) *image.Image {
		i := slices.IndexFunc(all, func(one *image.Image) bool { return !one.IsList() && slices.Contains(one.Digests, d) })
		if i < 0 {
			return nil
		}
		return all[i]
	}, err
}

// elsewhere finds repositories of a registry that a layer was pulled from or pushed
// to, by the names of the images that have it.
func (h *helper) elsewhere() func(registry string, diffID digest.Digest) []string {
	list := sync.OnceValue(func() []*image.Image {
		all, err := h.images.List()
		if err != nil {
			return nil // a layer that is not found is sent
		}
		return all
	})
	return func(registry string, diffID digest.Digest) (out []string) {
		for _, img := range list() {
			if !slices.Contains(img.DiffIDs, diffID.String()) {
				continue
			}
			for _, name := range img.Names {
				if r, err := image.Parse(name); err == nil && r.Registry == registry {
					out = append(out, r.Repository)
				}
			}
		}
		return out
	}
}
