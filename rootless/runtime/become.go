package runtime

import (
	"errors"
	"fmt"
	"strings"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// capabilityNames by number, without CAP_; see capabilities(7).
const capabilityNames = "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP " +
	"LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE " +
	"SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME " +
	"SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG " +
	"WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"

// CapabilityNames lists the capabilities that are known, for `features`.
func CapabilityNames() []string {
	names := strings.Fields(capabilityNames)
	for i := range names {
		names[i] = "CAP_" + names[i]
	}
	return names
}

// capabilities is a set of the five kinds.
type capabilities struct{ bounding, effective, permitted, inheritable, ambient uint64 }

// parseCapabilities reads the names of a specification. A name that the kernel
// does not know cannot be given, and is dropped, as the OCI specification wants.
func parseCapabilities(c *specs.LinuxCapabilities, known uint64) (out capabilities) {
	if c == nil {
		return out
	}
	numbers := map[string]uint64{}
	for i, name := range CapabilityNames() {
		numbers[name] = 1 << i
	}
	mask := func(names []string) (m uint64) {
		for _, name := range names {
			m |= numbers[name]
		}
		return m & known
	}
	return capabilities{mask(c.Bounding), mask(c.Effective), mask(c.Permitted), mask(c.Inheritable), mask(c.Ambient)}
}

// knownCapabilities are those of the running kernel; reading one that is unknown
// from the bounding set is EINVAL.
func knownCapabilities() uint64 {
	for n := 40; n < 64; n++ {
		if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_READ, uintptr(n), 0); errno != 0 {
			return 1<<n - 1
		}
	}
	return ^uint64(0)
}

// become takes on the program's identity and capabilities.
//
// The seccomp filter comes last of all, so that it need allow nothing but execve
// (and the report of its failure). Without no_new_privs loading it takes
// CAP_SYS_ADMIN (seccomp(2)), which is therefore kept until execve, which sets
// the capabilities anew from the bounding, inheritable and ambient sets: it does
// not look at the old permitted set, see capabilities(7).
func (s *stage) become() error {
	p := s.spec.Process
	known := knownCapabilities()
	caps := parseCapabilities(p.Capabilities, known)
	for n := range 64 {
		bit := uint64(1) << n
		if bit&known == 0 {
			break
		}
		if caps.bounding&bit != 0 {
			continue
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(n), 0); errno != 0 && errno != unix.EPERM {
			return fmt.Errorf("cannot drop capability %d: %w", n, errno)
		}
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); errno != 0 {
		return fmt.Errorf("cannot keep capabilities: %w", errno)
	}
	if err := s.setIDs(); err != nil {
		return err
	}
	if s.lateCwd != "" {
		if err := unix.Chdir(s.lateCwd); err != nil {
			return fmt.Errorf("cannot change to working directory %q: %w", s.lateCwd, err)
		}
		if err := insideRoot(); err != nil {
			return err
		}
	}

	now := caps
	if s.filter != nil && !p.NoNewPrivileges {
		now.effective |= 1 << unix.CAP_SYS_ADMIN
		now.permitted |= 1 << unix.CAP_SYS_ADMIN
	}
	if err := setCapabilities(now); err != nil {
		return err
	}
	if p.NoNewPrivileges {
		if _, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0); errno != 0 {
			return fmt.Errorf("cannot set no_new_privs: %w", errno)
		}
	}
	return nil
}

// setIDs sets groups, group and user of this thread.
func (s *stage) setIDs() error {
	groups := make([]uint32, 0, len(s.who.groups)+1)
	for _, g := range s.who.groups {
		groups = append(groups, uint32(g))
	}
	if !s.who.keep {
		var first unsafe.Pointer
		if len(groups) > 0 {
			first = unsafe.Pointer(&groups[0])
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, uintptr(len(groups)), uintptr(first), 0)
		// Denied in a namespace that maps the user's own ID only; see
		// user_namespaces(7). Wanting no groups then changes nothing.
		if errno != 0 && !(errno == unix.EPERM && len(groups) == 0) {
			return fmt.Errorf("cannot set groups %v: %w", s.who.groups, errno)
		}
	}
	gid, uid := uintptr(s.who.gid), uintptr(s.who.uid)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESGID, gid, gid, gid); errno != 0 {
		return idError("group", s.who.gid, errno)
	}
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid); errno != 0 {
		return idError("user", s.who.uid, errno)
	}
	return nil
}

func idError(kind string, id int, err error) error {
	if errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("cannot become %s %d: that ID is not mapped into the container", kind, id)
	}
	return fmt.Errorf("cannot become %s %d: %w", kind, id, err)
}

// setCapabilities sets this thread's sets and raises the ambient ones.
func setCapabilities(c capabilities) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	data := [2]unix.CapUserData{
		{Effective: uint32(c.effective), Permitted: uint32(c.permitted), Inheritable: uint32(c.inheritable)},
		{Effective: uint32(c.effective >> 32), Permitted: uint32(c.permitted >> 32), Inheritable: uint32(c.inheritable >> 32)},
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("cannot set capabilities: %w", err)
	}
	ambient := func(op, n uintptr) unix.Errno {
		_, _, errno := unix.RawSyscall6(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, op, n, 0, 0, 0)
		return errno
	}
	if errno := ambient(unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); errno != 0 {
		return fmt.Errorf("cannot clear ambient capabilities: %w", errno)
	}
	for n := range 64 {
		if c.ambient&(1<<n) == 0 {
			continue
		}
		if errno := ambient(unix.PR_CAP_AMBIENT_RAISE, uintptr(n)); errno != 0 {
			return fmt.Errorf("cannot raise ambient capability %d: %w", n, errno)
		}
	}
	return nil
}

// becomeRoot makes this thread's IDs 0 where the user namespace has an ID 0: what
// the init stage makes belongs to the container's root.
func becomeRoot() {
	if unix.Getuid() != 0 || unix.Getgid() != 0 {
		unix.RawSyscall(unix.SYS_SETRESGID, 0, 0, 0)
		unix.RawSyscall(unix.SYS_SETRESUID, 0, 0, 0)
	}
}

// passListener sends the seccomp notify descriptor to the caller.
func (s *stage) passListener(fd int) error {
	// The filter is in force: no Go function that may do more than this.
	packet := []byte(`{"Stage":"listener"}`)
	if err := unix.Sendmsg(s.sync, packet, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL); err != nil {
		return fmt.Errorf("cannot pass on seccomp listener: %w", err)
	}
	return nil
}
