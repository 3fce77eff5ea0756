package birth

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// lend makes a detached mount that the init stage, root only in its new user
// namespace, cannot make, and sends it; or sends why not.
func (p *Process) lend(m Message) error {
	fd, err := -1, error(nil)
	switch {
	case m.Stage == "open":
		fd, err = CloneTree(m.Within, m.Path, m.Recursive, m.NoLinks)
		if pid, path, ok := inContainer(m.Path); ok && m.Within == "" && errors.Is(err, unix.EINVAL) {
			if fd, err = foreignTree(pid, path, cloneFlags(m.Recursive)); err != nil {
				err = fmt.Errorf("cannot open %q: %w", m.Path, err)
			}
		}
	case m.Overlay != nil:
		fd, err = m.Overlay.mountByParts()
	default:
		err = errors.New("nothing to lend")
	}
	if err != nil {
		return unix.Sendmsg(p.sync, []byte(err.Error()), nil, nil, unix.MSG_NOSIGNAL)
	}
	defer unix.Close(fd)
	return unix.Sendmsg(p.sync, []byte{'f'}, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
}

// inContainer splits a path in the root directory of another process.
func inContainer(path string) (pid, inside string, ok bool) {
	rest, ok := strings.CutPrefix(path, "/proc/")
	if !ok {
		return "", "", false
	}
	pid, inside, ok = strings.Cut(rest, "/root/")
	return pid, "/" + inside, ok && strings.Trim(pid, "0123456789") == ""
}

// foreignTree clones what a process in another mount namespace has mounted at a
// path: a mount can be cloned from inside of its namespace only, open_tree(2). The
// thread that goes there is of no other use, and ends.
func foreignTree(pid, path string, flags uint) (int, error) {
	type result struct {
		fd  int
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked
		fd, err := func() (int, error) {
			ns, err := unix.Open("/proc/"+pid+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
			if err != nil {
				return -1, err
			}
			defer unix.Close(ns)
			// setns(2) wants a thread that shares its root directory with no other.
			if err := unix.Unshare(unix.CLONE_FS); err != nil {
				return -1, err
			}
			if err := unix.Setns(ns, unix.CLONE_NEWNS); err != nil {
				return -1, err
			}
			at, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_NO_SYMLINKS})
			if err != nil {
				return -1, err
			}
			defer unix.Close(at)
			return unix.OpenTree(at, "", flags|unix.AT_EMPTY_PATH)
		}()
		done <- result{fd, err}
	}()
	r := <-done
	return r.fd, r.err
}

// idmap gives a mount the ID map of a user namespace made for the purpose; see
// mount_setattr(2).
func (p *Process) idmap(m Message, mount *os.File) error {
	if mount == nil {
		return errors.New("cannot map IDs of mount: no mount was sent")
	}
	defer mount.Close()
	ns, err := namespaceWithMap(m.UIDMap, m.GIDMap)
	if err != nil {
		return fmt.Errorf("cannot map IDs of mount: %w", err)
	}
	defer ns.Close()
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(ns.Fd())}
	flags := uint(unix.AT_EMPTY_PATH)
	if m.Recursive {
		flags |= unix.AT_RECURSIVE
	}
	switch err := unix.MountSetattr(int(mount.Fd()), "", flags, &attr); err {
	case nil:
	case unix.EPERM:
		return errors.New("option idmap: the kernel lets only the owner of a file system do so (mount_setattr(2)), and the host's belongs to the host's root; a volume of type=tmpfs is your own")
	case unix.EINVAL:
		return errors.New("option idmap: the file system cannot, or its IDs are mapped already")
	default:
		return fmt.Errorf("cannot map IDs of mount: %w", err)
	}
	return p.send('i')
}

// namespaceWithMap makes a user namespace with these maps and nobody in it. The
// stopped process that holds it meanwhile is a tracee, so that it never runs.
func namespaceWithMap(uids, gids []IDMap) (*os.File, error) {
	if len(uids) == 0 || len(gids) == 0 {
		return nil, errors.New("there is no ID map")
	}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"_MOSS_HOST=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER, UidMappings: sysMap(split(uids, ownMap("/proc/self/uid_map"))), GidMappings: sysMap(split(gids, ownMap("/proc/self/gid_map"))),
		GidMappingsEnableSetgroups: unix.Geteuid() == 0, Ptrace: true, Pdeathsig: syscall.SIGKILL,
	}
	// A tracee belongs to the thread that made it.
	type result struct {
		f   *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		f, err := holdNamespace(cmd)
		done <- result{f, err}
	}()
	r := <-done
	return r.f, r.err
}

// holdNamespace starts the process, opens its user namespace and ends it.
func holdNamespace(cmd *exec.Cmd) (*os.File, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	return os.Open("/proc/" + strconv.Itoa(cmd.Process.Pid) + "/ns/user")
}
