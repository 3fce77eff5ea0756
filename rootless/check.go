package rootless

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"moss/storage/image"
)

// CheckOptions of Check.
type CheckOptions struct {
	Quick  bool          // do not read the content of layers
	Repair bool          // remove what is damaged and nothing needs, and make again what can be
	Force  bool          // with Repair: what needs it too
	Max    time.Duration // how old a layer without an image may be; 0: a day
}

// Check looks for damage in everything that survives a reboot.
func (e *Engine) Check(ctx context.Context, o CheckOptions) ([]image.Damage, error) {
	found := append(e.checkContainers(ctx, o), e.checkVolumes()...)
	using, err := e.Using()
	if err != nil {
		return found, err
	}
	var lists []image.Damage
	if o.Repair && o.Force {
		// Only when the store can be opened is it known what is damaged in it.
		if err := e.askImages(ctx, image.Request{Check: &image.CheckRequest{Lists: true, Repair: true}}, &lists); err != nil {
			return found, err
		}
		if err := e.freeDamaged(ctx, o, using); err != nil {
			return found, err
		}
	}
	req := &image.CheckRequest{Quick: o.Quick, Repair: o.Repair, Max: o.Max}
	for id := range using {
		req.InUse = append(req.InUse, id)
	}
	var images []image.Damage
	err = e.askImages(ctx, image.Request{Check: req}, &images)
	return append(append(found, lists...), images...), err
}

// checkContainers finds records that cannot be read. What is left of such a container
// can only be removed, which costs what it wrote: that is asked for by Force.
func (e *Engine) checkContainers(ctx context.Context, o CheckOptions) (found []image.Damage) {
	all, err := e.All()
	if err != nil {
		return []image.Damage{{Kind: "container", Errors: []string{err.Error()}}}
	}
	for _, c := range all {
		err := c.Whole()
		if err == nil {
			continue
		}
		d := image.Damage{Kind: "container", ID: c.Spec.ID, Errors: []string{err.Error()}}
		switch {
		case !o.Repair:
		case !o.Force:
			d.Kept = "what it wrote would be lost; --force removes it"
		default:
			if err := e.Remove(ctx, c, RemoveOptions{Force: true}); err != nil {
				d.Kept = err.Error()
			} else {
				d.Repaired = true
			}
		}
		found = append(found, d)
	}
	return found
}

// checkVolumes finds volumes whose record is lost or cannot be read. Their files are
// the user's: nothing is removed.
func (e *Engine) checkVolumes() (found []image.Damage) {
	for _, path := range entriesOf(e.Volumes.All()) {
		name := filepath.Base(path)
		if name[0] == '.' {
			continue
		}
		if _, err := e.Volumes.Get(name); err != nil {
			found = append(found, image.Damage{Kind: "volume", ID: name, Errors: []string{err.Error()},
				Kept: fmt.Sprintf("its files are in %q", filepath.Join(path, "_data"))})
		}
	}
	return found
}

// freeDamaged removes the containers of damaged images, and takes them out of using.
func (e *Engine) freeDamaged(ctx context.Context, o CheckOptions, using map[string][]string) error {
	var images []image.Damage
	if err := e.askImages(ctx, image.Request{Check: &image.CheckRequest{Quick: o.Quick, Max: o.Max}}, &images); err != nil {
		return err
	}
	for _, d := range images {
		for _, id := range using[d.ID] {
			c, err := e.Find(id)
			if err == nil {
				err = e.Remove(ctx, c, RemoveOptions{Force: true})
			}
			if err != nil {
				return err
			}
		}
		delete(using, d.ID)
	}
	return nil
}
