// Package reaper is the minimal init of --init: it runs one program, passes
// signals on to it, and reaps whatever is left to PID 1.
package reaper

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// become is the option with which the init executes itself as its child, which then
// becomes the program. Any other is "--".
const become = "--become"

// Main runs argv and returns its exit code: 128+n when signal n ended it, 127
// when there is no such program, 126 when it cannot be executed. A program that is passed
// sockets is told that they are its own; see sd_listen_fds(3).
func Main(option string, argv []string) int {
	if len(argv) == 0 {
		fmt.Fprintln(os.Stderr, "moss-init: no program given")
		return 125
	}
	if option == become {
		os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		return failure(argv[1], syscall.Exec(argv[0], argv[1:], os.Environ()))
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	pid, code := start(argv)
	if code != 0 {
		return code
	}
	for s := range signals {
		sig := s.(syscall.Signal)
		switch {
		case sig == unix.SIGURG: // the Go scheduler's own
		case sig != unix.SIGCHLD:
			unix.Kill(pid, sig)
		default:
			if code, done := reap(pid); done {
				return code
			}
		}
	}
	return 0
}

func start(argv []string) (pid, code int) {
	path, err := exec.LookPath(argv[0])
	args := argv
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		// Its process ID is known to nobody before it is there.
		args = slices.Concat([]string{os.Args[0], become, path}, argv)
		path = os.Args[0]
	}
	if err == nil {
		attr := &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attributes()}
		pid, err = syscall.ForkExec(path, args, attr)
	}
	if err == nil {
		return pid, 0
	}
	return 0, failure(argv[0], err)
}

// failure says why there is no program, and tells the exit code.
func failure(name string, err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(os.Stderr, "moss: cannot run %q: not found\n", name)
		return 127
	}
	fmt.Fprintf(os.Stderr, "moss: cannot run %q: %v\n", name, err)
	return 126
}

// attributes gives the program a session and the terminal of its own, so that
// Ctrl-C reaches it and not the init.
func attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{}
	if _, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		a.Setpgid, a.Foreground, a.Ctty = true, true, 0
	}
	return a
}

// reap collects every child that has ended: SIGCHLDs are not counted.
func reap(main int) (code int, done bool) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || pid == 0 {
			return code, done
		}
		if pid == main {
			code, done = status.ExitStatus(), true
			if status.Signaled() {
				code = 128 + int(status.Signal())
			}
		}
	}
}
