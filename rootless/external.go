package rootless

import (
	"cmp"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"moss/record/xdg"
	"moss/rootless/container"
)

// StatusStorage is the status of External containers: nothing of theirs runs that
// moss knows of.
const StatusStorage container.Status = "storage"

// External lists the containers of buildah, podman and others that lie in moss's
// store of images or in podman's, oldest first. They have a name, an image, and as
// their command the program that made them; moss does nothing with them.
func (e *Engine) External() []*container.Container {
	var out []*container.Container
	for _, store := range []string{filepath.Join(e.Paths.Root, "storage"), filepath.Join(cmp.Or(xdg.Data(os.Getenv), "/nonexistent"), "containers", "storage"), filepath.Join(os.Getenv("XDG_RUNTIME_DIR"), "containers")} {
		for _, list := range []string{"overlay-containers/containers.json", "vfs-containers/containers.json", "overlay-containers/volatile-containers.json", "vfs-containers/volatile-containers.json"} {
			for _, c := range externals(filepath.Join(store, list)) {
				if !slices.ContainsFunc(out, func(known *container.Container) bool { return known.Spec.ID == c.Spec.ID }) {
					out = append(out, c)
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b *container.Container) int { return a.Spec.Created.Compare(b.Spec.Created) })
	return out
}

// externals reads one list of containers as containers/storage writes it.
func externals(path string) (out []*container.Container) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var list []struct {
		ID, Image, Metadata string
		Names               []string
		Created             time.Time
	}
	if json.Unmarshal(data, &list) != nil {
		return nil // it is being written by a program that does not rename
	}
	for _, l := range list {
		dir := filepath.Join(filepath.Dir(path), l.ID)
		c := &container.Container{Dir: dir, RunDir: filepath.Join(dir, "userdata")}
		c.Spec = container.Spec{ID: l.ID, Name: strings.Join(l.Names, ","), Created: l.Created, Image: container.Image{ID: l.Image}}
		c.Spec.Process.Args, c.Spec.Process.Entrypoint = []string{"storage"}, []string{}
		var made struct{ FromImage string }
		if data, err := os.ReadFile(filepath.Join(c.RunDir, "buildah.json")); err == nil && json.Unmarshal(data, &made) == nil {
			c.Spec.Process.Args[0], c.Spec.Image.Name = "buildah", made.FromImage
		} else if strings.Contains(l.Metadata, `"image-name"`) && !strings.Contains(l.Metadata, `"pod-name"`) {
			c.Spec.Process.Args[0] = "podman"
		}
		if len(l.ID) >= 12 {
			out = append(out, c)
		}
	}
	return out
}
