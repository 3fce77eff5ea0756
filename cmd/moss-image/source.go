package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// source opens what is to be read: "" and "-" are standard input; what a URL names
// is fetched first, whole, into a file without a name.
func (h *helper) source(ctx context.Context, name string) (*os.File, error) {
	switch {
	case name == "" || name == "-":
		return os.Stdin, nil
	case !strings.HasPrefix(name, "http://") && !strings.HasPrefix(name, "https://"):
		return os.Open(name)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, name, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: the server says %s", name, resp.Status)
	}
	temp, err := h.store.Temp()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Open(temp, unix.O_RDWR|unix.O_CLOEXEC|unix.O_TMPFILE, 0o600)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: temp, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := io.Copy(f, resp.Body); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
