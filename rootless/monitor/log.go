package monitor

import (
	"fmt"
	"strconv"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// logFile writes what the container says. A write that fails (the disk is full)
// loses its lines and never stops the container. A nil *logFile loses them all.
type logFile struct {
	driver  string
	path    string
	maxSize int64
	maxFile int

	fd   int
	size int64
	out  []byte // lines not yet written

	streams [2]lineState // of stdout and stderr
}

// lineState is what a stream has left open.
type lineState struct {
	partial bool   // the last line had no end
	rest    []byte // json-file: the beginning of a UTF-8 sequence
}

// openLog opens the log of the configuration; nil where there is none.
func openLog(l Log) (*logFile, error) {
	switch l.Driver {
	case "none", "passthrough":
		return nil, nil
	case "k8s-file", "json-file":
	default:
		return nil, fmt.Errorf("cannot open log: no log driver %q", l.Driver)
	}
	f := &logFile{driver: l.Driver, path: l.Path, maxSize: l.MaxSize, maxFile: l.MaxFile, fd: -1}
	if err := f.open(); err != nil {
		return nil, fmt.Errorf("cannot open log %q: %w", l.Path, err)
	}
	return f, nil
}

func (f *logFile) open() error {
	fd, err := retry(func() (int, error) {
		return unix.Open(f.path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_CLOEXEC, 0o600)
	})
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		unix.Close(fd)
		return err
	}
	f.fd, f.size = fd, st.Size
	return nil
}

// reopen opens the path again, for who has renamed the file.
func (f *logFile) reopen() error {
	if f == nil {
		return nil
	}
	was := f.fd
	if err := f.open(); err != nil {
		return fmt.Errorf("cannot open log %q: %w", f.path, err)
	}
	if was >= 0 {
		unix.Close(was)
	}
	return nil
}

// write logs one piece of a stream, in one write(2) where the size allows.
func (f *logFile) write(kind byte, data []byte, at time.Time) {
	if f == nil {
		return
	}
	s := &f.streams[kind-Stdout]
	for len(data) > 0 {
		line, ended := data, false
		for i, c := range data {
			if c == '\n' {
				line, ended = data[:i], true
				break
			}
		}
		data = data[len(line):]
		if ended {
			data = data[1:]
		}
		start := len(f.out)
		f.out = f.append(f.out, kind, s, line, ended, at)
		s.partial = !ended
		f.split(start)
	}
	f.flush()
}

// end closes a line that a stream has left open, when it ends.
func (f *logFile) end(kind byte, at time.Time) {
	if f == nil {
		return
	}
	s := &f.streams[kind-Stdout]
	start := len(f.out)
	switch {
	case f.driver == "k8s-file" && s.partial:
		f.out = appendLine(f.out, kind, nil, true, at)
	case len(s.rest) > 0:
		f.out = appendJSON(f.out, kind, s.rest, false, at)
	}
	*s = lineState{}
	f.split(start)
	f.flush()
}

// append formats one line, or the part of one that is there.
func (f *logFile) append(out []byte, kind byte, s *lineState, line []byte, ended bool, at time.Time) []byte {
	if f.driver != "json-file" {
		return appendLine(out, kind, line, ended, at)
	}
	// A UTF-8 sequence that the end of the piece has cut waits for the next one.
	if len(s.rest) > 0 {
		line = append(s.rest, line...)
		s.rest = nil
	}
	if cut := incomplete(line); cut > 0 && !ended {
		s.rest = append([]byte(nil), line[len(line)-cut:]...)
		line = line[:len(line)-cut]
	}
	if len(line) == 0 && !ended {
		return out
	}
	return appendJSON(out, kind, line, ended, at)
}

// appendLine formats a line in the CRI log format, as conmon writes it: F closes
// a line, P does not.
func appendLine(out []byte, kind byte, line []byte, ended bool, at time.Time) []byte {
	out = at.UTC().AppendFormat(out, "2006-01-02T15:04:05.000000000+00:00 ")
	out = append(out, streamName(kind)...)
	if ended {
		out = append(out, " F "...)
	} else {
		out = append(out, " P "...)
	}
	out = append(out, line...)
	return append(out, '\n')
}

func streamName(kind byte) string {
	if kind == Stderr {
		return "stderr"
	}
	return "stdout"
}

// appendJSON formats a line as Docker's json-file driver does. JSON holds text
// only: bytes that are not UTF-8 become U+FFFD, there as here.
func appendJSON(out []byte, kind byte, line []byte, ended bool, at time.Time) []byte {
	out = append(out, `{"log":"`...)
	out = appendText(out, line)
	if ended {
		out = append(out, `\n`...)
	}
	out = append(out, `","stream":"`...)
	out = append(out, streamName(kind)...)
	out = append(out, `","time":"`...)
	out = at.UTC().AppendFormat(out, time.RFC3339Nano)
	return append(out, "\"}\n"...)
}

// incomplete is the length of the UTF-8 sequence that the end of b cuts.
func incomplete(b []byte) int {
	for i := 1; i <= len(b) && i < utf8.UTFMax; i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-i:]) {
				return i
			}
			return 0
		}
	}
	return 0
}

// appendText escapes text for a JSON string.
func appendText(out, text []byte) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c == '\t':
			out = append(out, `\t`...)
		case c == '\r':
			out = append(out, `\r`...)
		case c < ' ' || c == 0x7f:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			out = append(out, c)
		default:
			r, n := utf8.DecodeRune(text[i:])
			out = utf8.AppendRune(out, r) // U+FFFD for what is none
			i += n
			continue
		}
		i++
	}
	return out
}

// split rotates before the line that begins at start in f.out when the file
// would grow too large with it.
func (f *logFile) split(start int) {
	if f.maxSize <= 0 || f.size+int64(len(f.out)) <= f.maxSize || f.size+int64(start) == 0 {
		return
	}
	line := append([]byte(nil), f.out[start:]...)
	f.out = f.out[:start]
	f.flush()
	f.rotate()
	f.out = append(f.out, line...)
}

// rotate renames path to path.1, path.1 to path.2 and so on, and begins anew.
func (f *logFile) rotate() {
	if f.maxFile <= 0 {
		unix.Unlink(f.path)
	}
	for n := f.maxFile; n > 0; n-- {
		from := f.path
		if n > 1 {
			from += "." + strconv.Itoa(n-1)
		}
		unix.Rename(from, f.path+"."+strconv.Itoa(n))
	}
	was := f.fd
	if f.open() != nil {
		return // stays in the old file: better too large than lost
	}
	unix.Close(was)
}

// flush writes what is there. A line that fits only in part is taken back, so
// that the file stays whole lines.
func (f *logFile) flush() {
	out := f.out
	f.out = f.out[:0]
	if cap(f.out) > keepBuffer {
		f.out = nil
	}
	was := f.size
	for len(out) > 0 {
		n, err := retry(func() (int, error) { return unix.Write(f.fd, out) })
		if err != nil || n <= 0 {
			if f.size != was {
				unix.Ftruncate(f.fd, was)
				f.size = was
			}
			return
		}
		f.size += int64(n)
		out = out[n:]
	}
}

// keepBuffer is how large a buffer may be and still be kept while idle.
const keepBuffer = 4096

func (f *logFile) close() {
	if f != nil && f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}
