package storage

import (
	"golang.org/x/sys/unix"
)

// writeback has the disk begin with files while those after them are unpacked: a layer
// is recorded when all of it has got there, and would wait for all of it at the end.
// It is a hint: what goes wrong is for the syncfs that follows to find.
type writeback struct {
	root  int // the directory that is unpacked in; -1 for none
	files chan string
	done  chan struct{}
	wait  []passed
	pos   int64
}

// passed is a file, and where its content ends in the stream.
type passed struct {
	name string
	end  int64
}

// worthwhile is how large a file must be: small ones come together at the end.
const worthwhile = 32 << 10

// newWriteback watches files below dir. Close ends it.
func newWriteback(dir string) *writeback {
	w := &writeback{files: make(chan string, 64), done: make(chan struct{})}
	var err error
	if w.root, err = unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		w.root = -1
	}
	go func() {
		defer close(w.done)
		for name := range w.files {
			w.begin(name)
		}
	}()
	return w
}

// pass is told of each file when its content has been read, which is before it is written.
func (w *writeback) pass(name string, size int64) {
	w.pos += size
	if size >= worthwhile {
		w.wait = append(w.wait, passed{name, w.pos})
	}
	// What has left the buffer before the unpacking has been written.
	for len(w.wait) > 0 && w.wait[0].end+2*aheadSize < w.pos {
		select {
		case w.files <- w.wait[0].name:
		default: // it has enough to do
		}
		w.wait = w.wait[1:]
	}
}

// begin starts the writing of one file, and does not wait for it: sync_file_range(2).
func (w *writeback) begin(name string) {
	how := unix.OpenHow{Flags: unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(w.root, name, &how)
	if err != nil {
		return
	}
	unix.SyncFileRange(fd, 0, 0, unix.SYNC_FILE_RANGE_WRITE)
	unix.Close(fd)
}

// Close waits for what has been begun.
func (w *writeback) Close() {
	close(w.files)
	<-w.done
	if w.root >= 0 {
		unix.Close(w.root)
	}
}
