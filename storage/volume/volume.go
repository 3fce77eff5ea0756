// Package volume keeps named volumes: directories that outlive containers.
package volume

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/storage/volume/mounted"
)

// What Volumes' methods may answer; tell them apart with errors.Is.
var (
	ErrNotFound error = notFound{}
	ErrExists   error = exists{}
	ErrInvalid  error = invalid{}
)

// The kinds have the methods by which containerd's errdefs knows errors of
// packages that do not import it.
type (
	notFound struct{}
	exists   struct{}
	invalid  struct{}
)

func (notFound) Error() string    { return "no such volume" }
func (notFound) NotFound()        {}
func (exists) Error() string      { return "volume exists" }
func (exists) AlreadyExists()     {}
func (invalid) Error() string     { return "invalid volume" }
func (invalid) InvalidParameter() {}

// Is makes a missing volume a missing file too.
func (notFound) Is(target error) bool { return target == fs.ErrNotExist }

// Volume is one volume: the record <root>/volumes/<name>/volume.json.
type Volume struct {
	Name    string
	Driver  string // "local"
	Created time.Time
	Labels  map[string]string `json:",omitempty"`
	Options map[string]string `json:",omitempty"`
	// Anonymous volumes were made for one container and go with it.
	Anonymous bool `json:",omitempty"`
	// UID and GID are who it was made for, if that was said.
	UID *int `json:",omitempty"`
	GID *int `json:",omitempty"`
	// Mountpoint is where its files are.
	Mountpoint string `json:"-"`
	// New says that no container has used it yet: the first one fills it from its
	// image. It is a file beside the record.
	New bool `json:"-"`
}

// Options of Create.
type Options struct {
	Driver    string // "" or "local"
	Labels    map[string]string
	Options   map[string]string // of the driver: type, device, o
	Anonymous bool
	UID, GID  *int // who owns the top; nil leaves it to the first container
}

// Volumes are the volumes of one user.
type Volumes struct {
	dir   string // <root>/volumes
	trash string // <root>/trash
}

// Open names the volumes below root; it reads nothing yet.
func Open(root string) *Volumes { return In(filepath.Join(root, "volumes"), root) }

// In names volumes that are in a directory of their own, elsewhere than root.
func In(dir, root string) *Volumes { return &Volumes{dir: dir, trash: filepath.Join(root, "trash")} }

// All is the directory that holds the volumes.
func (v *Volumes) All() string { return v.dir }

// Dir is the volume's directory: its record, and below _data its files. Renamed
// away, the volume is gone.
func (v *Volumes) Dir(name string) string { return filepath.Join(v.dir, name) }

// Path is where the files of the volume are, or would be.
func (v *Volumes) Path(name string) string { return filepath.Join(v.dir, name, "_data") }

// NewName makes a name for an anonymous volume.
func NewName() string {
	var b [32]byte
	rand.Read(b[:]) // never fails; see crypto/rand
	return hex.EncodeToString(b[:])
}

// CheckName says why a name cannot be a volume's: [a-zA-Z0-9][a-zA-Z0-9_.-]*.
func CheckName(name string) error {
	bad := func(c rune) bool {
		return !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("_.-", c))
	}
	if name == "" || strings.ContainsRune("_.-", rune(name[0])) || strings.IndexFunc(name, bad) >= 0 || len(name) > 255 {
		return fmt.Errorf("%w name %q: names begin with a letter or digit and go on with letters, digits, _, . and -", ErrInvalid, name)
	}
	return nil
}

// Create makes a volume; name "" makes an anonymous one. The volume is there
// whole or not at all. The error is ErrExists if the name is taken.
func (v *Volumes) Create(name string, o Options) (*Volume, error) {
	if name == "" {
		name, o.Anonymous = NewName(), true
	}
	if err := CheckName(name); err != nil {
		return nil, err
	}
	if o.Driver != "" && o.Driver != "local" {
		return nil, fmt.Errorf("cannot create volume %q: %w driver %q: only local is supported", name, ErrInvalid, o.Driver)
	}
	vol := &Volume{
		Name: name, Driver: "local", Created: time.Now().UTC(), Labels: o.Labels, Options: o.Options,
		Anonymous: o.Anonymous, Mountpoint: v.Path(name), UID: o.UID, GID: o.GID, New: true,
	}
	if err := vol.checkOptions(); err != nil {
		return nil, fmt.Errorf("cannot create volume %q: %w", name, err)
	}
	if err := v.write(vol, nil); err != nil {
		return nil, fmt.Errorf("cannot create volume %q: %w", name, err)
	}
	return vol, nil
}

// write puts the whole volume in place by one rename, which fails if the name
// is taken, because a volume's directory is never empty. fill may put files into
// its _data first.
func (v *Volumes) write(vol *Volume, fill func(data string) error) error {
	tmp, done, err := record.Scratch(v.dir)
	if err != nil {
		return err
	}
	defer done()
	data, err := record.Encode(vol)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(tmp, "volume.json"), append(data, '\n'), 0o644); err != nil {
		return err
	}
	// Its name and its options must not be lost with the power while its files are
	// there; an anonymous one has neither, and containers that go wait for no disk.
	if !vol.Anonymous {
		if err := record.Sync(filepath.Join(tmp, "volume.json")); err != nil {
			return err
		}
	}
	if vol.New {
		if err := os.WriteFile(filepath.Join(tmp, newFile), nil, 0o644); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Join(tmp, "_data"), 0o755); err != nil {
		return err
	}
	if uid, gid := vol.owner(); uid >= 0 || gid >= 0 {
		if err := os.Chown(filepath.Join(tmp, "_data"), uid, gid); err != nil {
			return err
		}
	}
	// The umask must not decide who may enter the root of a volume.
	for _, dir := range []string{tmp, filepath.Join(tmp, "_data")} {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	if fill != nil {
		if err := fill(filepath.Join(tmp, "_data")); err != nil {
			return err
		}
		if err := record.SyncTree(tmp); err != nil {
			return err
		}
	}
	err = os.Rename(tmp, filepath.Join(v.dir, vol.Name))
	if errors.Is(err, fs.ErrExist) {
		return ErrExists
	}
	return err
}

// Get returns the volume of that name, or ErrNotFound.
func (v *Volumes) Get(name string) (*Volume, error) {
	if CheckName(name) != nil {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	data, err := os.ReadFile(filepath.Join(v.dir, name, "volume.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q", ErrNotFound, name)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read volume %q: %w", name, err)
	}
	vol := new(Volume)
	if len(data) == 0 { // the power was cut before the record was on the disk
		vol = v.bare(name)
	} else if err := record.Decode(data, vol); err != nil {
		return nil, fmt.Errorf("cannot read volume %q: %w", name, err)
	}
	vol.Mountpoint = v.Path(name)
	vol.New = unix.Access(filepath.Join(v.dir, name, newFile), unix.F_OK) == nil
	return vol, nil
}

// bare is what can be told of a volume without its record.
func (v *Volumes) bare(name string) *Volume {
	vol := &Volume{Name: name, Driver: "local", Anonymous: len(name) == 64 && strings.Trim(name, "0123456789abcdef") == ""}
	if fi, err := os.Stat(filepath.Join(v.dir, name)); err == nil {
		vol.Created = fi.ModTime().UTC()
	}
	return vol
}

// newFile says that a volume was never used.
const newFile = "new"

// Used remembers that a container has used the volume.
func (v *Volumes) Used(name string) { unix.Unlink(filepath.Join(v.dir, name, newFile)) }

// Find is Get, or the one volume whose name begins so; podman's volume commands
// take prefixes.
func (v *Volumes) Find(prefix string) (*Volume, error) {
	vol, err := v.Get(prefix)
	if !errors.Is(err, ErrNotFound) || prefix == "" {
		return vol, err
	}
	all, lerr := v.List()
	if lerr != nil {
		return nil, lerr
	}
	for _, candidate := range all {
		if !strings.HasPrefix(candidate.Name, prefix) {
			continue
		}
		if vol != nil {
			return nil, fmt.Errorf("%w name %q: more than one volume begins so", ErrInvalid, prefix)
		}
		vol = candidate
	}
	if vol == nil {
		return nil, err
	}
	return vol, nil
}

// List returns every volume, by name.
func (v *Volumes) List() ([]*Volume, error) {
	entries, err := os.ReadDir(v.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list volumes: %w", err)
	}
	var all []*Volume
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), record.ScratchPrefix) {
			record.SweepScratch(filepath.Join(v.dir, entry.Name()))
			continue
		}
		vol, err := v.Get(entry.Name())
		if errors.Is(err, ErrNotFound) {
			continue // half-made, or removed since
		}
		if err != nil {
			return nil, err
		}
		all = append(all, vol)
	}
	slices.SortFunc(all, func(a, b *Volume) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// Remove removes a volume and its files. The caller has made sure that no
// container uses it. What is mounted there is unmounted first, and if it cannot
// be, nothing is removed: the files of a mount are not the volume's.
func (v *Volumes) Remove(name string) error {
	if _, err := v.Get(name); err != nil {
		return err
	}
	if err := mounted.Unmount(v.Path(name)); err != nil {
		return fmt.Errorf("cannot remove volume %q: %w", name, err)
	}
	if err := v.bury(filepath.Join(v.dir, name)); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %q", ErrNotFound, name)
	} else if err != nil {
		return fmt.Errorf("cannot remove volume %q: %w", name, err)
	}
	return nil
}
