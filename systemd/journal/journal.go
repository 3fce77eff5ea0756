// Package journal speaks with systemd-journald: it writes entries by the native
// protocol, and reads the export format that journalctl prints. The formats are
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL and
// https://systemd.io/JOURNAL_EXPORT_FORMATS.
package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Socket is where journald listens.
const Socket = "/run/systemd/journal/socket"

// Available says why nothing can be written to the journal at path; nil if it can.
func Available(path string) error {
	if err := unix.Access(path, unix.W_OK); err != nil {
		return fmt.Errorf("no journal runs here: %q: %w", path, err)
	}
	return nil
}

// Open makes a socket to send entries from. A send waits no longer than patience
// for a journal that does not read.
func Open(patience time.Duration) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	limit := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// AppendField adds a field to an entry. The name is one of upper-case letters,
// digits and underscores; the value may hold anything.
func AppendField(entry []byte, name string, value []byte) []byte {
	entry = append(entry, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		entry = append(append(entry, '='), value...)
		return append(entry, '\n')
	}
	entry = append(entry, '\n')
	entry = binary.LittleEndian.AppendUint64(entry, uint64(len(value)))
	return append(append(entry, value...), '\n')
}

// CheckField says what is wrong with a field's name, as journald would see it.
func CheckField(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("%q is not a field of the journal: it has 1 to 64 characters", name)
	}
	for i, c := range []byte(name) {
		if !(c >= 'A' && c <= 'Z' || i > 0 && (c == '_' || c >= '0' && c <= '9')) {
			return fmt.Errorf("%q is not a field of the journal: it has capital letters, digits and underscores, and begins with a letter", name)
		}
	}
	return nil
}

// Send sends an entry to the journal at path; one that is too large for a datagram
// goes as a sealed file in memory. With wait it waits for a journal that does not
// read, as long as Open was told; the error is then EAGAIN.
func Send(fd int, path string, entry []byte, wait bool) error {
	flags := unix.MSG_NOSIGNAL
	if !wait {
		flags |= unix.MSG_DONTWAIT
	}
	to := &unix.SockaddrUnix{Name: path}
	err := unix.EINTR
	for err == unix.EINTR {
		err = errno(unix.Sendmsg(fd, entry, nil, to, flags))
	}
	if err == 0 {
		return nil
	}
	if err != unix.EMSGSIZE && err != unix.ENOBUFS {
		return err
	}
	memory, merr := sealed(entry)
	if merr != nil {
		return merr
	}
	defer unix.Close(memory)
	for err = unix.EINTR; err == unix.EINTR; {
		err = errno(unix.Sendmsg(fd, nil, unix.UnixRights(memory), to, flags))
	}
	if err != 0 {
		return err
	}
	return nil
}

func errno(err error) unix.Errno {
	if err == nil {
		return 0
	}
	if e, ok := err.(unix.Errno); ok {
		return e
	}
	return unix.EINVAL
}

// sealed is a file in memory that nobody can change any more: journald takes no
// other, see the native protocol.
func sealed(data []byte) (int, error) {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, err
	}
	for rest := data; len(rest) > 0 && err == nil; {
		var n int
		if n, err = unix.Write(fd, rest); err == unix.EINTR {
			n, err = 0, nil
		}
		rest = rest[max(n, 0):]
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL)
	}
	if err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
