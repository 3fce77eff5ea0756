package rootless

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/rootless/monitor/client"
)

// execConsole connects the terminal of one exec with the user's.
type execConsole struct {
	master *os.File
	s      *Streams
	output chan struct{} // closed when the output has been copied
	detach chan struct{} // closed when the user typed the detach keys
	winch  chan os.Signal
}

// newExecConsole starts copying both ways. The copies end with the process: the
// output at the terminal's hang-up; the input is left waiting for a key, and
// ends with moss.
func newExecConsole(master *os.File, s *Streams) *execConsole {
	c := &execConsole{master: master, s: s, output: make(chan struct{}), detach: make(chan struct{}), winch: make(chan os.Signal, 1)}
	if s == nil {
		c.s = &Streams{}
	}
	go c.copyOutput()
	if c.s.In != nil {
		go c.copyInput()
	}
	if c.s.Terminal {
		c.resize()
		signal.Notify(c.winch, syscall.SIGWINCH)
		go func() {
			for range c.winch {
				c.resize()
			}
		}()
	}
	return c
}

func (c *execConsole) copyOutput() {
	defer close(c.output)
	out := c.s.Out
	if out == nil {
		out = io.Discard
	}
	io.Copy(out, c.master) // ends with EIO when the last process has closed the terminal
}

func (c *execConsole) copyInput() {
	keys := client.NewDetacher(c.s.DetachKeys)
	buf := make([]byte, 4096)
	for {
		n, err := c.s.In.Read(buf)
		if n > 0 {
			data, detached := keys.Filter(buf[:n])
			if _, werr := c.master.Write(data); werr != nil {
				return
			}
			if detached {
				close(c.detach)
				return
			}
		}
		if err != nil {
			c.master.Write([]byte{4}) // end of file, as a terminal says it: ^D
			return
		}
	}
}

func (c *execConsole) resize() {
	size, err := unix.IoctlGetWinsize(int(c.s.In.Fd()), unix.TIOCGWINSZ)
	if err == nil {
		unix.IoctlSetWinsize(int(c.master.Fd()), unix.TIOCSWINSZ, size)
	}
}

func (c *execConsole) close() {
	signal.Stop(c.winch)
	close(c.winch)
}

// wait returns when the output has ended, the user detached, or ctx ended.
func (c *execConsole) wait(ctx context.Context) error {
	select {
	case <-c.output:
		return nil
	case <-c.detach:
		return ErrDetached
	case <-ctx.Done():
		return ctx.Err()
	}
}

// forwardSignals passes the signals that would end moss to a process.
func forwardSignals(pid int) (stop func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range signals {
			if err := unix.Kill(pid, s.(syscall.Signal)); errors.Is(err, unix.ESRCH) {
				return
			}
		}
	}()
	return func() { signal.Stop(signals); close(signals) }
}
