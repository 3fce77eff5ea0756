package cli

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"moss/cmd/moss/cli/syntax"
	"moss/storage/image"
)

// imageFilter is one --filter KEY=VALUE, or KEY!=VALUE, of images.
type imageFilter struct {
	key, value string
	not        bool
}

type imageFilters []imageFilter

// imageFilterKeys are the keys that select images.
var imageFilterKeys = []string{
	"after", "before", "containers", "dangling", "digest", "id", "intermediate", "label", "manifest", "readonly", "reference", "since", "until",
}

// parseImageFilters reads --filter values of images, of the known keys.
func parseImageFilters(values, known []string) (out imageFilters, err error) {
	for _, v := range values {
		key, value, ok := strings.Cut(v, "=")
		f := imageFilter{key: key, value: value}
		f.key, f.not = strings.CutSuffix(key, "!")
		switch {
		case !slices.Contains(known, f.key):
			err = fmt.Errorf("unknown key %q: want %s", f.key, strings.Join(known, ", "))
		case !ok || value == "":
			err = fmt.Errorf("want KEY=VALUE or KEY!=VALUE")
		default:
			err = f.check()
		}
		if err != nil {
			return nil, &flagError{Flag: "--filter", Value: v, Err: err}
		}
		out = append(out, f)
	}
	return out, nil
}

func (f imageFilter) check() (err error) {
	switch f.key {
	case "dangling", "intermediate", "manifest", "readonly":
		_, err = strconv.ParseBool(f.value)
	case "containers":
		if _, berr := strconv.ParseBool(f.value); berr != nil && f.value != "external" {
			err = fmt.Errorf("want true, false or external")
		}
	case "digest":
		if !strings.Contains(f.value, ":") {
			err = fmt.Errorf("want ALGORITHM:DIGITS, or their beginning")
		}
	case "until":
		_, err = syntax.Moment(f.value, time.Now())
	case "reference":
		_, err = path.Match(f.value, "")
	}
	return err
}

// has says whether a filter of that key is among them.
func (fs imageFilters) has(key string) bool {
	return slices.ContainsFunc(fs, func(f imageFilter) bool { return f.key == key })
}

// references are the patterns by which images are asked for.
func (fs imageFilters) references() (patterns []string) {
	for _, f := range fs {
		if f.key == "reference" && !f.not {
			patterns = append(patterns, f.value)
		}
	}
	return patterns
}

// apply returns the images of the set that pass. IDs and references of which one
// is to match are alternatives; all else adds up.
func (fs imageFilters) apply(s *imageSet) ([]*image.Image, error) {
	tests := make([]func(*image.Image) bool, len(fs))
	for i, f := range fs {
		test, err := f.test(s)
		if err != nil {
			return nil, err
		}
		tests[i] = test
	}
	var out []*image.Image
	for _, img := range s.all {
		alternatives := map[string]bool{}
		pass := true
		for i, f := range fs {
			ok := tests[i](img) != f.not
			if !f.not && (f.key == "id" || f.key == "reference" || f.key == "digest") {
				alternatives[f.key] = alternatives[f.key] || ok
			} else if !ok {
				pass = false
				break
			}
		}
		for _, ok := range alternatives {
			pass = pass && ok
		}
		if pass {
			out = append(out, img)
		}
	}
	return out, nil
}

// test makes the test that a filter is, without its negation.
func (f imageFilter) test(s *imageSet) (func(*image.Image) bool, error) {
	isTrue, _ := strconv.ParseBool(f.value)
	switch f.key {
	case "before", "after", "since":
		other, err := s.c.Engine.Images.Lookup(f.value)
		if err != nil {
			return nil, &flagError{Flag: "--filter", Value: f.key + "=" + f.value, Err: err}
		}
		if f.key == "before" {
			return func(i *image.Image) bool { return i.Created.Before(other.Created) }, nil
		}
		return func(i *image.Image) bool { return i.Created.After(other.Created) }, nil
	case "until":
		t, err := syntax.Moment(f.value, time.Now())
		return func(i *image.Image) bool { return i.Created.Before(t) }, err
	case "containers":
		if f.value == "external" {
			external := map[string]bool{}
			for _, c := range s.c.Engine.External() {
				external[c.Spec.Image.ID] = true
			}
			return func(i *image.Image) bool { return external[i.ID] }, nil
		}
		return func(i *image.Image) bool { return isTrue == (len(s.users(i.ID)) > 0) }, nil
	}
	return map[string]func(*image.Image) bool{
		"id":           func(i *image.Image) bool { return strings.HasPrefix(i.ID, strings.TrimPrefix(f.value, "sha256:")) },
		"label":        func(i *image.Image) bool { return hasLabel(i.Config.Labels, f.value) },
		"dangling":     func(i *image.Image) bool { return isTrue == i.Dangling(s.all) },
		"intermediate": func(i *image.Image) bool { return isTrue == i.Intermediate(s.all) },
		"manifest":     func(i *image.Image) bool { return isTrue == i.IsList() },
		"readonly":     func(i *image.Image) bool { return isTrue == i.ReadOnly },
		"reference":    func(i *image.Image) bool { return len(matching(i, f.value)) > 0 },
		"digest": func(i *image.Image) bool {
			return slices.ContainsFunc(i.Digests, func(d string) bool { return strings.HasPrefix(d, f.value) })
		},
	}[f.key], nil
}
