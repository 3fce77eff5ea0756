package runtime

import (
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// openProc opens the caller's /proc. Everything that is written to /proc for the
// container goes through it: the container's own /proc may be a trap made by the
// image or a volume (CVE-2019-16884, CVE-2019-19921). Entries like self and
// sys/net follow the process that opens them, not the mount.
func (s *stage) openProc() error {
	fd, err := unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot open %q: %w", "/proc", err)
	}
	if err := mustBe(fd, unix.PROC_SUPER_MAGIC); err != nil {
		return fmt.Errorf("cannot use %q: %w", "/proc", err)
	}
	s.proc = fd
	return nil
}

// mustBe checks the file system that a descriptor is on.
func mustBe(fd int, magic int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return err
	}
	if int64(st.Type) != magic {
		return fmt.Errorf("file system type %#x in place of %#x", int64(st.Type), magic)
	}
	return nil
}

// writeProc writes one value below the caller's /proc.
func (s *stage) writeProc(name, value string) error {
	fd, err := unix.Openat2(s.proc, name, &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_CLOEXEC,
		// "self" and "thread-self" are plain symbolic links.
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := mustBe(fd, unix.PROC_SUPER_MAGIC); err != nil {
		return err
	}
	_, err = unix.Write(fd, []byte(value))
	return err
}

// sysctls writes spec.Linux.Sysctl. A value that is not of a namespace of the
// container would change the host, and is refused.
func (s *stage) sysctls() error {
	for key, value := range s.spec.Linux.Sysctl {
		if err := s.namespaced(key); err != nil {
			return fmt.Errorf("cannot set sysctl %q: %w", key, err)
		}
		if err := s.writeProc("sys/"+sysctlPath(key), value); err != nil {
			return fmt.Errorf("cannot set sysctl %q: %w", key, err)
		}
	}
	return nil
}

// sysctlPath turns a.b/c into a/b.c, and leaves a/b.c: see sysctl.d(5).
func sysctlPath(key string) string {
	if dot, slash := strings.IndexByte(key, '.'), strings.IndexByte(key, '/'); slash >= 0 && (dot < 0 || slash < dot) {
		return key
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

// ipcSysctls belong to the ipc namespace; see ipc_namespaces(7).
var ipcSysctls = []string{"kernel/msgmax", "kernel/msgmnb", "kernel/msgmni", "kernel/sem",
	"kernel/shmall", "kernel/shmmax", "kernel/shmmni", "kernel/shm_rmid_forced"}

// namespaced tells why a sysctl cannot be set for the container alone.
func (s *stage) namespaced(key string) error {
	path := sysctlPath(key)
	if strings.Contains("/"+path+"/", "/../") {
		return errors.New("not a name")
	}
	needs := specs.LinuxNamespaceType("")
	switch {
	case strings.HasPrefix(path, "net/"):
		needs = specs.NetworkNamespace
	case strings.HasPrefix(path, "fs/mqueue/"):
		needs = specs.IPCNamespace
	case path == "kernel/domainname":
		needs = specs.UTSNamespace
	case path == "kernel/hostname":
		return errors.New("the host name is given by hostname")
	case strings.HasPrefix(path, "user/"):
		needs = specs.UserNamespace
	default:
		for _, known := range ipcSysctls {
			if path == known {
				needs = specs.IPCNamespace
			}
		}
	}
	if needs == "" {
		return errors.New("it is not of any namespace, so it would change the host")
	}
	if own, _ := has(s.spec, needs); !own {
		return fmt.Errorf("the container has no %s namespace of its own", needs)
	}
	return nil
}

// makeTime makes the time namespace. Execve enters it (kernel ≥ 6.2), and only
// then may its offsets not change any more; see time_namespaces(7).
func (s *stage) makeTime() error {
	_, made := has(s.spec, specs.TimeNamespace)
	if !made {
		if len(s.spec.Linux.TimeOffsets) > 0 {
			return errors.New("cannot set time offsets: the container has no time namespace of its own")
		}
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWTIME); err != nil {
		return fmt.Errorf("cannot make time namespace: %w", err)
	}
	clocks := make([]string, 0, 2)
	for clock := range s.spec.Linux.TimeOffsets {
		clocks = append(clocks, clock)
	}
	sort.Strings(clocks)
	for _, clock := range clocks {
		o := s.spec.Linux.TimeOffsets[clock]
		line := fmt.Sprintf("%s %d %d\n", clock, o.Secs, o.Nanosecs)
		if err := s.writeProc("self/timens_offsets", line); err != nil {
			return fmt.Errorf("cannot set time offset of %q: %w", clock, err)
		}
	}
	return nil
}

// label sets what AppArmor and SELinux make of the program at execve.
func (s *stage) label(p *specs.Process) error {
	if p.ApparmorProfile != "" {
		if !hostHas("/sys/module/apparmor/parameters/enabled", 'Y') {
			return fmt.Errorf("cannot use AppArmor profile %q: the host has no AppArmor", p.ApparmorProfile)
		}
		err := s.writeProc("thread-self/attr/apparmor/exec", "exec "+p.ApparmorProfile)
		if errors.Is(err, unix.ENOENT) { // before 5.8
			err = s.writeProc("thread-self/attr/exec", "exec "+p.ApparmorProfile)
		}
		if err != nil {
			return fmt.Errorf("cannot use AppArmor profile %q: %w", p.ApparmorProfile, err)
		}
	}
	if p.SelinuxLabel != "" {
		if !hostSELinux() {
			return fmt.Errorf("cannot use SELinux label %q: the host has no SELinux", p.SelinuxLabel)
		}
		if err := s.writeProc("thread-self/attr/exec", p.SelinuxLabel); err != nil {
			return fmt.Errorf("cannot use SELinux label %q: %w", p.SelinuxLabel, err)
		}
	}
	return nil
}

// hostHas reports whether a file of one character says so.
func hostHas(path string, want byte) bool {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	var b [1]byte
	n, err := unix.Read(fd, b[:])
	return err == nil && n == 1 && b[0] == want
}

// hostSELinux reports whether SELinux is in use: its file system is mounted.
func hostSELinux() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/selinux", &st) == nil && int64(st.Type) == unix.SELINUX_MAGIC
}

// loopbackUp brings up lo in the container's own network namespace.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot bring up loopback interface: %w", err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("cannot bring up loopback interface: %w", err)
	}
	return nil
}

// pidOutside is this process's ID in the caller's PID namespace, whose /proc is
// still open.
func (s *stage) pidOutside() (int, error) {
	var buf [32]byte
	n, err := unix.Readlinkat(s.proc, "self", buf[:])
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(buf[:n]))
}
