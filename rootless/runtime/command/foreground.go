package command

import (
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/rootless/runtime/birth"
)

// foreground is a process that we wait for: our terminal is its terminal, our
// signals are its signals.
type foreground struct {
	p       *birth.Process
	master  *os.File // nil: it has our streams
	saved   *unix.Termios
	signals chan os.Signal
	copied  chan struct{} // closed when the output is all copied
}

// forwarded are the signals that are passed on. Not those of job control, which
// are the terminal's, and not those of our own errors; each costs two system
// calls.
var forwarded = []os.Signal{syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGUSR1,
	syscall.SIGUSR2, syscall.SIGALRM, syscall.SIGCONT, syscall.SIGWINCH, syscall.SIGIO, syscall.SIGPWR}

// newForeground prepares for a process that is about to start. With away, the
// terminal is somebody else's.
func newForeground(p *birth.Process, master *os.File, away bool) (*foreground, error) {
	f := &foreground{p: p, signals: make(chan os.Signal, 64)}
	signal.Notify(f.signals, forwarded...)
	go f.forward() // ends with close
	if away || master == nil {
		return f, nil
	}
	f.master = master
	if saved, err := unix.IoctlGetTermios(0, unix.TCGETS); err == nil {
		f.saved = saved
		raw := *saved
		raw.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
		raw.Oflag &^= unix.OPOST
		raw.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
		raw.Cflag = raw.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
		if err := unix.IoctlSetTermios(0, unix.TCSETS, &raw); err != nil {
			return nil, err
		}
		f.resize()
	}
	f.copied = make(chan struct{})
	go io.Copy(master, os.Stdin) // ends with this program: reading a terminal cannot be stopped
	go func() {
		// Ends when the last process that has the terminal open is gone (EIO).
		io.Copy(os.Stdout, master)
		close(f.copied)
	}()
	return f, nil
}

// forward passes signals on.
func (f *foreground) forward() {
	for s := range f.signals {
		n, ok := s.(syscall.Signal)
		switch {
		case !ok:
		case n == syscall.SIGWINCH && f.master != nil:
			f.resize()
		default:
			f.p.Signal(n)
		}
	}
}

// resize gives the terminal the size of ours.
func (f *foreground) resize() {
	if size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		unix.IoctlSetWinsize(int(f.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

// wait waits for the process and for the rest of its output.
func (f *foreground) wait() (syscall.WaitStatus, error) {
	status, err := f.p.Wait()
	if f.copied != nil && err == nil {
		<-f.copied
	}
	return status, err
}

// close gives the terminal back.
func (f *foreground) close() {
	signal.Stop(f.signals)
	close(f.signals)
	if f.saved != nil {
		unix.IoctlSetTermios(0, unix.TCSETS, f.saved)
	}
	f.p.Close()
}
