package runtime

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// lastSignal is SIGRTMAX of every architecture that moss is built for; see signal(7).
const lastSignal = 64

// resetSignals gives every signal its default action and unblocks them all.
// What the caller ignores or blocks (nohup, a pipeline that ignores SIGPIPE, a
// threading library) is inherited through fork and execve, see signal(7), and is
// none of the container's business. It goes past os/signal, which knows nothing
// of what was ignored before the program started. The Go runtime's own handlers go
// with it: what is left to do is execve.
func resetSignals() {
	var action [8]uint64 // struct sigaction of the kernel: SIG_DFL is zero, and so is the rest
	for sig := uintptr(1); sig <= lastSignal; sig++ {
		// SIGURG, which the runtime sends to itself, is ignored by default;
		// SIGKILL and SIGSTOP cannot be set and need not be.
		unix.RawSyscall6(unix.SYS_RT_SIGACTION, sig, uintptr(unsafe.Pointer(&action)), 0, 8, 0, 0)
	}
	var none uint64
	const setMask = 2 // SIG_SETMASK, see sigprocmask(2)
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, setMask, uintptr(unsafe.Pointer(&none)), 0, 8, 0, 0)
}
