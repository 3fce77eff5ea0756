package logs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"moss/rootless/monitor"
)

// files is a log in files, of which the oldest that is not read to its end is the
// first.
type files struct {
	log     Log
	parse   parser
	open    []*logFile
	pending []byte // what was read and is not a whole line, or was not looked at yet
}

// logFile is one of them. Of each stream, what begins before skip is not wanted.
type logFile struct {
	*os.File
	at   int64 // where pending begins
	skip [2]int64
}

func openFiles(l Log, parse parser, tail int) (source, error) {
	s := &files{log: l, parse: parse}
	var err error
	if s.open, err = openLogs(l.Log); err != nil {
		return nil, err
	}
	if tail >= 0 {
		if err := s.seekTail(tail); err != nil {
			s.close()
			return nil, err
		}
	}
	return s, nil
}

func (s *files) close() {
	closeAll(s.open)
	s.open = nil
}

// longLine bounds what is kept of a line without an end; the monitor's are
// shorter.
const longLine = 1 << 20

// next reads the next line. A line that is none is left out: after a crash or on a
// full disk there may be half a line.
func (s *files) next() (Entry, bool, error) {
	for len(s.open) > 0 {
		f := s.open[0]
		if line, rest, ok := bytes.Cut(s.pending, []byte{'\n'}); ok {
			s.pending = rest
			at := f.at
			f.at += int64(len(line)) + 1
			if e, ok := s.wanted(f, at, line); ok {
				return e, true, nil
			}
			continue
		}
		more, err := s.fill(f)
		if err != nil {
			return Entry{}, false, err
		}
		if more {
			continue
		}
		if len(s.open) == 1 {
			if turned, err := s.turn(f); err != nil || !turned {
				return Entry{}, false, err
			}
			continue
		}
		line, at := s.pending, f.at
		s.pending, s.open = nil, s.open[1:]
		f.Close()
		if e, ok := s.wanted(f, at, line); ok {
			return e, true, nil
		}
	}
	// The first file may have come since.
	var err error
	if s.open, err = openLogs(s.log.Log); err != nil || len(s.open) == 0 {
		return Entry{}, false, err
	}
	return s.next()
}

func (s *files) wanted(f *logFile, at int64, line []byte) (Entry, bool) {
	e, ok := s.parse(line)
	if !ok || at < f.skip[index(e)] {
		return Entry{}, false
	}
	return e, true
}

// index is the number of an entry's stream.
func index(e Entry) int {
	if e.Stderr {
		return 1
	}
	return 0
}

// fill reads more of a file; false: there is none. A file that has been cut shorter,
// by the monitor on a full disk or by its user, is read on from its new end.
func (s *files) fill(f *logFile) (more bool, err error) {
	if len(s.pending) > longLine {
		f.at += int64(len(s.pending))
		s.pending = nil
	}
	buf := make([]byte, 64<<10)
	n, err := f.Read(buf)
	if n > 0 {
		s.pending = append(s.pending[:len(s.pending):len(s.pending)], buf[:n]...)
		return true, nil
	}
	if err != nil && err != io.EOF {
		return false, err
	}
	if info, err := f.Stat(); err == nil && info.Size() < f.at+int64(len(s.pending)) {
		s.pending, f.at = nil, info.Size()
		f.skip = [2]int64{}
		_, err = f.Seek(f.at, io.SeekStart)
		return false, err
	}
	return false, nil
}

// turn goes on to the files that are newer than f, the one that was the newest;
// false: there are none.
func (s *files) turn(f *logFile) (bool, error) {
	if f.isAt(s.log.Path) {
		return false, nil
	}
	now, err := openLogs(s.log.Log)
	if err != nil {
		return false, err
	}
	newer := now
	for i, n := range now {
		if n.id() == f.id() {
			closeAll(now[:i+1])
			newer = now[i+1:]
		}
	}
	// The monitor has opened the newer file after its last write to this one, which
	// is looked at once more.
	s.open = append(s.open, newer...)
	return len(newer) > 0, nil
}

// rest is a last line that has no newline.
func (s *files) rest() (Entry, bool) {
	line := s.pending
	s.pending = nil
	if len(s.open) == 0 || len(line) == 0 {
		return Entry{}, false
	}
	return s.wanted(s.open[0], s.open[0].at, line)
}

// fileID tells a file from another of the same name.
type fileID struct{ device, inode uint64 }

func (f *logFile) id() fileID {
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil {
		return fileID{}
	}
	return fileID{uint64(st.Dev), st.Ino}
}

func (f *logFile) isAt(path string) bool {
	var st unix.Stat_t
	return unix.Stat(path, &st) == nil && fileID{uint64(st.Dev), st.Ino} == f.id()
}

// openLogs opens a log and its rotated predecessors, oldest first. A rotation
// meanwhile does no harm: going from the newest to the oldest, a file may be
// met twice and none is missed.
func openLogs(log monitor.Log) ([]*logFile, error) {
	var files []*logFile
	seen := map[fileID]bool{}
	for n := 0; ; n++ {
		path := log.Path
		if n > 0 {
			path += "." + strconv.Itoa(n)
		}
		opened, err := os.Open(path)
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
		f := &logFile{File: opened}
		if id := f.id(); seen[id] {
			f.Close()
			continue
		} else {
			seen[id] = true
		}
		files = append([]*logFile{f}, files...)
	}
	return files, nil
}

func closeAll(files []*logFile) {
	for _, f := range files {
		f.Close()
	}
}
