package rootless

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"moss/record"
)

// Config is what the user set for every container: moss.conf(5).
type Config struct {
	// NoNewPrivileges is the default of --security-opt no-new-privileges.
	NoNewPrivileges bool
}

// ConfigFile is where the user's configuration is looked for.
func ConfigFile() string {
	if dir := os.Getenv("XDG_CONFIG_HOME"); dir != "" {
		return filepath.Join(dir, "moss", "moss.conf")
	}
	return filepath.Join(os.Getenv("HOME"), ".config", "moss", "moss.conf")
}

// ReadConfig reads a file of `key = value` lines (TOML's simplest form). A file
// that is not there is an empty one; a key that moss does not know is an error.
func ReadConfig(path string) (Config, error) {
	var c Config
	data, err := record.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("cannot read configuration: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		line, _, _ = strings.Cut(line, "#")
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		key, value, _ := strings.Cut(line, "=")
		if err := c.set(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return c, fmt.Errorf("cannot read configuration %q, line %d: %w", path, n, err)
		}
	}
	return c, nil
}

func (c *Config) set(key, value string) (err error) {
	switch key {
	case "no_new_privileges":
		if c.NoNewPrivileges, err = strconv.ParseBool(value); err != nil {
			return fmt.Errorf("%s is %q: want true or false", key, value)
		}
		return nil
	}
	return fmt.Errorf("there is no key %q", key)
}
