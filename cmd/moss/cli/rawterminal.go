package cli

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// saved is the state of the terminal before it was made raw: whoever ends moss
// must give it back.
var saved struct {
	sync.Mutex
	raw      bool
	fd       int
	was, now unix.Termios
	keeper   *os.File // tells the keeper that it is not needed any more
}

// restoreTerminal undoes rawTerminal. It may be called any number of times.
func restoreTerminal() {
	saved.Lock()
	defer saved.Unlock()
	if !saved.raw {
		return
	}
	saved.raw = false
	_ = unix.IoctlSetTermios(saved.fd, unix.TCSETS, &saved.was) // the terminal may be gone
	if saved.keeper != nil {
		_, _ = saved.keeper.Write([]byte{0})
		saved.keeper.Close()
	}
}

// rawTerminal makes the terminal raw, until restoreTerminal or the end of moss,
// whatever ends it. While moss is stopped, the terminal is as it was.
func rawTerminal(f *os.File) error {
	saved.Lock()
	defer saved.Unlock()
	saved.fd = int(f.Fd())
	was, err := unix.IoctlGetTermios(saved.fd, unix.TCGETS)
	if err != nil {
		return fmt.Errorf("cannot make the terminal raw: %w", err)
	}
	saved.was, saved.now = *was, raw(*was)
	if saved.keeper, err = keepTerminal(f); err != nil {
		return fmt.Errorf("cannot make the terminal raw: %w", err)
	}
	if err := unix.IoctlSetTermios(saved.fd, unix.TCSETS, &saved.now); err != nil {
		return fmt.Errorf("cannot make the terminal raw: %w", err)
	}
	saved.raw = true

	// The goroutine lives as long as moss: it ends it.
	c := make(chan os.Signal, 4)
	signal.Notify(c, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGINT, unix.SIGTSTP, unix.SIGCONT)
	go func() {
		for s := range c {
			switch s {
			case unix.SIGTSTP:
				setTerminal(&saved.was)
				_ = unix.Kill(os.Getpid(), unix.SIGSTOP)
			case unix.SIGCONT:
				setTerminal(&saved.now)
			default:
				restoreTerminal()
				signal.Reset(s)
				_ = unix.Kill(os.Getpid(), s.(unix.Signal))
			}
		}
	}()
	return nil
}

// setTerminal sets it while it is ours to set.
func setTerminal(to *unix.Termios) {
	saved.Lock()
	defer saved.Unlock()
	if saved.raw {
		_ = unix.IoctlSetTermios(saved.fd, unix.TCSETS, to)
	}
}

// raw is what cfmakeraw makes of a state, see termios(3).
func raw(t unix.Termios) unix.Termios {
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	return t
}

// keepTerminal starts the keeper of the terminal: moss once more, which stays in its
// constructor (keep_terminal in userns/enter) and gives the terminal its settings back
// if moss is killed. A byte to what is returned ends it.
func keepTerminal(tty *os.File) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var told [2][64]byte
	for i, t := range []*unix.Termios{&saved.was, &saved.now} {
		copy(told[i][:], unsafe.Slice((*byte)(unsafe.Pointer(t)), unsafe.Sizeof(*t)))
		if _, err := w.Write(told[i][:]); err != nil {
			w.Close()
			return nil, err
		}
	}
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		w.Close()
		return nil, err
	}
	defer null.Close()
	_, _, err = syscall.StartProcess("/proc/self/exe", []string{"moss-terminal"}, &syscall.ProcAttr{
		Dir: "/", Env: []string{"_MOSS_TERMINAL=1"}, Files: []uintptr{tty.Fd(), null.Fd(), null.Fd(), r.Fd()},
	})
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}
