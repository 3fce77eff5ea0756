package rootless

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/storage/image"
	"moss/storage/usage"
)

// leftover is something that a crash left and no record knows.
type leftover struct {
	kind, path string
	remove     func() error
}

// leftovers finds what crashes have left of containers and volumes. What is half
// made is left alone until it is staleAge old.
func (e *Engine) leftovers() []leftover {
	var all []leftover
	add := func(kind, path string, remove func() error) { all = append(all, leftover{kind, path, remove}) }
	tree := func(path string) func() error { return func() error { return record.RemoveTree(path) } }
	file := func(path string) func() error { return func() error { return os.Remove(path) } }

	ids, _ := e.ids()
	hasRecord := func(prefix string) bool {
		return slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, prefix) })
	}
	for _, path := range entriesOf(e.Paths.Names()) {
		switch name := filepath.Base(path); {
		case !olderThan(path, staleAge):
		case strings.HasPrefix(name, "."):
			add("reserved name", path, file(path))
		default:
			id, err := os.ReadFile(path)
			if err == nil && len(id) != 64 && e.named(name) == nil || err == nil && len(id) == 64 && !lexists(e.Paths.Container(string(id))) {
				add("name of no container", path, file(path))
			}
		}
	}
	for _, path := range entriesOf(e.Paths.Trash()) {
		if olderThan(path, staleAge) {
			add("trash", path, tree(path))
		}
	}
	for _, path := range entriesOf(e.Paths.RunContainers()) {
		if !hasRecord(filepath.Base(path)) && olderThan(path, staleAge) {
			add("run directory", path, tree(path))
		}
	}
	for _, path := range entriesOf(e.Paths.Mounts()) {
		of := strings.TrimPrefix(filepath.Base(path), "lower-")
		if len(of) == 12 && !hasRecord(of) {
			add("mount", path, func() error { e.dropMount(of); return nil })
		}
	}
	for _, id := range ids {
		if dir := e.Paths.Container(id); e.halfMade(id) && olderThan(dir, staleAge) {
			add("half-made container", dir, tree(dir))
		}
	}
	for _, path := range entriesOf(e.Volumes.All()) {
		if strings.HasPrefix(filepath.Base(path), ".new-") && olderThan(path, staleAge) {
			add("half-made volume", path, tree(path))
		}
	}
	if unlock, err := e.lockStore(context.Background(), 0); err == nil { // nobody is moving it
		all = append(all, e.moved()...)
		unlock()
	}
	return append(all, e.leftBeside(ids)...)
}

// leftBeside finds what moss shell left whose moss was killed, and half-written
// records of containers.
func (e *Engine) leftBeside(ids []string) (all []leftover) {
	for _, path := range entriesOf(filepath.Join(e.Paths.Run, "shell")) {
		if f, err := os.Open(path); err == nil {
			if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
				all = append(all, leftover{"shell", path, func() error { return record.RemoveTree(path) }})
			}
			f.Close()
		}
	}
	for _, id := range ids {
		for _, path := range entriesOf(e.Paths.Container(id)) {
			if name := filepath.Base(path); strings.HasPrefix(name, "."+container.SpecFile+".") && olderThan(path, staleAge) {
				all = append(all, leftover{"half-written record", path, func() error { return os.Remove(path) }})
			}
		}
	}
	return all
}

// entriesOf lists the paths in a directory; one that cannot be read has none.
func entriesOf(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	paths := make([]string, len(entries))
	for i, entry := range entries {
		paths[i] = filepath.Join(dir, entry.Name())
	}
	return paths
}

// CollectOptions of Collect.
type CollectOptions struct {
	DryRun bool
	All    bool // also what waits for the next try of a pull
}

// Collect finds what no record knows, of images, containers and volumes, and removes
// it unless it is to be looked at only. Containers run and images come meanwhile.
func (e *Engine) Collect(ctx context.Context, o CollectOptions) ([]image.Garbage, error) {
	var found []image.Garbage
	var all error
	for _, left := range e.leftovers() {
		n, _ := new(usage.Meter).Tree(left.path)
		found = append(found, image.Garbage{Kind: left.kind, Path: left.path, Bytes: n})
		if o.DryRun {
			continue
		}
		if err := left.remove(); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("cannot remove %q: %w", left.path, err))
		}
		if err := ctx.Err(); err != nil {
			return found, errors.Join(all, err)
		}
	}
	var images []image.Garbage
	err := e.askImages(ctx, image.Request{Collect: &image.CollectRequest{DryRun: o.DryRun, All: o.All}}, &images)
	return append(found, images...), errors.Join(all, err)
}

// askImages has moss-image answer in JSON.
func (e *Engine) askImages(ctx context.Context, req image.Request, answer any) error {
	var out bytes.Buffer
	if err := e.ImageHelper(ctx, req, &out); err != nil {
		return err
	}
	if err := json.Unmarshal(out.Bytes(), answer); err != nil {
		return fmt.Errorf("cannot read what moss-image answers: %w", err)
	}
	return nil
}
