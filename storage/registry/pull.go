package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	digest "github.com/opencontainers/go-digest"
	imagespec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.podman.io/image/v5/types"
	"golang.org/x/sync/errgroup"

	"moss/storage"
	"moss/storage/image"
	"moss/storage/limit"
)

// PullOptions of Pull.
type PullOptions struct {
	Access
	Platform image.Platform // zero: the host's
	Progress *Progress
	// AllTags pulls every tag of the repository.
	AllTags bool
	// Platforms, where there are several, get an image each, without the name: that is
	// for what Together makes of their IDs.
	Platforms []image.Platform
	Together  func(name string, ids []string) error
}

// Pull fetches a reference into the store and returns the IDs of its images:
// one, or with AllTags one for each tag.
func Pull(ctx context.Context, store *storage.Store, ref string, o PullOptions) ([]string, error) {
	if o.Platform == (image.Platform{}) {
		o.Platform = image.HostPlatform()
	}
	sys := system(o.Access)
	names, err := candidates(sys, ref, o.Access)
	if err != nil {
		return nil, fmt.Errorf("cannot pull image %q: %w", ref, err)
	}
	var all error
	for _, c := range names {
		o.Progress.Line("Trying to pull %s...", c.name)
		ids, err := pullCandidate(ctx, sys, store, c, o)
		if err == nil {
			return ids, nil
		}
		all = errors.Join(all, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("cannot pull image %q: %w", ref, all)
}

// pullCandidate tries the mirrors of a name and then its registry.
func pullCandidate(ctx context.Context, sys *types.SystemContext, store *storage.Store, c candidate, o PullOptions) ([]string, error) {
	if err := mayPull(c.name); err != nil {
		return nil, err
	}
	var all error
	for _, src := range c.sources {
		client, err := connect(ctx, sys, src, o.Access, "pull")
		if err == nil {
			client.say = o.Progress.Line
			var ids []string
			if ids, err = pullFrom(ctx, client, store, c.name, o); err == nil {
				return ids, nil
			}
			err = client.guard.explain(err)
		}
		if len(c.sources) > 1 {
			err = fmt.Errorf("from %q: %w", src.ref, err)
		}
		all = errors.Join(all, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, all
}

func pullFrom(ctx context.Context, client *client, store *storage.Store, name image.Reference, o PullOptions) ([]string, error) {
	if !o.AllTags {
		return pullPlatforms(ctx, client, store, name, o)
	}
	tags, err := client.tags(ctx)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, tag := range tags {
		tagged, asked := name, *client
		tagged.Tag, tagged.Digest = tag, ""
		asked.ref.Tag, asked.ref.Digest = tag, ""
		some, err := pullPlatforms(ctx, &asked, store, tagged, o)
		if err != nil {
			return ids, err
		}
		ids = append(ids, some...)
	}
	return ids, nil
}

// pullPlatforms fetches what a name means, for one platform or for several.
func pullPlatforms(ctx context.Context, client *client, store *storage.Store, name image.Reference, o PullOptions) (ids []string, err error) {
	if len(o.Platforms) < 2 {
		id, err := pullOne(ctx, client, store, name, []string{name.String()}, o)
		return []string{id}, err
	}
	for _, p := range o.Platforms {
		o.Platform = p
		id, err := pullOne(ctx, client, store, name, nil, o)
		if err != nil {
			return nil, fmt.Errorf("for platform %s: %w", p, err)
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, o.Together(name.String(), ids)
}

// remoteImage is what a registry says about an image.
type remoteImage struct {
	index, manifest, config []byte
	parsed                  *imagespec.Manifest
	diffIDs                 []digest.Digest
	spec                    imagespec.Image
}

// pullOne fetches the image that is asked for by a name, and gives it the names. Layers are downloaded and unpacked in
// parallel; the image is recorded last, so that a pull that is killed leaves no
// image, only layers and blobs for the next try.
func pullOne(ctx context.Context, client *client, store *storage.Store, name image.Reference, names []string, o PullOptions) (string, error) {
	o.Progress.Line("Getting image source signatures")
	img, err := client.image(ctx, o.Platform)
	if err != nil {
		return "", err
	}
	if err := client.permit(ctx, name, img); err != nil {
		return "", err
	}
	top, err := pullLayers(ctx, client, store, img, o.Progress)
	if err != nil {
		return "", err
	}
	o.Progress.Blob("config", img.parsed.Config.Digest, img.parsed.Config.Size).Done()
	o.Progress.After("Writing manifest to image destination")
	created := storage.NewImage{
		Config: img.config, Manifest: img.manifest, Index: img.index, Layer: top, Names: names,
	}
	if img.spec.Created != nil {
		created.Created = *img.spec.Created
	}
	return store.AddImage(created)
}

// image reads the documents of the image that the client's reference means.
func (c *client) image(ctx context.Context, platform image.Platform) (*remoteImage, error) {
	tag := c.ref.Tag
	if c.ref.Digest != "" {
		tag = c.ref.Digest
	}
	data, mediaType, err := c.manifest(ctx, tag)
	if err != nil {
		return nil, err
	}
	img := &remoteImage{manifest: data}
	if mediaType == dockerSchema1 {
		return nil, fmt.Errorf("cannot read manifest %q: Docker's schema 1 is too old; push the image again with a current tool", tag)
	}
	for depth := 0; isIndex(mediaType, img.manifest); depth++ {
		if depth == 3 {
			return nil, fmt.Errorf("cannot read index %q: indexes nest too deeply", tag)
		}
		chosen, err := Choose(img.manifest, platform)
		if err != nil {
			return nil, err
		}
		img.index = img.manifest
		if img.manifest, mediaType, err = c.manifest(ctx, chosen.Digest.String()); err != nil {
			return nil, err
		}
	}
	if img.parsed, err = ParseManifest(img.manifest); err != nil {
		return nil, err
	}
	if img.config, err = c.config(ctx, img.parsed.Config); err != nil {
		return nil, err
	}
	img.spec, img.diffIDs, err = ParseConfig(img.config, len(img.parsed.Layers))
	return img, err
}

// config fetches a configuration and checks its digest.
func (c *client) config(ctx context.Context, d imagespec.Descriptor) ([]byte, error) {
	if d.Size > maxDocument {
		return nil, fmt.Errorf("cannot read configuration %q: %w", d.Digest, tooLarge(d.Size))
	}
	data, _, err := c.document(ctx, c.url("blobs/%s", d.Digest), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot read configuration %q: %w", d.Digest, err)
	}
	if got := digest.FromBytes(data); got != d.Digest {
		return nil, fmt.Errorf("cannot read configuration %q: the registry sent another one, of digest %s", d.Digest, got)
	}
	return data, nil
}

// maxLayers is OVL_MAX_STACK of fs/overlayfs/params.h.
const maxLayers = 500

// ParseConfig reads the configuration of an image with that many layers.
func ParseConfig(data []byte, layers int) (imagespec.Image, []digest.Digest, error) {
	var spec imagespec.Image
	if err := limit.JSON(data, &spec); err != nil {
		return spec, nil, fmt.Errorf("cannot read configuration: %w", err)
	}
	diffIDs := spec.RootFS.DiffIDs
	if len(diffIDs) != layers {
		return spec, nil, fmt.Errorf("cannot read configuration: it has %d layers, the manifest has %d", len(diffIDs), layers)
	}
	if len(diffIDs) > maxLayers {
		return spec, nil, fmt.Errorf("cannot read configuration: it has %d layers; the kernel mounts %d", len(diffIDs), maxLayers)
	}
	for _, d := range diffIDs {
		if err := checkDescriptor(imagespec.Descriptor{Digest: d}); err != nil {
			return spec, nil, fmt.Errorf("cannot read configuration: %w", err)
		}
	}
	return spec, diffIDs, nil
}

// layer is one layer on its way.
type layer struct {
	desc   imagespec.Descriptor
	diffID digest.Digest
	id     string
	parent string
	file   chan *os.File // gets the blob, or nil when it is not needed

	unpacked chan struct{} // closed when there is nothing more to wait for
	blob     *os.File
	parts    *partial        // in place of the blob
	staged   *storage.Staged // nil if it is for the store to unpack it, or to copy it
}

// pullLayers brings the layers of img into the store and returns the ID of the
// uppermost.
func pullLayers(ctx context.Context, client *client, store *storage.Store, img *remoteImage, progress *Progress) (top string, err error) {
	dir, err := store.Temp()
	if err != nil {
		return "", err
	}
	sweep(dir)
	layers, top := plan(store, img, progress)
	if len(layers) == 0 {
		return top, nil
	}
	if err := store.CheckSpace(dir, layers.size()); err != nil {
		return "", err
	}
	defer layers.discard()
	contents := sync.OnceValue(store.Contents)
	group, ctx := errgroup.WithContext(ctx)
	downloads, dctx := errgroup.WithContext(ctx)
	downloads.SetLimit(client.parallel)
	group.Go(func() error { // queues the downloads; ends with the last of them
		for _, l := range layers {
			downloads.Go(func() error { return client.download(dctx, dir, store, l, contents, progress) })
		}
		return downloads.Wait()
	})
	places := make(chan struct{}, unpackers())
	for _, l := range layers {
		group.Go(func() error { return client.unpack(ctx, dir, store, l, places, progress) })
	}
	group.Go(func() error { // puts them into the store, lowest first
		for _, l := range layers {
			select {
			case <-l.unpacked:
				layers.release()
				if err := client.put(ctx, dir, store, l, progress); err != nil {
					return err
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	return top, group.Wait()
}

// unpackers is how many layers are unpacked at once: each takes a processor and a half,
// and some megabytes.
func unpackers() int { return min(runtime.NumCPU()+1, 4) }

type layerList []*layer

func (l layerList) size() (n int64) {
	for _, one := range l {
		n += one.desc.Size
	}
	return n
}

// plan lists the layers that the store lacks, lowest first. A layer that is
// there under another parent is copied from there.
func plan(store *storage.Store, img *remoteImage, progress *Progress) (missing layerList, top string) {
	parent := ""
	for n, diffID := range img.diffIDs {
		l := &layer{desc: img.parsed.Layers[n], diffID: diffID, parent: parent, id: storage.ChainID(parent, diffID)}
		l.file, l.unpacked = make(chan *os.File, 1), make(chan struct{})
		parent = l.id
		if len(missing) == 0 && store.HasLayer(l.id) {
			progress.Skipped(l.desc.Digest)
			continue
		}
		missing = append(missing, l)
	}
	return missing, parent
}

// download brings one layer's blob; two layers with the same blob take turns on
// its file.
func (c *client) download(ctx context.Context, dir string, store *storage.Store, l *layer, contents func() *storage.Contents, progress *Progress) error {
	if store.HasDiff(l.diffID) {
		progress.Skipped(l.desc.Digest)
		l.file <- nil
		return nil
	}
	var err error
	if l.parts, err = c.partial(ctx, dir, store, l.desc, contents, progress); err == nil {
		l.file <- nil
		return nil
	}
	if err != errWhole {
		progress.Line("Downloading all of layer %s: %v", l.desc.Digest, err)
	}
	bar := progress.Blob("blob", l.desc.Digest, l.desc.Size)
	f, err := c.blob(ctx, dir, l.desc, func() bool { return store.HasDiff(l.diffID) }, bar)
	if err != nil {
		bar.Abort()
		return err
	}
	bar.Done()
	l.file <- f
	return nil
}

// unpack waits for the layer's blob, and for a place, and unpacks it beside the store.
func (c *client) unpack(ctx context.Context, dir string, store *storage.Store, l *layer, places chan struct{}, progress *Progress) (err error) {
	select {
	case l.blob = <-l.file:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	places <- struct{}{}
	defer func() { <-places }()
	if l.blob == nil && l.parts == nil && store.CanStage() {
		// Where it cannot be copied, that is told when its turn comes.
		l.staged, _ = store.StageCopy(l.diffID)
	}
	if l.parts != nil {
		if err := l.assemble(ctx, store); err == nil || ctx.Err() != nil {
			close(l.unpacked)
			return context.Cause(ctx)
		} else {
			progress.Line("Downloading all of layer %s: %v", l.desc.Digest, err)
		}
		if l.blob, err = c.blob(ctx, dir, l.desc, func() bool { return false }, &Bar{}); err != nil {
			return err
		}
	}
	if l.blob != nil && store.CanStage() {
		l.staged, err = store.Stage(l.diffID, l.desc.Digest, l.desc.Size, while{ctx, storage.Rewindable(l.blob, l.blob)})
	}
	if err != nil {
		if ctx.Err() == nil {
			os.Remove(l.blob.Name()) // it is not what the image needs
		}
		return err
	}
	if l.staged != nil && l.blob != nil {
		l.staged.SetTOC(tocOf(l.desc, l.blob))
	}
	close(l.unpacked)
	return nil
}

// release removes the blobs when all layers are unpacked: none is waited for any more, and
// the store waits for the disk, which they need not get to.
func (l layerList) release() {
	for _, one := range l {
		select {
		case <-one.unpacked:
		default:
			return
		}
	}
	for _, one := range l {
		if one.staged != nil && one.blob != nil {
			os.Remove(one.blob.Name())
			one.blob.Close()
		}
	}
}

// assemble unpacks a layer of which only parts were downloaded.
func (l *layer) assemble(ctx context.Context, store *storage.Store) (err error) {
	defer l.parts.close()
	archive, err := l.parts.archive()
	if err != nil {
		return err
	}
	defer archive.Close()
	if l.staged, err = store.Stage(l.diffID, "", 0, while{ctx, archive}); err == nil {
		l.staged.SetTOC(l.parts.list)
	}
	return err
}

// while is a reader that ends with a context.
type while struct {
	ctx context.Context
	io.Reader
}

func (w while) Read(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	return w.Reader.Read(p)
}

// Rewind is what it reads from's, if that can.
func (w while) Rewind() error {
	if r, ok := w.Reader.(storage.Rewinder); ok {
		return r.Rewind()
	}
	return errors.ErrUnsupported
}

// discard lets go of what did not get into the store; blobs stay for the next try.
func (l layerList) discard() {
	for _, one := range l {
		select {
		case one.blob = <-one.file: // nobody was there to unpack it
		default:
		}
		if one.staged != nil {
			one.staged.Discard()
		}
		if one.blob != nil {
			one.blob.Close()
		}
	}
}

// put puts one layer into the store. The blob is then used up. A layer that was to be
// copied from podman's store but cannot be is downloaded after all.
func (c *client) put(ctx context.Context, dir string, store *storage.Store, l *layer, progress *Progress) (err error) {
	if l.blob == nil && l.staged == nil {
		_, err := store.CopyLayer(l.parent, l.diffID)
		if err == nil {
			return nil
		}
		progress.Line("Downloading layer %s: %v", l.desc.Digest, err)
		never := func() bool { return false }
		if l.blob, err = c.blob(ctx, dir, l.desc, never, &Bar{}); err != nil {
			return err
		}
	}
	if l.blob != nil {
		defer os.Remove(l.blob.Name())
	}
	if l.staged != nil {
		_, err = l.staged.Commit(l.parent)
	} else {
		_, err = store.PutLayer(l.parent, l.diffID, l.desc.Digest, l.desc.Size, l.blob)
	}
	return err
}

// Digest asks a registry what a reference means now: the digest of the image
// for that platform.
func Digest(ctx context.Context, ref string, o PullOptions) (digest.Digest, error) {
	sys := system(o.Access)
	names, err := candidates(sys, ref, o.Access)
	if err != nil {
		return "", err
	}
	var all error
	for _, c := range names {
		for _, src := range c.sources {
			client, err := connect(ctx, sys, src, o.Access, "pull")
			if err == nil {
				var d digest.Digest
				if d, err = client.digest(ctx, o.Platform); err == nil {
					return d, nil
				}
			}
			all = errors.Join(all, err)
		}
	}
	return "", fmt.Errorf("cannot look up image %q: %w", ref, all)
}

func (c *client) digest(ctx context.Context, platform image.Platform) (digest.Digest, error) {
	img, err := c.image(ctx, platform)
	if err != nil {
		return "", err
	}
	return digest.FromBytes(img.manifest), nil
}
