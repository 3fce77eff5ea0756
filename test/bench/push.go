package main

import (
	"os"
	"path/filepath"
)

// pushRows: the image of ten layers and 1 GB to a registry that is empty, and
// under another name to one that has it.
func (b *bench) pushRows() []row {
	var address string
	var end func()
	fresh := func() (err error) {
		if end != nil {
			end()
			end = nil
		}
		dir := filepath.Join(b.dir, "pushed")
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		address, err = b.startRegistryIn(dir)
		if n := len(b.ends); err == nil {
			end, b.ends = b.ends[n-1], b.ends[:n-1]
		}
		return err
	}
	have := map[string]func(int) error{}
	for _, p := range []string{"moss", "podman"} {
		have[p] = once(func() error {
			ref, err := b.large()
			if err != nil {
				return err
			}
			if err := b.spawn(p, "pull", "-q", "--tls-verify=false", ref); err != nil {
				return err
			}
			return b.spawn(p, "tag", ref, "localhost/pushed")
		})
	}
	push := func(p, to string) error {
		return b.spawn(p, "push", "-q", "--tls-verify=false", "localhost/pushed", address+"/"+to)
	}
	first := func(p string) side {
		return side{name: p, before: func(i int) error {
			if err := have[p](i); err != nil {
				return err
			}
			return fresh()
		}, timed: func(int) error { return push(p, "pushed") }, after: func(int) error { end(); end = nil; return nil }}
	}
	again := func(p string) side {
		s := first(p)
		ready := s.before
		s.before = func(i int) error {
			if err := ready(i); err != nil {
				return err
			}
			return push(p, "pushed")
		}
		s.timed = func(int) error { return push(p, "pushed:again") }
		return s
	}
	return []row{
		{name: "push, 10 layers, 1 GB", must: 0.5, stretch: 0.4, pairs: 3, moss: first("moss"), other: first("podman")},
		{name: "push again, under another tag", must: 0.5, stretch: 0.4, pairs: 3, moss: again("moss"), other: again("podman")},
	}
}
