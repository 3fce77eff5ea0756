package rootless

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"moss/record"
	"moss/rootless/container"
	"moss/slirp"
)

// AllowLabel is the label that says what --allow-out does, with commas, where there is
// no such flag; an image's does not count.
const AllowLabel = "io.moss.allow-out"

// AllowAny is the word for no allow-list.
const AllowAny = "any"

// deniedFile, in a container's run directory, has what its allow-list has refused.
const deniedFile = "denied.json"

// AllowList reads an allow-list as it was given: entries, or one of the words "none"
// and "any", of which the latter is nil.
func AllowList(given []string) ([]string, error) {
	var list []string
	for _, g := range given {
		for s := range strings.SplitSeq(g, ",") {
			if s = strings.TrimSpace(s); s == "" {
				continue
			}
			if s != slirp.AllowNone && s != AllowAny {
				if _, err := slirp.ParseAllowed(s); err != nil {
					return nil, fmt.Errorf("%q: %w", s, err)
				}
			}
			list = append(list, s)
		}
	}
	for _, word := range []string{slirp.AllowNone, AllowAny} {
		if slices.Contains(list, word) && len(list) > 1 {
			return nil, fmt.Errorf("%q cannot be combined with others", word)
		}
	}
	switch {
	case len(list) == 0 && len(given) > 0:
		return nil, fmt.Errorf("the list is empty: %q is nothing, %q is everything", slirp.AllowNone, AllowAny)
	case len(list) == 1 && list[0] == AllowAny:
		return nil, nil
	}
	return list, nil
}

// CheckAllow says why a container of this network mode cannot have an allow-list.
func CheckAllow(mode string) error {
	kind, other, _ := strings.Cut(mode, ":")
	switch kind {
	case "", "bridge":
		return nil
	case "private":
		if kind, options, has := strings.Cut(other, ","); has {
			return fmt.Errorf("its packets pass a bridge before %s, which has no place for the options %q", cmp.Or(kind, "they leave"), options)
		}
		return nil
	case "none":
		return errors.New("it has no network: there is nothing to allow")
	case "host":
		return errors.New("it is in the host's network, which is not moss's to guard")
	case "container":
		return errors.New("its network is that of container " + other + ": give that one the list")
	}
	return errors.New("its network is not moss's: " + mode)
}

// labelled takes the allow-list of the label where there is no other.
func labelled(spec *container.Spec) error {
	text, ok := spec.Labels[AllowLabel]
	if ok && len(spec.Network.AllowOut) == 0 {
		list, err := AllowList([]string{text})
		if err != nil {
			return fmt.Errorf("cannot use label %q: %w: %w", AllowLabel, err, errdefs.ErrInvalidArgument)
		}
		spec.Network.AllowOut = list
	}
	if len(spec.Network.AllowOut) == 0 {
		return nil
	}
	if err := CheckAllow(spec.Network.Mode); err != nil {
		return fmt.Errorf("cannot hold the container to an allow-list: %w: %w", err, errdefs.ErrInvalidArgument)
	}
	return nil
}

// asked is what moss-net is asked for; nil when there is nothing to connect.
func asked(c *container.Container) *slirp.ConnectRequest {
	r := request(&c.Spec)
	if r != nil && len(r.Allow) > 0 {
		r.Denied = filepath.Join(c.RunDir, deniedFile)
	}
	return r
}

// ChangeAllow gives a Spec another allow-list. Update carries it out.
func (e *Engine) ChangeAllow(spec *container.Spec, list []string) error {
	if err := CheckAllow(spec.Network.Mode); err != nil {
		return fmt.Errorf("cannot hold container %q to an allow-list: %w: %w", spec.Name, err, errdefs.ErrFailedPrecondition)
	}
	spec.Network.AllowOut = list
	return nil
}

// updateAllow holds a container that runs to another list, and returns how it is
// connected then; nil if it is the same, or it does not run.
func (e *Engine) updateAllow(ctx context.Context, c *container.Container, was *container.Spec, undo *rollback) (*slirp.Status, error) {
	if slices.Equal(c.Spec.Network.AllowOut, was.Network.AllowOut) || c.Look().Live == nil {
		return nil, nil
	}
	set := func(ctx context.Context, spec *container.Spec) (*slirp.Status, error) {
		return slirp.SetAllow(ctx, e.slirpDirs(), slirp.AllowRequest{
			Container: spec.ID, Allow: spec.Network.AllowOut, Denied: filepath.Join(c.RunDir, deniedFile)})
	}
	return setOrUndo(ctx, set, &c.Spec, was, undo)
}

// Refused are what the container's allow-list has refused in its last run.
func (e *Engine) Refused(c *container.Container) ([]slirp.Refusal, error) {
	var list []slirp.Refusal
	_, err := record.Read(filepath.Join(c.RunDir, deniedFile), &list)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot read what container %q was refused: %w", c.Spec.Name, err)
	}
	if len(list) == 0 && len(c.Spec.Network.AllowOut) == 0 {
		return nil, fmt.Errorf("cannot show what container %q was refused: it has no allow-list (see --allow-out): %w", c.Spec.Name, errdefs.ErrFailedPrecondition)
	}
	return list, nil
}
