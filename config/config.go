// Package config is what configuration files set: containers.conf, storage.conf,
// registries.conf and moss.conf, each value with the file and line it comes from.
//
// moss itself reads no TOML. Package config/files, which a helper program links,
// reads the files and leaves what it found as a record in the run directory;
// Load takes that record for as long as no file has changed. See load.go.
package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Config is everything that the files set. The zero value, and nil, set nothing.
type Config struct {
	// Settings in the order in which their keys were first met; the last file that
	// sets a key wins.
	Settings []Setting `json:",omitempty"`
	// Warnings are of keys that moss does not know or has no use for.
	Warnings []Warning `json:",omitempty"`
}

// Setting is the value of one key.
type Setting struct {
	// Key is the path in TOML: containers.shm_size. Keys of registries.conf begin
	// with "registries.", those of moss.conf that are in no table with "moss.".
	Key string
	// Values holds one element, but of a list as many as that has.
	Values []string
	// From says of each value where it stands; of an empty list, where that does.
	From []Origin
}

// Origin is a line of a file.
type Origin struct {
	File string
	Line int
}

func (o Origin) String() string { return o.File + ":" + strconv.Itoa(o.Line) }

// Warning is one thing in a file that has no effect.
type Warning struct {
	Origin
	Text string
}

// Error is a file, or a value in it, that moss cannot use.
type Error struct {
	Origin
	Err error
}

func (e *Error) Error() string {
	return fmt.Sprintf("cannot read configuration %s: %v", e.Origin, e.Err)
}
func (e *Error) Unwrap() error { return e.Err }

// Find returns the setting of a key, nil if no file sets it.
func (c *Config) Find(key string) *Setting {
	if c == nil {
		return nil
	}
	for i := range c.Settings {
		if c.Settings[i].Key == key {
			return &c.Settings[i]
		}
	}
	return nil
}

// String is the value of a key; "" if no file sets it.
func (c *Config) String(key string) string {
	if s := c.Find(key); s != nil && len(s.Values) > 0 {
		return s.Values[0]
	}
	return ""
}

// Bool is the value of a key that is true or false; other if no file sets it.
func (c *Config) Bool(key string, other bool) bool {
	if v, err := strconv.ParseBool(c.String(key)); err == nil {
		return v
	}
	return other
}

// Int is the value of a key that is a number; other if no file sets it.
func (c *Config) Int(key string, other int64) int64 {
	if v, err := strconv.ParseInt(c.String(key), 10, 64); err == nil {
		return v
	}
	return other
}

// List is the value of a key that is a list.
func (c *Config) List(key string) []string {
	if s := c.Find(key); s != nil {
		return slices.Clone(s.Values)
	}
	return nil
}

// Wrong is the error that says that a value of a key cannot be used.
func (s *Setting) Wrong(value string, err error) error {
	origin := s.From[0]
	if i := slices.Index(s.Values, value); i >= 0 {
		origin = s.From[i]
	}
	return fmt.Errorf("invalid value %q for %s in %s: %w", value, s.Key, origin, err)
}

// Group is the first part of a key.
func (s *Setting) Group() string {
	group, _, _ := strings.Cut(s.Key, ".")
	return group
}
