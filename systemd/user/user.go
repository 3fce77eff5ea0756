// Package user has moss's own units of the user's service manager.
package user

import (
	"cmp"
	"embed"
	"errors"
	"io/fs"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"

	"moss/record"
	"moss/record/xdg"
	"moss/systemd/cgroup"
	"moss/systemd/quadlet"
)

//go:embed *.service *.timer
var texts embed.FS

// Boot is the unit that starts containers when the machine has, AutoUpdate the one that
// has them updated every night.
const (
	Boot       = "moss-boot.service"
	AutoUpdate = "moss-auto-update.timer"
)

// wants is the directory of the links to what one of the manager's own targets wants: that
// of timers, or the one that it starts with.
func wants(unit string) string {
	if filepath.Ext(unit) == ".timer" {
		return "timers.target.wants"
	}
	return "default.target.wants"
}

// files are a unit's: a timer has a service.
func files(unit string) []string {
	if name, is := strings.CutSuffix(unit, ".timer"); is {
		return []string{name + ".service", unit}
	}
	return []string{unit}
}

// Enabled is the link that has a unit started with the manager, of the user or of
// all users; "" when there is none.
func Enabled(unit string) string {
	for _, dir := range []string{Dir(), "/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user"} {
		path := filepath.Join(dir, wants(unit), unit)
		if _, err := os.Lstat(path); err == nil {
			return path
		}
	}
	return ""
}

// Enable has a unit started with the manager. Where moss is not installed the unit is
// written, for the program at path; an error leaves nothing new.
func Enable(unit, program string) (err error) {
	for _, name := range files(unit) {
		if Installed(name) == "" {
			defer func() {
				if err != nil {
					_ = os.Remove(writtenPath(name))
				}
			}()
		}
		if err := write(name, program); err != nil {
			return err
		}
	}
	path, link := Installed(unit), filepath.Join(Dir(), wants(unit), unit)
	if err := os.MkdirAll(filepath.Dir(link), 0o755); err != nil {
		return err
	}
	if old, err := os.Readlink(link); err == nil && old == path {
		return nil
	}
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(path, link)
}

// write makes the file of a unit, unless it is installed elsewhere.
func write(unit, program string) error {
	path := writtenPath(unit)
	if installed := Installed(unit); installed != "" && installed != path {
		return nil
	}
	text, err := texts.ReadFile(unit)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	whole := strings.ReplaceAll(string(text), "@moss@", quadlet.Word(program))
	return record.Replace(path, []byte(whole), 0o644, false)
}

// Disable undoes Enable. A unit that is enabled for all users stays: kept is its link.
func Disable(unit string) (kept string, err error) {
	paths := []string{filepath.Join(Dir(), wants(unit), unit)}
	for _, name := range files(unit) {
		paths = append(paths, writtenPath(name))
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return Enabled(unit), nil
}

// Installed is where a unit is; "" if it is nowhere.
func Installed(unit string) string {
	for _, dir := range []string{Dir(), "/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/lib/systemd/user", filepath.Dir(writtenPath(unit))} {
		path := filepath.Join(dir, unit)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// Lingers says whether the user's manager runs without a session, from the boot on.
func Lingers() bool {
	u, err := osuser.LookupId(strconv.Itoa(cgroup.HostUID()))
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join("/var/lib/systemd/linger", u.Username))
	return err == nil
}

// Managed says whether systemd is this machine's service manager.
func Managed() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}

// Dir is the directory of the units that are the user's own; where neither
// XDG_CONFIG_HOME nor HOME says where it is, it is none that exists.
func Dir() string {
	return filepath.Join(cmp.Or(xdg.Config(os.Getenv), "/nonexistent"), "systemd/user")
}

// writtenPath is where a program that is the user's own puts its units.
func writtenPath(unit string) string {
	return filepath.Join(cmp.Or(xdg.Data(os.Getenv), "/nonexistent"), "systemd", "user", unit)
}
