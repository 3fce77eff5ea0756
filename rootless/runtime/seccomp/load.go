package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// DefaultFlags of seccomp(2) where the profile names none: as runc, without the
// slowdown that kernels before 5.16 impose on filtered processes.
const DefaultFlags = unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW

// KnownFlags are the flags that a profile may name.
var KnownFlags = []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog,
	specs.LinuxSeccompFlagSpecAllow, specs.LinuxSeccompFlagWaitKillableRecv}

// Flags are the flags of seccomp(2) for a profile, and whether it has a listener:
// its notify descriptor is then returned by Load.
func Flags(p *specs.LinuxSeccomp) (flags uint, listener bool, err error) {
	if p.Flags == nil {
		flags = DefaultFlags
	}
	for _, f := range p.Flags {
		switch f {
		case "SECCOMP_FILTER_FLAG_TSYNC": // execve leaves one thread
		case specs.LinuxSeccompFlagLog:
			flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case specs.LinuxSeccompFlagSpecAllow:
			flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case specs.LinuxSeccompFlagWaitKillableRecv:
			flags |= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return 0, false, fmt.Errorf("cannot use seccomp profile: unknown flag %q", f)
		}
	}
	for _, s := range p.Syscalls {
		if s.Action != specs.ActNotify {
			continue
		}
		listener = true
		for _, name := range s.Names {
			if name == "sendmsg" || name == "execve" {
				return 0, false, fmt.Errorf("cannot use seccomp profile: nobody could answer for %q before the program runs", name)
			}
		}
	}
	if listener && p.ListenerPath == "" {
		return 0, false, errors.New("cannot use seccomp profile: SCMP_ACT_NOTIFY needs a listenerPath")
	}
	if listener {
		flags |= unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	if !listener && flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0 {
		flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV // EINVAL without a listener
	}
	return flags, listener, nil
}

// Load puts the calling thread under a filter (what Compile returns), and returns
// the notify descriptor if flags ask for one, else -1. The thread needs
// no_new_privs or CAP_SYS_ADMIN; see seccomp(2).
func Load(program []byte, flags uint) (listener int, err error) {
	if len(program) == 0 || len(program)%8 != 0 || len(program)/8 > maxInstructions {
		return -1, fmt.Errorf("cannot load seccomp filter: %d bytes are not a filter", len(program))
	}
	filter := make([]unix.SockFilter, len(program)/8)
	for i := range filter {
		b := program[i*8:]
		filter[i] = unix.SockFilter{
			Code: binary.NativeEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.NativeEndian.Uint32(b[4:]),
		}
	}
	fprog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uintptr(flags), uintptr(unsafe.Pointer(&fprog)))
	runtime.KeepAlive(filter)
	if errno != 0 {
		return -1, fmt.Errorf("cannot load seccomp filter: %w", errno)
	}
	if flags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
		return int(fd), nil
	}
	return -1, nil
}
