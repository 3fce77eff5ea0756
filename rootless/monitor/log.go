package monitor

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// A sink keeps what the container says. One that cannot be written to (the disk is
// full, the journal does not read) loses lines, and never stops the container; when
// it can be written to again, it says once how many were lost.
type sink interface {
	// write logs one piece of a stream.
	write(kind byte, data []byte, at time.Time)
	// end closes a line that a stream has left open, when it ends.
	end(kind byte, at time.Time)
	// reopen opens the log again, for who has renamed the file.
	reopen() error
	// close ends the log: the container is not going to be started again.
	close()
	// save writes what restoreLog reads.
	save(w *stateWriter)
}

// openLog opens the log of the configuration.
func openLog(c *Config) (sink, error) {
	l := c.Log
	switch l.Driver {
	case "none", "passthrough", "passthrough-tty":
		return noLog{}, nil
	case "journald":
		return openJournal(c)
	case "k8s-file", "json-file":
	default:
		return nil, fmt.Errorf("cannot open log: no log driver %q", l.Driver)
	}
	f := &logFile{driver: l.Driver, path: l.Path, maxSize: l.MaxSize, maxFile: l.MaxFile, fd: -1}
	if err := f.open(f.path, unix.O_APPEND); err != nil {
		return nil, fmt.Errorf("cannot open log %q: %w", l.Path, err)
	}
	return f, nil
}

// noLog is where there is none.
type noLog struct{}

func (noLog) write(byte, []byte, time.Time) {}
func (noLog) end(byte, time.Time)           {}
func (noLog) reopen() error                 { return nil }
func (noLog) close()                        {}
func (noLog) save(w *stateWriter)           { w.text("") }

// loss counts the lines that could not be written.
type loss struct {
	lines int64
	why   string
}

func (l *loss) add(lines int, err error) {
	l.lines += int64(lines)
	l.why = err.Error()
}

// notice is the line that stands for those that are missing.
func (l *loss) notice() []byte {
	lines := " lines of output are"
	if l.lines == 1 {
		lines = " line of output is"
	}
	return []byte("moss: " + strconv.FormatInt(l.lines, 10) + lines + " missing here: the log could not be written: " + l.why)
}

// logFile is a log in a file.
type logFile struct {
	driver  string
	path    string
	maxSize int64
	maxFile int

	fd   int
	size int64
	out  []byte // lines not yet written
	at   time.Time
	lost loss

	streams [2]lineState // of stdout and stderr
}

// lineState is what a stream has left open.
type lineState struct {
	partial bool   // the last line had no end
	rest    []byte // json-file: the beginning of a UTF-8 sequence
}

func (f *logFile) open(path string, flag int) error {
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_CLOEXEC|unix.O_APPEND|flag, 0o600)
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

func (f *logFile) reopen() error {
	was := f.fd
	if err := f.open(f.path, 0); err != nil {
		return fmt.Errorf("cannot open log %q: %w", f.path, err)
	}
	if was >= 0 {
		unix.Close(was)
	}
	return nil
}

// write logs one piece of a stream, in one write(2) where the size allows.
func (f *logFile) write(kind byte, data []byte, at time.Time) {
	f.at = at
	s := &f.streams[kind-Stdout]
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte{'\n'})
		data = rest
		start := len(f.out)
		f.out = f.append(f.out, kind, s, line, ended, at)
		s.partial = !ended
		f.split(start)
	}
	f.flush()
}

func (f *logFile) end(kind byte, at time.Time) {
	f.at = at
	s := &f.streams[kind-Stdout]
	start := len(f.out)
	switch {
	case f.driver == "k8s-file" && s.partial:
		f.out = appendLine(f.out, kind, nil, tagEnd, at)
	case len(s.rest) > 0:
		f.out = appendJSON(f.out, kind, s.rest, false, at)
	}
	*s = lineState{}
	f.split(start)
	f.flush()
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

// rotate renames path to path.1, path.1 to path.2 and so on, and begins anew. The
// new file is made before: where none can be made, everything stays as it is.
func (f *logFile) rotate() {
	was, size, fresh := f.fd, f.size, f.path+".new"
	if f.open(fresh, unix.O_TRUNC) != nil {
		return // goes on in the old file: better too large than lost
	}
	for n := f.maxFile; n > 0; n-- {
		from := f.path
		if n > 1 {
			from += "." + strconv.Itoa(n-1)
		}
		unix.Rename(from, f.path+"."+strconv.Itoa(n))
	}
	if unix.Rename(fresh, f.path) != nil {
		unix.Close(f.fd)
		unix.Unlink(fresh)
		f.fd, f.size = was, size
		return
	}
	unix.Close(was)
}

// flush writes what is there.
func (f *logFile) flush() {
	out := f.out
	f.out = f.out[:0]
	if cap(f.out) > keepBuffer {
		f.out = nil
	}
	if len(out) == 0 {
		return
	}
	var notice []byte
	if f.lost.lines > 0 {
		notice = f.notice()
		out = append(notice, out...)
	}
	was, written := f.size, 0
	for written < len(out) {
		n, err := retry(func() (int, error) { return unix.Write(f.fd, out[written:]) })
		if err == nil && n <= 0 { // never seen
			err = unix.EIO
		}
		if err != nil {
			f.cut(was, out, written, len(notice), err)
			return
		}
		written += n
		f.size += int64(n)
	}
	f.lost = loss{}
}

// cut is for a disk on which only the first written bytes of out had room. A line
// that fits in part is taken back, so that the file stays whole lines, and so is a
// notice after which nothing fits: there is only one for all that is missing.
func (f *logFile) cut(was int64, out []byte, written, notice int, why error) {
	kept := bytes.LastIndexByte(out[:written], '\n') + 1
	if kept <= notice {
		kept = 0
	} else {
		f.lost = loss{}
	}
	if f.size != was+int64(kept) {
		unix.Ftruncate(f.fd, was+int64(kept))
		f.size = was + int64(kept)
	}
	if kept == 0 {
		kept = notice
	}
	f.lost.add(bytes.Count(out[kept:], []byte{'\n'}), why)
}

func (f *logFile) notice() []byte {
	if f.driver == "json-file" {
		return appendJSON(nil, Stderr, f.lost.notice(), true, f.at)
	}
	return appendLine(nil, Stderr, f.lost.notice(), tagFull, f.at)
}

// keepBuffer is how large a buffer may be and still be kept while idle.
const keepBuffer = 4096

func (f *logFile) close() {
	if f.fd >= 0 {
		unix.Close(f.fd)
		f.fd = -1
	}
}

func (f *logFile) save(w *stateWriter) {
	w.text(f.driver)
	w.text(f.path)
	w.number(f.maxSize)
	w.number(int64(f.maxFile))
	w.descriptor(f.fd)
	w.number(f.size)
	w.number(f.lost.lines)
	w.text(f.lost.why)
	for _, s := range f.streams {
		w.flag(s.partial)
		w.text(string(s.rest))
	}
}

// restoreLog reads what a sink has saved: the driver first.
func restoreLog(r *stateReader) sink {
	driver := r.text()
	switch driver {
	case "":
		return noLog{}
	case "journald":
		return restoreJournal(r)
	}
	f := &logFile{driver: driver, path: r.text(), maxSize: r.number(), maxFile: int(r.number()), fd: r.descriptor(), size: r.number()}
	f.lost = loss{lines: r.number(), why: r.text()}
	for i := range f.streams {
		f.streams[i] = lineState{partial: r.flag(), rest: []byte(r.text())}
	}
	return f
}
