package volume

import (
	"cmp"
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
)

// ErrNoSnapshot and ErrSnapshotExists are what the methods about snapshots answer.
var (
	ErrNoSnapshot     error = noSnapshot{}
	ErrSnapshotExists error = snapshotExists{}
)

type (
	noSnapshot     struct{ notFound }
	snapshotExists struct{ exists }
)

func (noSnapshot) Error() string     { return "no such snapshot" }
func (snapshotExists) Error() string { return "snapshot exists" }

// Snapshot is what a volume held at a moment: the directory
// <root>/volumes/<volume>/snapshots/<name>, with its record and its files. It goes
// with the volume.
type Snapshot struct {
	Name    string
	Volume  string
	Created time.Time
	// Size is the bytes of its files, as long as they are, also where they share
	// their blocks with the volume's; Files is how many entries there are.
	Size, Files int64
	// Shared says that the file system has shared the blocks: nothing was copied.
	Shared bool `json:",omitempty"`
	// New says that no container had used the volume yet.
	New bool `json:",omitempty"`
	// Mountpoint is where its files are.
	Mountpoint string `json:"-"`
}

func (v *Volumes) snapshots(volume string) string { return filepath.Join(v.dir, volume, "snapshots") }

// Snapshot returns one by name, or ErrNoSnapshot.
func (v *Volumes) Snapshot(volume, name string) (*Snapshot, error) {
	dir := filepath.Join(v.snapshots(volume), name)
	if CheckName(name) != nil {
		return nil, fmt.Errorf("%w: %q", ErrNoSnapshot, name)
	}
	s := new(Snapshot)
	found, err := record.Read(filepath.Join(dir, "snapshot.json"), s)
	if err != nil {
		return nil, fmt.Errorf("cannot read snapshot %q of volume %q: %w", name, volume, err)
	}
	if !found {
		return nil, fmt.Errorf("%w: %q", ErrNoSnapshot, name)
	}
	s.Mountpoint = filepath.Join(dir, "_data")
	return s, nil
}

// Snapshots lists those of a volume, the oldest first.
func (v *Volumes) Snapshots(volume string) ([]*Snapshot, error) {
	dir := v.snapshots(volume)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list snapshots of volume %q: %w", volume, err)
	}
	var all []*Snapshot
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), record.ScratchPrefix) {
			record.SweepScratch(filepath.Join(dir, entry.Name()))
			continue
		}
		s, err := v.Snapshot(volume, entry.Name())
		if errors.Is(err, ErrNoSnapshot) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	slices.SortStableFunc(all, func(a, b *Snapshot) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.Name, b.Name))
	})
	return all, nil
}

// HasSnapshots says whether there are any.
func (v *Volumes) HasSnapshots(volume string) bool {
	all, _ := v.Snapshots(volume)
	return len(all) > 0
}

// TakeSnapshot makes a snapshot with the files that fill puts into a directory. It
// is there whole or not at all. The error is ErrSnapshotExists if the name is taken.
func (v *Volumes) TakeSnapshot(s *Snapshot, fill func(data string) error) error {
	if err := CheckName(s.Name); err != nil {
		return err
	}
	if _, err := v.Snapshot(s.Volume, s.Name); err == nil {
		return fmt.Errorf("%w: %q", ErrSnapshotExists, s.Name)
	}
	parent := v.snapshots(s.Volume)
	tmp, done, err := record.Scratch(parent)
	if err != nil {
		return err
	}
	defer done()
	if err := os.Mkdir(filepath.Join(tmp, "_data"), 0o755); err != nil {
		return err
	}
	if err := fill(filepath.Join(tmp, "_data")); err != nil {
		return err
	}
	if err := record.Write(filepath.Join(tmp, "snapshot.json"), s, false); err != nil {
		return err
	}
	if err := record.SyncTree(tmp); err != nil {
		return err
	}
	// A snapshot's directory is never empty: the name cannot be taken twice.
	s.Mountpoint = filepath.Join(parent, s.Name, "_data")
	err = os.Rename(tmp, filepath.Join(parent, s.Name))
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: %q", ErrSnapshotExists, s.Name)
	}
	return err
}

// RemoveSnapshot removes a snapshot and its files.
func (v *Volumes) RemoveSnapshot(volume, name string) error {
	if _, err := v.Snapshot(volume, name); err != nil {
		return err
	}
	if err := v.bury(filepath.Join(v.snapshots(volume), name)); err != nil {
		return fmt.Errorf("cannot remove snapshot %q of volume %q: %w", name, volume, err)
	}
	return nil
}

// CloneInto makes a volume with the files that fill puts into it. It is there
// whole or not at all. The error is ErrExists if the name is taken.
func (v *Volumes) CloneInto(vol *Volume, fill func(data string) error) error {
	if err := CheckName(vol.Name); err != nil {
		return err
	}
	if _, err := v.Get(vol.Name); err == nil {
		return ErrExists
	}
	vol.Mountpoint = v.Path(vol.Name)
	return v.write(vol, fill)
}

// Replace puts the files that fill makes in the place of a volume's in one step;
// what was there before is deleted.
func (v *Volumes) Replace(vol *Volume, isNew bool, fill func(data string) error) error {
	tmp, done, err := record.Scratch(v.snapshots(vol.Name))
	if err != nil {
		return err
	}
	defer done()
	data := filepath.Join(tmp, "_data")
	if err := os.Mkdir(data, 0o755); err != nil {
		return err
	}
	if err := fill(data); err != nil {
		return err
	}
	if err := record.SyncTree(tmp); err != nil {
		return err
	}
	err = unix.Renameat2(unix.AT_FDCWD, data, unix.AT_FDCWD, vol.Mountpoint, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return fmt.Errorf("this file system cannot exchange two directories in one step: %w", err)
	}
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: data, New: vol.Mountpoint, Err: err}
	}
	if isNew {
		return os.WriteFile(filepath.Join(v.dir, vol.Name, newFile), nil, 0o644)
	}
	v.Used(vol.Name)
	return nil
}

// bury takes a directory away by one rename; its files follow. What a crash leaves
// in the trash the next clean-up deletes.
func (v *Volumes) bury(dir string) error {
	if err := os.MkdirAll(v.trash, 0o700); err != nil {
		return err
	}
	grave := filepath.Join(v.trash, "volume-"+NewName()[:16])
	err := os.Rename(dir, grave)
	if errors.Is(err, unix.EXDEV) { // volumes that are elsewhere
		grave = filepath.Join(v.dir, record.ScratchPrefix+filepath.Base(grave))
		err = os.Rename(dir, grave)
	}
	if err != nil {
		return err
	}
	return os.RemoveAll(grave)
}
