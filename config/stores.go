package config

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"moss/record/xdg"
)

// Stores are the image stores that moss reads beside its own: podman's, where
// storage.conf says that it is, and those that storage.conf adds. uid tells
// the user's ID as the host knows it.
func (c *Config) Stores(uid func() int) []string {
	var all []string
	add := func(paths ...string) {
		for _, path := range paths {
			if path = expand(path, uid); filepath.IsAbs(path) && !slices.Contains(all, path) {
				all = append(all, path)
			}
		}
	}
	if c.Bool("moss.podman_images", true) {
		add(c.podmanRoot(), c.String("storage.imagestore"))
	}
	add(c.List("storage.options.additionalimagestores")...)
	return all
}

// podmanRoot is where podman of the same user keeps its images. graphroot in a file
// of the system's is root's; see containers-storage.conf(5).
func (c *Config) podmanRoot() string {
	if s := c.Find("storage.graphroot"); s != nil && len(s.Values) > 0 && s.Values[0] != "" && !isSystem(s.From[0].File) {
		return s.Values[0]
	}
	if path := c.String("storage.rootless_storage_path"); path != "" {
		return path
	}
	data := xdg.Data(os.Getenv)
	if data == "" {
		return ""
	}
	return filepath.Join(data, "containers", "storage")
}

// PodmanNetworks is where podman of the same user keeps its networks, or "".
func (c *Config) PodmanNetworks(uid func() int) string {
	if dir := c.String("network.network_config_dir"); dir != "" {
		return expand(dir, uid)
	}
	root := expand(c.podmanRoot(), uid)
	if root == "" {
		return ""
	}
	return filepath.Join(root, "networks")
}

// isSystem says whether a file is the default for every user.
func isSystem(path string) bool {
	return path != os.Getenv("CONTAINERS_STORAGE_CONF") && (path == "/etc/containers/storage.conf" || path == "/usr/share/containers/storage.conf")
}

// expand replaces what storage.conf may have in a path: $HOME, $USER, $UID and others
// of the environment, and a ~ at its beginning.
func expand(path string, uid func() int) string {
	if rest, ok := strings.CutPrefix(path, "~/"); ok {
		path = "$HOME/" + rest
	}
	if !strings.Contains(path, "$") {
		return path
	}
	return os.Expand(path, func(name string) string {
		if name == "UID" && os.Getenv("UID") == "" {
			return strconv.Itoa(uid())
		}
		return os.Getenv(name)
	})
}
