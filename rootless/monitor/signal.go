package monitor

import (
	"maps"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"moss/rootless/event"
)

// catchSignals makes the process survive a hangup, an interrupt and a quit: it ends with
// its container. SIGTERM is the end of the session: see endSession; and so is SIGABRT, by
// which a service manager ends a unit whose watchdog has heard nothing: the container
// must not be left behind; and endSignal. SIGPIPE needs nothing, a raw write(2) just fails.
//
// It goes past os/signal on purpose. That package keeps two threads for as long
// as a signal is not at its default; and the runtime resets, in a child between
// fork and execve, those signals that it believes to handle itself: so the
// container inherits neither SIG_IGN nor a mask, as it would of a signalfd(2), for
// which the signal must be blocked in every thread.
func (m *monitor) catchSignals() {
	setSignals(ignored, 1)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		setSignals(append(ending, endSignal), 1)
		told = -1 // not the one before, whose number may be another file's by now
		return
	}
	told = int32(fd)
	m.loop.watch(fd, unix.EPOLLIN, (*session)(m))
	handler, restorer := handlers()
	for _, sig := range append(ending, endSignal) {
		act(sig, action{handler, saOnStack | saRestart | saRestorer, restorer, 0})
	}
	// Where all threads were born with a mask, it is this one that hears, and that the programs
	// of the loop inherit from: the goroutine keeps it.
	runtime.LockOSThread()
	old := mask(unix.SIG_UNBLOCK)
	if masked = old.Val[0]&(1<<(endSignal-1)) != 0; !masked {
		runtime.UnlockOSThread()
	}
}

// releaseSignals takes it back: before execve of ourselves, after which the
// runtime would otherwise take SIGHUP and SIGINT for ignored by our caller, and
// pass that on to the container. It says whether one has come that is to end it.
//
// From here on the calling thread keeps endSignal waiting, over the execve, which gives it its
// default action, and by which all threads of the new image are born with that mask, until
// catchSignals is called again. Another thread may still take it: the eventfd comes along, see
// heirOf. A SIGTERM that comes meanwhile kills the monitor, for the runtime unblocks and handles
// that one before any code of ours: this is better than to miss the end. resume is for when
// there is no execve.
func releaseSignals() (told bool, resume func()) {
	runtime.LockOSThread()
	old := mask(unix.SIG_BLOCK)
	setSignals(ignored, 0)
	setSignals(ending, 0)
	return asked(), func() { unmask(old) }
}

var (
	ignored = []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT}
	ending  = []unix.Signal{unix.SIGTERM, unix.SIGABRT}
)

// endSignal is what the service manager sends to a monitor's own unit in place of SIGTERM. It
// is a real-time signal, of which the runtime lets those that are blocked when it begins stay so.
const endSignal = unix.Signal(40)

// masked: this image's threads were born with endSignal blocked.
var masked bool

// mask changes whether the calling thread takes endSignal, and returns what it did before.
func mask(how int) (old unix.Sigset_t) {
	var set unix.Sigset_t
	set.Val[0] = 1 << (endSignal - 1)
	unix.PthreadSigmask(how, &set, &old)
	return old
}

// unmask undoes mask, and gives the goroutine's thread back to all.
func unmask(old unix.Sigset_t) {
	unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil)
	runtime.UnlockOSThread()
}

// unmasked lets the calling goroutine start programs that do not inherit the mask, until done is
// called. That of the loop has none: see catchSignals. A start, whose threads have none
// either, does not pay for it.
func unmasked() (done func()) {
	if !masked {
		return func() {}
	}
	runtime.LockOSThread()
	old := mask(unix.SIG_UNBLOCK)
	return func() { unmask(old) }
}

// told is the eventfd(2) into which the handler of SIGTERM, which is no Go, writes one.
var (
	told int32  = -1
	one  uint64 = 1
)

// handlers are the addresses of the handler, and of what returns from it.
func handlers() (handler, restorer uintptr)

// action is the kernel's struct sigaction.
type action struct{ handler, flags, restorer, mask uintptr }

// The runtime's threads have stacks for signals, and goroutines' are too small for them.
const (
	saRestorer = 0x04000000
	saOnStack  = 0x08000000
	saRestart  = 0x10000000
)

func act(sig unix.Signal, a action) {
	unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(sig), uintptr(unsafe.Pointer(&a)), 0, 8, 0, 0)
}

// setSignals sets the handlers to SIG_IGN (1) or SIG_DFL (0).
func setSignals(signals []unix.Signal, handler uintptr) {
	for _, sig := range signals {
		act(sig, action{handler: handler})
	}
}

// asked says whether SIGTERM has come since it was called the last time.
func asked() bool {
	var count [unsafe.Sizeof(one)]byte
	n, err := unix.Read(int(told), count[:])
	return err == nil && n == len(count)
}

// heirOf takes over what the eventfd of the image before ours was told in its last moment.
func heirOf(fd int) {
	if readable(fd) {
		endLater()
	}
	unix.Close(fd)
}

// endLater is a SIGTERM of our own.
func endLater() {
	unix.Write(int(told), unsafe.Slice((*byte)(unsafe.Pointer(&one)), unsafe.Sizeof(one)))
}

// session is the source of SIGTERM.
type session monitor

func (s *session) ready(uint32) {
	if asked() {
		(*monitor)(s).endSession()
	}
}

// endSession ends the container as a stop does, with its own signal and its own patience:
// a service manager has asked for it, at the end of the session or of the machine, or
// somebody who has stopped its scope. The policy does not start it again before
// the next boot, which finds it as one that ran.
func (m *monitor) endSession() {
	a := &m.adoption
	// The manager hears that a cgroup is empty before the process in it is a zombie: see do_exit in the kernel.
	if a.own && (m.ended || hasEnded(m.pidfd) || !m.group.populated()) {
		a.asked = true // see leaveOwn
		return
	}
	if a.left {
		if a.left, a.asked = false, true; !m.sessionOver() {
			return
		}
	}
	if m.finished || m.session {
		return
	}
	m.session, m.stopped = true, m.stopped && !m.held // by a user before that, or only held
	m.note(func(e *event.Event) {
		e.Attributes = maps.Clone(e.Attributes)
		if e.Attributes == nil {
			e.Attributes = map[string]string{}
		}
		e.Attributes[event.ByAttribute] = "service manager"
	}, event.Stop)
	if !m.restartAt.IsZero() { // it waits to start again: it ends here instead
		m.restartAt = time.Now()
		return
	}
	if m.held {
		m.killNow() // there is no program yet that could do something about it
		return
	}
	m.group.thaw()
	m.askToEnd()
}

// hasEnded says whether a process has ended of whose end its parent may not know yet.
func hasEnded(pidfd int) bool { return readable(pidfd) }

func readable(fd int) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}

func pointer(b []byte) unsafe.Pointer { return unsafe.Pointer(&b[0]) }
