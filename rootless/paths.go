package rootless

import (
	"os"
	"path/filepath"

	"moss/userns"
)

// Paths names every file of moss; ARCHITECTURE.md, "On disk", tells what is in them.
type Paths struct{ userns.Dirs }

// What survives a reboot.
func (p Paths) Containers() string         { return filepath.Join(p.Root, "containers") }
func (p Paths) Container(id string) string { return filepath.Join(p.Root, "containers", id) }
func (p Paths) Names() string              { return filepath.Join(p.Root, "names") }
func (p Paths) Name(name string) string    { return filepath.Join(p.Root, "names", name) }
func (p Paths) Networks() string           { return filepath.Join(p.Root, "networks") }
func (p Paths) Trash() string              { return filepath.Join(p.Root, "trash") }
func (p Paths) SeccompCache() string       { return filepath.Join(p.Root, "cache", "seccomp") }

// What a reboot takes away. Names are short: a socket's path holds 108 bytes.
func (p Paths) RunContainers() string         { return filepath.Join(p.Run, "c") }
func (p Paths) RunContainer(id string) string { return filepath.Join(p.Run, "c", id[:12]) }
func (p Paths) Swept() string                 { return filepath.Join(p.Run, "swept") }
func (p Paths) Mounts() string                { return filepath.Join(p.Run, "mounts") }
func (p Paths) Mounted(id string) string      { return filepath.Join(p.Run, "mounts", id[:12]) }
func (p Paths) MountedLower(id string) string {
	return filepath.Join(p.Run, "mounts", "lower-"+id[:12])
}
func (p Paths) MountedImage(id string) string {
	return filepath.Join(p.Run, "mounts", "image-"+id[:12])
}
func (p Paths) Net() string { return filepath.Join(p.Run, "net") }

// Helper is the path of a helper program: beside moss in a build tree, else in
// ../libexec/moss; MOSS_LIBEXEC overrides both.
func Helper(name string) string {
	if dir := os.Getenv("MOSS_LIBEXEC"); dir != "" {
		return filepath.Join(dir, name)
	}
	self, err := os.Executable()
	if err != nil {
		return name
	}
	beside := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(beside); err == nil {
		return beside
	}
	return filepath.Join(filepath.Dir(self), "..", "libexec", "moss", name)
}
