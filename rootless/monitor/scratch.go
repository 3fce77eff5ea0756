package monitor

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/record"
)

// Scratch is what a container writes over a mount that it sees changed for one
// run only (option O): the upper and work directories of an overlay.
type Scratch struct {
	Dir      string // in the container's directory
	UID, GID int    // of the top, as what lies below it
	Mode     uint32
}

// Upper and Work are the overlay's directories.
func (s Scratch) Upper() string { return filepath.Join(s.Dir, "upper") }

// Work is the directory that overlayfs works in.
func (s Scratch) Work() string { return filepath.Join(s.Dir, "work") }

// Make makes both anew, and empty.
func (s Scratch) Make() error {
	if err := s.Remove(); err != nil {
		return err
	}
	for _, dir := range []string{filepath.Dir(s.Dir), s.Dir, s.Work(), s.Upper()} {
		if err := unix.Mkdir(dir, 0o700); err != nil && err != unix.EEXIST {
			return &scratchError{dir, err}
		}
	}
	if err := unix.Chown(s.Upper(), s.UID, s.GID); err != nil {
		return &scratchError{s.Upper(), err}
	}
	if err := unix.Chmod(s.Upper(), s.Mode); err != nil {
		return &scratchError{s.Upper(), err}
	}
	return nil
}

// Remove removes both, and what was written.
func (s Scratch) Remove() error { return record.RemoveTree(s.Dir) }

type scratchError struct {
	path string
	err  error
}

func (e *scratchError) Error() string { return "cannot make \"" + e.path + "\": " + e.err.Error() }
func (e *scratchError) Unwrap() error { return e.err }

// release gives back the volumes that had to be mounted for the container, and
// forgets what it wrote over others.
func (c *Config) release() (errs []error) {
	for _, lease := range c.Leases {
		if err := lease.Drop(); err != nil {
			errs = append(errs, errors.New("cannot release volume: "+err.Error()))
		}
	}
	for _, scratch := range c.Scratch {
		if err := scratch.Remove(); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// renew makes Scratch empty for another run.
func (c *Config) renew() error {
	if c.Runtime != nil {
		return nil // another runtime's overlays stay mounted
	}
	for _, scratch := range c.Scratch {
		if err := scratch.Make(); err != nil {
			return err
		}
	}
	return nil
}
