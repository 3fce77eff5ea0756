// Package slack sees to it that moss's short-lived programs sleep coarsely, and
// that what they start does not.
//
// The Go runtime's watchdog thread sleeps for 20 µs, again and again, as long as
// something happens in a process. In a program that lives for milliseconds that is
// all the time: of the changes of threads in a start of a container, in which four
// Go programs take part, every second one was a watchdog's. So the constructor of
// userns/enter gives moss a timer slack of milliseconds (PR_SET_TIMERSLACK, see
// prctl(2)), which threads and programs inherit from who starts them: moss's
// monitor and init too. Everything else is started here.
package slack

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// usual is what the kernel gives every process, in nanoseconds.
const usual = 50_000

// Reset gives the calling thread, and what it executes, the usual slack.
func Reset() { unix.Prctl(unix.PR_SET_TIMERSLACK, usual, 0, 0, 0) }

// Exactly runs start on a thread with the usual slack, which the program that it
// starts inherits.
func Exactly(start func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if before, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0); err == nil && before > 0 {
		defer unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(before), 0, 0, 0)
	}
	Reset()
	return start()
}
