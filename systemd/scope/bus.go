package scope

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a conversation with a service manager over its own socket, which needs no bus
// daemon. What is asked is sent at once, the greeting with it: a question costs one round
// trip. It never blocks, but in Await.
type Conn struct {
	// FD is readable when there may be a Message.
	FD int

	out, in []byte
	serial  uint32
	greeted bool
	sent    int
}

// Message is an answer, or the news that a job is done.
type Message struct {
	To  uint32 // the serial of what is answered; 0: news
	Err *Error // the answer is a refusal
	// Job is the path of a job that has begun, or is done; Unit and Result are of one that
	// is done: "done", or what went wrong.
	Job, Unit, Result string
	Text              string // a property's value
}

// Error is a refusal by the service manager.
type Error struct{ Name, Text string }

func (e *Error) Error() string { return e.Text }

// Exists says whether a unit of that name is there already.
func (e *Error) Exists() bool { return e.Name == "org.freedesktop.systemd1.UnitExists" }

// Dial connects as the user with that ID outside of user namespaces.
func Dial(socket string, uid int) (*Conn, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot connect to %q: %w", socket, err)
	}
	// D-Bus specification, "Authentication Protocol".
	greeting := "\x00AUTH EXTERNAL " + hex.EncodeToString([]byte(strconv.Itoa(uid))) + "\r\nBEGIN\r\n"
	return &Conn{FD: fd, out: []byte(greeting)}, nil
}

// Close ends the conversation.
func (c *Conn) Close() error { return unix.Close(c.FD) }

// Flush sends what has been asked.
func (c *Conn) Flush() error {
	for len(c.out) > 0 {
		n, err := unix.SendmsgN(c.FD, c.out, nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == unix.EINTR:
		case err != nil: // EAGAIN: it does not read
			return err
		default:
			c.out = c.out[n:]
			c.sent += n
		}
	}
	return nil
}

// Next is the next message that has come; nil: none has.
func (c *Conn) Next() (*Message, error) {
	for {
		m, err := c.parse()
		if m != nil || err != nil {
			return m, err
		}
		var buf [4096]byte
		n, err := unix.Read(c.FD, buf[:])
		switch {
		case err == unix.EINTR:
		case err == unix.EAGAIN:
			return nil, nil
		case err != nil:
			return nil, err
		case n == 0:
			return nil, errors.New("the service manager has hung up")
		default:
			c.in = append(c.in, buf[:n]...)
		}
	}
}

// Await is Next, but waits until the deadline for one.
func (c *Conn) Await(deadline time.Time) (*Message, error) {
	for {
		if m, err := c.Next(); m != nil || err != nil {
			return m, err
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil, os.ErrDeadlineExceeded
		}
		fds := []unix.PollFd{{Fd: int32(c.FD), Events: unix.POLLIN}}
		if _, err := unix.Poll(fds, int(left.Milliseconds())+1); err != nil && err != unix.EINTR {
			return nil, err
		}
	}
}

// greetingRead is how much the manager reads at first (sd-bus, bus_socket_read_auth). It looks at
// what came along with the greeting when more comes.
const greetingRead = 256

// parse takes one message of those that are of interest from what has come.
func (c *Conn) parse() (*Message, error) {
	if !c.greeted {
		line, rest, ok := bytes.Cut(c.in, []byte("\r\n"))
		if !ok {
			return nil, nil
		}
		if !bytes.HasPrefix(line, []byte("OK ")) {
			return nil, fmt.Errorf("the service manager does not know us: %q", line)
		}
		c.greeted, c.in = true, rest
		if c.sent <= greetingRead {
			c.call("org.freedesktop.DBus.Peer", "Ping", "", nil)
			if err := c.Flush(); err != nil {
				return nil, err
			}
		}
	}
	for {
		size, err := messageSize(c.in)
		if err != nil || size == 0 || len(c.in) < size {
			return nil, err
		}
		m := decode(c.in[:size])
		c.in = c.in[size:]
		if m != nil {
			return m, nil
		}
	}
}

// The types of messages, and the fields of headers: D-Bus specification, "Message Format".
const (
	methodCall   = 1
	methodReturn = 2
	failure      = 3
	signal       = 4

	fieldPath        = 1
	fieldInterface   = 2
	fieldMember      = 3
	fieldErrorName   = 4
	fieldReplySerial = 5
	fieldSignature   = 8
)

// largest is more than a service manager has to say at once.
const largest = 1 << 20

// messageSize is the size of the message that in begins with; 0: not known yet.
func messageSize(in []byte) (int, error) {
	if len(in) < 16 {
		return 0, nil
	}
	if in[0] != 'l' { // it runs on this machine, and moss on none that is big-endian
		return 0, fmt.Errorf("a message of the service manager begins with %q", in[0])
	}
	body, fields := binary.LittleEndian.Uint32(in[4:]), binary.LittleEndian.Uint32(in[12:])
	if body > largest || fields > largest {
		return 0, fmt.Errorf("a message of the service manager has %d bytes", uint64(body)+uint64(fields))
	}
	return 16 + int(fields+7)&^7 + int(body), nil
}

// decode reads a whole message; nil is one that says nothing of interest.
func decode(data []byte) *Message {
	r := reader{data: data, at: 16}
	end := 16 + int(binary.LittleEndian.Uint32(data[12:]))
	var m Message
	var member, name, body string
	for r.at < end && !r.bad {
		r.align(8)
		code := r.byte()
		switch r.signature() {
		case "s", "o":
			if s := r.text(); code == fieldMember {
				member = s
			} else if code == fieldErrorName {
				name = s
			}
		case "u":
			if n := r.number(); code == fieldReplySerial {
				m.To = n
			}
		case "g":
			body = r.signature()
		default:
			return nil
		}
	}
	r.at = (end + 7) &^ 7
	switch kind := data[1]; {
	case kind == methodReturn && body == "v":
		if r.signature() == "s" {
			m.Text = r.text()
		}
	case kind == methodReturn:
		if r.at < len(data) {
			m.Job = r.text()
		}
	case kind == failure:
		m.Err = &Error{Name: name, Text: r.text()}
	case kind == signal && member == "JobRemoved": // uoss
		r.number()
		m.Job, m.Unit, m.Result = r.text(), r.text(), r.text()
	default:
		return nil
	}
	if r.bad {
		return nil
	}
	return &m
}

// reader reads values where they are aligned.
type reader struct {
	data []byte
	at   int
	bad  bool
}

func (r *reader) align(n int) { r.at = (r.at + n - 1) / n * n }

func (r *reader) take(n int) []byte {
	if r.bad || n < 0 || r.at+n > len(r.data) {
		r.bad = true
		return make([]byte, min(max(n, 4), 8))
	}
	r.at += n
	return r.data[r.at-n : r.at]
}

func (r *reader) byte() byte { return r.take(1)[0] }

func (r *reader) number() uint32 {
	r.align(4)
	return binary.LittleEndian.Uint32(r.take(4))
}

func (r *reader) text() string {
	n := int(r.number())
	if n > len(r.data) {
		r.bad = true
		return ""
	}
	return string(bytes.TrimSuffix(r.take(n+1), []byte{0}))
}

func (r *reader) signature() string {
	return string(bytes.TrimSuffix(r.take(int(r.byte())+1), []byte{0}))
}

// writer writes values where they are aligned.
type writer struct{ out []byte }

func (w *writer) align(n int) {
	for len(w.out)%n != 0 {
		w.out = append(w.out, 0)
	}
}

func (w *writer) number(n uint32) {
	w.align(4)
	w.out = binary.LittleEndian.AppendUint32(w.out, n)
}

func (w *writer) long(n uint64) {
	w.align(8)
	w.out = binary.LittleEndian.AppendUint64(w.out, n)
}

func (w *writer) text(s string) {
	w.number(uint32(len(s)))
	w.out = append(append(w.out, s...), 0)
}

func (w *writer) signature(s string) {
	w.out = append(append(append(w.out, byte(len(s))), s...), 0)
}

// array writes what fill writes, of elements with that alignment.
func (w *writer) array(alignment int, fill func()) {
	w.number(0)
	length := len(w.out) - 4
	w.align(alignment)
	start := len(w.out)
	fill()
	binary.LittleEndian.PutUint32(w.out[length:], uint32(len(w.out)-start))
}

// manager is the interface of what is asked.
const manager = "org.freedesktop.systemd1.Manager"

// call asks the manager to do something, and returns the serial of the question.
func (c *Conn) call(object, method, signature string, body []byte) uint32 {
	c.serial++
	w := writer{out: []byte{'l', methodCall, 0, 1}}
	w.number(uint32(len(body)))
	w.number(c.serial)
	w.array(8, func() {
		for _, f := range []struct {
			code        byte
			kind, value string
		}{
			{fieldPath, "o", "/org/freedesktop/systemd1"}, {fieldInterface, "s", object},
			{fieldMember, "s", method}, {fieldSignature, "g", signature},
		} {
			if f.kind == "g" && signature == "" {
				continue
			}
			w.align(8)
			w.out = append(w.out, f.code)
			w.signature(f.kind)
			if f.kind == "g" {
				w.signature(f.value)
			} else {
				w.text(f.value)
			}
		}
	})
	w.align(8)
	c.out = append(append(c.out, w.out...), body...)
	return c.serial
}
