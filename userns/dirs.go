// Package userns makes, keeps and enters the user namespace of a user: subordinate
// IDs, ID maps, the pause process.
package userns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"moss/record/xdg"
)

// Dirs are the two places where moss keeps files of one user.
type Dirs struct {
	// Root survives a reboot: images, container records, volumes.
	Root string
	// Run is on a tmpfs and is gone after a reboot: sockets, pids, exit files.
	Run string
}

// FindDirs finds both directories, makes them if need be, and refuses what
// belongs to someone else or what others can write. The answer is the same
// outside and inside the kept namespaces.
//
// Root is $MOSS_ROOT, $XDG_DATA_HOME/moss or ~/.local/share/moss. Run is
// $MOSS_RUN, $XDG_RUNTIME_DIR/moss if that variable names a directory of ours
// (after su and sudo it names another user's), /run/user/UID/moss likewise,
// $RUNTIME_DIRECTORY/moss likewise, or /tmp/moss-UID. pause_path in enter/enter.c follows the same rules for Run.
func FindDirs() (Dirs, error) {
	run, err := FindRun()
	if err != nil {
		return Dirs{}, err
	}
	root, err := FindRoot()
	return Dirs{Root: root, Run: run}, err
}

// FindRoot is FindDirs for Root alone.
func FindRoot() (string, error) {
	root, err := rootDir()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		if to, lerr := os.Readlink(root); lerr == nil { // 'moss system move' has made it
			return "", fmt.Errorf("cannot use directory %q: it leads to %q, which is not there; is its disk mounted?", root, to)
		}
		return "", fmt.Errorf("cannot make directory %q: %w", root, cause(err))
	}
	return root, checkDir(root)
}

// FindRun is FindDirs for Run alone.
func FindRun() (string, error) {
	run, err := runDir()
	if err != nil {
		return "", err
	}
	// Not MkdirAll: a run directory without its parent is a mistake, except
	// where the user named it.
	if os.Getenv("MOSS_RUN") != "" {
		err = os.MkdirAll(run, 0o700)
	} else if err = os.Mkdir(run, 0o700); errors.Is(err, os.ErrExist) {
		err = nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot make directory %q: %w", run, cause(err))
	}
	return run, checkRunDir(run)
}

func rootDir() (string, error) {
	if dir := os.Getenv("MOSS_ROOT"); dir != "" {
		return absolute("MOSS_ROOT", dir)
	}
	if dir := xdg.Data(os.Getenv); dir != "" {
		return filepath.Join(dir, "moss"), nil
	}
	home := os.Getenv("HOME")
	if home == "" {
		home = lookupUser(hostUID()).home
	}
	if home == "" {
		return "", errors.New("cannot find the directory for containers: HOME is not set")
	}
	home, err := absolute("HOME", home)
	return filepath.Join(home, ".local/share/moss"), err
}

func runDir() (string, error) {
	if dir := os.Getenv("MOSS_RUN"); dir != "" {
		return absolute("MOSS_RUN", dir)
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) && isOwnDir(dir) {
		return filepath.Join(dir, "moss"), nil
	}
	uid := strconv.Itoa(hostUID())
	if dir := "/run/user/" + uid; isOwnDir(dir) {
		return filepath.Join(dir, "moss"), nil
	}
	// RuntimeDirectory= of a system service with User=: systemd.exec(5).
	if dir, _, _ := strings.Cut(os.Getenv("RUNTIME_DIRECTORY"), ":"); filepath.IsAbs(dir) && isOwnDir(dir) {
		return filepath.Join(dir, "moss"), nil
	}
	return "/tmp/moss-" + uid, nil
}

func absolute(name, dir string) (string, error) {
	if !filepath.IsAbs(dir) {
		return "", fmt.Errorf("cannot use %s %q: it is not an absolute path", name, dir)
	}
	return filepath.Clean(dir), nil
}

func isOwnDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir() && owner(info) == os.Geteuid()
}

// checkDir accepts a directory of ours that nobody else can write.
func checkDir(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot use directory %q: %w", path, cause(err))
	}
	return checkInfo(path, info)
}

// checkRunDir follows no symbolic link: the path may be in /tmp, where anyone
// can lay one.
func checkRunDir(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return fmt.Errorf("cannot use directory %q: %w", path, cause(err))
	}
	if err := checkInfo(path, info); err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("cannot use directory %q: its mode is %#o, not 0700", path, info.Mode().Perm())
	}
	return nil
}

func checkInfo(path string, info os.FileInfo) error {
	switch {
	case !info.IsDir():
		return fmt.Errorf("cannot use directory %q: it is not a directory", path)
	case owner(info) != os.Geteuid():
		return fmt.Errorf("cannot use directory %q: it belongs to user %d", path, owner(info))
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("cannot use directory %q: others may write to it (mode %#o)", path, info.Mode().Perm())
	}
	return nil
}

func owner(info os.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// cause strips the operation and path that *os.PathError repeats.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
