package event

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
)

// Options say what Read hands on.
type Options struct {
	Since time.Time // zero: from the first on
	Until time.Time // zero: without an end
	// Follow goes on with what happens from now on, until Until or the end of ctx.
	Follow bool
	// OnlyNew leaves out what has happened before the call.
	OnlyNew bool
}

// Read calls do with one event after the other, oldest first; its error ends the
// reading and is returned. A follower goes on over rotations. Lines that cannot be
// read, which a crash leaves, are passed over.
func (l Log) Read(ctx context.Context, o Options, do func(*Event) error) error {
	r := &reader{log: l, o: o, do: do}
	defer r.close()
	if !o.Follow {
		return r.all()
	}
	if err := os.MkdirAll(string(l), 0o700); err != nil {
		return fmt.Errorf("cannot watch events: %w", err)
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return fmt.Errorf("cannot watch events: %w (see fs.inotify.max_user_instances)", err)
	}
	watch := os.NewFile(uintptr(fd), "inotify")
	defer watch.Close()
	if _, err := unix.InotifyAddWatch(fd, string(l), unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return fmt.Errorf("cannot watch %q: %w (see fs.inotify.max_user_watches)", string(l), err)
	}
	defer context.AfterFunc(ctx, func() { watch.SetReadDeadline(time.Unix(1, 0)) })()
	if !o.Until.IsZero() {
		watch.SetReadDeadline(o.Until)
	}
	if o.OnlyNew {
		r.skip()
	}
	buffer := make([]byte, 4096)
	for {
		if err := r.all(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := watch.Read(buffer); errors.Is(err, os.ErrDeadlineExceeded) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return r.all()
		} else if err != nil {
			return fmt.Errorf("cannot watch events: %w", err)
		}
	}
}

// reader reads both files of the log, each as far as it goes. It keeps the older
// one open: somebody may still be writing to it.
type reader struct {
	log   Log
	o     Options
	do    func(*Event) error
	files []*part // oldest first
}

// part is one file, and the beginning of a line that is not whole yet.
type part struct {
	f    *os.File
	info fs.FileInfo
	rest []byte
}

func (r *reader) close() {
	for _, p := range r.files {
		p.f.Close()
	}
}

// all hands on what has been written since the last time.
func (r *reader) all() error {
	if err := r.open(); err != nil {
		return err
	}
	for _, p := range r.files {
		if err := r.read(p); err != nil {
			return err
		}
	}
	return nil
}

// skip passes over what is there.
func (r *reader) skip() {
	if r.open() != nil {
		return
	}
	for _, p := range r.files {
		p.f.Seek(0, io.SeekEnd)
	}
}

// open opens files that were not there before, and closes those that are no part
// of the log any more, once they are read.
func (r *reader) open() error {
	var now []*part
	// In this order: a log that is renamed between the two is found twice, not missed.
	for _, name := range []string{current, rotated} {
		f, err := os.Open(filepath.Join(string(r.log), name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot read events: %w", err)
		}
		info, err := f.Stat()
		if err != nil {
			f.Close()
			return fmt.Errorf("cannot read events: %w", err)
		}
		p := &part{f: f, info: info}
		for _, have := range r.files {
			if os.SameFile(have.info, info) {
				f.Close()
				p = have
			}
		}
		if len(now) == 1 && os.SameFile(now[0].info, info) {
			if p.f == f {
				f.Close()
			}
			continue
		}
		now = slices.Insert(now, 0, p)
	}
	for _, have := range r.files {
		if !slices.Contains(now, have) {
			err := r.read(have)
			have.f.Close()
			if err != nil {
				return err
			}
		}
	}
	r.files = now
	return nil
}

// read hands on the whole lines that follow.
func (r *reader) read(p *part) error {
	buffer := make([]byte, 64<<10)
	for {
		n, err := p.f.Read(buffer)
		p.rest = append(p.rest, buffer[:n]...)
		rest := p.rest
		for {
			line, after, whole := bytes.Cut(rest, []byte{'\n'})
			if !whole {
				break
			}
			rest = after
			if err := r.line(line); err != nil {
				return err
			}
		}
		p.rest = append(p.rest[:0], rest...)
		if err == io.EOF || n == 0 && err == nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read events: %w", err)
		}
	}
}

func (r *reader) line(line []byte) error {
	if len(line) == 0 {
		return nil
	}
	var e Event
	if record.Decode(line, &e) != nil || e.Time.IsZero() {
		return nil
	}
	if e.Time.Before(r.o.Since) || !r.o.Until.IsZero() && e.Time.After(r.o.Until) {
		return nil
	}
	return r.do(&e)
}
