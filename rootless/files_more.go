package rootless

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"moss/rootless/container"
	"moss/rootless/oci"
	"moss/rootless/runtime"
)

// maxHosts bounds a file that is read into memory.
const maxHosts = 1 << 20

// baseHosts is what /etc/hosts begins with. The image's own is looked for in the
// layers, uppermost first, and never through a symbolic link.
func (l *launch) baseHosts(doc *runtime.Document) (string, error) {
	name := l.c.Spec.Network.HostsFile
	var roots []string
	switch {
	case name == "" || name == "none":
		return "", nil
	case name != "image":
		text, err := readText(os.Open(name))
		if err != nil {
			return "", fmt.Errorf("cannot read --hosts-file %q: %w", name, err)
		}
		return text, nil
	case doc.Overlay != nil:
		roots = append([]string{doc.Overlay.Upper}, doc.Overlay.Lower...)
	default:
		roots = []string{doc.Spec.Root.Path}
	}
	for _, dir := range roots {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return "", fmt.Errorf("cannot read the image's /etc/hosts: %w", err)
		}
		text, err := readText(root.Open("etc/hosts"))
		root.Close()
		if !errors.Is(err, fs.ErrNotExist) {
			return text, err
		}
	}
	return "", nil
}

// readText reads a file that was opened, and ends its last line.
func readText(f *os.File, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", nil // a whiteout, for one
	}
	data, err := io.ReadAll(io.LimitReader(f, maxHosts))
	if text := string(data); text == "" || strings.HasSuffix(text, "\n") {
		return text, err
	}
	return string(data) + "\n", err
}

// zoneInfo is where hosts keep their time zones.
const zoneInfo = "/usr/share/zoneinfo"

// timeZone binds a copy of the zone over /etc/localtime: the host's own may be
// replaced while the container runs.
func (l *launch) timeZone(in *oci.Input) error {
	zone := l.c.Spec.Process.TimeZone
	if zone == "" {
		return nil
	}
	path := "/etc/localtime"
	if zone != "local" {
		path = filepath.Join(zoneInfo, zone)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot use time zone %q: %w", zone, err)
	}
	copied := filepath.Join(l.c.RunDir, "localtime")
	in.Files["/etc/localtime"] = copied
	return os.WriteFile(copied, data, 0o644)
}

// chrootFiles binds the files of /etc below other roots too.
func chrootFiles(spec *container.Spec, in *oci.Input) {
	for _, dir := range spec.Rootfs.ChrootDirs {
		for _, target := range []string{"/etc/hosts", "/etc/resolv.conf", "/etc/hostname"} {
			if source := in.Files[target]; source != "" {
				in.Files[filepath.Join(dir, target)] = source
			}
		}
	}
}
