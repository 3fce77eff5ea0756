package tree

import (
	"context"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// data copies the bytes of files: shared with the original where the file system
// can, else by the kernel; holes stay holes. It remembers what does not work
// between the two file systems.
type data struct {
	noClone, noRange, noSend bool
	buf                      []byte
}

// chunk is how much is copied between two looks at the context.
const chunk = 64 << 20

func (d *data) copy(ctx context.Context, out, in *os.File, st *unix.Stat_t) error {
	if st.Size == 0 { // also files of the kernel's, which have some content all the same
		return d.stream(ctx, out, in)
	}
	if !d.noClone {
		switch err := unix.IoctlFileClone(int(out.Fd()), int(in.Fd())); err {
		case nil:
			return nil
		case unix.EXDEV, unix.EOPNOTSUPP, unix.ENOTTY, unix.EINVAL, unix.ENOSYS, unix.EPERM:
			d.noClone = true
		default:
			return err
		}
	}
	if st.Blocks*512 < st.Size {
		return d.sparse(ctx, out, in, st.Size)
	}
	at, err := d.span(ctx, out, in, 0, st.Size)
	if err != nil {
		return err
	}
	if at == st.Size { // it may have grown meanwhile: that is for the next copy
		return nil
	}
	return out.Truncate(at)
}

// sparse copies what lies between the holes.
func (d *data) sparse(ctx context.Context, out, in *os.File, size int64) error {
	for at := int64(0); at < size; {
		from, err := unix.Seek(int(in.Fd()), at, unix.SEEK_DATA)
		if err == unix.ENXIO {
			break // a hole up to the end
		}
		if err != nil {
			from = at
		}
		to, err := unix.Seek(int(in.Fd()), from, unix.SEEK_HOLE)
		if err != nil || to > size {
			to = size
		}
		if at, err = d.span(ctx, out, in, from, to); err != nil {
			return err
		}
		if at < to {
			return out.Truncate(at) // it has become shorter
		}
	}
	return out.Truncate(size)
}

// span copies the bytes from at to end, and returns how far it came: not to the
// end if the file is shorter by now.
func (d *data) span(ctx context.Context, out, in *os.File, at, end int64) (int64, error) {
	for at < end {
		if err := ctx.Err(); err != nil {
			return at, err
		}
		n, err := d.some(out, in, at, min(end-at, chunk))
		if err != nil || n == 0 {
			return at, err
		}
		at += int64(n)
	}
	return at, nil
}

// some copies up to n bytes by the best way that works.
func (d *data) some(out, in *os.File, at, n int64) (int, error) {
	if !d.noRange {
		from, to := at, at
		done, err := retry(func() (int, error) { return unix.CopyFileRange(int(in.Fd()), &from, int(out.Fd()), &to, int(n), 0) })
		if err == nil {
			return done, nil
		}
		if !notThisWay(err) {
			return 0, err
		}
		d.noRange = true
	}
	if !d.noSend {
		if _, err := unix.Seek(int(out.Fd()), at, io.SeekStart); err != nil {
			return 0, err
		}
		from := at
		done, err := retry(func() (int, error) { return unix.Sendfile(int(out.Fd()), int(in.Fd()), &from, int(min(n, 4<<20))) })
		if err == nil {
			return done, nil
		}
		if !notThisWay(err) {
			return 0, err
		}
		d.noSend = true
	}
	buf := d.buffer()
	done, err := in.ReadAt(buf[:min(n, int64(len(buf)))], at)
	if done == 0 && err == io.EOF {
		return 0, nil
	}
	if done == 0 {
		return 0, err
	}
	return out.WriteAt(buf[:done], at)
}

func notThisWay(err error) bool {
	switch err {
	case unix.EXDEV, unix.EINVAL, unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM, unix.EIO:
		return true
	}
	return false
}

func (d *data) buffer() []byte {
	if d.buf == nil {
		d.buf = make([]byte, 1<<20)
	}
	return d.buf
}

// stream copies until there is no more, for what knows no positions.
func (d *data) stream(ctx context.Context, out io.Writer, in io.Reader) error {
	buf := d.buffer()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := in.Read(buf)
		if n > 0 {
			if _, werr := out.Write(buf[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func retry(do func() (int, error)) (int, error) {
	for {
		n, err := do()
		if err != unix.EINTR {
			return n, err
		}
	}
}
