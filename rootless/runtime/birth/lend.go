package birth

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// lend makes a detached mount that the init stage, root only in its new user
// namespace, cannot make, and sends it; or sends why not.
func (p *Process) lend(m Message) error {
	fd, err := -1, error(nil)
	switch {
	case m.Stage == "open":
		flags := uint(unix.OPEN_TREE_CLONE | unix.OPEN_TREE_CLOEXEC)
		if m.Recursive {
			flags |= unix.AT_RECURSIVE
		}
		if fd, err = unix.OpenTree(unix.AT_FDCWD, m.Path, flags); err != nil {
			err = fmt.Errorf("cannot open %q: %w", m.Path, err)
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
	if err := unix.MountSetattr(int(mount.Fd()), "", flags, &attr); err != nil {
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
