// Package xdg says where a user's own files are, by the XDG Base Directory Specification.
package xdg

import "path/filepath"

// Config is the directory of a user's configuration, and Data that of what programs keep for
// the user; "" where the environment says neither where it is nor where home is. A path that is
// relative is invalid and ignored ("Basics").
func Config(environ func(string) string) string { return dir(environ, "XDG_CONFIG_HOME", ".config") }

// Data: see Config.
func Data(environ func(string) string) string { return dir(environ, "XDG_DATA_HOME", ".local/share") }

func dir(environ func(string) string, variable, below string) string {
	if dir := environ(variable); filepath.IsAbs(dir) {
		return dir
	}
	if home := environ("HOME"); filepath.IsAbs(home) {
		return filepath.Join(home, below)
	}
	return ""
}
