package cli

import (
	"errors"

	"moss/slirp"
	"moss/storage/image"
	"moss/systemd"
	"moss/systemd/cgroup"
)

// hints are the lines that tell the user what to do about an error. Libraries
// know only a few cases themselves, as a method Hint; the rest is here.
func hints(err error) []string {
	var lacking *cgroup.NotDelegatedError
	if errors.As(err, &lacking) {
		out := []string{lacking.Hint(), lacking.Meanwhile()}
		if dropIn := lacking.DropIn(); dropIn != "" {
			out = append([]string{dropIn}, out...)
		}
		return out
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		if hint := hinted.Hint(); hint != "" {
			return []string{hint}
		}
		return nil
	}
	var unit *systemd.UnitError
	switch {
	case errors.As(err, &unit) && unit.Verb != "stop":
		return []string{"'moss unit logs " + unit.Name + "' shows what it said"}
	case errors.Is(err, image.ErrNotFound):
		return []string{"'moss images' lists the images, 'moss pull NAME' gets one"}
	case isNotFound(err):
		return hintNotFound(err)
	}
	return nil
}

func hintNotFound(err error) []string {
	var named *notFoundError
	if errors.As(err, &named) {
		return []string{"'" + named.list + "' lists what there is"}
	}
	if errors.Is(err, slirp.ErrNoNetwork) {
		return []string{"'moss network ls' lists the networks"}
	}
	return []string{"'moss ps --all' lists the containers"}
}

// notFoundError is a volume or a network that is not there.
type notFoundError struct {
	err  error
	list string // the command that lists them
}

func (e *notFoundError) Error() string { return e.err.Error() }
func (e *notFoundError) Unwrap() error { return e.err }
