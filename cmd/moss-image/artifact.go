package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"moss/storage/artifact"
	"moss/storage/image"
	"moss/storage/registry"
)

// artifacts does what is asked with artifacts. The image store stays closed.
func (h *helper) artifacts(ctx context.Context, root string, req *image.ArtifactRequest) error {
	store := artifact.Open(root)
	switch req.Verb {
	case "ls", "inspect":
		return showArtifacts(store, req)
	case "add":
		return addArtifact(store, req)
	case "files":
		a, err := store.Find(req.Names[0])
		var files []image.ArtifactFile
		if err == nil {
			files, err = store.Files(a, artifact.ExtractOptions{Title: req.Title, Digest: req.Digest})
		}
		if err != nil {
			return fmt.Errorf("cannot mount artifact %q: %w", req.Names[0], err)
		}
		return json.NewEncoder(os.Stdout).Encode(files)
	case "extract":
		a, err := store.Find(req.Names[0])
		if err == nil {
			err = store.Extract(a, req.Paths[0], artifact.ExtractOptions{Title: req.Title, Digest: req.Digest, ExcludeTitle: req.ExcludeTitle})
		}
		if err != nil {
			return fmt.Errorf("cannot extract artifact %q: %w", req.Names[0], err)
		}
		return nil
	case "rm":
		return removeArtifacts(store, req)
	case "pull", "push":
		progress := registry.NewProgress(os.Stderr, req.Quiet)
		defer progress.Wait()
		if req.Verb == "push" {
			return h.pushArtifact(ctx, root, store, req, progress)
		}
		d, err := registry.PullArtifact(ctx, root, req.Names[0], h.reach(req.Access), progress)
		if err == nil {
			progress.Wait()
			fmt.Println(d.Encoded())
		}
		return err
	}
	return errors.New("cannot serve request: no such verb of artifacts")
}

func showArtifacts(store *artifact.Store, req *image.ArtifactRequest) error {
	list, err := store.List()
	if req.Verb == "inspect" {
		list = nil
		var errs []error
		for _, name := range req.Names {
			a, ferr := store.Find(name)
			if ferr != nil {
				errs = append(errs, fmt.Errorf("cannot inspect artifact: %w", ferr))
				continue
			}
			list = append(list, a)
		}
		err = errors.Join(errs...)
	}
	rows := []artifact.ListRow{}
	for _, a := range list {
		rows = append(rows, a.Row())
	}
	return errors.Join(json.NewEncoder(os.Stdout).Encode(rows), err)
}

func addArtifact(store *artifact.Store, req *image.ArtifactRequest) error {
	name, err := image.NormalizeLocal(req.Names[0])
	if err == nil && req.Append {
		name = req.Names[0] // it is there
	}
	if err == nil {
		options := artifact.Options{Type: req.Type, FileType: req.FileType, Annotations: req.Annotations}
		d, aerr := store.Add(name, req.Paths, artifact.AddOptions{Options: options, Append: req.Append, Replace: req.Replace})
		if err = aerr; err == nil {
			fmt.Println(d.Encoded())
		}
	}
	if err != nil {
		return fmt.Errorf("cannot add artifact %q: %w", req.Names[0], err)
	}
	return nil
}

func removeArtifacts(store *artifact.Store, req *image.ArtifactRequest) error {
	var list []*artifact.Artifact
	var errs []error
	if req.All {
		all, err := store.List()
		if err != nil {
			return err
		}
		list = all
	}
	for _, name := range req.Names {
		a, err := store.Find(name)
		if err != nil && !(req.Ignore && errors.Is(err, image.ErrNotFound)) {
			errs = append(errs, fmt.Errorf("cannot remove artifact: %w", err))
		}
		if err == nil {
			list = append(list, a)
		}
	}
	for _, a := range list {
		if err := store.Remove(a); err != nil && !errors.Is(err, image.ErrNotFound) {
			errs = append(errs, fmt.Errorf("cannot remove artifact %q: %w", a.Name, err))
			continue
		}
		fmt.Println("Deleted:", a.Digest.Encoded())
	}
	return errors.Join(errs...)
}

func (h *helper) pushArtifact(ctx context.Context, root string, store *artifact.Store, req *image.ArtifactRequest, progress *registry.Progress) error {
	a, err := store.Find(req.Names[0])
	if err != nil {
		return fmt.Errorf("cannot push artifact: %w", err)
	}
	err = registry.PushArtifact(ctx, root, a, cmp.Or(req.Destination, a.Name), h.reach(req.Access), progress)
	if err != nil || req.DigestFile == "" {
		return err
	}
	if err := os.WriteFile(req.DigestFile, []byte(a.Digest.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write digest: %w", err)
	}
	return nil
}

// reach is how to reach a registry, in the words of its package.
func (h *helper) reach(a image.Access) registry.Access {
	return registry.Access{
		TLSVerify: a.TLSVerify, AuthFile: a.AuthFile, Creds: a.Creds, CertDir: a.CertDir, Retries: a.Retries, RetryDelay: a.RetryDelay,
		Realms: h.realms,
	}
}
