package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// ExecInit is `moss-runtime exec-init DOCUMENT`: it turns the process that
// birth.Exec has brought into a container's namespaces into one more program
// there. The document is an open descriptor: its number. It returns when it has
// failed, with the exit code.
//
// Here the container may be hostile and is running. Until execve this process is
// not dumpable, all its descriptors but the wanted ones are closed by execve, its
// own program file is on a read-only mount (birth/image.go), it reads nothing
// from the container before it has joined the mount namespace, and of that only
// /etc/passwd, /etc/group and the program, as the container's root would.
func ExecInit(args []string) int {
	s := newStage()
	if len(args) != 1 {
		return s.fail(errors.New("cannot execute in container: exec-init wants one document"))
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return s.fail(fmt.Errorf("cannot execute in container: document %q is not a descriptor", args[0]))
	}
	data, err := readAll(fd)
	if err != nil {
		return s.fail(fmt.Errorf("cannot read document: %w", err))
	}
	unix.Close(fd)
	doc, err := readExecDocument(data)
	if err != nil {
		return s.fail(fmt.Errorf("cannot read document: %w", err))
	}
	return s.fail(s.exec(doc)) // what succeeds does not return
}

func (s *stage) exec(doc *ExecDocument) error {
	if doc.Process == nil {
		return errors.New("cannot execute in container: the document has no process")
	}
	// What the stages look at is the same as for a first process.
	s.spec = &specs.Spec{Process: doc.Process, Linux: &specs.Linux{Seccomp: doc.Seccomp, Personality: doc.Personality}}
	s.doc = &Document{Spec: s.spec, User: doc.User, Groups: doc.Groups, SetHome: doc.SetHome, Console: doc.Console}
	s.bound = doc.Bound
	if err := s.loadFilter(doc.SeccompBPF, doc.Seccomp); err != nil {
		return err
	}
	becomeRoot()
	unix.RawSyscall(unix.SYS_SETSID, 0, 0, 0)
	if err := s.openProc(); err != nil {
		return err
	}
	if err := s.limits(doc.Process); err != nil {
		return err
	}
	if err := setAffinity(doc.Process.ExecCPUAffinity); err != nil {
		return err
	}
	if err := s.label(doc.Process); err != nil {
		return err
	}
	if err := joinMounts(); err != nil {
		return err
	}
	if err := s.aside(doc.Aside); err != nil {
		return err
	}
	if doc.Console {
		root, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("cannot open %q of the container: %w", "/", err)
		}
		s.root = root
		if err := s.console(doc.Process); err != nil {
			return err
		}
	}
	if err := s.program(); err != nil {
		return err
	}
	if err := s.ready(); err != nil {
		return err
	}
	return s.execute()
}

// joinMounts joins the container's mount namespace by the pidfd that birth.Exec
// has left open: the constructor has joined all others. A thread may, once it
// shares its root and working directory with no other; see setns(2).
func joinMounts() error {
	number, hex, ok := strings.Cut(os.Getenv("_MOSS_MOUNTS"), ":")
	if !ok {
		return errors.New("cannot join mount namespace: not told which")
	}
	fd, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("cannot join mount namespace: %w", err)
	}
	defer unix.Close(fd)
	if hex == "0" {
		return nil // the same one
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("cannot join mount namespace: %w", err)
	}
	if err := unix.Setns(fd, unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot join mount namespace: %w", err)
	}
	return nil
}

// setAffinity sets the CPUs of a process that is executed in a container. Both
// steps of the specification are one here: the process is born in its cgroup.
func setAffinity(a *specs.CPUAffinity) error {
	if a == nil {
		return nil
	}
	list := a.Final
	if list == "" {
		list = a.Initial
	}
	if list == "" {
		return nil
	}
	var set unix.CPUSet
	for part := range strings.SplitSeq(list, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			last = first
		}
		from, err := strconv.Atoi(first)
		to, err2 := strconv.Atoi(last)
		if err != nil || err2 != nil || from > to || to >= 8192 {
			return fmt.Errorf("cannot set CPU affinity %q: not a list of CPUs", list)
		}
		for cpu := from; cpu <= to; cpu++ {
			set.Set(cpu)
		}
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("cannot set CPU affinity %q: %w", list, err)
	}
	return nil
}
