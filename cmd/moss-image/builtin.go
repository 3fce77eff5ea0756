package main

import (
	"os"

	"moss/storage/archive"
	"moss/storage/image"
	"moss/storage/registry"
)

// builtin loads the image that moss carries itself.
func (h *helper) builtin(*image.IndexRequest) error {
	loaded, err := archive.LoadBuiltin(h.store, &registry.Progress{})
	if err != nil {
		return err
	}
	printLoaded(os.Stdout, loaded)
	return nil
}
