package rootless

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"moss/rootless/event"
	"moss/storage/image"
)

// keepSize removes images without a name, those that were not used for longest
// first, until all images take no more than MaxSize. What a container uses stays,
// and so does what has a name: if that is too much, it is only told.
func (e *Engine) keepSize(ctx context.Context) {
	for {
		u, err := e.DiskUsage(ctx)
		if err != nil {
			slog.Warn("cannot hold images to storage.max_size", "err", err)
			return
		}
		if u.ImageBytes <= e.MaxSize {
			return
		}
		img := e.leastUsed(ctx, u.Images)
		if img == nil {
			slog.Warn("images take more than storage.max_size, and all have names or are used", "bytes", u.ImageBytes, "max", e.MaxSize)
			return
		}
		slog.Info("an image goes, since images take more than storage.max_size", "image", img.ID, "bytes", u.ImageBytes)
		err = e.deleteImage(img, RemoveImageOptions{NoPrune: true}, func(string, string) {})
		if err == nil {
			err = e.imageHelper(ctx, image.Request{Sweep: &image.IndexRequest{}}, os.Stdin, io.Discard)
		}
		if err != nil {
			slog.Warn("cannot hold images to storage.max_size", "err", err)
			return
		}
	}
}

// leastUsed is the image without name and user that was last used before all others;
// nil if there is none.
func (e *Engine) leastUsed(ctx context.Context, list []ImageUsage) *image.Image {
	var all []*image.Image
	for _, u := range list {
		all = append(all, u.Image)
	}
	last := e.lastUses(ctx)
	used := func(img *image.Image) time.Time {
		t := last[img.ID]
		if fi, err := os.Stat(filepath.Join(e.Paths.Root, "images", img.ID+".json")); err == nil && fi.ModTime().After(t) {
			t = fi.ModTime()
		}
		return t
	}
	var free []*image.Image
	for _, u := range list {
		if u.Containers == 0 && u.Image.Dangling(all) && e.MountedImage(u.Image) == "" {
			free = append(free, u.Image)
		}
	}
	if len(free) == 0 {
		return nil
	}
	return slices.MinFunc(free, func(a, b *image.Image) int { return used(a).Compare(used(b)) })
}

// lastUses reads from the events when something was last done with an image.
func (e *Engine) lastUses(ctx context.Context) map[string]time.Time {
	last := map[string]time.Time{}
	e.Events().Read(ctx, event.Options{}, func(ev *event.Event) error {
		if ev.Type == event.Image {
			last[ev.ID] = ev.Time
		}
		return nil
	})
	return last
}
