package record

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Lock makes a file, if it is not there, and waits until nobody else has it locked. The
// kernel lets go of it when the process ends, at the latest.
func Lock(path string) (unlock func(), err error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC, 0o600) })
	if err == nil {
		f := os.NewFile(uintptr(fd), path)
		if _, err = retry(func() (int, error) { return 0, unix.Flock(fd, unix.LOCK_EX) }); err == nil {
			return func() { f.Close() }, nil
		}
		f.Close()
	}
	return nil, fmt.Errorf("cannot lock %q: %w", path, err)
}
