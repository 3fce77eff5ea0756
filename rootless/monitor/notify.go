package monitor

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Notify is how a service manager hears of the container; see sd_notify(3).
type Notify struct {
	Socket string // the manager's, $NOTIFY_SOCKET
	// Mode is container (the program says itself when it is ready), conmon (it is when
	// it has started: moss says so) or healthy (when the health check says so).
	Mode string
}

// NotifyDir is the directory below RunDir that the program of Mode container finds
// its own socket in, and NotifySocket the socket. What arrives there is handed on
// by the monitor: the manager does not know the container's processes.
const (
	NotifyDir    = "notify"
	NotifySocket = "notify.sock"
)

// notifier is that socket.
type notifier struct {
	socket string // the manager's
	fd     int    // -1 in the other modes
	mode   string
}

// listenNotify makes the socket, if the program is to have one.
func (m *monitor) listenNotify() error {
	n := m.cfg.Notify
	if n == nil {
		return nil
	}
	m.notify = &notifier{socket: n.Socket, mode: n.Mode, fd: -1}
	if n.Mode != "container" {
		return nil
	}
	dir := filepath.Join(m.runDir, NotifyDir)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("cannot make notification socket: %w", err)
	}
	address, done, err := Address(dir, NotifySocket)
	if err == nil {
		err = unix.Bind(fd, address)
		done()
	}
	if err == nil { // whichever user the program is
		err = unix.Chmod(filepath.Join(dir, NotifySocket), 0o777)
	}
	if err != nil {
		unix.Close(fd)
		return fmt.Errorf("cannot make notification socket: %w", err)
	}
	m.notify.fd = fd
	m.loop.watch(fd, unix.EPOLLIN, m.notify)
	return nil
}

// handedOn are the messages that mean outside what they mean inside.
var handedOn = [...]string{"READY=", "RELOADING=", "STOPPING=", "STATUS=", "ERRNO=", "BUSERROR=", "WATCHDOG=", "EXTEND_TIMEOUT_USEC="}

func (n *notifier) ready(uint32) {
	var data [4096]byte
	size, err := retry(func() (int, error) { return unix.Read(n.fd, data[:]) })
	if err != nil || size <= 0 {
		return
	}
	var lines []string
	for line := range strings.SplitSeq(string(data[:size]), "\n") {
		for _, prefix := range handedOn {
			if strings.HasPrefix(line, prefix) {
				lines = append(lines, line)
			}
		}
	}
	if len(lines) > 0 {
		SendNotify(n.socket, strings.Join(lines, "\n"))
	}
}

// becameHealthy tells the manager, if it waits for that.
func (n *notifier) becameHealthy() {
	if n != nil && n.mode == "healthy" {
		SendNotify(n.socket, "READY=1")
	}
}

// SendNotify sends to a manager's socket. There is nobody to hear of a failure.
func SendNotify(socket, state string) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	unix.Sendto(fd, []byte(state), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, &unix.SockaddrUnix{Name: socket})
}

// saveNotify writes the state of a monitor that settles, restoreNotify reads it.
func (m *monitor) saveNotify(w *stateWriter) {
	w.flag(m.notify != nil)
	if m.notify != nil {
		w.text(m.notify.socket)
		w.text(m.notify.mode)
		w.descriptor(m.notify.fd)
	}
}

func (m *monitor) restoreNotify(r *stateReader) {
	if !r.flag() {
		return
	}
	m.notify = &notifier{socket: r.text(), mode: r.text(), fd: r.descriptor()}
	if m.notify.fd >= 0 {
		m.loop.watch(m.notify.fd, unix.EPOLLIN, m.notify)
	}
}
