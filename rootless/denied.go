package rootless

import (
	"context"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
	"moss/storage/image"
	"moss/userns"
)

// Denied explains why the container's user may not use a host path that is
// mounted in it, and with which flag it may: "" if there is nothing to explain.
// With write it is about writing, else about reading. It asks the kernel about the
// mounted paths themselves, and only where the container has the usual mapping:
// whoever chose another one knows.
func (e *Engine) Denied(ctx context.Context, spec *container.Spec, write bool) string {
	if m := spec.Namespaces.User; m != "" && m != "host" {
		return ""
	}
	var who *visitor
	for _, m := range spec.Rootfs.Mounts {
		if m.Type != "bind" || write && m.ReadOnly {
			continue
		}
		if who == nil {
			if who = e.visitor(ctx, spec); who == nil {
				return ""
			}
		}
		if why := who.denied(m, write); why != "" {
			return why
		}
	}
	return ""
}

// visitor is the user of the program, by the numbers of the kept namespace.
type visitor struct {
	name     string // as it was asked for
	uid, gid int
	groups   []int
	keep     bool // the caller's groups
	image    bool // it is the image's user
}

func (e *Engine) visitor(ctx context.Context, spec *container.Spec) *visitor {
	p := &spec.Process
	v := &visitor{name: p.User}
	var groups []string
	for _, g := range p.Groups {
		if v.keep = v.keep || g == "keep-groups"; g != "keep-groups" {
			groups = append(groups, g)
		}
	}
	if p.User == "" || p.User == "0" || p.User == "root" || p.User == "0:0" {
		return v // as which moss itself asks
	}
	var img *image.Image
	if spec.Rootfs.Path == "" {
		var err error
		if img, err = e.imageOf(ctx, spec); err != nil {
			return nil
		}
		v.image = img.Config.User == p.User
	}
	var err error
	if v.uid, v.gid, v.groups, err = accountsOf(spec, img).identify(p.User, groups); err != nil {
		return nil // the start itself says so
	}
	return v
}

// denied explains one mount.
func (v *visitor) denied(m container.Mount, write bool) string {
	var st unix.Stat_t
	if unix.Stat(m.Source, &st) != nil {
		return ""
	}
	mode, verb := uint32(unix.R_OK), "read"
	if st.Mode&unix.S_IFMT == unix.S_IFDIR {
		mode |= unix.X_OK
	}
	if write {
		mode, verb = unix.W_OK, "write to"
	}
	if v.may(m.Source, mode, v.keep) {
		return ""
	}
	user := "root"
	if v.uid != 0 {
		user = "user " + strconv.Itoa(v.uid)
		if name, _, _ := strings.Cut(v.name, ":"); name != strconv.Itoa(v.uid) {
			user += " (" + name + ")"
		}
	}
	return fmt.Sprintf("%s of the container may not %s %q, mounted on %q: %s, and has mode %#o; %s",
		user, verb, m.Source, m.Target, ownerSeen(&st), st.Mode&0o7777, v.cure(m, &st, mode))
}

// overflow is who the kernel shows for owners that a user namespace does not have.
const overflow = 65534

// ownerSeen says whose a path is, here and in the container.
func ownerSeen(st *unix.Stat_t) string {
	self, err := userns.Self()
	switch {
	case err != nil:
	case st.Uid == 0:
		return fmt.Sprintf("it belongs to you (%d), whom the container sees as root (0)", self.UID)
	case st.Uid != overflow:
		for _, l := range self.UIDMap {
			if n := int(st.Uid) - l.Container; n >= 0 && n < l.Size {
				return fmt.Sprintf("it belongs to your subordinate user %d, whom the container sees as %d", l.Host+n, st.Uid)
			}
		}
	}
	return fmt.Sprintf("it belongs to another user of the host, whom the container sees as nobody (%d)", st.Uid)
}

// cure names the flag that helps, by asking the kernel what would.
func (v *visitor) cure(m container.Mount, st *unix.Stat_t, mode uint32) string {
	me := visitor{}
	switch {
	case v.uid != 0 && st.Uid == 0 && me.may(m.Source, mode, true):
		flag := "--as " + strconv.Itoa(v.uid)
		if v.image {
			flag = "--as image"
		}
		return fmt.Sprintf("%s makes you that user (as does --userns=keep-id:uid=%d,gid=%d)", flag, v.uid, v.gid)
	case !v.keep && v.may(m.Source, mode, true):
		return "--group-add keep-groups lets the container have your groups, one of which may"
	case v.uid != 0 && st.Uid != 0 && st.Uid != overflow:
		return fmt.Sprintf("-v %s:%s:U gives it to the container's user", m.Source, m.Target)
	case v.uid != 0 && me.may(m.Source, mode, false):
		return "--as " + strconv.Itoa(v.uid) + " makes you that user"
	}
	return "you yourself may not either"
}

// may asks the kernel, about the path itself: those above it the container does not
// walk. Whoever is not root asks in a thread that has become that user for files;
// capabilities for files go with it, see setfsuid(2). The thread ends with its
// goroutine.
func (v *visitor) may(path string, mode uint32, callersGroups bool) bool {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return true // there is another error to tell
	}
	defer unix.Close(fd)
	ask := func() bool {
		return unix.Faccessat2(fd, "", mode, unix.AT_EACCESS|unix.AT_EMPTY_PATH) != unix.EACCES
	}
	if v.uid == 0 && callersGroups {
		return ask()
	}
	answer := make(chan bool, 1)
	go func() {
		runtime.LockOSThread()
		if !callersGroups {
			// Of this thread only. Where it is refused the container keeps them too.
			unix.Setgroups(v.groups)
		}
		unix.SetfsgidRetGid(v.gid)
		unix.SetfsuidRetUid(v.uid)
		answer <- ask()
	}()
	return <-answer
}
