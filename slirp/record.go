package slirp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"moss/record"
)

// DefaultName is the network of a container that asks for none.
const DefaultName = "moss"

// DefaultMTU is that of every link of moss whose network does not say
// otherwise: the largest that user-mode stacks take.
const DefaultMTU = 65520

// Load reads the record of a network. The error is fs.ErrNotExist for one that
// does not exist.
func Load(d Dirs, name string) (*Network, error) {
	text, err := os.ReadFile(recordPath(d, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot load network %q: %w", name, errNoNetwork{})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot load network %q: %w", name, err)
	}
	var n Network
	if err := record.Decode(text, &n); err != nil {
		return nil, fmt.Errorf("cannot load network %q: %w", name, err)
	}
	return &n, nil
}

// ErrNoNetwork says that a network has no record.
var ErrNoNetwork error = errNoNetwork{}

// errNoNetwork is fs.ErrNotExist in words that the user knows.
type errNoNetwork struct{}

func (errNoNetwork) Error() string        { return "no such network" }
func (errNoNetwork) Is(target error) bool { return target == fs.ErrNotExist }

// NotFound has package errdefs know it.
func (errNoNetwork) NotFound() {}

// Save writes the record of a network, new or changed.
func Save(d Dirs, n *Network) error {
	if err := save(d, n, os.Rename); err != nil {
		return fmt.Errorf("cannot save network %q: %w", n.Name, err)
	}
	return nil
}

// List reads the records of all networks, by name.
func List(d Dirs) ([]Network, error) {
	entries, err := os.ReadDir(d.Networks)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list networks: %w", err)
	}
	var all []Network
	for _, entry := range entries {
		name, isRecord := strings.CutSuffix(entry.Name(), ".json")
		if !isRecord || strings.HasPrefix(name, ".") {
			continue
		}
		n, err := Load(d, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *n)
	}
	return all, nil
}

func recordPath(d Dirs, name string) string { return filepath.Join(d.Networks, name+".json") }

// save writes n beside its place and lets put move it there.
func save(d Dirs, n *Network, put func(temp, path string) error) error {
	if n.Name == "" || strings.HasPrefix(n.Name, ".") || strings.Contains(n.Name, "/") {
		return fs.ErrInvalid
	}
	text, err := record.Encode(n)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.Networks, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(d.Networks, ".new-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(append(text, '\n'))
	if err = errors.Join(err, temp.Close()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return put(temp.Name(), recordPath(d, n.Name))
}
