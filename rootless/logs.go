package rootless

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"moss/rootless/container"
	"moss/rootless/monitor"
)

// LogOptions of Logs. Of the lines that Tail leaves, those between Since and
// Until are written.
type LogOptions struct {
	Follow, Timestamps bool
	// Names writes the container's name before each line.
	Names bool
	// Prefix is written before each line: who reads the logs of several
	// containers tells them apart by it. Names wins.
	Prefix       string
	Since, Until time.Time // zero: no bound
	Tail         int       // last lines; negative: all
	Out, Err     io.Writer // for stdout and stderr; nil: not wanted
}

// Logs writes a container's log, the rotated files included. With Follow it
// goes on until the container's monitor has ended, or Until, or ctx is done.
func (e *Engine) Logs(ctx context.Context, c *container.Container, o LogOptions) error {
	wrap := func(err error) error {
		if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
			return nil // stopped reading, as asked
		}
		return fmt.Errorf("cannot read the log of container %q: %w", c.Spec.Name, err)
	}
	log := LogOf(c)
	parse := parsers[log.Driver]
	if parse == nil {
		return wrap(fmt.Errorf("this container is using the '%s' log driver: %w", log.Driver, errdefs.ErrFailedPrecondition))
	}
	p := &logPrinter{LogOptions: o, parse: parse}
	if o.Names {
		p.Prefix = c.Spec.Name
	}

	if !o.Follow {
		return wrap(p.printAll(log))
	}
	if !o.Until.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, o.Until)
		defer cancel()
	}
	f, err := newFollower(ctx, c, log)
	if err != nil {
		return wrap(err)
	}
	defer f.close()
	err = p.follow(f)
	if errors.Is(err, context.DeadlineExceeded) && !o.Until.IsZero() {
		err = nil
	}
	return wrap(err)
}

// logEntry is one line of a log file: one line of output, or a part of one.
type logEntry struct {
	at     time.Time
	stderr bool
	text   []byte
	ended  bool // the line of output ends here
}

// parsers read one line by log driver; false: it is none.
var parsers = map[string]func(line []byte) (logEntry, bool){
	"k8s-file":  parseCRI,
	"json-file": parseJSON,
}

// parseCRI reads "2006-01-02T15:04:05.000000000+00:00 stdout F text", the CRI
// log format; P in place of F marks a part that goes on.
func parseCRI(line []byte) (logEntry, bool) {
	at, rest, ok1 := bytes.Cut(line, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tag, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 {
		return logEntry{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return logEntry{}, false
	}
	// The tag may hold more, parted by colons.
	tag, _, _ = bytes.Cut(tag, []byte(":"))
	return logEntry{at: t, stderr: string(stream) == "stderr", text: text, ended: string(tag) != "P"}, true
}

// parseJSON reads {"log":"text\n","stream":"stdout","time":"…"}, Docker's
// format; a log without the newline goes on.
func parseJSON(line []byte) (logEntry, bool) {
	var l struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if json.Unmarshal(line, &l) != nil || l.Stream == "" {
		return logEntry{}, false
	}
	text, ended := bytes.CutSuffix([]byte(l.Log), []byte("\n"))
	return logEntry{at: l.Time, stderr: l.Stream == "stderr", text: text, ended: ended}, true
}

// logPrinter writes the entries of log files as they were asked for.
type logPrinter struct {
	LogOptions
	parse   func(line []byte) (logEntry, bool)
	open    [2]bool // a line of stdout, stderr has begun and not ended
	pending []byte  // the beginning of a log line whose rest is not yet written
	done    bool    // an entry after Until has been met
}

// print writes one line of a log file. A line that is none is left out: after a
// crash or on a full disk there may be half a line.
func (p *logPrinter) print(line []byte) error {
	entry, ok := p.parse(line)
	if !ok {
		return nil
	}
	if !p.Until.IsZero() && entry.at.After(p.Until) {
		p.done = true
	}
	if p.done || !p.Since.IsZero() && entry.at.Before(p.Since) {
		return nil
	}
	out, open := p.Out, &p.open[0]
	if entry.stderr {
		out, open = p.Err, &p.open[1]
	}
	if out == nil {
		return nil
	}
	var text []byte
	if !*open {
		if p.Prefix != "" {
			text = append(append(text, p.Prefix...), ' ')
		}
		if p.Timestamps {
			text = append(entry.at.AppendFormat(text, "2006-01-02T15:04:05.000000000Z07:00"), ' ')
		}
	}
	text = append(text, entry.text...)
	if entry.ended {
		text = append(text, '\n')
	}
	*open = !entry.ended
	_, err := out.Write(text)
	return err
}

// longLine bounds what is kept of a line without an end; the monitor's are
// shorter.
const longLine = 1 << 20

// drain prints what there is of a file from where it was left.
func (p *logPrinter) drain(f *os.File) error {
	buf := make([]byte, 64<<10)
	for !p.done {
		n, err := f.Read(buf)
		data := buf[:n]
		for len(data) > 0 {
			line, rest, ended := bytes.Cut(data, []byte("\n"))
			data = rest
			if !ended {
				p.pending = append(p.pending, line...)
				break
			}
			if len(p.pending) > 0 {
				line = append(p.pending, line...)
				p.pending = p.pending[:0]
			}
			if err := p.print(line); err != nil {
				return err
			}
		}
		if len(p.pending) > longLine {
			p.pending = p.pending[:0]
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// flush prints a last line that has no newline.
func (p *logPrinter) flush() error {
	line := p.pending
	p.pending = nil
	if len(line) == 0 {
		return nil
	}
	return p.print(line)
}

// printAll prints what there is now.
func (p *logPrinter) printAll(log monitor.Log) error {
	files, err := openLogs(log)
	if err != nil {
		return err
	}
	defer closeAll(files)
	return errors.Join(p.printTail(files), p.flush())
}

// printTail prints the last lines of the files, which are in order of time.
func (p *logPrinter) printTail(files []*os.File) error {
	if p.Tail >= 0 {
		var err error
		if files, err = p.seekTail(files); err != nil {
			return err
		}
	}
	for i, f := range files {
		if err := p.drain(f); err != nil {
			return err
		}
		if i < len(files)-1 {
			if err := p.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// seekTail leaves out the files before the last Tail lines of output, and seeks
// the first of the rest to where these begin.
func (p *logPrinter) seekTail(files []*os.File) ([]*os.File, error) {
	left := p.Tail
	for i := len(files) - 1; i >= 0; i-- {
		offset, err := p.lastLines(files[i], &left, i == len(files)-1)
		if err != nil {
			return nil, err
		}
		if left < 0 {
			_, err := files[i].Seek(offset, io.SeekStart)
			return files[i:], err
		}
	}
	return files, nil
}

// lastLines reads a file from its end and takes one off left for each line of
// output that ends there. When left falls below zero, what was wanted begins
// at offset. newest: the last line counts although its output has not ended.
func (p *logPrinter) lastLines(f *os.File, left *int, newest bool) (offset int64, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	if newest && *left == 0 {
		*left = -1
		return size, nil
	}
	defer f.Seek(0, io.SeekStart)

	var tail []byte // what is before the lines that were looked at: [pos, pos+len)
	pos, first := size, newest
	for {
		cut := bytes.LastIndexByte(bytes.TrimSuffix(tail, []byte("\n")), '\n')
		if cut < 0 && pos > 0 {
			block := make([]byte, min(64<<10, pos))
			if _, err := f.ReadAt(block, pos-int64(len(block))); err != nil {
				return 0, err
			}
			pos -= int64(len(block))
			tail = append(block, tail...)
			continue
		}
		if len(tail) == 0 {
			return 0, nil
		}
		end := pos + int64(len(tail))
		entry, ok := p.parse(bytes.TrimSuffix(tail[cut+1:], []byte("\n")))
		tail = tail[:cut+1]
		if ok && (entry.ended || first) {
			if *left--; *left < 0 {
				return end, nil
			}
		}
		first = first && !ok
	}
}

// openLogs opens a log and its rotated predecessors, oldest first. A rotation
// meanwhile does no harm: going from the newest to the oldest, a file may be
// met twice and none is missed.
func openLogs(log monitor.Log) ([]*os.File, error) {
	var files []*os.File
	seen := map[fileID]bool{}
	for n := 0; ; n++ {
		path := log.Path
		if n > 0 {
			path += "." + strconv.Itoa(n)
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			// path itself is missing for a moment in each rotation, path.n too.
			if n > log.MaxFile {
				break
			}
			continue
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		id := identify(f)
		if seen[id] {
			f.Close()
			continue
		}
		seen[id] = true
		files = append([]*os.File{f}, files...)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
