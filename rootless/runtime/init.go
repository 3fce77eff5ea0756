package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/runtime/birth"
	"moss/rootless/runtime/seccomp"
)

// stage is an init stage: a process on its way to becoming the user's program.
// It runs on one locked thread, by raw system calls where Go's would change all
// threads: execve keeps the calling thread only.
type stage struct {
	spec *specs.Spec
	doc  *Document

	sync  int  // SOCK_SEQPACKET to the caller; see birth.Process
	bound bool // the program is killed with its caller
	extra int  // descriptors that the program inherits from 3 on
	root  int  // the root filesystem, O_PATH; valid until pivot_root
	proc  int  // the caller's /proc: no image had a hand in it

	filter   []byte // BPF
	flags    uint   // of seccomp(2)
	listener bool   // the profile wants its notify descriptor passed on
	wait     int    // descriptor of a listening socket where `start` knocks; -1
	who      identity
	path     string // the program
	tty      int    // the slave of the console; -1
	empty    int    // a detached, empty, read-only tmpfs; -1
	null     int    // the host's /dev/null, O_PATH; -1
	lateCwd  string // working directory that only the user may enter
	mayMknod bool   // not refused so far
	owned    []owned
	secrets  [][]byte // content of doc.Secrets
}

// Init is `moss-runtime init DOCUMENT`: it turns the process that birth.Start has
// cloned into the container's program. It returns when it has failed, with the
// exit code. The caller has locked the thread before main.
func Init(args []string) int {
	s := newStage()
	if len(args) != 1 {
		return s.fail(errors.New("cannot start container: init wants one document"))
	}
	if os.Getenv("_MOSS_LATER") != "" {
		if err := s.await('d'); err != nil {
			return s.fail(err)
		}
	}
	data, err := os.ReadFile(args[0])
	if err != nil {
		return s.fail(fmt.Errorf("cannot read document: %w", err))
	}
	if s.doc, err = readDocument(data); err != nil {
		return s.fail(fmt.Errorf("cannot read document %q: %w", args[0], err))
	}
	s.spec = s.doc.Spec
	return s.fail(s.container()) // what succeeds does not return
}

// newStage takes over what birth has prepared.
func newStage() *stage {
	// Nobody may look into this process before it is the program: its
	// descriptors and its memory are the host's. See also birth/image.go.
	unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	s := &stage{sync: 3, root: -1, proc: -1, wait: -1, tty: -1, empty: -1, null: -1, mayMknod: true}
	s.who.master = -1
	unix.Umask(0) // modes are as written
	s.extra, _ = strconv.Atoi(os.Getenv("_MOSS_FDS"))
	unix.CloseOnExec(s.sync)
	if s.extra > 0 { // the program's descriptors begin at 3
		if fd, err := unix.FcntlInt(3, unix.F_DUPFD_CLOEXEC, 3+1+s.extra); err == nil {
			s.sync = fd
		}
	}
	return s
}

// container does all of a container's first process.
func (s *stage) container() error {
	if s.spec == nil || s.spec.Linux == nil || s.spec.Process == nil || s.spec.Root == nil {
		return errors.New("cannot start container: its specification lacks process, root or linux")
	}
	if os.Getenv("_MOSS_MAP") != "" {
		if err := s.ask("map", 'm'); err != nil {
			return err
		}
	}
	if err := s.loadFilter(s.doc.SeccompBPF, s.spec.Linux.Seccomp); err != nil {
		return err
	}
	if err := s.readSecrets(); err != nil {
		return err
	}
	becomeRoot() // who may no longer read the caller's files
	unix.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	if s.doc.StartFD > 0 {
		s.wait = s.doc.StartFD
		unix.CloseOnExec(s.wait)
	}

	if err := s.prepare(); err != nil {
		return err
	}
	if err := s.filesystem(); err != nil {
		return err
	}
	if err := s.program(); err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return err
	}
	if err := s.startWait(); err != nil {
		return err
	}
	return s.execute()
}

// prepare does what needs the caller's view of the host.
func (s *stage) prepare() error {
	if err := s.openProc(); err != nil {
		return err
	}
	if err := s.makeTime(); err != nil {
		return err
	}
	if err := s.names(); err != nil {
		return err
	}
	if _, made := has(s.spec, specs.NetworkNamespace); made {
		if err := loopbackUp(); err != nil {
			return err
		}
	}
	if err := s.limits(s.spec.Process); err != nil {
		return err
	}
	return s.label(s.spec.Process)
}

// loadFilter reads or compiles the seccomp filter.
func (s *stage) loadFilter(file string, profile *specs.LinuxSeccomp) (err error) {
	if file != "" {
		if s.filter, err = os.ReadFile(file); err != nil {
			return fmt.Errorf("cannot read seccomp filter: %w", err)
		}
		s.flags = seccomp.DefaultFlags
		return nil
	}
	if profile == nil {
		return nil
	}
	if s.filter, err = seccomp.Compile(profile); err != nil {
		return err
	}
	s.flags, s.listener, err = seccomp.Flags(profile)
	return err
}

// names sets host and domain name.
func (s *stage) names() error {
	own, _ := has(s.spec, specs.UTSNamespace)
	if !own && s.spec.Hostname+s.spec.Domainname != "" {
		return errors.New("cannot set host name: the container has no uts namespace of its own")
	}
	if s.spec.Hostname != "" {
		if err := unix.Sethostname([]byte(s.spec.Hostname)); err != nil {
			return fmt.Errorf("cannot set host name %q: %w", s.spec.Hostname, err)
		}
	}
	if s.spec.Domainname != "" {
		if err := unix.Setdomainname([]byte(s.spec.Domainname)); err != nil {
			return fmt.Errorf("cannot set domain name %q: %w", s.spec.Domainname, err)
		}
	}
	return nil
}

// ask sends a stage and waits for its answer.
func (s *stage) ask(name string, answer byte) error {
	if err := s.send(birth.Message{Stage: name}, -1); err != nil {
		return err
	}
	return s.await(answer)
}

// await waits for one byte from the caller.
func (s *stage) await(want byte) error {
	var b [1]byte
	for {
		n, err := unix.Read(s.sync, b[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n != 1 || b[0] != want {
			return errors.New("cannot start process: the caller has left")
		}
		return nil
	}
}

// send sends a message, with a descriptor unless fd is -1.
func (s *stage) send(m birth.Message, fd int) error {
	data, err := record.Encode(m)
	if err != nil {
		return err
	}
	var rights []byte
	if fd >= 0 {
		rights = unix.UnixRights(fd)
	}
	if err := unix.Sendmsg(s.sync, data, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("cannot write to the caller: %w", err)
	}
	return nil
}

// failure is an error with moss's exit code.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail tells the caller (or `start`, if it has knocked) and returns the exit code.
func (s *stage) fail(err error) int {
	code := 125
	var f *failure
	if errors.As(err, &f) {
		code = f.code
	}
	s.send(birth.Message{Error: err.Error(), Code: code}, -1)
	return code
}

// ready tells that only the execution is left, and waits for the word.
func (s *stage) ready() error {
	master := -1
	if s.doc != nil && s.doc.Console {
		master = s.who.master
	}
	if err := s.send(birth.Message{Stage: "ready"}, master); err != nil {
		return err
	}
	if master >= 0 {
		unix.Close(master)
	}
	return s.await('g')
}

// startWait waits for `moss-runtime start` to knock, where the OCI command line
// has separated create from start: the sync socket becomes that connection.
func (s *stage) startWait() error {
	if s.wait < 0 {
		return nil
	}
	// The end of file tells create that its work is done.
	unix.Close(s.sync)
	for {
		fd, _, err := unix.Accept4(s.wait, unix.SOCK_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot wait for start: %w", err)
		}
		s.sync = fd
		return s.await('g')
	}
}
