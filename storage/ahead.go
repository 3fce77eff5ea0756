package storage

import (
	"io"
	"sync"
)

// aheadSize is how much of a stream is read before it is wanted.
const aheadSize = 1 << 20

// ahead reads a stream before it is wanted. Who writes into a pipe waits for who reads
// from it, at each of the small pieces of an archive; when one of them has a thread of
// its own the kernel switches threads for each, which costs more than the piece. Here
// either is woken only when a quarter of the buffer is there for it, or the end: it is
// for streams that end, not for those in which somebody waits for an answer.
type ahead struct {
	mu   sync.Mutex
	more sync.Cond // there is something to read
	room sync.Cond // there is room to fill
	buf  []byte
	from int // where reading goes on
	len  int // bytes to read
	err  error
	stop bool
}

// newAhead begins to read r. What it returns must be read until it ends, or closed.
func newAhead(r io.Reader) *ahead {
	a := &ahead{buf: make([]byte, aheadSize)}
	a.more.L, a.room.L = &a.mu, &a.mu
	go a.fill(r)
	return a
}

func (a *ahead) fill(r io.Reader) {
	for {
		piece := a.free()
		if piece == nil {
			return
		}
		n, err := r.Read(piece)
		a.mu.Lock()
		a.len += n
		a.err = err
		if err != nil || a.len >= len(a.buf)/4 {
			a.more.Signal()
		}
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// free waits for room, and is nil when nobody reads any more.
func (a *ahead) free() []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.stop && a.len == len(a.buf) {
		// Whoever reads may wait for less than this.
		a.more.Signal()
		a.room.Wait()
	}
	if a.stop {
		return nil
	}
	start := (a.from + a.len) % len(a.buf)
	return a.buf[start:min(len(a.buf), start+len(a.buf)-a.len)]
}

// Read gives what is there, and waits only when that is nothing.
func (a *ahead) Read(p []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.len == 0 {
		if a.err != nil {
			return 0, a.err
		}
		a.more.Wait()
	}
	n := copy(p, a.buf[a.from:min(len(a.buf), a.from+a.len)])
	a.from, a.len = (a.from+n)%len(a.buf), a.len-n
	if a.len <= len(a.buf)*3/4 {
		a.room.Signal()
	}
	return n, nil
}

// Close lets the reading end, with the next piece that comes.
func (a *ahead) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stop = true
	a.room.Signal()
	return nil
}
