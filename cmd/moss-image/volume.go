package main

import (
	"fmt"
	"os"

	"moss/storage/archive"
	"moss/storage/image"
	"moss/storage/limit"
)

// exportVolume writes a volume's files to standard output.
func exportVolume(req *image.VolumeRequest) error { return archive.ExportVolume(req.Dir, os.Stdout) }

// importVolume reads them from a file or standard input.
func importVolume(req *image.VolumeRequest, l limit.Limits) error {
	if req.Input == "" {
		return archive.ImportVolume(req.Dir, os.Stdin, l)
	}
	f, err := os.Open(req.Input)
	if err != nil {
		return fmt.Errorf("cannot import volume: %w", err)
	}
	defer f.Close()
	return archive.ImportVolume(req.Dir, f, l)
}
