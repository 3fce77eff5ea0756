package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	digest "github.com/opencontainers/go-digest"
	"golang.org/x/term"

	"moss/rootless/event"
	"moss/storage"
	"moss/storage/archive"
	"moss/storage/image"
	"moss/storage/registry"
)

// load copies the images of an archive into the store.
func (h *helper) load(ctx context.Context, req *image.LoadRequest) error {
	if req.Input == "" && term.IsTerminal(int(os.Stdin.Fd())) {
		return errors.New("cannot load images: give an archive with --input, or on standard input")
	}
	input, err := h.source(ctx, req.Input)
	if err != nil {
		return fmt.Errorf("cannot load images: %w", err)
	}
	defer input.Close()
	progress := registry.NewProgress(os.Stderr, req.Quiet)
	loaded, err := archive.Load(h.store, input, progress)
	progress.Wait()
	printLoaded(os.Stdout, loaded)
	for _, img := range loaded {
		h.note(event.Load, img.ID, strings.Join(img.Names, " "))
	}
	return err
}

func printLoaded(w io.Writer, loaded []archive.Loaded) {
	for _, img := range loaded {
		for _, name := range img.Names {
			fmt.Fprintln(w, "Loaded image:", name)
		}
		if len(img.Names) == 0 {
			fmt.Fprintf(w, "Loaded image: sha256:%s\n", img.ID)
		}
	}
}

// save writes images to an archive.
func (h *helper) save(req *image.SaveRequest) error {
	var all []archive.Saved
	for _, ref := range req.Images {
		img, name, err := h.images.Resolve(ref)
		if err != nil {
			return fmt.Errorf("cannot save image: %w", err)
		}
		one := archive.Saved{Image: img}
		if img.IsList() && strings.HasPrefix(req.Format, "oci-") {
			one.List, one.Members, err = h.members(img)
		} else {
			one.Image, err = h.images.ForPlatform(img, image.HostPlatform())
		}
		if err != nil {
			return fmt.Errorf("cannot save image %q: %w", ref, err)
		}
		if name != "" {
			one.Names = []string{name}
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return errors.New("cannot save: no image is named")
	}
	if req.Output == "" && term.IsTerminal(int(os.Stdout.Fd())) {
		return errors.New("cannot save images to a terminal: name a file with --output, or redirect")
	}
	progress := registry.NewProgress(os.Stderr, req.Quiet)
	defer progress.Wait()
	if err := archive.Save(h.store, archive.Merge(all), archive.SaveOptions{Format: req.Format, Output: req.Output, Plain: req.Plain}, os.Stdout, progress); err != nil {
		return err
	}
	for _, one := range all {
		h.note(event.Save, one.Image.ID, strings.Join(one.Names, " "))
	}
	return nil
}

// members finds the images of a list that are in the store.
func (h *helper) members(img *image.Image) (*storage.List, map[digest.Digest]*image.Image, error) {
	l, err := h.store.List(img.ID)
	if err != nil {
		return nil, nil, err
	}
	find, err := h.byDigest()
	if err != nil {
		return nil, nil, err
	}
	all := map[digest.Digest]*image.Image{}
	for _, e := range l.Manifests {
		if one := find(e.Digest.String()); one != nil {
			all[e.Digest] = one
		}
	}
	return l, all, nil
}

// commit makes an image of what moss writes of a container.
func (h *helper) commit(req *image.CommitRequest) error {
	name := ""
	if req.Name != "" {
		var err error
		if name, err = image.NormalizeLocal(req.Name); err != nil {
			return fmt.Errorf("cannot commit: %w", err)
		}
	}
	base, err := h.images.Lookup(req.Base)
	if err != nil {
		return fmt.Errorf("cannot commit: %w", err)
	}
	progress := registry.NewProgress(os.Stderr, req.Quiet)
	id, err := archive.Commit(h.store, base, os.Stdin, name, req, progress)
	progress.Wait()
	if err != nil {
		return err
	}
	fmt.Println(id)
	return nil
}

// importRoot makes an image of a root filesystem's tar file.
func (h *helper) importRoot(ctx context.Context, req *image.ImportRequest) error {
	o := archive.ImportOptions{Message: req.Message, Changes: req.Changes, Platform: image.HostPlatform()}
	if req.OS+req.Arch+req.Variant != "" {
		o.Platform = image.Platform{OS: or(req.OS, o.Platform.OS), Arch: or(req.Arch, o.Platform.Arch), Variant: req.Variant}
	}
	if req.Name != "" {
		name, err := image.NormalizeLocal(req.Name)
		if err != nil {
			return fmt.Errorf("cannot import: %w", err)
		}
		o.Name = name
	}
	input, err := h.source(ctx, req.Source)
	if err != nil {
		return fmt.Errorf("cannot import: %w", err)
	}
	defer input.Close()
	progress := registry.NewProgress(os.Stderr, req.Quiet)
	id, err := archive.Import(h.store, input, o, progress)
	progress.Wait()
	if err != nil {
		return err
	}
	h.note(event.Import, id, o.Name)
	fmt.Println("sha256:" + id)
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
