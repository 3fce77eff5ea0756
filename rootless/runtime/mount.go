package runtime

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime/birth"
)

// mount mounts one entry of spec.Mounts.
func (s *stage) mount(m *specs.Mount) error {
	o, err := parseOptions(m)
	if err == nil && !strings.HasPrefix(m.Destination, "/") {
		// Relative ones mean the root; see OCI config.md, "Mounts".
		err = s.mountAt(m, &o, "/"+m.Destination)
	} else if err == nil {
		err = s.mountAt(m, &o, m.Destination)
	}
	if err != nil {
		return fmt.Errorf("cannot mount %q: %w", m.Destination, err)
	}
	return nil
}

func (s *stage) mountAt(m *specs.Mount, o *options, target string) error {
	if o.remount {
		return s.remount(o, target)
	}
	if o.bind {
		return s.bind(m, o, target)
	}
	switch m.Type {
	case "proc":
		return s.mountProc(m, o, target)
	case "sysfs":
		return s.mountSys(m, o, target)
	case "cgroup", "cgroup2":
		return s.mountCgroup(m, o, target)
	case "tmpfs", "ramfs":
		return s.mountTmpfs(m, o, target)
	case "devpts":
		return s.mountDevpts(m, o, target)
	case "":
		return errors.New("it has no type")
	}
	fd, err := s.makeTarget(target, true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return s.newMount(m, o, target, fd)
}

// newMount mounts a file system on an open directory.
func (s *stage) newMount(m *specs.Mount, o *options, target string, fd int) error {
	data := o.data
	if l := s.spec.Linux.MountLabel; l != "" && hostSELinux() && m.Type != "proc" && m.Type != "sysfs" {
		data = append(data[:len(data):len(data)], "context=\""+l+"\"")
	}
	source := m.Source
	if source == "" {
		source = m.Type
	}
	flags := o.mountFlags()
	// What is put into it is put there first.
	if target == "/dev" || o.copyUp {
		flags &^= unix.MS_RDONLY
	}
	if err := unix.Mount(source, fdPath(fd), m.Type, flags, strings.Join(data, ",")); err != nil {
		return err
	}
	if o.setRec|o.clearRec|o.propagation == 0 {
		return nil
	}
	top, err := s.target(target)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	return o.apply(top)
}

// apply sets attributes and propagation of an open mount.
func (o *options) apply(fd int) error {
	if o.setRec|o.clearRec != 0 {
		attr := unix.MountAttr{Attr_set: o.setRec, Attr_clr: o.clearRec}
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
			return fmt.Errorf("cannot set recursive attributes: %w", err)
		}
	}
	if o.propagation != 0 {
		attr := unix.MountAttr{Propagation: o.propagation}
		flags := uint(unix.AT_EMPTY_PATH)
		if o.propagationRec {
			flags |= unix.AT_RECURSIVE
		}
		if err := unix.MountSetattr(fd, "", flags, &attr); err != nil {
			return fmt.Errorf("cannot set propagation: %w", err)
		}
	}
	return nil
}

// setAttributes sets o's attributes on one mount. Clearing what the owner of an
// outer user namespace has locked is not possible (mount_namespaces(7)): such a
// mount keeps it, as with any other tool.
func (o *options) setAttributes(fd int, flags uint) error {
	attr := unix.MountAttr{Attr_set: o.set, Attr_clr: o.clear}
	if attr.Attr_set|attr.Attr_clr == 0 {
		return nil
	}
	err := unix.MountSetattr(fd, "", flags, &attr)
	if err == unix.EPERM && attr.Attr_clr != 0 {
		attr.Attr_clr = 0
		attr.Attr_set &^= unix.MOUNT_ATTR__ATIME
		if attr.Attr_set == 0 {
			return nil
		}
		err = unix.MountSetattr(fd, "", flags, &attr)
	}
	if err != nil {
		return fmt.Errorf("cannot set attributes: %w", err)
	}
	return nil
}

// remount changes attributes of what is mounted already.
func (s *stage) remount(o *options, target string) error {
	fd, err := s.target(target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := o.setAttributes(fd, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	return o.apply(fd)
}

// bind clones the source's mount, gives the clone its attributes before anyone
// can see it, and attaches it.
func (s *stage) bind(m *specs.Mount, o *options, target string) error {
	if from, ok := s.doc.Sources[m.Destination]; ok && from.Overlay != nil {
		return s.bindOverlay(m, o, target, from)
	}
	if o.copyLink {
		if done, err := s.copyLink(m.Source, target); done || err != nil {
			return err
		}
	}
	tree, err := s.sourceTree(m, o.recursive)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if o.readOnly() && slices.Contains(s.doc.Chown, m.Destination) {
		// Given away through a clone that is never attached.
		again, err := s.sourceTree(m, false)
		if err != nil {
			return err
		}
		defer unix.Close(again)
		if err := s.own(m.Destination, again, true); err != nil {
			return err
		}
	}
	fd, err := s.makeTarget(target, isDirectory(tree))
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return s.finishBind(m, o, tree, fd)
}

// attach puts a detached mount on an open path.
func attach(tree, target int) error {
	return unix.MoveMount(tree, "", target, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}

// mountProc mounts proc. A kernel that would thereby show what is covered in the
// caller's /proc refuses (EPERM; mount_too_revealing in fs/namespace.c), as inside
// of another container: then the caller's is passed on, covers included.
func (s *stage) mountProc(m *specs.Mount, o *options, target string) error {
	fd, err := s.realDirectory(target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = s.newMount(m, o, target, fd)
	if err == unix.EPERM {
		return s.pass("/proc", o, fd)
	}
	return err
}

// mountSys mounts sysfs, whose network half belongs to the network namespace: who
// is in the host's may not, and gets the host's /sys read-only.
func (s *stage) mountSys(m *specs.Mount, o *options, target string) error {
	fd, err := s.realDirectory(target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = s.newMount(m, o, target, fd)
	if err == unix.EPERM {
		o.setRec |= unix.MOUNT_ATTR_RDONLY
		return s.pass("/sys", o, fd)
	}
	return err
}

// pass binds a directory of the host with all that is mounted in it.
func (s *stage) pass(source string, o *options, target int) error {
	tree, err := s.cloneTree(source, true)
	if err != nil {
		return err
	}
	defer unix.Close(tree)
	if err := o.setAttributes(tree, unix.AT_EMPTY_PATH); err != nil {
		return err
	}
	if o.propagation == 0 {
		o.propagation, o.propagationRec = unix.MS_PRIVATE, true
	}
	if err := attach(tree, target); err != nil {
		return err
	}
	return o.apply(tree)
}

// realDirectory opens a path that may not lead over symbolic links: an image
// whose /proc is a link would have masks put where nothing is to mask.
func (s *stage) realDirectory(target string) (int, error) {
	fd, err := openIn(s.root, target, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
	if errors.Is(err, unix.ENOENT) {
		if fd, err = s.makeTarget(target, true); err == nil {
			unix.Close(fd)
			fd, err = openIn(s.root, target, unix.O_PATH, unix.RESOLVE_NO_SYMLINKS)
		}
	}
	if err == unix.ELOOP {
		return -1, errors.New("it is a symbolic link in the image")
	}
	if err == nil && !isDirectory(fd) {
		unix.Close(fd)
		return -1, unix.ENOTDIR
	}
	return fd, err
}

// mountCgroup mounts the cgroup2 hierarchy: in a cgroup namespace of its own the
// container sees its own cgroup as the root. Otherwise the host's is bound.
func (s *stage) mountCgroup(m *specs.Mount, o *options, target string) error {
	fd, err := s.realDirectory(target)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	cgroup := *m
	cgroup.Type = "cgroup2"
	o.data = nil // those of version 1
	err = s.newMount(&cgroup, o, target, fd)
	if err == unix.EPERM || err == unix.EBUSY {
		return s.pass("/sys/fs/cgroup", o, fd)
	}
	return err
}

// mountDevpts mounts a private devpts.
func (s *stage) mountDevpts(m *specs.Mount, o *options, target string) error {
	fd, err := s.makeTarget(target, true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = s.newMount(m, o, target, fd)
	if err != unix.EINVAL {
		return err
	}
	// Group 5 is not mapped where the user has no subordinate IDs.
	var rest []string
	for _, option := range o.data {
		if !strings.HasPrefix(option, "gid=") {
			rest = append(rest, option)
		}
	}
	if len(rest) == len(o.data) {
		return err
	}
	o.data = rest
	return s.newMount(m, o, target, fd)
}

// mountTmpfs mounts a tmpfs, and with tmpcopyup fills it from the image.
func (s *stage) mountTmpfs(m *specs.Mount, o *options, target string) error {
	fd, err := s.makeTarget(target, true)
	if err != nil {
		return err
	}
	defer unix.Close(fd)

	var below unix.Stat_t
	if err := unix.Fstat(fd, &below); err != nil {
		return err
	}
	// As the directory below it, unless told otherwise.
	if !hasOption(o.data, "mode=") && path.Clean(target) != "/dev" {
		o.data = append(o.data, fmt.Sprintf("mode=%o", below.Mode&0o7777))
	}
	if err := s.newMount(m, o, target, fd); err != nil {
		return err
	}
	if !o.copyUp && !slices.Contains(s.doc.Chown, m.Destination) {
		return nil
	}
	top, err := s.target(target)
	if err != nil {
		return err
	}
	defer unix.Close(top)
	if err := s.keep(m.Destination, top); err != nil || !o.copyUp {
		return err
	}
	if err := copyTree(fd, top); err != nil {
		return fmt.Errorf("cannot copy up: %w", err)
	}
	if err := chmodRoot(top, o.data); err != nil {
		return err
	}
	return o.setAttributes(top, unix.AT_EMPTY_PATH)
}

// chmodRoot gives the top of a tmpfs the mode that was asked for again: the copy
// has made it like the directory below.
func chmodRoot(top int, data []string) error {
	for _, option := range data {
		text, ok := strings.CutPrefix(option, "mode=")
		if !ok {
			continue
		}
		mode, err := strconv.ParseUint(text, 8, 12)
		if err != nil {
			return fmt.Errorf("cannot use mode %q: not an octal number", text)
		}
		fd, err := unix.Openat(top, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Fchmod(fd, uint32(mode))
	}
	return nil
}

func hasOption(data []string, prefix string) bool {
	for _, option := range data {
		if strings.HasPrefix(option, prefix) {
			return true
		}
	}
	return false
}

// idmapped gives a detached clone its ID map: that of a user namespace made for
// the purpose; see mount_setattr(2).
func (s *stage) idmapped(m *specs.Mount, o *options, tree int) error {
	request := birth.Message{Stage: "idmap", Recursive: o.idmapR,
		UIDMap: idMap(m.UIDMappings), GIDMap: idMap(m.GIDMappings)}
	if len(request.UIDMap) == 0 { // the container's own
		request.UIDMap, request.GIDMap = idMap(s.spec.Linux.UIDMappings), idMap(s.spec.Linux.GIDMappings)
	}
	if err := s.send(request, tree); err != nil {
		return err
	}
	return s.await('i')
}

// fromCaller asks the caller for a descriptor that this process may not open.
func (s *stage) fromCaller(request birth.Message) (int, error) {
	if err := s.send(request, -1); err != nil {
		return -1, err
	}
	var data [4096]byte
	var oob [64]byte
	n, oobn, _, _, err := unix.Recvmsg(s.sync, data[:], oob[:], unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) == 0 {
		return -1, errors.New(string(data[:n]))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("cannot take descriptor from the caller")
	}
	return fds[0], nil
}
