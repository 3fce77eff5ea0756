// Package record writes and reads moss's records: JSON files, each replaced in one
// step, with a codec made for processes that encode a handful of values and end.
//
// encoding/json prepares itself for every type that it meets, and for all types
// below it, used or not: a start of a container, in which three programs exchange
// a dozen small documents, spends a tenth of its time on that. Encode and Decode
// look only at the fields that a value has. They write and read what encoding/json
// would, tags and marshalers included (see codec_test.go, which compares them); a
// program that handles many values, or those of strangers, uses encoding/json.
package record

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Read decodes the record at path into v. A missing record is not an error; an
// empty or damaged one is.
func Read(path string, v any) (found bool, err error) {
	data, err := ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if len(data) == 0 {
		return true, fmt.Errorf("cannot read %q: it is empty", path)
	}
	if err := Decode(data, v); err != nil {
		return true, fmt.Errorf("cannot read %q: it is damaged: %w", path, err)
	}
	return true, nil
}

// ReadFile is os.ReadFile by raw system calls: package os first asks the poller
// whether it can wait for a file, which takes four calls more.
func ReadFile(path string) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	data := make([]byte, 0, 2048)
	for {
		n, err := retry(func() (int, error) { return unix.Read(fd, data[len(data):cap(data)]) })
		if err != nil {
			return nil, &fs.PathError{Op: "read", Path: path, Err: err}
		}
		if n == 0 {
			return data, nil
		}
		data = data[:len(data)+n]
		if len(data) == cap(data) {
			data = append(data, make([]byte, len(data))...)[:len(data)]
		}
	}
}

func retry(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// Write writes v to path in one step, for its owner only: a reader sees the old
// record or the new one. With sync the new one survives a power failure.
func Write(path string, v any, sync bool) error {
	data, err := Encode(v)
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return Replace(path, append(data, '\n'), 0o600, sync)
}

// Replace puts data in the place of the file at path likewise, with that mode.
func Replace(path string, data []byte, mode os.FileMode, sync bool) error {
	if err := replace(path, data, mode, sync); err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return nil
}

func replace(path string, data []byte, mode os.FileMode, sync bool) (err error) {
	tmp, fd, err := createBeside(path, uint32(mode.Perm()))
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			unix.Unlink(tmp)
		}
	}()
	for rest := data; len(rest) > 0; {
		n, err := retry(func() (int, error) { return unix.Write(fd, rest) })
		if err != nil {
			unix.Close(fd)
			return err
		}
		rest = rest[n:]
	}
	if sync {
		if err := unix.Fsync(fd); err != nil {
			unix.Close(fd)
			return err
		}
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	if err := unix.Rename(tmp, path); err != nil {
		return err
	}
	if sync {
		return syncDir(filepath.Dir(path))
	}
	return nil
}

// createBeside makes a new file with a name of its own in path's directory. The
// name begins with a dot and is never taken for a record.
func createBeside(path string, mode uint32) (string, int, error) {
	dir, base := filepath.Split(path)
	prefix := dir + "." + base + "." + strconv.Itoa(os.Getpid()) + "."
	for n := 0; ; n++ {
		tmp := prefix + strconv.Itoa(n)
		fd, err := unix.Open(tmp, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_CLOEXEC, mode)
		switch {
		case err == unix.EEXIST && n < 10000, err == unix.EINTR:
			continue
		case err != nil:
			return "", -1, err
		}
		return tmp, fd, nil
	}
}

// Unfinished is the file that a write was to replace which was killed and has left the
// one at path; "" if it is none of those.
func Unfinished(path string) string {
	dir, name := filepath.Split(path)
	for range 2 { // its number, and the process
		dot := strings.LastIndexByte(name, '.')
		if dot < 0 || dot == len(name)-1 || strings.Trim(name[dot+1:], "0123456789") != "" {
			return ""
		}
		name = name[:dot]
	}
	if len(name) < 2 || name[0] != '.' {
		return ""
	}
	return dir + name[1:]
}

// Sync makes a record that was written without it survive a power failure.
func Sync(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Fsync(fd)
		unix.Close(fd)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("cannot write %q: %w", path, err)
	}
	return nil
}

// syncDir makes a rename in dir last; see fsync(2).
func syncDir(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Fsync(fd)
}

// Raw is JSON that is kept as it is, to be decoded later or not at all.
type Raw []byte

// MarshalJSON returns it; an empty one is null.
func (r Raw) MarshalJSON() ([]byte, error) {
	if len(r) == 0 {
		return []byte("null"), nil
	}
	return r, nil
}

// UnmarshalJSON keeps a copy.
func (r *Raw) UnmarshalJSON(data []byte) error {
	*r = append((*r)[:0], data...)
	return nil
}
