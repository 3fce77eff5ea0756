package rootless

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"moss/rootless/container"
	"moss/rootless/event"
	"moss/storage/image"
)

// The labels by which a container asks to be updated: podman's, and one of moss's own.
const (
	AutoUpdateLabel    = "io.containers.autoupdate"          // registry (or image), local, disabled
	autoUpdateAuth     = "io.containers.autoupdate.authfile" // as --authfile
	autoUpdateOwnLabel = "moss.autoupdate"                   // notify: an update is told of, and left to somebody
)

// AutoUpdateOptions of AutoUpdate.
type AutoUpdateOptions struct {
	AuthFile  string
	TLSVerify *bool
	DryRun    bool // look only
	RollBack  bool // go back to the old image where a container does not get well
	Snapshot  bool // keep what its volumes held, for that
	// Stay is how long a container without a health check has to run to be well.
	Stay time.Duration
	// Keep is how many images a name has meant before stay; less than none: all of them.
	Keep int
}

// What has become of a container.
const (
	UpdatedTrue    = "true"
	UpdatedFalse   = "false"
	UpdatedPending = "pending" // there is an update
	UpdatedFailed  = "failed"
	UpdatedBack    = "rolled back"
)

// AutoUpdate is what was done about one container.
type AutoUpdate struct {
	Unit        string // of the user's service manager; "" where the container is of none
	ContainerID string
	Container   string // its name
	Image       string // by the name that it was created with
	Policy      string
	Updated     string
	NotifyOnly  bool // by its label
	Err         error

	c *container.Container
}

// healthPatience is how long a new container may take to become healthy, besides its
// start period.
const healthPatience = 5 * time.Minute

// AutoUpdate looks for newer images of the containers that run and ask for it, and has
// them run with those: those of units by a restart of the unit, the others by being
// made anew. The error is of what concerns all; that of each is in its row.
func (e *Engine) AutoUpdate(ctx context.Context, o AutoUpdateOptions) ([]*AutoUpdate, error) {
	if !o.DryRun {
		unlock, err := e.lockUpdates(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if err := e.resumeUpdates(ctx); err != nil {
			return nil, err
		}
	}
	rows, err := e.autoUpdates()
	if err != nil || len(rows) == 0 {
		return rows, err
	}
	if err := e.findNewer(ctx, rows, o); err != nil {
		return rows, err
	}
	done := map[string]bool{}
	pulled := map[string]error{}
	backFor := map[string]string{} // images, and the container for which they were rolled back
	for _, r := range rows {
		if r.Updated != UpdatedPending || o.DryRun || r.NotifyOnly || done[cmp.Or(r.Unit, r.ContainerID)] {
			continue
		}
		done[cmp.Or(r.Unit, r.ContainerID)] = true
		group := []*AutoUpdate{r}
		if r.Unit != "" {
			group = slices.DeleteFunc(slices.Clone(rows), func(other *AutoUpdate) bool {
				return other.Unit != r.Unit || other.Updated != UpdatedPending || other.NotifyOnly
			})
		}
		for _, r := range group {
			if other := backFor[r.Image]; other != "" {
				r.fail(fmt.Errorf("its image %q was rolled back for container %q", r.Image, other))
			}
		}
		e.updateGroup(ctx, group, pulled, o)
		for _, r := range group {
			if r.Updated == UpdatedBack {
				backFor[r.Image] = r.Container
			}
		}
	}
	return rows, nil
}

// autoUpdates are the containers that run and have the label.
func (e *Engine) autoUpdates() (rows []*AutoUpdate, err error) {
	all, err := e.All()
	if err != nil {
		return nil, err
	}
	for _, c := range all {
		policy := c.Spec.Labels[AutoUpdateLabel]
		if policy == "" || policy == "disabled" {
			continue
		}
		if v := c.Look(); v.Status != container.StatusRunning && !v.Waiting() {
			continue
		}
		r := &AutoUpdate{
			Unit: c.Spec.Labels[UnitLabel], ContainerID: c.Spec.ID, Container: c.Spec.Name, Image: c.Spec.Image.Name, Policy: policy,
			Updated: UpdatedFalse, NotifyOnly: c.Spec.Labels[autoUpdateOwnLabel] == "notify", c: c,
		}
		rows = append(rows, r)
		switch policy {
		case "image", "registry":
			r.Policy = "registry"
		case "local":
		default:
			r.fail(fmt.Errorf("label %s is %q: want registry, local or disabled", AutoUpdateLabel, policy))
			continue
		}
		ref, err := image.Parse(r.Image)
		switch {
		case c.Spec.Rootfs.Path != "":
			r.fail(errors.New("it has a --rootfs and no image"))
		case err != nil || strings.HasPrefix(c.Spec.Image.ID, strings.TrimPrefix(r.Image, "sha256:")):
			r.fail(fmt.Errorf("its image %q is no name that could mean another image", r.Image))
		case ref.Digest != "":
			r.fail(fmt.Errorf("its image %q has a digest: it can never be another", r.Image))
		}
	}
	slices.SortFunc(rows, func(a, b *AutoUpdate) int {
		return cmp.Or(strings.Compare(a.Unit, b.Unit), strings.Compare(a.Container, b.Container))
	})
	return rows, nil
}

func (r *AutoUpdate) fail(err error) {
	r.Updated, r.Err = UpdatedFailed, fmt.Errorf("cannot update container %q: %w", r.Container, err)
}

// findNewer marks those for which there is another image. The registries are asked at
// once, by one moss-image.
func (e *Engine) findNewer(ctx context.Context, rows []*AutoUpdate, o AutoUpdateOptions) error {
	if err := e.FreshImages(ctx); err != nil {
		return fmt.Errorf("cannot read the image index: %w", err)
	}
	var asked []*AutoUpdate
	req := &image.NewerRequest{TLSVerify: o.TLSVerify}
	for _, r := range rows {
		switch {
		case r.Err != nil:
		case r.Policy == "registry":
			asked = append(asked, r)
			req.Images = append(req.Images, image.NewerImage{
				Reference: r.Image, ID: r.c.Spec.Image.ID, Platform: r.c.Spec.Image.Platform, AuthFile: r.authFile(o),
			})
		default:
			if img, err := e.Image(ctx, r.Image); err != nil {
				r.fail(err)
			} else if img.ID != r.c.Spec.Image.ID {
				r.Updated = UpdatedPending
			}
		}
	}
	if len(asked) == 0 {
		return nil
	}
	var answers []image.NewerAnswer
	if err := e.askImages(ctx, image.Request{Newer: req}, &answers); err != nil {
		return err
	}
	if len(answers) != len(asked) {
		return fmt.Errorf("cannot look for newer images: moss-image answers %d questions of %d", len(answers), len(asked))
	}
	for i, a := range answers {
		if a.Error != "" {
			asked[i].fail(errors.New(a.Error))
		} else if a.Newer {
			asked[i].Updated = UpdatedPending
		}
	}
	return nil
}

func (r *AutoUpdate) authFile(o AutoUpdateOptions) string {
	return cmp.Or(r.c.Spec.Labels[autoUpdateAuth], o.AuthFile)
}

// updateGroup updates the containers of one unit, or one of none.
func (e *Engine) updateGroup(ctx context.Context, group []*AutoUpdate, pulled map[string]error, o AutoUpdateOptions) {
	for _, r := range group {
		if r.Policy != "registry" || r.Err != nil {
			continue
		}
		key := r.Image + " " + r.authFile(o) + " " + r.c.Spec.Image.Platform
		err, before := pulled[key]
		if !before {
			err = e.ImageHelper(ctx, image.Request{Pull: &image.PullRequest{
				References: []string{r.Image}, Platform: r.c.Spec.Image.Platform, Policy: "always", TLSVerify: o.TLSVerify,
				AuthFile: r.authFile(o), Quiet: true, Progress: "stderr",
			}}, io.Discard)
			pulled[key] = err
		}
		if err != nil {
			r.fail(fmt.Errorf("cannot pull image %q: %w", r.Image, err))
		} else if img, err := e.Image(ctx, r.Image); err == nil && img.ID == r.c.Spec.Image.ID {
			r.Updated = UpdatedFalse // only its archive is another: it was pushed from here
		}
	}
	group = slices.DeleteFunc(slices.Clone(group), func(r *AutoUpdate) bool { return r.Updated != UpdatedPending })
	if len(group) == 0 {
		return
	}
	var err error
	back := false
	if group[0].Unit != "" {
		back, err = e.updateUnit(ctx, group, o)
	} else {
		back, err = e.updateAlone(ctx, group[0], o)
	}
	for _, r := range group {
		switch {
		case err == nil:
			r.Updated = UpdatedTrue
			e.note(r.c, event.AutoUpdate)
			if kerr := e.keepImages(ctx, r.Image, o.Keep); kerr != nil {
				r.Err = fmt.Errorf("cannot remove old images of %q: %w", r.Image, kerr)
			}
		default:
			if r.fail(err); back {
				r.Updated = UpdatedBack
			}
		}
	}
}

// well waits until a new container is as it should be.
func (e *Engine) well(ctx context.Context, name string, stay time.Duration) error {
	c, err := e.Find(name)
	if err != nil {
		return err
	}
	v := c.Look()
	if v.Waiting() { // nobody has wanted anything of it
		return nil
	}
	limit, conditions := stay, []string{"exited"}
	if h := c.Spec.Health; !h.Disabled() {
		limit = healthPatience + h.StartPeriod
		conditions = append(conditions, container.Healthy, container.HealthUnhealthy)
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	code, err := e.Wait(limited, c, conditions, 100*time.Millisecond)
	v = c.Look()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case limited.Err() != nil && len(conditions) > 1:
		return fmt.Errorf("it has not become healthy in %v", limit)
	case limited.Err() != nil && v.Live != nil && v.Live.Restarts > 0:
		return fmt.Errorf("its program ends again and again: it was restarted %d times", v.Live.Restarts)
	case limited.Err() != nil && v.Live != nil:
		return nil
	case err != nil:
		return err
	case v.Live == nil && v.Last == nil:
		return errors.New("it has ended and is removed")
	case code >= 0 || v.Live == nil:
		return fmt.Errorf("its program has ended with exit code %d", exitCode(v))
	}
	if state, err := Health(c, v); err != nil || state == nil || state.Status != container.Healthy {
		return errors.Join(errors.New("it is unhealthy"), err)
	}
	return nil
}

// keepImages removes the images that a name has meant, but for the last few and those
// that are used or have another name.
func (e *Engine) keepImages(ctx context.Context, ref string, keep int) error {
	if keep < 0 {
		return nil
	}
	if err := e.FreshImages(ctx); err != nil {
		return err
	}
	name, err := e.Images.LogName(ref)
	if err != nil {
		return err
	}
	log, err := e.Images.Log(name)
	if err != nil {
		return err
	}
	using, err := e.UsingImages()
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	removed := false
	for _, entry := range slices.Backward(log) {
		if entry.ID == "" || seen[entry.ID] {
			continue
		}
		seen[entry.ID] = true
		if len(seen)-1 <= keep || len(using[entry.ID]) > 0 { // the first is what it means now
			continue
		}
		img, err := e.Images.Lookup("sha256:" + entry.ID)
		if err != nil || len(img.Names) > 0 {
			continue
		}
		if err := e.RemoveImage(ctx, img.ID, RemoveImageOptions{Using: using}, func(verb, what string) {}); err != nil {
			return err
		}
		removed = true
	}
	if removed {
		return e.SweepImages()
	}
	return nil
}
