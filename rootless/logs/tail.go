package logs

import (
	"bytes"
	"io"
	"math"
)

// seekTail leaves out what is before the last lines of output. It goes through the
// log from its end: parts of a line lie between those of the other stream's.
func (s *files) seekTail(lines int) error {
	t := &tail{left: lines}
	for i := len(s.open) - 1; i >= 0; i-- {
		f := s.open[i]
		for stream, found := range t.found {
			if t.began[stream] = 0; found {
				t.began[stream] = math.MaxInt64
			}
		}
		begin, err := t.look(f, s.parse)
		if err != nil {
			return err
		}
		f.skip = t.began
		if !t.done() {
			continue
		}
		f.at = begin
		if _, err := f.Seek(begin, io.SeekStart); err != nil {
			return err
		}
		closeAll(s.open[:i])
		s.open = s.open[i:]
		return nil
	}
	return nil
}

// tail is a search for the last lines.
type tail struct {
	left  int
	seen  [2]bool  // a line of the stream's is wanted
	found [2]bool  // where the stream's wanted lines begin: began
	began [2]int64 // in the file that was looked at last
	extra int64    // bytes gone through for the beginning of the other stream's line
}

// maxExtra bounds that: the parts of a line are written one soon after the other.
const maxExtra = 1 << 20

func (t *tail) done() bool { return t.found[0] && t.found[1] }

// look goes backwards through one file, until it is done or at the beginning of it,
// and returns where to begin to read.
func (t *tail) look(f *logFile, parse parser) (begin int64, err error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, err
	}
	defer f.Seek(0, io.SeekStart)

	var rest []byte // what is before the lines that were looked at: [pos, pos+len)
	pos := size
	for {
		cut := bytes.LastIndexByte(bytes.TrimSuffix(rest, []byte("\n")), '\n')
		if cut < 0 && pos > 0 {
			block := make([]byte, min(64<<10, pos))
			if _, err := f.ReadAt(block, pos-int64(len(block))); err != nil {
				return 0, err
			}
			pos -= int64(len(block))
			rest = append(block, rest...)
			continue
		}
		if len(rest) == 0 {
			return 0, nil
		}
		end := pos + int64(len(rest))
		if e, ok := parse(bytes.TrimSuffix(rest[cut+1:], []byte("\n"))); ok {
			t.entry(e, end, end-pos-int64(cut+1))
		}
		rest = rest[:cut+1]
		if t.done() {
			return min(t.began[0], t.began[1]), nil
		}
	}
}

// entry takes in one entry, which ends there in the file.
func (t *tail) entry(e Entry, end, size int64) {
	i := index(e)
	if e.Ended || !t.seen[i] {
		if t.left == 0 || t.found[i] { // a line before the wanted ones
			t.find(i, end)
			if !t.seen[1-i] { // so are all of the other stream's
				t.find(1-i, end)
			}
		} else {
			t.left--
			t.seen[i] = true
		}
	}
	if t.found[0] != t.found[1] {
		if t.extra += size; t.extra > maxExtra {
			t.find(0, end-size)
			t.find(1, end-size)
		}
	}
}

func (t *tail) find(i int, at int64) {
	if !t.found[i] {
		t.found[i], t.began[i] = true, at
	}
}
