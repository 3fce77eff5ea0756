package rootless

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"moss/rootless/container"
	"moss/storage/image"
	"moss/storage/usage"
	"moss/storage/volume"
)

// DiskUsage is what moss's directory takes on the disk, as du counts it: every byte is in
// one of the lists, and in one only. Images of podman's store are not moss's.
type DiskUsage struct {
	Images     []ImageUsage
	Containers []ContainerUsage
	Volumes    []VolumeUsage
	Other      []OtherUsage
	// ImageBytes are all layers of images, each once, and their documents; of them
	// FreeImageBytes are for images that no container uses.
	ImageBytes, FreeImageBytes int64
}

// ImageUsage is one image. Shared are the bytes of layers that other images have too.
type ImageUsage struct {
	Image          *image.Image
	Shared, Unique int64
	Containers     int
}

// ContainerUsage is one container: what it wrote, its log and its records.
type ContainerUsage struct {
	Container *container.Container
	View      container.View
	Bytes     int64
	Volumes   int // how many named or anonymous ones it mounts
}

// VolumeUsage is one volume with its snapshots; Links says how many containers mount it.
type VolumeUsage struct {
	Volume *volume.Volume
	Links  int
	Bytes  int64
}

// OtherUsage is what belongs to none of them. What is Free is not needed: 'moss
// system gc --all' removes it.
type OtherUsage struct {
	Kind  string
	Count int
	Bytes int64
	Free  bool
}

// Kinds of OtherUsage.
const (
	OtherDownloads = "unfinished pulls"
	OtherMapped    = "images with mapped owners"
	OtherTrash     = "trash"
	OtherRecords   = "records, caches and events"
)

// Places are the directories in which moss keeps what survives a reboot, none of them
// in another.
func (e *Engine) Places() []string {
	var all []string
	for _, path := range entriesOf(e.Paths.Root) {
		all = append(all, entriesOf(path)...)
	}
	if volumes := e.Volumes.All(); filepath.Dir(volumes) != e.Paths.Root {
		all = append(all, entriesOf(volumes)...)
	}
	return all
}

// DiskUsage measures.
func (e *Engine) DiskUsage(ctx context.Context) (*DiskUsage, error) {
	if err := e.FreshImages(ctx); err != nil {
		return nil, err
	}
	m := &measurement{engine: e, layers: map[string]int64{}, documents: map[string]int64{}, other: map[string]*OtherUsage{}}
	u, err := m.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot measure %q: %w", e.Paths.Root, err)
	}
	return u, nil
}

type measurement struct {
	engine    *Engine
	layers    map[string]int64 // by ID
	documents map[string]int64 // of images, by ID
	other     map[string]*OtherUsage
	jobs      []job
}

// job is a tree to measure, and what is done with the result.
type job struct {
	path string
	add  func(int64)
}

func (m *measurement) measure(path string, add func(int64)) { m.jobs = append(m.jobs, job{path, add}) }

// children measures what is in a directory: each entry as choose says. The
// directory itself is a record.
func (m *measurement) children(dir string, choose func(name, path string) func(int64)) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m.counted(OtherRecords, false, 0)(usage.File(dir))
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if add := choose(entry.Name(), path); add != nil {
			m.measure(path, add)
		}
	}
	return nil
}

// counted adds to one of the other kinds.
func (m *measurement) counted(kind string, free bool, n int) func(int64) {
	if m.other[kind] == nil {
		m.other[kind] = &OtherUsage{Kind: kind, Free: free}
	}
	o := m.other[kind]
	return func(bytes int64) { o.Count += n; o.Bytes += bytes }
}

func (m *measurement) run(ctx context.Context) (*DiskUsage, error) {
	e, u := m.engine, &DiskUsage{}
	images, err := e.Images.List()
	if err != nil {
		return nil, err
	}
	containers, err := e.All()
	if err != nil {
		return nil, err
	}
	volumes, err := e.Volumes.List()
	if err != nil {
		return nil, err
	}
	views := Look(containers)
	u.Containers, u.Volumes = make([]ContainerUsage, len(containers)), make([]VolumeUsage, len(volumes))
	places := map[string]func(int64){}
	for i, c := range containers {
		u.Containers[i] = ContainerUsage{Container: c, View: views[i], Volumes: volumesOf(c)}
		places[c.Dir] = func(n int64) { u.Containers[i].Bytes += n }
	}
	for i, v := range volumes {
		u.Volumes[i] = VolumeUsage{Volume: v, Links: len(VolumeUsers(containers, v.Name))}
		places[e.Volumes.Dir(v.Name)] = func(n int64) { u.Volumes[i].Bytes += n }
	}
	if err := m.plan(places); err != nil {
		return nil, err
	}
	if err := m.work(); err != nil {
		return nil, err
	}
	m.images(u, images, containers)
	for _, o := range m.other {
		if o.Bytes > 0 || o.Count > 0 {
			u.Other = append(u.Other, *o)
		}
	}
	slices.SortFunc(u.Other, func(a, b OtherUsage) int { return strings.Compare(a.Kind, b.Kind) })
	return u, ctx.Err()
}

func volumesOf(c *container.Container) (n int) {
	for _, m := range c.Spec.Rootfs.Mounts {
		if m.Type == "volume" {
			n++
		}
	}
	return n
}

// plan divides the directory. places are those of containers and volumes.
func (m *measurement) plan(places map[string]func(int64)) error {
	e := m.engine
	records, place := m.counted(OtherRecords, false, 0), func(_, path string) func(int64) { return places[path] }
	orRecords := func(name, path string) func(int64) {
		if add := place(name, path); add != nil {
			return add
		}
		return records
	}
	if all := e.Volumes.All(); filepath.Dir(all) != e.Paths.Root {
		if err := m.children(all, place); err != nil { // --volumepath: the rest there is not moss's
			return err
		}
	}
	return m.children(e.Paths.Root, func(name, path string) func(int64) {
		var err error
		switch name {
		case "storage":
			err = m.store(path)
		case "images":
			err = m.children(path, func(name, _ string) func(int64) { return m.document(strings.TrimSuffix(name, ".json")) })
		case "storage-tmp", "pending":
			err = m.children(path, func(name, _ string) func(int64) {
				if strings.HasPrefix(name, ".") {
					return records
				}
				return m.counted(OtherDownloads, true, 1)
			})
		case "mapped":
			err = m.children(path, func(name, _ string) func(int64) {
				if strings.HasSuffix(name, ".json") {
					return m.counted(OtherMapped, false, 0)
				}
				return m.counted(OtherMapped, false, 1)
			})
		case "trash":
			err = m.children(path, func(string, string) func(int64) { return m.counted(OtherTrash, true, 1) })
		case "containers", "volumes":
			err = m.children(path, orRecords)
		default:
			return records
		}
		if err != nil {
			m.measure(path, records) // it says the error again, or has gone
		}
		return nil
	})
}

// store divides the library's directory: layers and documents by their IDs.
func (m *measurement) store(dir string) error {
	return m.children(dir, func(name, path string) func(int64) {
		var err error
		switch name {
		case "overlay":
			err = m.children(path, m.layerOrStaged)
		case "vfs":
			err = m.children(filepath.Join(path, "dir"), func(name, _ string) func(int64) { return m.layer(name) })
		case "overlay-layers", "vfs-layers":
			err = m.children(path, func(name, _ string) func(int64) {
				if id, ok := strings.CutSuffix(name, ".tar-split.gz"); ok {
					return m.layer(id)
				}
				return m.document("")
			})
		case "overlay-images", "vfs-images":
			err = m.children(path, func(name, _ string) func(int64) { return m.document(name) })
		default:
			return m.document("")
		}
		if err != nil {
			return m.document("")
		}
		return nil
	})
}

// layerOrStaged measures one entry of the driver's directory.
func (m *measurement) layerOrStaged(name, path string) func(int64) {
	switch {
	case name == "staging" || name == "tempdirs": // what is there waits to be placed, or to go
		if m.children(path, func(string, string) func(int64) { return m.counted(OtherDownloads, true, 1) }) == nil {
			return nil
		}
	case len(name) == 64:
		return m.layer(name)
	}
	return m.document("")
}

func (m *measurement) layer(id string) func(int64) {
	return func(n int64) { m.layers[id] += n }
}

func (m *measurement) document(id string) func(int64) {
	return func(n int64) { m.documents[id] += n }
}

// work measures what is planned.
func (m *measurement) work() error {
	paths := make([]string, len(m.jobs))
	for i, j := range m.jobs {
		paths[i] = j.path
	}
	sizes, err := new(usage.Meter).Trees(paths)
	for i, j := range m.jobs {
		j.add(sizes[i])
	}
	return err
}

// images gives layers and documents to the images that they are of.
func (m *measurement) images(u *DiskUsage, list []*image.Image, containers []*container.Container) {
	using := map[string]int{}
	for _, c := range containers {
		if c.Spec.Image.ID != "" {
			using[c.Spec.Image.ID]++
		}
		for _, mount := range c.Spec.Rootfs.Mounts {
			if mount.ImageID != "" && mount.ImageID != c.Spec.Image.ID {
				using[mount.ImageID]++
			}
		}
	}
	of := map[string]int{} // images of a layer
	active := map[string]bool{}
	list = slices.DeleteFunc(list, func(img *image.Image) bool { return img.ReadOnly })
	for _, img := range list {
		for _, id := range img.Layers {
			of[id]++
			active[id] = active[id] || using[img.ID] > 0
		}
	}
	for _, img := range list {
		one := ImageUsage{Image: img, Containers: using[img.ID], Unique: m.documents[img.ID]}
		u.ImageBytes += m.documents[img.ID]
		if using[img.ID] == 0 {
			u.FreeImageBytes += m.documents[img.ID]
		}
		delete(m.documents, img.ID)
		for _, id := range img.Layers {
			if of[id] > 1 {
				one.Shared += m.layers[id]
			} else {
				one.Unique += m.layers[id]
			}
		}
		u.Images = append(u.Images, one)
	}
	for id, n := range m.layers {
		switch {
		case of[id] == 0:
			m.counted(OtherDownloads, true, 1)(n)
			continue
		case !active[id]:
			u.FreeImageBytes += n
		}
		u.ImageBytes += n
	}
	for _, n := range m.documents { // of the library for all images
		u.ImageBytes += n
	}
}
