package main

import (
	"encoding/json"
	"os"

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
