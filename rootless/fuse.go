package rootless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/userns/slack"
)

// fuseHome is the cgroup of the processes of fuse-overlayfs, which live as long as what they
// mount: that of the monitors. The caller's may be a unit, at whose end all that is in
// it is killed, and whoever looks at a file then gets ENOTCONN, or SIGBUS.
func (e *Engine) fuseHome() string {
	home, err := e.parent(context.Background()).Monitors()
	if err != nil {
		return "" // there are no cgroups
	}
	return home
}

// runFuse mounts with fuse-overlayfs, which then lives in the cgroup home, if it can.
func runFuse(options, target, home string) error {
	run := func(sys *syscall.SysProcAttr) error {
		cmd := exec.Command("fuse-overlayfs", "-o", options, target)
		cmd.SysProcAttr = sys
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		if err := slack.Exactly(func() error { return deaf(cmd.Run) }); err != nil {
			return fmt.Errorf("cannot mount with fuse-overlayfs: %w: %s", err, strings.TrimSpace(stderr.String()))
		}
		return nil
	}
	if dir, err := os.OpenFile(home, unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
		defer dir.Close()
		err := run(&syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())})
		if exit := (*exec.ExitError)(nil); err == nil || errors.As(err, &exit) {
			return err
		}
	}
	return run(nil) // from the caller's cgroup there is no way to that one
}

// deaf runs start with the signals blocked that ask a process to end, as what it starts
// inherits. At the end of a session all processes get one: what serves a file system
// must outlive the containers that still write there as they end. It ends when it is unmounted.
func deaf(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var set, old unix.Sigset_t
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM} {
		set.Val[0] |= 1 << (sig - 1)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &set, &old); err == nil {
		defer unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	}
	return start()
}
