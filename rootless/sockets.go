package rootless

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"moss/rootless/runtime"
	"moss/slirp"
)

// Socket is one that a service manager has passed to moss.
type Socket struct {
	File *os.File
	Name string
}

// PassedSockets are those that were passed to this process; see sd_listen_fds(3).
func PassedSockets() (list []Socket) {
	n, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || n <= 0 || os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	for i := range n {
		fd := 3 + i
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
			break
		}
		unix.CloseOnExec(fd) // whoever is to have it gets it
		s := Socket{File: os.NewFile(uintptr(fd), "socket "+strconv.Itoa(fd))}
		if i < len(names) {
			s.Name = names[i]
		}
		list = append(list, s)
	}
	return list
}

// takeSockets shares out what a service manager has passed: what listens at a published
// port is that port, the rest is the container's, from descriptor 3 on.
func (l *launch) takeSockets() error {
	if len(l.e.Sockets) == 0 {
		return nil
	}
	spec := &l.c.Spec
	connected := request(spec) != nil
	for _, s := range l.e.Sockets {
		proto, at, ok := slirp.Listening(int(s.File.Fd()))
		takes := func(p slirp.Port) bool { return p.Takes(proto, at) }
		if ok && connected && slices.ContainsFunc(spec.Network.Ports, takes) {
			l.sockets = append(l.sockets, s.File)
		} else {
			l.passed = append(l.passed, s)
		}
	}
	if len(l.sockets) > slirp.MaxSockets {
		return fmt.Errorf("%d sockets were passed for its ports; at most %d can be: %w", len(l.sockets), slirp.MaxSockets, errdefs.ErrInvalidArgument)
	}
	if len(l.passed) > 0 && len(l.preserve) > 0 {
		return fmt.Errorf("--preserve-fd and --preserve-fds cannot be combined with sockets of a service manager (LISTEN_FDS) that are none of its ports: %w", errdefs.ErrInvalidArgument)
	}
	if err := l.checkPassed(); err != nil {
		return err
	}
	for _, s := range l.passed {
		l.preserve = append(l.preserve, s.File)
	}
	l.cfg.Sockets = len(l.sockets)
	return nil
}

// checkPassed says why the program could not be told of the sockets that are its own: it
// takes them for somebody else's unless LISTEN_PID is its process ID.
func (l *launch) checkPassed() error {
	spec := &l.c.Spec
	switch pid := spec.Namespaces.PID; {
	case len(l.passed) == 0:
		return nil
	case spec.Process.Init && spec.Process.InitPath != "":
		return fmt.Errorf("sockets of a service manager (LISTEN_FDS) that are none of its ports cannot be passed to a program below --init-path, which does not tell it that they are its own: %w", errdefs.ErrInvalidArgument)
	case !native(spec) && (pid == "host" || strings.HasPrefix(pid, "container:") || strings.HasPrefix(pid, "ns:")):
		return fmt.Errorf("sockets of a service manager (LISTEN_FDS) that are none of its ports cannot be combined with --pid %s and OCI runtime %q, which does not tell the program that they are its own: %w", pid, spec.Runtime, errdefs.ErrInvalidArgument)
	}
	return nil
}

// socketsEnv tells the program of the sockets that are its own. LISTEN_PID is right in a PID
// namespace of its own; our runtime and the init of --init put the one in that is.
func (l *launch) socketsEnv(doc *runtime.Document) {
	if len(l.passed) == 0 {
		return
	}
	names := make([]string, len(l.passed))
	for i, s := range l.passed {
		names[i] = s.Name
	}
	env := []string{"LISTEN_PID=1", "LISTEN_FDS=" + strconv.Itoa(len(l.passed))}
	if os.Getenv("LISTEN_FDNAMES") != "" {
		env = append(env, "LISTEN_FDNAMES="+strings.Join(names, ":"))
	}
	doc.Spec.Process.Env = override(doc.Spec.Process.Env, env)
	doc.ListenPID = true
}
