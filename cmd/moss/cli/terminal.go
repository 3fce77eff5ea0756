package cli

import (
	"context"
	"os"
	"os/signal"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"moss/rootless"
	"moss/rootless/container"
)

// noTerminal is podman's warning where a terminal is asked for and moss has none.
const noTerminal = "The input device is not a TTY. The --tty and --interactive flags might not work properly"

func isTerminal(f *os.File) bool { return f != nil && term.IsTerminal(int(f.Fd())) }

// which says which streams to attach.
type which struct{ in, out, err bool }

// streams makes the Streams of an attachment. With a terminal in the container
// and one outside, the one outside is made raw by raw, once there is something
// to talk to.
func (c *call) streams(w which, tty bool, keys []byte, sigProxy bool) (s *rootless.Streams, raw func() error) {
	s = &rootless.Streams{SigProxy: sigProxy}
	if w.in {
		s.In = c.In
	}
	if w.out {
		s.Out = c.Out
	}
	if w.err {
		s.Err = c.Err
	}
	if !tty || !w.in || !isTerminal(c.In) {
		return s, func() error { return nil }
	}
	s.Terminal, s.DetachKeys = true, keys
	return s, func() error { return rawTerminal(c.In) }
}

// proxySignals passes on to the container what moss receives, as podman's
// --sig-proxy does, for as long as moss lives: there is no end to it, because
// taking back what was asked of the kernel costs a millisecond at the exit.
// Signals that come between catch and begin wait for begin.
func (c *call) proxySignals(ctx context.Context, s *rootless.Streams, target func() *container.Container) (catch, begin func()) {
	if !s.SigProxy || s.Terminal {
		return func() {}, func() {}
	}
	received := make(chan os.Signal, 32)
	catch = func() { signal.Notify(received, common...) }
	begin = func() {
		// Each of the sixty costs two changes of threads: more, in all, than many a
		// program takes to run.
		time.AfterFunc(seldom, func() { signal.Notify(received, proxied()...) })
		go func() { // ends with moss
			for sig := range received {
				// It may have ended meanwhile; Wait tells.
				_ = c.Engine.Kill(ctx, target(), int(sig.(unix.Signal)))
			}
		}()
	}
	return catch, begin
}

// common are the signals that are passed on from the first moment; the others
// are once the program has run for a little.
var common = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2}

const seldom = 50 * time.Millisecond

// proxied are the signals that are passed on: all but those that concern moss
// itself, job control, or the Go runtime.
func proxied() []os.Signal {
	var out []os.Signal
	for n := unix.Signal(1); n <= 64; n++ {
		switch n {
		case unix.SIGKILL, unix.SIGSTOP, unix.SIGCHLD, unix.SIGURG, unix.SIGPIPE, unix.SIGTTIN, unix.SIGTTOU,
			unix.SIGTSTP, unix.SIGCONT, unix.SIGWINCH, unix.SIGPROF:
		case 32, 33: // glibc's own
		default:
			out = append(out, n)
		}
	}
	return out
}
