package cli

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
)

// Selection is how a command says which containers it concerns.
type Selection struct {
	All       bool     `short:"a" help:"All containers that it can be done to."`
	Latest    bool     `short:"l" help:"The container that was created last."`
	Filter    []string `sep:"none" short:"f" help:"Containers that match; see moss-ps(1)." placeholder:"KEY=VALUE"`
	Cidfile   []string `sep:"none" help:"Read the container's ID from this file." placeholder:"FILE"`
	Ignore    bool     `short:"i" help:"Say nothing of containers that are not there."`
	Container []string `arg:"" optional:"" help:"Name, ID, or the first digits of an ID."`
}

// checkSelection refuses contradictions, before anything is entered.
func (s *Selection) prepare() error {
	given := len(s.Container) + len(s.Cidfile)
	switch {
	case s.All && (given > 0 || s.Latest):
		return usagef("--all cannot be combined with names of containers or --latest")
	case s.Latest && given > 0:
		return usagef("--latest cannot be combined with names of containers")
	case len(s.Filter) > 0 && (given > 0 || s.Latest):
		return usagef("--filter cannot be combined with names of containers or --latest")
	case !s.All && !s.Latest && given == 0 && len(s.Filter) == 0:
		return usagef("the name or ID of a container is missing")
	}
	_, err := parseFilters("filter", s.Filter, containerFilters)
	return err
}

// containers finds the selected ones; with --all, those that can be acted on.
// Errors of names that are not there come with the rest.
func (s *Selection) containers(c *call, can func(container.View) bool) ([]*container.Container, error) {
	if !s.All && len(s.Filter) == 0 {
		return c.findAll(s.Container, s.Cidfile, s.Latest, s.Ignore)
	}
	filters, err := parseFilters("filter", s.Filter, containerFilters)
	if err != nil {
		return nil, err
	}
	rows, err := c.rows(filters)
	if err != nil {
		return nil, err
	}
	var out []*container.Container
	for _, row := range rows {
		if can(row.view) {
			out = append(out, row.container)
		}
	}
	return out, nil
}

// findAll finds containers by name and by ID file.
func (c *call) findAll(names, cidfiles []string, latest, ignore bool) (out []*container.Container, err error) {
	if latest {
		ctr, err := c.Engine.Latest()
		if err != nil {
			return nil, err
		}
		return []*container.Container{ctr}, nil
	}
	var errs []error
	for _, path := range cidfiles {
		data, err := os.ReadFile(path)
		if errors.Is(err, os.ErrNotExist) && ignore {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot read --cidfile: %w", err))
			continue
		}
		id, _, _ := strings.Cut(string(data), "\n")
		names = append(names, strings.TrimSpace(id))
	}
	for _, name := range names {
		ctr, err := c.Engine.Find(name)
		switch {
		case err == nil:
			out = append(out, ctr)
		case !ignore || !errors.Is(err, errdefs.ErrNotFound):
			errs = append(errs, err)
		}
	}
	return out, errors.Join(errs...)
}

// one finds a container by name, or the latest.
func (c *call) one(name string, latest bool) (*container.Container, error) {
	switch {
	case latest && name != "":
		return nil, usagef("--latest cannot be combined with the name of a container")
	case latest:
		return c.Engine.Latest()
	case name == "":
		return nil, usagef("the name or ID of a container is missing")
	}
	return c.Engine.Find(name)
}

// inParallel does something with each container, a few at a time, and prints
// what print makes of those for which it succeeded, in their order.
func (c *call) inParallel(list []*container.Container, do func(*container.Container) error, print func(*container.Container) string) error {
	errs := make([]error, len(list))
	gates := make([]chan struct{}, len(list))
	slots := make(chan struct{}, 16)
	for i := range list {
		gates[i] = make(chan struct{})
		// Each goroutine ends with its do.
		go func() {
			slots <- struct{}{}
			errs[i] = do(list[i])
			<-slots
			close(gates[i])
		}()
	}
	for i, ctr := range list {
		<-gates[i]
		if errs[i] == nil {
			fmt.Fprintln(c.Out, print(ctr))
		}
	}
	return errors.Join(errs...)
}

// nameGiven prints a container as the user called it: podman and Docker echo
// the argument.
func nameGiven(args []string) func(*container.Container) string {
	return func(ctr *container.Container) string {
		for _, arg := range args {
			if arg == ctr.Spec.Name || len(arg) >= 1 && strings.HasPrefix(ctr.Spec.ID, strings.ToLower(arg)) {
				return arg
			}
		}
		return ctr.Spec.ID
	}
}
