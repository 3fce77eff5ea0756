package monitor

import (
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
)

// Limits of what is held in memory when somebody does not keep up.
const (
	// maxQueue is what may wait for one client; then nothing more is read from
	// the container.
	maxQueue = 256 * 1024
	// maxPending is what may wait for the container to read its stdin; then
	// nothing more is read from the clients.
	maxPending = 64 * 1024
)

// output is a stream of the container that the monitor reads.
type output struct {
	m    *monitor
	fd   int
	kind byte // Stdout or Stderr
}

func (o *output) ready(events uint32) {
	if o == o.m.out[0] && o.m.tty() && events&unix.EPOLLOUT != 0 {
		o.m.stdin.flush()
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		o.m.read(o)
	}
}

// read passes on one piece of o to the log and the clients. It returns false
// when there is no more for now, or for good.
func (m *monitor) read(o *output) bool {
	if o.fd < 0 {
		return false
	}
	buf := m.buffer()
	n, err := retry(func() (int, error) { return unix.Read(o.fd, buf[1:]) })
	if err == unix.EAGAIN {
		return false
	}
	if n <= 0 { // EOF; EIO is how a terminal says that nobody has it open any more
		m.closeOutput(o)
		return false
	}
	if n == len(buf)-1 {
		m.large = true
		m.settleSoon()
	}
	buf[0] = o.kind
	m.log.write(o.kind, buf[1:1+n], time.Now())
	for _, c := range m.clients {
		if c.streams {
			c.send(buf[:1+n])
		}
	}
	m.sweepClients()
	m.throttle()
	return true
}

// buffer is what the streams are read into; its first byte is for the packet's
// kind. A container that says little never makes it large.
func (m *monitor) buffer() []byte {
	if m.large && len(m.buf) <= keepBuffer {
		m.buf = make([]byte, 1+MaxData)
	} else if m.buf == nil {
		m.buf = make([]byte, keepBuffer)
	}
	return m.buf
}

func (m *monitor) closeOutput(o *output) {
	if o.fd < 0 {
		return
	}
	m.log.end(o.kind, time.Now())
	m.loop.close(o.fd)
	if m.stdin.fd == o.fd { // a terminal is both
		m.stdin.fd = -1
	}
	o.fd = -1
}

// throttle reads the container's streams only while every client keeps up. What
// a container has left behind when it ended is read in any case: it is no more
// than the pipes hold, and the end must not wait for a client.
func (m *monitor) throttle() {
	events := uint32(unix.EPOLLIN)
	for _, c := range m.clients {
		if c.queued >= maxQueue && !m.ended && !c.given {
			events = 0
		}
	}
	for i, o := range m.out {
		if o == nil || o.fd < 0 {
			continue
		}
		e := events
		if i == 0 && m.tty() && len(m.stdin.pending) > 0 {
			e |= unix.EPOLLOUT
		}
		m.loop.watch(o.fd, e, o)
	}
}

// input is the container's stdin.
type input struct {
	m       *monitor
	fd      int // -1: there is none, or it is closed
	pending []byte
	eof     bool
}

func (in *input) ready(events uint32) {
	if events&unix.EPOLLOUT == 0 && events&(unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		in.close() // the container has closed its end
		return
	}
	in.flush()
}

// write takes what a client sent.
func (in *input) write(data []byte) {
	if in.fd < 0 || in.eof {
		return
	}
	in.pending = append(in.pending, data...)
	in.flush()
}

// end closes stdin when everything before has been read. A terminal has no end
// of its own: there the end-of-file character says it, see termios(3).
func (in *input) end() {
	if in.fd < 0 || in.eof {
		return
	}
	if in.m.tty() {
		in.write([]byte{4})
		return
	}
	in.eof = true
	in.flush()
}

func (in *input) flush() {
	for in.fd >= 0 && len(in.pending) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(in.fd, in.pending) })
		if err == unix.EAGAIN {
			break
		}
		if err != nil {
			in.close()
			break
		}
		in.pending = in.pending[n:]
	}
	if len(in.pending) == 0 {
		in.pending = nil
	}
	if in.fd < 0 {
		in.m.resumeClients()
		return
	}
	if in.eof && in.pending == nil {
		in.close()
		return
	}
	if in.m.tty() {
		in.m.throttle()
	} else {
		events := uint32(0)
		if in.pending != nil {
			events = unix.EPOLLOUT
		}
		in.m.loop.watch(in.fd, events, in)
	}
	in.m.resumeClients()
}

// close closes stdin. A terminal stays open: it is read from, too.
func (in *input) close() {
	in.pending = nil
	if in.fd >= 0 && !in.m.tty() {
		in.m.loop.close(in.fd)
		in.fd = -1
	}
	in.m.resumeClients()
}

// full says whether clients have to wait with more stdin.
func (in *input) full() bool { return in.fd >= 0 && len(in.pending) >= maxPending }

// resize sets the size of the terminal's window; the kernel sends SIGWINCH.
func (m *monitor) resize(rows, cols uint16) error {
	if !m.tty() || m.out[0] == nil || m.out[0].fd < 0 {
		return unix.ENOTTY
	}
	return unix.IoctlSetWinsize(m.out[0].fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: cols})
}

// resizeBy does what a Resize packet says, where there is a terminal.
func (m *monitor) resizeBy(data []byte) {
	var size ResizeMessage
	if record.Decode(data, &size) == nil {
		m.resize(size.Rows, size.Cols)
	}
}
