package cli

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless/container"
	"moss/storage/image"
)

// filter is one --filter KEY=VALUE; values of one key are alternatives.
type filters map[string][]string

// parseFilters reads --filter values and refuses keys that are not known.
func parseFilters(flag string, values, known []string) (filters, error) {
	out := filters{}
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		bad := func(format string, args ...any) error {
			return &flagError{Flag: "--" + flag, Value: v, Err: fmt.Errorf(format, args...)}
		}
		if negated, isNot := strings.CutSuffix(key, "!"); isNot && negated == "label" {
			key = "label!"
		}
		switch {
		case !slices.Contains(known, key):
			return nil, bad("unknown key %q: want %s", key, strings.Join(known, ", "))
		case !ok || value == "":
			return nil, bad("want KEY=VALUE")
		}
		if err := checkFilter(key, value); err != nil {
			return nil, bad("%w", err)
		}
		out[key] = append(out[key], value)
	}
	return out, nil
}

// containerFilters are the keys that select containers.
var containerFilters = []string{
	"id", "name", "label", "label!", "status", "exited", "ancestor", "before", "since", "volume", "network", "until",
	"pod", "health", "restart-policy", "command", "should-start-on-boot",
}

func checkFilter(key, value string) (err error) {
	switch key {
	case "name", "command":
		_, err = regexp.Compile(value)
	case "health":
		err = oneOf("starting", "healthy", "unhealthy", "none")(value)
	case "restart-policy":
		err = oneOf("no", "on-failure", "always", "unless-stopped")(value)
	case "should-start-on-boot":
		_, err = strconv.ParseBool(value)
	case "exited":
		if _, err = strconv.Atoi(value); err != nil {
			err = fmt.Errorf("%q is not an exit code", value)
		}
	case "status":
		err = oneOf("created", "configured", "initialized", "running", "paused", "restarting", "exited", "stopped", "removing")(value)
	case "until":
		_, err = syntax.Moment(value, time.Now())
	case "dangling", "readonly", "anonymous":
		_, err = strconv.ParseBool(value)
	}
	return err
}

// any says whether one of the key's values is accepted, or none was given.
func (f filters) any(key string, accept func(value string) bool) bool {
	values, given := f[key]
	return !given || slices.ContainsFunc(values, accept)
}

// all says whether every one of the key's values is accepted: labels add up.
func (f filters) all(key string, accept func(value string) bool) bool {
	return !slices.ContainsFunc(f[key], func(v string) bool { return !accept(v) })
}

// hasLabel matches KEY or KEY=VALUE, either with * as a wildcard.
func hasLabel(labels map[string]string, want string) bool {
	key, value, hasValue := strings.Cut(want, "=")
	for k, v := range labels {
		keyOK, _ := path.Match(key, k)
		if (k == key || keyOK) && (!hasValue || v == value) {
			return true
		}
	}
	return false
}

// matches says whether a container passes the filters. Those that name other
// containers have been resolved to times by resolve.
func (f filters) matches(r *row, at moments, images *imageCache) bool {
	s := &r.container.Spec
	return f.any("id", func(v string) bool { return strings.HasPrefix(s.ID, strings.ToLower(v)) }) &&
		f.any("name", func(v string) bool { return matchesName(v, s.Name) }) &&
		f.all("label", func(v string) bool { return hasLabel(s.Labels, v) }) &&
		f.all("label!", func(v string) bool { return !hasLabel(s.Labels, v) }) &&
		f.any("status", func(v string) bool { return sameStatus(v, r.view.Status) }) &&
		f.any("exited", func(v string) bool { return r.hasExited() && v == strconv.Itoa(r.view.Last.ExitCode) }) &&
		f.any("ancestor", func(v string) bool { return at.images[v][s.Image.ID] || s.Image.Name == v }) &&
		f.any("pod", func(v string) bool { return s.Pod != "" && v == s.Pod }) &&
		f.any("health", func(v string) bool { return v == or(r.health(), "none") }) &&
		f.any("restart-policy", func(v string) bool { return v == or(s.Lifecycle.Restart, "no") }) &&
		f.any("command", func(v string) bool { return matchesName(v, r.program(images)) }) &&
		f.any("should-start-on-boot", func(v string) bool { want, _ := strconv.ParseBool(v); return want == r.startsOnBoot() }) &&
		f.any("volume", func(v string) bool { return usesVolume(s, v) }) &&
		f.any("network", func(v string) bool { return slices.Contains(networkNames(s), v) || s.Network.Mode == v }) &&
		(at.before.IsZero() || s.Created.Before(at.before)) &&
		(at.since.IsZero() || s.Created.After(at.since))
}

func matchesName(expression, name string) bool {
	re, err := regexp.Compile(expression)
	return err == nil && re.MatchString(name)
}

func sameStatus(word string, status container.Status) bool {
	return word == string(status) || word == "stopped" && status == container.StatusExited ||
		word == "configured" && status == container.StatusCreated
}

func usesVolume(s *container.Spec, v string) bool {
	return slices.ContainsFunc(s.Rootfs.Mounts, func(m container.Mount) bool {
		return m.Type != "tmpfs" && (m.Source == v || m.Target == v)
	})
}

// moments are filters resolved to points in time and image IDs.
type moments struct {
	before, since time.Time
	images        map[string]map[string]bool
}

// resolve looks up what filters name.
func (f filters) resolve(c *call) (at moments, err error) {
	created := func(key string, pick func(a, b time.Time) time.Time, out *time.Time) {
		for _, name := range f[key] {
			ctr, ferr := c.Engine.Find(name)
			if ferr != nil {
				err = errors.Join(err, ferr)
				continue
			}
			*out = pick(*out, ctr.Spec.Created)
		}
	}
	created("before", earlier, &at.before)
	created("since", later, &at.since)
	for _, v := range f["until"] {
		if t, terr := syntax.Moment(v, time.Now()); terr == nil {
			at.before = earlier(at.before, t)
		}
	}
	if values := f["ancestor"]; len(values) > 0 {
		at.images = map[string]map[string]bool{}
		for _, v := range values {
			at.images[v] = c.descendants(v)
		}
	}
	return at, err
}

func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// descendants are the image that name means, and those made from it: their
// layers begin with its layers.
func (c *call) descendants(name string) map[string]bool {
	ids := map[string]bool{}
	base, err := c.Engine.Images.Lookup(name)
	if err == nil {
		base, err = c.Engine.Images.ForPlatform(base, image.HostPlatform())
	}
	if err == nil {
		ids[base.ID] = true
		all, err := c.Engine.Images.List()
		if err != nil || len(base.DiffIDs) == 0 {
			return ids
		}
		for _, img := range all {
			if len(img.DiffIDs) >= len(base.DiffIDs) && slices.Equal(img.DiffIDs[:len(base.DiffIDs)], base.DiffIDs) {
				ids[img.ID] = true
			}
		}
	}
	return ids
}

// isNotFound knows errdefs.ErrNotFound and errors of packages that do not import it.
func isNotFound(err error) bool { return errdefs.IsNotFound(err) }
