package main

import (
	"fmt"
	"os"

	"moss/storage/image"
)

// mapped prints the directory of a copy with shifted owners.
func (h *helper) mapped(req *image.MappedRequest) error {
	img, err := h.images.Lookup(req.Image)
	if err != nil {
		return fmt.Errorf("cannot copy image: %w", err)
	}
	dir, err := h.store.Mapped(img, *req, func() {
		name := img.ID[:12]
		if len(img.Names) > 0 {
			name = img.Names[0]
		}
		fmt.Fprintf(os.Stderr, "Copying %s for this mapping of users, once...\n", name)
	})
	if err != nil {
		return err
	}
	fmt.Println(dir)
	return nil
}
