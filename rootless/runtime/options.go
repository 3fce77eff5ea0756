package runtime

import (
	"fmt"
	"sort"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// options are the fstab-like options of one mount, understood.
type options struct {
	bind, recursive bool

	set, clear       uint64 // MOUNT_ATTR_*, for the mount itself
	setRec, clearRec uint64 // likewise, for all mounts below it
	propagation      uint64 // MS_SHARED, …; 0 leaves it
	propagationRec   bool
	flags            uintptr // MS_* that a new file system is mounted with

	copyUp   bool
	copyLink bool
	remount  bool
	idmap    bool
	idmapR   bool
	data     []string // for the file system
}

// attribute is an option that sets or clears attributes of a mount.
type attribute struct {
	attr  uint64
	clear bool
}

// attributes by name, after mount(8) and mount_setattr(2). Prefixed with r they
// hold for all mounts below as well; see OCI config.md, "Linux mount options".
var attributes = map[string]attribute{
	"ro": {unix.MOUNT_ATTR_RDONLY, false}, "rw": {unix.MOUNT_ATTR_RDONLY, true},
	"nosuid": {unix.MOUNT_ATTR_NOSUID, false}, "suid": {unix.MOUNT_ATTR_NOSUID, true},
	"nodev": {unix.MOUNT_ATTR_NODEV, false}, "dev": {unix.MOUNT_ATTR_NODEV, true},
	"noexec": {unix.MOUNT_ATTR_NOEXEC, false}, "exec": {unix.MOUNT_ATTR_NOEXEC, true},
	"nodiratime": {unix.MOUNT_ATTR_NODIRATIME, false}, "diratime": {unix.MOUNT_ATTR_NODIRATIME, true},
	"nosymfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, false}, "symfollow": {unix.MOUNT_ATTR_NOSYMFOLLOW, true},
}

// atimes exclude each other: mount_setattr wants the whole field cleared.
var atimes = map[string]uint64{
	"relatime": unix.MOUNT_ATTR_RELATIME, "noatime": unix.MOUNT_ATTR_NOATIME,
	"strictatime": unix.MOUNT_ATTR_STRICTATIME,
	// The opposites mean the kernel's default.
	"norelatime": unix.MOUNT_ATTR_STRICTATIME, "atime": unix.MOUNT_ATTR_RELATIME,
	"nostrictatime": unix.MOUNT_ATTR_RELATIME,
}

var propagations = map[string]uint64{
	"shared": unix.MS_SHARED, "slave": unix.MS_SLAVE,
	"private": unix.MS_PRIVATE, "unbindable": unix.MS_UNBINDABLE,
}

// superFlags are options of file systems, not of mounts.
var superFlags = map[string]uintptr{
	"sync": unix.MS_SYNCHRONOUS, "dirsync": unix.MS_DIRSYNC, "mand": unix.MS_MANDLOCK,
	"iversion": unix.MS_I_VERSION, "lazytime": unix.MS_LAZYTIME, "silent": unix.MS_SILENT,
}

// ignored options are the defaults, or are meant for mount(8) alone.
var ignored = map[string]bool{
	"defaults": true, "async": true, "nomand": true, "noiversion": true, "nolazytime": true,
	"loud": true, "acl": true,
}

// MountOptions lists the options that are known, for `features`.
func MountOptions() []string {
	names := []string{"bind", "rbind", "remount", "tmpcopyup", "copy-symlink", "idmap", "ridmap"}
	for name := range attributes {
		names = append(names, name, "r"+name)
	}
	for name := range atimes {
		names = append(names, name, "r"+name)
	}
	for name := range propagations {
		names = append(names, name, "r"+name)
	}
	for name := range superFlags {
		names = append(names, name)
	}
	for name := range ignored {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

// parseOptions understands the options of a mount.
func parseOptions(m *specs.Mount) (options, error) {
	o := options{bind: m.Type == "bind"}
	for _, name := range m.Options {
		switch name {
		case "":
			return o, fmt.Errorf("an option is empty")
		case "bind":
			o.bind = true
		case "rbind":
			o.bind, o.recursive = true, true
		case "remount":
			o.remount = true
		case "tmpcopyup":
			o.copyUp = true
		case "copy-symlink":
			o.copyLink = true
		case "idmap":
			o.idmap = true
		case "ridmap":
			o.idmap, o.idmapR = true, true
		default:
			o.word(name)
		}
	}
	if o.idmap && !o.bind {
		return o, fmt.Errorf("option idmap is for bind mounts")
	}
	if len(m.UIDMappings)+len(m.GIDMappings) > 0 {
		o.idmap = true
	}
	if o.bind {
		o.data = nil // what mount(2) would ignore
	}
	return o, nil
}

func (o *options) readOnly() bool { return (o.set|o.setRec)&unix.MOUNT_ATTR_RDONLY != 0 }

// word understands one option that is a mount attribute, a propagation or the
// file system's own.
func (o *options) word(name string) {
	if a, ok := attributes[name]; ok {
		o.attribute(a.attr, a.clear, false)
		return
	}
	if a, ok := atimes[name]; ok {
		o.atime(a, false)
		return
	}
	if p, ok := propagations[name]; ok {
		o.propagation, o.propagationRec = p, false
		return
	}
	if f, ok := superFlags[name]; ok {
		o.flags |= f
		return
	}
	if ignored[name] {
		return
	}
	if rest, ok := strings.CutPrefix(name, "r"); ok {
		if a, ok := attributes[rest]; ok {
			o.attribute(a.attr, a.clear, true)
			return
		}
		if a, ok := atimes[rest]; ok {
			o.atime(a, true)
			return
		}
		if p, ok := propagations[rest]; ok {
			o.propagation, o.propagationRec = p, true
			return
		}
	}
	o.data = append(o.data, name)
}

// attribute records one attribute; the last word counts.
func (o *options) attribute(attr uint64, clear, recursive bool) {
	set, unset := &o.set, &o.clear
	if recursive {
		set, unset = &o.setRec, &o.clearRec
	}
	if clear {
		set, unset = unset, set
	}
	*set |= attr
	*unset &^= attr
}

func (o *options) atime(attr uint64, recursive bool) {
	set, clear := &o.set, &o.clear
	if recursive {
		set, clear = &o.setRec, &o.clearRec
	}
	*set = *set&^unix.MOUNT_ATTR__ATIME | attr
	*clear |= unix.MOUNT_ATTR__ATIME
}

// mountFlags are the MS_* flags of mount(2) for the attributes.
func (o *options) mountFlags() uintptr {
	flags := o.flags
	for attr, flag := range map[uint64]uintptr{
		unix.MOUNT_ATTR_RDONLY: unix.MS_RDONLY, unix.MOUNT_ATTR_NOSUID: unix.MS_NOSUID,
		unix.MOUNT_ATTR_NODEV: unix.MS_NODEV, unix.MOUNT_ATTR_NOEXEC: unix.MS_NOEXEC,
		unix.MOUNT_ATTR_NODIRATIME: unix.MS_NODIRATIME, unix.MOUNT_ATTR_NOSYMFOLLOW: unix.MS_NOSYMFOLLOW,
	} {
		if o.set&attr != 0 {
			flags |= flag
		}
	}
	switch {
	case o.clear&unix.MOUNT_ATTR__ATIME == 0:
	case o.set&unix.MOUNT_ATTR__ATIME == unix.MOUNT_ATTR_NOATIME:
		flags |= unix.MS_NOATIME
	case o.set&unix.MOUNT_ATTR__ATIME == unix.MOUNT_ATTR_STRICTATIME:
		flags |= unix.MS_STRICTATIME
	default:
		flags |= unix.MS_RELATIME
	}
	return flags
}
