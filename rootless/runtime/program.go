package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/rootless/runtime/seccomp"
	"moss/userns/slack"
)

// program finds out, inside the root filesystem, who runs what where. Whatever
// can be known to fail fails here, before the caller says go.
func (s *stage) program() error {
	p := s.spec.Process
	if len(p.Args) == 0 || p.Args[0] == "" {
		return errors.New("cannot start container: it has no program to run")
	}
	master := s.who.master
	who, err := identify(p, s.doc.User, s.doc.Groups, s.doc.SetHome)
	if err != nil {
		return &failure{126, err} // as podman has it
	}
	if err := s.chown(who); err != nil {
		return err
	}
	s.secretVariables(p)
	who.master, who.keep = master, s.doc.KeepGroups
	s.who = who
	if s.doc.SetHome && lookupEnv(p.Env, "HOME") == "" {
		p.Env = append(p.Env, "HOME="+who.home)
	}
	if s.doc.ListenPID {
		p.Env = withVariable(p.Env, "LISTEN_PID", strconv.Itoa(os.Getpid()))
	}
	if err := s.changeDirectory(p.Cwd, s.doc.MakeCwd); err != nil {
		return err
	}
	if s.path, err = findProgram(p.Args[0], p.Env); err != nil {
		return err
	}
	if err := s.useTerminal(); err != nil {
		return err
	}
	return s.giveStreams()
}

// changeDirectory enters the working directory, and makes sure that it is one of
// the container's: a path through a descriptor of the host's that was left open
// would lead out (CVE-2024-21626).
func (s *stage) changeDirectory(dir string, make bool) error {
	if dir == "" {
		dir = "/"
	}
	err := unix.Chdir(dir)
	if errors.Is(err, unix.ENOENT) && make {
		if err = makeDirectories(dir); err == nil {
			err = unix.Chdir(dir)
		}
	}
	if err == unix.EACCES && s.who.uid != 0 {
		// On a file system where only the user may enter it.
		s.lateCwd = dir
		return unix.Chdir("/")
	}
	if err != nil {
		return &failure{126, fmt.Errorf("cannot change to working directory %q: %w", dir, err)} // as podman has it
	}
	return insideRoot()
}

// insideRoot checks the working directory: the kernel prefixes "(unreachable)"
// to one that is outside of the root; see getcwd(2).
func insideRoot() error {
	var buf [unix.PathMax]byte
	n, err := unix.Getcwd(buf[:])
	if err != nil {
		return fmt.Errorf("cannot find working directory: %w", err)
	}
	if n == 0 || buf[0] != '/' {
		return errors.New("cannot use working directory: it is outside of the container")
	}
	return nil
}

func makeDirectories(dir string) error {
	at := "/"
	for part := range strings.SplitSeq(dir, "/") {
		at = path.Join(at, part)
		if err := unix.Mkdir(at, 0o755); err != nil && err != unix.EEXIST && err != unix.EROFS {
			return err
		}
	}
	return nil
}

// defaultPath is where programs are looked for if the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// findProgram finds a program as execvp(3) does.
func findProgram(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, checkProgram(name, name)
	}
	search := lookupEnv(env, "PATH")
	if search == "" {
		search = defaultPath
	}
	var denied error
	for dir := range strings.SplitSeq(search, ":") {
		if dir == "" {
			dir = "."
		}
		candidate := path.Join(dir, name)
		if dir == "." {
			candidate = "./" + name
		}
		err := checkProgram(name, candidate)
		if err == nil {
			return candidate, nil
		}
		if f, ok := err.(*failure); ok && f.code == 126 && denied == nil {
			denied = err
		}
	}
	if denied != nil {
		return "", denied
	}
	return "", &failure{127, fmt.Errorf("cannot run %q: not found in PATH", name)}
}

// checkProgram tells why a file cannot be a program: 127 if there is none.
func checkProgram(name, file string) error {
	var st unix.Stat_t
	switch err := unix.Stat(file, &st); {
	case err == unix.ENOENT || err == unix.ENOTDIR:
		return &failure{127, fmt.Errorf("cannot run %q: not found", name)}
	case err != nil:
		return &failure{126, fmt.Errorf("cannot run %q: %w", name, err)}
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return &failure{126, fmt.Errorf("cannot run %q: is a directory", name)}
	case st.Mode&0o111 == 0:
		return &failure{126, fmt.Errorf("cannot run %q: permission denied", name)}
	}
	return nil
}

func lookupEnv(env []string, name string) string {
	value := ""
	for _, e := range env {
		if n, v, ok := strings.Cut(e, "="); ok && n == name {
			value = v
		}
	}
	return value
}

// execute becomes the user and executes the program: it returns only errors.
func (s *stage) execute() error {
	p := s.spec.Process
	if err := s.startHooks(); err != nil {
		return err
	}
	if err := setPersonality(s.spec.Linux.Personality); err != nil {
		return err
	}
	if err := s.arrangeDescriptors(); err != nil {
		return err
	}
	umask := uint32(0o022)
	if p.User.Umask != nil {
		umask = *p.User.Umask
	}
	unix.Umask(int(umask))
	if err := setRlimits(p.Rlimits); err != nil {
		return err
	}
	if err := s.become(); err != nil {
		return err
	}
	if s.bound {
		if err := s.dieWithCaller(); err != nil {
			return err
		}
	}
	if s.filter != nil {
		fd, err := seccomp.Load(s.filter, s.flags)
		if err != nil {
			return err
		}
		if s.listener {
			if err := s.passListener(fd); err != nil {
				return err
			}
		}
	}
	// Nothing below may need more than execve: see become.
	// syscall.Exec waits for threads that are being made, and puts
	// RLIMIT_NOFILE back if nobody has set it.
	resetSignals()
	slack.Reset()
	return execFailure(p.Args[0], syscall.Exec(s.path, p.Args, p.Env))
}

// dieWithCaller has the program killed when the caller is: a change of credentials
// would take that back, see PR_SET_PDEATHSIG(2const). The caller may have died already.
func (s *stage) dieWithCaller() error {
	if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0); errno != 0 {
		return fmt.Errorf("cannot bind program to its caller: %w", errno)
	}
	fds := []unix.PollFd{{Fd: int32(s.sync), Events: unix.POLLRDHUP}}
	if n, _ := unix.Poll(fds, 0); n > 0 && fds[0].Revents&(unix.POLLRDHUP|unix.POLLHUP) != 0 {
		return errors.New("cannot run program: the caller has left")
	}
	return nil
}

// execFailure explains what execve(2) says.
func execFailure(name string, err error) error {
	switch err {
	case syscall.ENOENT: // it was there a moment ago
		return &failure{127, fmt.Errorf("cannot run %q: not found (or its interpreter is not)", name)}
	case syscall.ENOEXEC:
		return &failure{126, fmt.Errorf("cannot run %q: not a program for this machine", name)}
	}
	return &failure{126, fmt.Errorf("cannot run %q: %w", name, err)}
}

// arrangeDescriptors moves the inherited descriptors to 3 and up, and has execve
// close everything else: what the program inherits is what was asked for.
func (s *stage) arrangeDescriptors() error {
	holes := strings.Fields(os.Getenv("_MOSS_HOLES"))
	for i := range s.extra {
		if slices.Contains(holes, strconv.Itoa(i)) {
			unix.Close(3 + i)
			continue
		}
		if err := unix.Dup3(4+i, 3+i, 0); err != nil {
			return fmt.Errorf("cannot pass on descriptor %d: %w", 3+i, err)
		}
	}
	if err := unix.CloseRange(uint(3+s.extra), ^uint(0)>>1&0xffffffff, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("cannot close descriptors: %w", err)
	}
	return nil
}
