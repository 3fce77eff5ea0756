package monitor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ignoreSignals makes the process survive a hangup, an interrupt and a request
// to end: it ends with its container. SIGPIPE needs nothing, a raw write(2)
// just fails.
//
// It goes past os/signal on purpose. That package keeps two threads for as long
// as a signal is not at its default; and the runtime resets, in a child between
// fork and execve, those signals that it believes to handle itself: so the
// container does not inherit SIG_IGN.
func ignoreSignals() { setSignals(1) }

// defaultSignals takes it back: before execve of ourselves, after which the
// runtime would otherwise take SIGHUP and SIGINT for ignored by our caller, and
// pass that on to the container.
func defaultSignals() { setSignals(0) }

// setSignals sets the handlers to SIG_IGN (1) or SIG_DFL (0).
func setSignals(handler uint64) {
	var action [8]uint64 // struct sigaction of the kernel: handler first, the rest zero
	action[0] = handler
	for _, sig := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT} {
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
}

func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(&b[0]) }
