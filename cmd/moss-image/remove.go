package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"moss/rootless/event"
	"moss/storage"
	"moss/storage/image"
)

// The exit codes of rmi, podman's.
const (
	codeUnknown = 1
	codeInUse   = 2
)

// remove untags and deletes images, as many as it can, and then tells what it
// could not.
func (h *helper) remove(req *image.RemoveRequest) error {
	refs := req.Images
	if req.All {
		all, err := h.images.List()
		if err != nil {
			return err
		}
		for _, img := range all { // newest first: what is built on others before them
			if !img.ReadOnly {
				refs = append(refs, img.ID)
			}
		}
	}
	var all error
	code := 0
	for _, ref := range refs {
		err := h.removeOne(ref, req)
		if err == nil || req.Ignore && errors.Is(err, image.ErrNotFound) || req.All && errors.Is(err, image.ErrNotFound) {
			continue
		}
		all = errors.Join(all, err)
		switch {
		case errors.Is(err, errInUse):
			code = codeInUse
		case errors.Is(err, image.ErrNotFound) && code != codeInUse && code != 125:
			code = codeUnknown
		case code != codeInUse:
			code = 125
		}
	}
	if all == nil {
		return nil
	}
	return exitCode{all, code}
}

var errInUse = errors.New("image is in use by a container")

func (h *helper) removeOne(ref string, req *image.RemoveRequest) error {
	if err := h.refresh(); err != nil {
		return err
	}
	img, name, err := h.images.Resolve(ref)
	if err != nil {
		return fmt.Errorf("cannot remove image: %w", err)
	}
	if img.ReadOnly {
		return fmt.Errorf("cannot remove image %q: %w", ref, storage.ErrReadOnly)
	}
	if name != "" && len(img.Names) > 1 {
		if err := h.store.RemoveNames(img.ID, []string{name}); err != nil {
			return err
		}
		h.note(event.Untag, img.ID, name)
		fmt.Println("Untagged:", name)
		return nil
	}
	if name == "" && len(img.Names) > 1 && !req.Force && !req.All {
		return fmt.Errorf("cannot remove image %q by its ID: it has several names (%s); name one, or use --force",
			ref, strings.Join(img.Names, ", "))
	}
	if users := req.InUse[img.ID]; len(users) > 0 {
		return fmt.Errorf("cannot remove image %q: %w: %s", ref, errInUse, strings.Join(users, ", "))
	}
	return h.delete(img, req)
}

// delete removes an image for good, and the steps that it was built on.
func (h *helper) delete(img *image.Image, req *image.RemoveRequest) error {
	var parents []*image.Image
	if !req.NoPrune {
		all, err := h.images.List()
		if err != nil {
			return err
		}
		parents = img.Steps(all)
	}
	if err := h.store.DeleteImage(img.ID); err != nil {
		return err
	}
	for _, name := range img.Names {
		h.note(event.Untag, img.ID, name)
		fmt.Println("Untagged:", name)
	}
	h.note(event.Remove, img.ID, strings.Join(img.Names, " "))
	fmt.Println("Deleted:", img.ID)
	for _, p := range parents {
		if len(req.InUse[p.ID]) > 0 {
			break // and so is what it was built on
		}
		if err := h.store.DeleteImage(p.ID); err != nil {
			return err
		}
		h.note(event.Remove, p.ID, "")
		fmt.Println("Deleted:", p.ID)
	}
	return nil
}

// tag gives an image more names.
func (h *helper) tag(req *image.TagRequest) error {
	img, err := h.images.Lookup(req.Image)
	if err != nil {
		return fmt.Errorf("cannot tag image: %w", err)
	}
	var names []string
	for _, name := range req.Names {
		r, err := image.Parse(name)
		if err == nil && r.Digest != "" {
			err = fmt.Errorf("%w %q: a name that is given has no digest", image.ErrInvalid, name)
		}
		if err != nil {
			return fmt.Errorf("cannot tag image: %w", err)
		}
		full, err := image.NormalizeLocal(name)
		if err != nil {
			return fmt.Errorf("cannot tag image: %w", err)
		}
		names = append(names, full)
	}
	if len(names) == 0 {
		return errors.New("cannot tag image: no name is given")
	}
	if err := h.store.AddNames(img.ID, names); err != nil {
		return err
	}
	for _, name := range names {
		h.note(event.Tag, img.ID, name)
	}
	return nil
}

// untag takes names from an image: those given, or all.
func (h *helper) untag(req *image.TagRequest) error {
	img, err := h.images.Lookup(req.Image)
	if err != nil {
		return fmt.Errorf("cannot untag image: %w", err)
	}
	names := img.Names
	if len(req.Names) > 0 {
		names = nil
		for _, name := range req.Names {
			found, err := ownName(img, name)
			if err != nil {
				return fmt.Errorf("cannot untag image: %w", err)
			}
			names = append(names, found)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := h.store.RemoveNames(img.ID, names); err != nil {
		return err
	}
	for _, name := range names {
		h.note(event.Untag, img.ID, name)
	}
	return nil
}

// ownName finds which of an image's names is meant.
func ownName(img *image.Image, name string) (string, error) {
	local, err := image.NormalizeLocal(name)
	if err != nil {
		return "", err
	}
	hub, err := image.Normalize(name)
	if err != nil {
		return "", err
	}
	for _, full := range []string{local, hub} {
		if slices.Contains(img.Names, full) {
			return full, nil
		}
	}
	return "", fmt.Errorf("%q is not a name of the image", name)
}
