package main

import (
	"moss/rootless/event"
	"moss/storage/image"
)

// tag gives an image more names, where moss cannot: see image.ErrHelper.
func (h *helper) tag(req *image.TagRequest) error {
	h.store.Verb, h.store.Source = req.Verb, req.Source
	if err := h.store.AddNames(req.Image, req.Names); err != nil {
		return err
	}
	for _, name := range req.Names {
		h.note(event.Tag, req.Image, name)
	}
	return nil
}

// untag takes names from an image.
func (h *helper) untag(req *image.TagRequest) error {
	h.store.Verb = req.Verb
	if err := h.store.RemoveNames(req.Image, req.Names); err != nil {
		return err
	}
	for _, name := range req.Names {
		h.note(event.Untag, req.Image, name)
	}
	return nil
}
