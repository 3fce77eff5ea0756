package monitor

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/container"
)

// Notify is how a service manager hears of the container; see sd_notify(3).
type Notify struct {
	Socket string // the manager's, $NOTIFY_SOCKET
	// Mode is container (the program says itself when it is ready), conmon (it is when
	// it has started: moss says so) or healthy (when the health check says so).
	Mode string
	// Watchdog is how long the manager waits to hear that the service is well, 0 for
	// ever. In mode container that is the program's to say, as it knows by
	// $WATCHDOG_USEC; else the monitor's, as long as the container is not unhealthy.
	Watchdog time.Duration `json:",omitempty"`
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
	every  time.Duration // between two messages for the watchdog; 0: none are ours to send
	due    time.Time     // when the next one is
	told   bool          // it has been healthy: from now on it must be
	said   bool          // the program has said that it is ready
	within time.Duration // of each other the watchdog wants to hear messages; 0: there is none
	fed    time.Time     // when it last was sent one
}

// listenNotify makes the socket, if the program is to have one.
func (m *monitor) listenNotify() error {
	n := m.cfg.Notify
	if n == nil {
		return nil
	}
	m.notify = &notifier{socket: n.Socket, mode: n.Mode, fd: -1, within: n.Watchdog}
	if n.Mode != "container" {
		if n.Watchdog > 0 { // sd_watchdog_enabled(3): every half of it
			m.notify.every, m.notify.due = n.Watchdog/2, time.Now()
		}
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
		// It is waited for once: the program could have us wait again and again.
		sendNotify(n.socket, strings.Join(lines, "\n"), !n.said && slices.Contains(lines, "READY=1"))
		if slices.Contains(lines, "READY=1") || slices.Contains(lines, "WATCHDOG=1") {
			n.fed = time.Now()
		}
		n.said = n.said || slices.Contains(lines, "READY=1")
	}
}

// patient says whether the watchdog has heard something not long ago. One that has waited
// for most of its time may be about to bite: a signal that comes while the monitor executes
// itself again would leave the container behind; see releaseSignals.
func (n *notifier) patient(now time.Time) bool {
	return n == nil || n.within == 0 || n.fed.IsZero() || now.Sub(n.fed) < n.within*3/4
}

// turned tells the manager how the container is.
func (n *notifier) turned(health string) {
	switch {
	case n == nil || n.mode == "container": // whose status is its own to say
	case n.mode == "healthy" && health == container.Healthy:
		n.told = true
		SendNotify(n.socket, "READY=1\nSTATUS=healthy")
	default:
		SendNotify(n.socket, "STATUS="+health)
	}
}

// restarted tells it that its policy has started the container again.
func (n *notifier) restarted(last Exit, times int) {
	n.says("running; restarted " + strconv.Itoa(times) + "x, last after exit code " + strconv.Itoa(last.Code))
}

// says tells it what the container does, where that is not for the program to say.
func (n *notifier) says(status string) {
	if n != nil && n.mode != "container" {
		SendNotify(n.socket, "STATUS="+status)
	}
}

// stopping tells it that somebody has asked for the end.
func (n *notifier) stopping() {
	if n != nil {
		SendNotify(n.socket, "STOPPING=1")
	}
}

// next is when the watchdog is to hear something.
func (n *notifier) next() time.Time {
	if n == nil {
		return time.Time{}
	}
	return n.due
}

// tickWatchdog tells the watchdog that the container is well, unless it is not. How
// long it may take to become healthy is not the watchdog's affair.
func (m *monitor) tickWatchdog(now time.Time) {
	m.notify.due = now.Add(m.notify.every)
	ill := m.health != nil && m.health.status == container.HealthUnhealthy
	if !ill || m.notify.mode == "healthy" && !m.notify.told {
		SendNotify(m.notify.socket, "WATCHDOG=1")
		m.notify.fed = now
	}
}

// notifyPatience is how long a manager may take to make room for a message that it
// waits for: many services may be starting at once. Others it can do without.
const notifyPatience = time.Second

// SendNotify sends to a manager's socket. There is nobody to hear of a failure: a
// socket that is not there, or that nobody reads, is no reason not to go on.
func SendNotify(socket, state string) {
	sendNotify(socket, state, strings.Contains(state, "READY=1") || strings.Contains(state, "MAINPID="))
}

// sendNotify is patient or not.
func sendNotify(socket, state string, patient bool) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	flags := unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT
	if patient {
		limit := unix.NsecToTimeval(notifyPatience.Nanoseconds())
		if unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit) == nil {
			flags = unix.MSG_NOSIGNAL
		}
	}
	unix.Sendto(fd, []byte(state), flags, &unix.SockaddrUnix{Name: socket})
}

// saveNotify writes the state of a monitor that settles, restoreNotify reads it.
func (m *monitor) saveNotify(w *stateWriter) {
	w.flag(m.notify != nil)
	if m.notify != nil {
		w.text(m.notify.socket)
		w.text(m.notify.mode)
		w.descriptor(m.notify.fd)
		w.number(int64(m.notify.every))
		w.moment(m.notify.due)
		w.flag(m.notify.told)
		w.flag(m.notify.said)
		w.number(int64(m.notify.within))
		w.moment(m.notify.fed)
	}
}

func (m *monitor) restoreNotify(r *stateReader) {
	if !r.flag() {
		return
	}
	m.notify = &notifier{socket: r.text(), mode: r.text(), fd: r.descriptor(), every: time.Duration(r.number()), due: r.moment(), told: r.flag(), said: r.flag(),
		within: time.Duration(r.number()), fed: r.moment()}
	if m.notify.fd >= 0 {
		m.loop.watch(m.notify.fd, unix.EPOLLIN, m.notify)
	}
}
