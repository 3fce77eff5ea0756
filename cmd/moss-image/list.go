package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"

	digest "github.com/opencontainers/go-digest"

	"moss/rootless/event"
	"moss/storage"
	"moss/storage/artifact"
	"moss/storage/image"
	"moss/storage/registry"
)

var errNotList = errors.New("it is an image and not a manifest list")

// list does what is asked with a manifest list.
func (h *helper) list(ctx context.Context, req *image.ListRequest) error {
	var err error
	switch req.Verb {
	case "create":
		err = h.createList(ctx, req)
	case "inspect":
		err = h.inspectList(ctx, req)
	case "push":
		return h.pushListRequest(ctx, req)
	case "add":
		err = h.addToList(ctx, req)
	case "annotate":
		err = h.changeList(req.List, func(l *storage.List) error { return h.annotateList(l, req) })
	case "remove":
		err = h.changeList(req.List, func(l *storage.List) error { return h.removeFromList(l, req.Images) })
	default:
		err = errors.New("no such verb")
	}
	if err != nil {
		return fmt.Errorf("cannot %s manifest list %q: %w", listVerb(req.Verb), req.List, err)
	}
	return nil
}

func listVerb(verb string) string {
	switch verb {
	case "add":
		return "add to"
	case "remove":
		return "remove from"
	}
	return verb
}

// pushListRequest is push of a list, whose parts can be chosen.
func (h *helper) pushListRequest(ctx context.Context, req *image.ListRequest) error {
	img, name, err := h.images.Resolve(req.List)
	if err == nil && !img.IsList() {
		err = errNotList
	}
	if err != nil {
		return fmt.Errorf("cannot push manifest list %q: %w", req.List, err)
	}
	dest := cmp.Or(req.Destination, name)
	if dest == "" {
		return errors.New("cannot push manifest list: an ID does not say where to; give a destination")
	}
	signer, err := loadSigner(req.SignKey, req.PassphraseFile)
	if err != nil {
		return fmt.Errorf("cannot push manifest list %q: %w", req.List, err)
	}
	progress := registry.NewProgress(os.Stderr, req.Quiet)
	pushed, err := h.pushList(ctx, img, dest, registry.ListPushOptions{
		PushOptions: registry.PushOptions{
			Access: h.reach(req.Access), Progress: progress, Elsewhere: h.elsewhere(),
			Compression: storage.Method{Format: req.Compression, Level: req.Level}, Force: req.Force,
			Signer: signer,
		},
		Images: req.All, ListFormat: req.Format, Variants: req.Variants,
	})
	progress.Wait()
	if err != nil {
		return err
	}
	h.note(event.Push, img.ID, dest)
	if req.DigestFile == "" {
		return nil
	}
	if err := os.WriteFile(req.DigestFile, []byte(pushed.String()), 0o644); err != nil {
		return fmt.Errorf("cannot write digest: %w", err)
	}
	return nil
}

// findList finds a list of the store by a name or an ID.
func (h *helper) findList(name string) (*image.Image, *storage.List, error) {
	img, err := h.images.Lookup(name)
	if err != nil {
		return nil, nil, err
	}
	if !img.IsList() {
		return nil, nil, errNotList
	}
	l, err := h.store.List(img.ID)
	return img, l, err
}

// changeList replaces a list by what change makes of it, and prints its ID.
func (h *helper) changeList(name string, change func(*storage.List) error) error {
	unlock, err := h.store.LockLists()
	if err != nil {
		return err
	}
	defer unlock()
	if err := h.refresh(); err != nil {
		return err
	}
	img, l, err := h.findList(name)
	if err != nil {
		return err
	}
	if err := change(l); err != nil {
		return err
	}
	if err := h.store.UpdateList(img.ID, l); err != nil {
		return err
	}
	fmt.Println(img.ID)
	return nil
}

func (h *helper) createList(ctx context.Context, req *image.ListRequest) error {
	name, err := image.NormalizeLocal(req.List)
	if err != nil {
		return err
	}
	found, err := h.gather(ctx, req)
	if err != nil {
		return err
	}
	put := func(l *storage.List) error {
		if l.Annotations == nil {
			l.Annotations = map[string]string{}
		}
		maps.Copy(l.Annotations, req.Annotations)
		for _, e := range found {
			l.Put(e.ListEntry, e.Location)
		}
		return nil
	}
	if img, _, err := h.images.Resolve(name); err == nil {
		switch {
		case !req.Amend:
			return fmt.Errorf("the name is that of image %s already", img.ID[:12])
		case !img.IsList():
			return errNotList
		}
		return h.changeList(name, put)
	}
	unlock, err := h.store.LockLists()
	if err != nil {
		return err
	}
	defer unlock()
	l := storage.NewList()
	if err := put(l); err != nil {
		return err
	}
	id, err := h.store.CreateList(name, l)
	if err != nil {
		return err
	}
	h.note(event.Create, id, name)
	fmt.Println(id)
	return nil
}

// inspectList prints a list of the store, or one of a registry.
func (h *helper) inspectList(ctx context.Context, req *image.ListRequest) error {
	name, isRemote := strings.CutPrefix(req.List, "docker://")
	if !isRemote {
		img, l, err := h.findList(name)
		if err == nil {
			data, err := l.Encode("")
			if err == nil {
				_, err = os.Stdout.Write(append(data, '\n'))
			}
			return err
		}
		if img != nil || !errors.Is(err, image.ErrNotFound) && !errors.Is(err, errNotList) {
			return err
		}
	}
	data, err := registry.Manifest(ctx, name, h.reach(req.Access))
	if err == nil {
		_, err = os.Stdout.Write(append(data, '\n'))
	}
	return err
}

func (h *helper) addToList(ctx context.Context, req *image.ListRequest) error {
	if _, _, err := h.findList(req.List); err != nil {
		return err
	}
	if req.Artifact != nil {
		return h.addArtifact(req)
	}
	found, err := h.gather(ctx, req)
	if err != nil {
		return err
	}
	return h.changeList(req.List, func(l *storage.List) error {
		for _, e := range found {
			override(&e.ListEntry, req)
			l.Put(e.ListEntry, e.Location)
		}
		return nil
	})
}

// addArtifact makes an artifact of files, which stay where they are until the list is
// pushed.
func (h *helper) addArtifact(req *image.ListRequest) error {
	a := req.Artifact
	options := artifact.ListOptions{
		Options: artifact.Options{Type: a.Type, FileType: a.FileType, NoTitles: a.ExcludeTitles}, Config: a.Config, ConfigType: a.ConfigType,
	}
	if a.Subject != "" {
		img, err := h.images.Lookup(a.Subject)
		if err != nil {
			return fmt.Errorf("subject: %w", err)
		}
		if options.SubjectManifest, err = h.store.Manifest(img.ID); err != nil {
			return err
		}
		options.SubjectType = img.ManifestType
	}
	return h.changeList(req.List, func(l *storage.List) error {
		e, err := artifact.AddToList(l, req.Images, options)
		if err == nil {
			override(e, req)
		}
		return err
	})
}

// gather describes the images that a request names.
func (h *helper) gather(ctx context.Context, req *image.ListRequest) (all []registry.Listed, err error) {
	want := image.HostPlatform()
	if p := req.Platform; p != (image.Platform{}) {
		if p.OS == "" {
			p.OS = want.OS
		}
		if p.Arch == "" {
			p.Arch = want.Arch
		}
		want = p
	}
	for _, ref := range req.Images {
		some, err := h.describe(ctx, ref, want, req)
		if err != nil {
			return nil, fmt.Errorf("image %q: %w", ref, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

// describe says what a list is to say of one image: of the store, or of a registry.
func (h *helper) describe(ctx context.Context, ref string, want image.Platform, req *image.ListRequest) ([]registry.Listed, error) {
	name, isRemote := strings.CutPrefix(ref, "docker://")
	name, isLocal := strings.CutPrefix(name, "containers-storage:")
	for _, other := range [...]string{"dir:", "oci:", "oci-archive:", "docker-archive:", "docker-daemon:"} {
		if strings.HasPrefix(name, other) {
			return nil, errors.New("it is neither in the store nor in a registry: 'moss load' puts an archive into the store")
		}
	}
	if !isRemote {
		img, err := h.images.Lookup(name)
		if err == nil {
			return h.describeLocal(img, want, req.All)
		}
		if isLocal || !errors.Is(err, image.ErrNotFound) {
			return nil, err
		}
	}
	return registry.Entries(ctx, name, h.reach(req.Access), want, req.All)
}

func (h *helper) describeLocal(img *image.Image, want image.Platform, all bool) ([]registry.Listed, error) {
	if !img.IsList() {
		data, err := h.store.Manifest(img.ID)
		if err != nil {
			return nil, err
		}
		e := storage.ListEntry{MediaType: img.ManifestType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		e.Platform = &storage.ListPlatform{OS: img.OS, Architecture: img.Arch, Variant: img.Variant}
		return []registry.Listed{{ListEntry: e, Location: h.store.Location(img.ID, h.run)}}, nil
	}
	l, err := h.store.List(img.ID)
	if err != nil {
		return nil, err
	}
	var out []registry.Listed
	rank := 0
	for _, e := range l.Manifests {
		one := registry.Listed{ListEntry: e, Location: l.Locations[e.Digest]}
		switch {
		case all:
			out = append(out, one)
		case e.Platform == nil:
		default:
			have := image.Platform{OS: e.Platform.OS, Arch: e.Platform.Architecture, Variant: e.Platform.Variant}
			if r := want.Rank(have); r > rank {
				out, rank = []registry.Listed{one}, r
			}
		}
	}
	if len(out) == 0 && !all {
		return nil, fmt.Errorf("the list has no image for platform %s", want)
	}
	return out, nil
}

// override changes an entry as the request says.
func override(e *storage.ListEntry, req *image.ListRequest) {
	p := storage.ListPlatform{}
	if e.Platform != nil {
		p = *e.Platform
	}
	for _, set := range []struct {
		to   *string
		from string
	}{{&p.OS, req.Platform.OS}, {&p.Architecture, req.Platform.Arch}, {&p.Variant, req.Platform.Variant}, {&p.OSVersion, req.OSVersion}} {
		if set.from != "" {
			*set.to = set.from
		}
	}
	if len(req.OSFeatures) > 0 {
		p.OSFeatures = req.OSFeatures
	}
	if len(req.Features) > 0 {
		p.Features = req.Features
	}
	if e.Platform != nil || p.OS+p.Architecture != "" {
		e.Platform = &p
	}
	if len(req.Annotations) > 0 {
		annotations := map[string]string{}
		maps.Copy(annotations, e.Annotations)
		maps.Copy(annotations, req.Annotations)
		e.Annotations = annotations
	}
}

func (h *helper) annotateList(l *storage.List, req *image.ListRequest) error {
	if req.Subject != "" {
		img, err := h.images.Lookup(req.Subject)
		if err != nil {
			return fmt.Errorf("subject: %w", err)
		}
		data, err := h.store.Manifest(img.ID)
		if err != nil {
			return err
		}
		l.SetSubject(img.ManifestType, data)
	}
	if req.Index {
		if l.Annotations == nil {
			l.Annotations = map[string]string{}
		}
		maps.Copy(l.Annotations, req.Annotations)
	}
	for _, ref := range req.Images {
		e, err := h.entryOf(l, ref)
		if err != nil {
			return err
		}
		override(e, req)
	}
	return nil
}

// entryOf finds an entry by its digest, or by an image of the store.
func (h *helper) entryOf(l *storage.List, ref string) (*storage.ListEntry, error) {
	d := digest.Digest(ref)
	if d.Validate() == nil {
		if e := l.Entry(d); e != nil {
			return e, nil
		}
		return nil, fmt.Errorf("it has no image of digest %s", d)
	}
	img, err := h.images.Lookup(ref)
	if err != nil {
		return nil, err
	}
	for _, d := range img.Digests {
		if e := l.Entry(digest.Digest(d)); e != nil {
			return e, nil
		}
	}
	return nil, fmt.Errorf("it has not got image %q", ref)
}

func (h *helper) removeFromList(l *storage.List, refs []string) error {
	for _, ref := range refs {
		e, err := h.entryOf(l, ref)
		if err != nil {
			return err
		}
		l.Remove(e.Digest)
	}
	return nil
}
