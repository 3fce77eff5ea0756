package client

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/monitor"
)

// ErrDetached says that the user typed the detach keys.
var ErrDetached = errors.New("detached")

// Streams are what Pump copies from and to.
type Streams struct {
	In       *os.File  // nil: nothing is sent, and the container's stdin stays open
	Out, Err io.Writer // nil: thrown away
	// Terminal is set when In is a terminal in raw mode: changes of its window
	// are passed on and DetachKeys looked for.
	Terminal   bool
	DetachKeys []byte // nil: none
	// Lost, if set, is told how much output was left out because nobody read it.
	Lost func(bytes int64)
}

// Pump copies both ways until the container has ended and has been cleaned up.
// The error is ErrDetached when the user typed the detach keys, ErrMonitorGone
// when the monitor ended without telling the exit, and else that of a writer, of
// which the exit is returned all the same.
func Pump(ctx context.Context, c *Conn, s Streams) (monitor.Exit, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := endWith(ctx, c.fd)
	defer stop()
	if s.In != nil {
		end, err := startSending(cancel, c, s)
		if err != nil {
			return monitor.Exit{}, err
		}
		defer end()
	}

	var failed error
	write := func(w io.Writer, data []byte) {
		if w == nil {
			return
		}
		if _, err := w.Write(data); err != nil && failed == nil {
			failed = err
		}
	}
	for {
		kind, data, err := c.Recv()
		if ctx.Err() != nil {
			return monitor.Exit{}, context.Cause(ctx)
		}
		if err != nil {
			return monitor.Exit{}, err
		}
		switch kind {
		case monitor.Stdout:
			write(s.Out, data)
		case monitor.Stderr:
			write(s.Err, data)
		case monitor.Lost:
			var lost monitor.LostMessage
			if record.Decode(data, &lost) == nil && s.Lost != nil {
				s.Lost(lost.Bytes)
			}
		case monitor.Exited:
			e, err := exit(data)
			return e, errors.Join(err, failed)
		}
	}
}

// startSending copies s.In to the container on a goroutine. What it returns ends
// that goroutine, and waits for it: no byte typed later is lost to it.
func startSending(cancel context.CancelCauseFunc, c *Conn, s Streams) (end func(), err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	var resized chan os.Signal
	if s.Terminal {
		resized = make(chan os.Signal, 1)
		signal.Notify(resized, unix.SIGWINCH)
		resized <- unix.SIGWINCH // the size it has now
	}
	done := make(chan struct{})
	go func() { // ends with end, the end of s.In, or the monitor
		defer close(done)
		if err := c.sendAll(int(r.Fd()), s); err != nil {
			cancel(err)
		}
	}()
	watched := make(chan struct{})
	go func() { // ends with end
		defer close(watched)
		for range resized {
			c.sendSize(s.In)
		}
	}()
	return func() {
		w.Close()
		// A send to a monitor that takes nothing more ends with the connection.
		unix.Shutdown(c.fd, unix.SHUT_RDWR)
		<-done
		r.Close()
		if resized != nil {
			signal.Stop(resized)
			close(resized)
		}
		if s.Terminal {
			<-watched
		}
	}, nil
}

// sendAll copies s.In until it ends or quit becomes readable.
func (c *Conn) sendAll(quit int, s Streams) error {
	keys := NewDetacher(nil)
	if s.Terminal {
		keys = NewDetacher(s.DetachKeys)
	}
	in := int(s.In.Fd())
	buf := make([]byte, monitor.MaxData)
	for {
		fds := []unix.PollFd{{Fd: int32(in), Events: unix.POLLIN}, {Fd: int32(quit), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, -1); err == unix.EINTR {
			continue
		} else if err != nil {
			return err
		}
		if fds[1].Revents != 0 {
			return nil
		}
		n, err := unix.Read(in, buf)
		switch {
		case err == unix.EINTR, err == unix.EAGAIN:
			continue
		case err != nil || n <= 0: // EIO: the terminal has gone
			c.Send(monitor.StdinEOF, nil)
			return nil
		}
		data, detach := keys.Filter(buf[:n])
		if len(data) > 0 && c.Send(monitor.Stdin, data) != nil {
			return nil // Recv tells why
		}
		if detach {
			return ErrDetached
		}
	}
}

// sendSize tells the size of the terminal f; nothing when it is none.
func (c *Conn) sendSize(f *os.File) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	data, err := record.Encode(monitor.ResizeMessage{Rows: size.Row, Cols: size.Col})
	if err == nil {
		c.Send(monitor.Resize, data)
	}
}

// Detacher looks for the detach keys in what the user types. The beginning of
// them is held back until it is known that they go on differently.
type Detacher struct {
	keys    []byte
	matched int
}

// NewDetacher looks for keys; for none, when there are none.
func NewDetacher(keys []byte) *Detacher { return &Detacher{keys: keys} }

// Filter returns what is to be passed on, and whether the keys are complete.
func (d *Detacher) Filter(in []byte) (out []byte, detach bool) {
	if len(d.keys) == 0 {
		return in, false
	}
	for _, c := range in {
		for d.matched > 0 && c != d.keys[d.matched] {
			// What was held back was not the keys; but its end may be their beginning.
			keep := d.overlap()
			out = append(out, d.keys[:d.matched-keep]...)
			d.matched = keep
		}
		if c != d.keys[d.matched] {
			out = append(out, c)
			continue
		}
		if d.matched++; d.matched == len(d.keys) {
			d.matched = 0
			return out, true
		}
	}
	return out, false
}

// overlap is the length of the longest end of what is matched that is also a
// beginning of the keys, shorter than all of it.
func (d *Detacher) overlap() int {
	for n := d.matched - 1; n > 0; n-- {
		if string(d.keys[:n]) == string(d.keys[d.matched-n:d.matched]) {
			return n
		}
	}
	return 0
}
