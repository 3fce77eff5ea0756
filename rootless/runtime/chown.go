package runtime

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// owned is a mount that is to be given to the program's user once it is known who
// that is: by its descriptor, since whoever can write to a volume can change where
// a path leads.
type owned struct {
	target string
	fd     int
	whole  bool // with all that is in it
}

// keep remembers a mount that the document wants to be given away.
func (s *stage) keep(target string, fd int) error {
	if !slices.Contains(s.doc.Chown, target) {
		return nil
	}
	return s.own(target, fd, true)
}

func (s *stage) own(target string, fd int, whole bool) error {
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	s.owned = append(s.owned, owned{target, fd, whole})
	return nil
}

// chown gives those mounts to the user of the program.
func (s *stage) chown(who identity) error {
	for _, o := range s.owned {
		err := chownEntry(o.fd, "", who.uid, who.gid)
		if err == nil && o.whole {
			err = EachBelow(o.fd, func(dir int, name string) error { return chownEntry(dir, name, who.uid, who.gid) })
		}
		if err != nil {
			return fmt.Errorf("cannot give %q to user %d: %w", o.target, who.uid, err)
		}
		unix.Close(o.fd)
	}
	s.owned = nil
	return nil
}

// chownEntry gives one file away, if it is not given yet: a needless chown takes
// set-ID bits and file capabilities away, and costs a copy on an overlay.
func chownEntry(dir int, name string, uid, gid int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if int(st.Uid) == uid && int(st.Gid) == gid {
		return nil
	}
	return unix.Fchownat(dir, name, uid, gid, unix.AT_SYMLINK_NOFOLLOW|unix.AT_EMPTY_PATH)
}

// EachBelow calls do for everything below an open directory, and for nothing below
// what is no directory. It follows no symbolic link and enters no other mount,
// whatever is changed meanwhile. What disappears meanwhile is no error.
func EachBelow(fd int, do func(dir int, name string) error) error {
	var st unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MODE|unix.STATX_MNT_ID, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return eachIn(dir, st.Mnt_id, do)
}

func eachIn(dir int, mount uint64, do func(dir int, name string) error) error {
	names, err := readDir(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := eachEntry(dir, name, mount, do); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func eachEntry(dir int, name string, mount uint64, do func(dir int, name string) error) error {
	var st unix.Statx_t
	const at = unix.AT_SYMLINK_NOFOLLOW | unix.AT_NO_AUTOMOUNT
	if err := unix.Statx(dir, name, at, unix.STATX_MODE|unix.STATX_MNT_ID, &st); err != nil {
		return err
	}
	if st.Mnt_id != mount {
		return nil
	}
	if err := do(dir, name); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_XDEV | unix.RESOLVE_NO_SYMLINKS}
	sub, err := unix.Openat2(dir, name, &how)
	if err == unix.ENOTDIR || err == unix.ELOOP || err == unix.EXDEV { // it was another thing a moment ago
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(sub)
	return eachIn(sub, mount, do)
}
