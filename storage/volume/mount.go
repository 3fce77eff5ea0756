package volume

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/storage/volume/mounted"
)

// NeedsMount says whether the volume's files are not simply in its directory: they
// are on a tmpfs, or in a directory elsewhere.
func (vol *Volume) NeedsMount() bool {
	return vol.Options["type"] != "" || vol.Options["device"] != ""
}

// NoCopy says whether the volume was made not to be filled from an image.
func (vol *Volume) NoCopy() bool {
	_, no := vol.Options["nocopy"]
	return no || slices.Contains(vol.words(), "nocopy")
}

// words are the options of the option o.
func (vol *Volume) words() []string {
	return strings.FieldsFunc(vol.Options["o"], func(r rune) bool { return r == ',' || r == ' ' })
}

// Lease is the use of a volume that NeedsMount by user, in the directory run of
// what a reboot takes away.
func (vol *Volume) Lease(run, user string) mounted.Lease {
	return mounted.Lease{Dir: filepath.Join(run, "v", vol.Name), User: user, Mountpoint: vol.Mountpoint}
}

// Use mounts the volume, if it NeedsMount, until its last user has dropped the
// lease. It is nil for another volume.
func (vol *Volume) Use(run, user string) (*mounted.Lease, error) {
	if !vol.NeedsMount() {
		return nil, nil
	}
	l := vol.Lease(run, user)
	if err := l.Take(vol.mount); err != nil {
		return nil, fmt.Errorf("cannot mount volume %q: %w", vol.Name, err)
	}
	return &l, nil
}

// Users are who hold a lease.
func (vol *Volume) Users(run string) []string { return mounted.Users(vol.Lease(run, "").Dir) }

// Uses is how many they are.
func (vol *Volume) Uses(run string) int { return len(vol.Users(run)) }

// mountWord is an option of mount(8) that o may hold.
func mountWord(word string) (flag uintptr, known bool) {
	switch word {
	case "ro":
		return unix.MS_RDONLY, true
	case "nosuid":
		return unix.MS_NOSUID, true
	case "nodev":
		return unix.MS_NODEV, true
	case "noexec":
		return unix.MS_NOEXEC, true
	case "noatime":
		return unix.MS_NOATIME, true
	case "nodiratime":
		return unix.MS_NODIRATIME, true
	case "bind":
		return unix.MS_BIND, true
	case "rbind":
		return unix.MS_BIND | unix.MS_REC, true
	case "rw", "suid", "dev", "exec", "relatime":
		return 0, true
	}
	return 0, false
}

// mount mounts what the options say at Mountpoint.
func (vol *Volume) mount() error {
	var flags uintptr
	var data []string
	for _, word := range vol.words() {
		if flag, ok := mountWord(word); ok {
			flags |= flag
		} else if strings.Contains(word, "=") {
			data = append(data, word)
		}
	}
	if vol.Options["type"] == "tmpfs" {
		return unix.Mount("tmpfs", vol.Mountpoint, "tmpfs", flags|unix.MS_NOSUID|unix.MS_NODEV, strings.Join(data, ","))
	}
	device := vol.Options["device"]
	if info, err := os.Stat(device); err != nil {
		return err
	} else if !info.IsDir() {
		return &os.PathError{Op: "mount", Path: device, Err: unix.ENOTDIR}
	}
	// With its attributes before it is attached: the namespace of a container that is
	// being started gets a copy at that moment.
	clone := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
	if flags&unix.MS_REC != 0 {
		clone |= unix.AT_RECURSIVE
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, device, clone)
	if err != nil {
		return &os.PathError{Op: "mount", Path: device, Err: err}
	}
	defer unix.Close(tree)
	if attr := (unix.MountAttr{Attr_set: attributes(flags)}); attr.Attr_set != 0 {
		if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
			return &os.PathError{Op: "mount", Path: device, Err: err}
		}
	}
	return unix.MoveMount(tree, "", unix.AT_FDCWD, vol.Mountpoint, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// attributes are flags of mount(2) as mount_setattr(2) knows them.
func attributes(flags uintptr) (attr uint64) {
	for _, pair := range [...]struct {
		flag uintptr
		attr uint64
	}{
		{unix.MS_RDONLY, unix.MOUNT_ATTR_RDONLY}, {unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID}, {unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC}, {unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME}, {unix.MS_NOATIME, unix.MOUNT_ATTR_NOATIME},
	} {
		if flags&pair.flag != 0 {
			attr |= pair.attr
		}
	}
	return attr
}

// checkOptions refuses options that could not be obeyed, when the volume is made.
func (vol *Volume) checkOptions() error {
	kind, device := vol.Options["type"], vol.Options["device"]
	for key, value := range vol.Options {
		switch key {
		case "o", "device", "copy", "nocopy":
		case "type":
			if !slices.Contains([]string{"", "tmpfs", "none", "bind"}, value) {
				return fmt.Errorf("%w option type=%s: without root only tmpfs and none (bind) can be mounted", ErrInvalid, value)
			}
		default:
			return fmt.Errorf("%w option %q: known are type, device, o, copy and nocopy", ErrInvalid, key)
		}
	}
	switch kind {
	case "tmpfs":
	case "":
		if device != "" && !slices.Contains(vol.words(), "bind") && !slices.Contains(vol.words(), "rbind") {
			return fmt.Errorf("%w option device=%s: it wants type, or o=bind", ErrInvalid, device)
		}
	default:
		if device == "" {
			return fmt.Errorf("%w option type=%s: it wants device=DIRECTORY", ErrInvalid, kind)
		}
	}
	if device != "" && kind != "tmpfs" && !filepath.IsAbs(device) {
		return fmt.Errorf("%w option device=%s: it is not an absolute path", ErrInvalid, device)
	}
	for _, word := range vol.words() {
		if err := vol.checkWord(word); err != nil {
			return err
		}
	}
	return nil
}

// checkWord checks one word of o.
func (vol *Volume) checkWord(word string) error {
	key, value, _ := strings.Cut(word, "=")
	tmpfs := vol.Options["type"] == "tmpfs"
	switch key {
	case "uid", "gid":
		if _, err := strconv.ParseUint(value, 10, 32); err != nil {
			return fmt.Errorf("%w option o=%s: %q is not a number", ErrInvalid, word, value)
		}
		return nil
	case "copy", "nocopy", "noquota":
		return nil
	case "size", "mode", "nr_inodes", "nr_blocks":
		if tmpfs {
			return nil
		}
		if key != "mode" {
			return fmt.Errorf("%w option o=%s: quotas of directories are root's; with type=tmpfs it is a limit", ErrInvalid, word)
		}
	case "inodes":
		return fmt.Errorf("%w option o=%s: quotas of directories are root's; with type=tmpfs nr_inodes is a limit", ErrInvalid, word)
	}
	flag, known := mountWord(word)
	if !known || flag&unix.MS_BIND != 0 && tmpfs {
		return fmt.Errorf("%w option o=%s: unknown", ErrInvalid, word)
	}
	if !vol.NeedsMount() {
		return fmt.Errorf("%w option o=%s: nothing is mounted without type or device", ErrInvalid, word)
	}
	return nil
}

// owner is who the volume was made for: what o said, or UID and GID.
func (vol *Volume) owner() (uid, gid int) {
	uid, gid = -1, -1
	if vol.UID != nil {
		uid = *vol.UID
	}
	if vol.GID != nil {
		gid = *vol.GID
	}
	for _, word := range vol.words() {
		key, value, _ := strings.Cut(word, "=")
		if n, err := strconv.Atoi(value); err == nil && key == "uid" {
			uid = n
		} else if err == nil && key == "gid" {
			gid = n
		}
	}
	return uid, gid
}

// OwnerGiven says whether the volume's owner was chosen when it was made.
func (vol *Volume) OwnerGiven() bool {
	uid, gid := vol.owner()
	return uid >= 0 || gid >= 0
}
