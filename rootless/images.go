package rootless

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/event"
	"moss/storage/image"
	"moss/userns/slack"
)

// tries is how often a change is tried again that met one by somebody else.
const tries = 3

// Tag gives an image more names, which others lose.
func (e *Engine) Tag(ctx context.Context, ref string, names []string) error {
	img, err := e.Named(ctx, ref)
	if err != nil {
		return fmt.Errorf("cannot tag image: %w", err)
	}
	full := make([]string, 0, len(names))
	for _, name := range names {
		r, err := image.Parse(name)
		if err == nil && r.Digest != "" {
			err = fmt.Errorf("%w %q: a name that is given has no digest", image.ErrInvalid, name)
		}
		if err != nil {
			return fmt.Errorf("cannot tag image: %w", err)
		}
		name, err = image.NormalizeLocal(name)
		if err != nil {
			return fmt.Errorf("cannot tag image: %w", err)
		}
		full = append(full, name)
	}
	return e.name(ctx, img, full, "tag", ref)
}

// name gives an image names, and notes how they came to mean it.
func (e *Engine) name(ctx context.Context, img *image.Image, names []string, verb, source string) error {
	err := e.rename(ctx, img.ID, names, nil)
	if errors.Is(err, image.ErrHelper) {
		return e.ImageHelper(ctx, image.Request{Tag: &image.TagRequest{Image: img.ID, Names: names, Verb: verb, Source: source}}, io.Discard)
	}
	if err != nil {
		return err
	}
	e.noteImage(event.Tag, img, names...)
	return e.logNames(img, names, verb, source)
}

// rename is image.Images.Rename; what changes meanwhile is waited for.
func (e *Engine) rename(ctx context.Context, id string, add, remove []string) (err error) {
	for range tries {
		if err = e.FreshImages(ctx); err != nil {
			return err
		}
		if err = e.Images.Rename(id, add, remove); !errors.Is(err, image.ErrHelper) {
			return err
		}
	}
	return err
}

func (e *Engine) logNames(img *image.Image, names []string, verb, source string) error {
	var lines []image.LogEntry
	for _, name := range names {
		lines = append(lines, image.LogEntry{Time: time.Now(), Name: name, ID: img.ID, Digest: img.Digest, Verb: verb, Source: source})
	}
	return image.AppendLog(e.Paths.Root, lines...)
}

// logGone notes that the names mean nothing any more.
func (e *Engine) logGone(names []string, verb string) error {
	var lines []image.LogEntry
	for _, name := range names {
		lines = append(lines, image.LogEntry{Time: time.Now(), Name: name, Verb: verb})
	}
	return image.AppendLog(e.Paths.Root, lines...)
}

// Untag takes names from an image; without any, all that it has. The image stays.
func (e *Engine) Untag(ctx context.Context, ref string, names []string) error {
	img, err := e.Named(ctx, ref)
	if err != nil {
		return fmt.Errorf("cannot untag image: %w", err)
	}
	own := img.Names
	if len(names) > 0 {
		own = nil
		for _, name := range names {
			found, err := ownName(img, name)
			if err != nil {
				return fmt.Errorf("cannot untag image: %w", err)
			}
			own = append(own, found)
		}
	}
	if len(own) == 0 {
		return nil
	}
	return e.untag(ctx, img, own, "untag")
}

func (e *Engine) untag(ctx context.Context, img *image.Image, names []string, verb string) error {
	err := e.rename(ctx, img.ID, nil, names)
	if errors.Is(err, image.ErrHelper) {
		return e.ImageHelper(ctx, image.Request{Untag: &image.TagRequest{Image: img.ID, Names: names, Verb: verb}}, io.Discard)
	}
	if err != nil {
		return err
	}
	e.noteImage(event.Untag, img, names...)
	return e.logGone(names, verb)
}

// ownName finds which of an image's names is meant.
func ownName(img *image.Image, name string) (string, error) {
	local, err := image.NormalizeLocal(name)
	if err != nil {
		return "", err
	}
	hub, err := image.Normalize(name)
	if err != nil {
		return "", err
	}
	for _, full := range []string{local, hub} {
		if slices.Contains(img.Names, full) {
			return full, nil
		}
	}
	return "", fmt.Errorf("%q is not a name of the image", name)
}

// RemoveImageOptions of RemoveImage.
type RemoveImageOptions struct {
	Force   bool // also if it has several names; moss rmi removes containers first
	NoPrune bool // keep the steps that it was built from
	// Using maps images to the containers that use them: those stay.
	Using map[string][]string
}

// ErrImageInUse says that a container uses the image, or the user has mounted it.
var ErrImageInUse = fmt.Errorf("image is in use by a container: %w", errdefs.ErrConflict)

// UsingImages is Using, with the containers of other programs in moss's own store.
func (e *Engine) UsingImages() (map[string][]string, error) {
	using, err := e.Using()
	for _, c := range e.External() {
		if strings.HasPrefix(c.Dir, e.Paths.Root+"/") {
			using[c.Spec.Image.ID] = append(using[c.Spec.Image.ID], c.Spec.ID)
		}
	}
	return using, err
}

// RemoveImage takes the name away that ref is, or removes the image if that is its
// last one, or ref is its ID; and reports in podman's words what was done. An image
// that is removed is in no list any more; moss-image, which SweepImages starts,
// deletes its layers.
func (e *Engine) RemoveImage(ctx context.Context, ref string, o RemoveImageOptions, report func(verb, what string)) error {
	if err := e.FreshImages(ctx); err != nil {
		return err
	}
	img, name, err := e.Images.Resolve(ref)
	if err != nil {
		return fmt.Errorf("cannot remove image: %w", err)
	}
	if img.ReadOnly {
		return fmt.Errorf("cannot remove image %q: it is in podman's store, which moss only reads (podman rmi removes it)", ref)
	}
	if name != "" && len(img.Names) > 1 {
		if err := e.untag(ctx, img, []string{name}, "rmi"); err != nil {
			return err
		}
		report("Untagged", name)
		return nil
	}
	if name == "" && len(img.Names) > 1 && !o.Force {
		return fmt.Errorf("cannot remove image %q by its ID: it has several names (%s); name one, or use --force",
			ref, strings.Join(img.Names, ", "))
	}
	if users := o.Using[img.ID]; len(users) > 0 {
		return fmt.Errorf("cannot remove image %q: %w: %s", ref, ErrImageInUse, strings.Join(users, ", "))
	}
	if point := e.MountedImage(img); point != "" && o.Force {
		err = e.UnmountImage(img, true)
	} else if point != "" {
		err = fmt.Errorf("cannot remove image %q: %w: it is mounted at %s", ref, ErrImageInUse, point)
	}
	if err != nil {
		return err
	}
	return e.deleteImage(img, o, report)
}

// deleteImage removes an image, and the steps that it alone was built from.
func (e *Engine) deleteImage(img *image.Image, o RemoveImageOptions, report func(verb, what string)) error {
	gone := []*image.Image{img}
	if !o.NoPrune && len(img.History) > 1 {
		all, err := e.Images.List()
		if err != nil {
			return err
		}
		for _, step := range img.Steps(all) {
			if len(o.Using[step.ID]) > 0 || e.MountedImage(step) != "" {
				break // and so is what it was built on
			}
			gone = append(gone, step)
		}
	}
	var ids []string
	for _, i := range gone {
		ids = append(ids, i.ID)
	}
	if err := e.Images.Remove(ids); err != nil {
		return err
	}
	for _, i := range gone {
		for _, name := range i.Names {
			e.noteImage(event.Untag, i, name)
			report("Untagged", name)
		}
		e.noteImage(event.Remove, i, strings.Join(i.Names, " "))
		report("Deleted", i.ID)
	}
	return e.logGone(img.Names, "rmi")
}

// SweepImages starts moss-image to delete what removed images have left. Nobody
// waits for it; if it cannot, the next moss-image does. Where neither they nor a crash
// have left anything it does nothing.
func (e *Engine) SweepImages() error {
	if len(image.DoomedIDs(e.Paths.Root)) == 0 && !image.Unfinished(e.Paths.Root) {
		return nil
	}
	req := image.Request{Sweep: &image.IndexRequest{}}
	e.configure(&req)
	doc, err := record.Encode(req)
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	defer w.Close()
	if _, err := w.Write(doc); err != nil { // a pipe holds it
		return err
	}
	cmd := exec.Command(Helper("moss-image"))
	cmd.ExtraFiles = []*os.File{r}
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	if err := slack.Exactly(cmd.Start); err != nil {
		return fmt.Errorf("cannot run moss-image: %w", err)
	}
	return cmd.Process.Release()
}

// RollBack makes a name mean again what it meant before, or with to the image of
// that ID or digest that it once meant, and returns that.
func (e *Engine) RollBack(ctx context.Context, ref, to string) (image.LogEntry, error) {
	if err := e.FreshImages(ctx); err != nil {
		return image.LogEntry{}, err
	}
	name, err := e.Images.LogName(ref)
	if err != nil {
		return image.LogEntry{}, fmt.Errorf("cannot roll back image: %w", err)
	}
	log, err := e.Images.Log(name)
	if err != nil {
		return image.LogEntry{}, err
	}
	target := image.Previous(log)
	if to != "" {
		target, err = image.Meant(log, to)
	} else if target.ID == "" {
		err = errors.New("nothing is noted of what it meant before")
	}
	if err != nil {
		return target, fmt.Errorf("cannot roll back image %q: %w", name, err)
	}
	img, err := e.Images.Lookup("sha256:" + target.ID)
	if errors.Is(err, image.ErrNotFound) {
		return target, &goneError{name: name, was: target}
	}
	if err != nil {
		return target, fmt.Errorf("cannot roll back image %q: %w", name, err)
	}
	return target, e.name(ctx, img, []string{name}, image.VerbRollback, "")
}

// goneError is an image that a name meant and that has been removed.
type goneError struct {
	name string
	was  image.LogEntry
}

func (g *goneError) Error() string {
	return fmt.Sprintf("cannot roll back image %q: the image that it meant before, %s, has been removed", g.name, g.was.ID[:12])
}
func (g *goneError) Unwrap() error { return errdefs.ErrNotFound }

// Hint says how it may be had again.
func (g *goneError) Hint() string {
	repository, _, _ := strings.Cut(g.name, "@")
	if i := strings.LastIndexByte(repository, ':'); i > strings.LastIndexByte(repository, '/') {
		repository = repository[:i]
	}
	hint := "'moss image log " + g.name + "' shows what is left; --to names one"
	if g.was.Verb == "pull" && g.was.Digest != "" {
		hint = "'moss pull " + repository + "@" + g.was.Digest + "' gets it again, if the registry still has it"
	}
	return hint
}
