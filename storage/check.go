package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	cs "go.podman.io/storage"

	"moss/storage/image"
)

// unreferenced is how old a layer of no image may be before Check tells of it.
const unreferenced = 24 * time.Hour

// Check looks at every layer and every image: are their documents there, and, unless
// it is to be quick, is every byte what it was when it was unpacked? With Repair it
// removes what is damaged and no container needs; a pull brings it back.
func (s *Store) Check(_ context.Context, req *image.CheckRequest) ([]image.Damage, error) {
	age := unreferenced
	if req.Max > 0 {
		age = req.Max
	}
	// LayerContents, which compares what is mounted, takes directories for changed that
	// an archive has only as the beginning of a path.
	report, err := s.lib.Check(&cs.CheckOptions{
		LayerUnreferencedMaximumAge: &age, LayerDigests: !req.Quick, LayerMountable: !req.Quick,
		LayerData: true, ImageData: true, ContainerData: true,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot check images: %w", err)
	}
	used, err := s.usedLayers(nil)
	if err != nil {
		return nil, fmt.Errorf("cannot check images: %w", err)
	}
	var found []image.Damage
	for id, errs := range report.Images {
		d := image.Damage{Kind: "image", ID: id, Errors: texts(errs)}
		if img, err := s.lib.Image(id); err == nil {
			d.Names = img.Names
		}
		if req.Repair {
			s.repairImage(&d, req.InUse)
		}
		found = append(found, d)
	}
	var layers []string
	for id, errs := range report.Layers {
		if !used[id] {
			layers = append(layers, id)
		}
		found = append(found, image.Damage{Kind: "layer", ID: id, Errors: texts(errs)})
	}
	slices.SortFunc(found, func(a, b image.Damage) int { return strings.Compare(a.Kind+a.ID, b.Kind+b.ID) })
	if !req.Repair || len(found) == 0 {
		return found, nil
	}
	return found, s.repairLayers(found, layers)
}

func texts(errs []error) []string {
	var all []string
	for _, err := range errs {
		if text := err.Error(); !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	return all
}

// repairImage removes a damaged image, if no container needs it.
func (s *Store) repairImage(d *image.Damage, inUse []string) {
	if slices.Contains(inUse, d.ID) {
		d.Kept = "containers use it; --force removes them too"
		return
	}
	if _, err := s.lib.DeleteImage(d.ID, true); err != nil {
		d.Kept = err.Error()
		return
	}
	d.Repaired = true
}

// repairLayers removes damaged layers of which no image is left, and says which went.
func (s *Store) repairLayers(found []image.Damage, layers []string) error {
	err := errors.Join(s.deleteLayers(layers), s.sweepLibrary(), s.sweepMapped())
	for i := range found {
		d := &found[i]
		if d.Kind != "layer" {
			continue
		}
		if d.Repaired = !s.hasLayer(d.ID); !d.Repaired {
			d.Kept = "an image that is kept has it"
		}
	}
	return err
}
