package monitor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
)

// The sockets in the run directory.
const (
	AttachSocket  = "attach.sock"
	ControlSocket = "ctl.sock"
)

// listener is a listening socket.
type listener struct {
	m       *monitor
	fd      int
	control bool
}

// Address is the address of a socket in the run directory, and what to call when
// it has been used. A path holds 108 bytes at most, see unix(7): a longer one is
// reached through a descriptor of its directory.
func Address(runDir, name string) (*unix.SockaddrUnix, func(), error) {
	path := filepath.Join(runDir, name)
	if len(path) < 108 {
		return &unix.SockaddrUnix{Name: path}, func() {}, nil
	}
	fd, err := unix.Open(runDir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	return &unix.SockaddrUnix{Name: "/proc/self/fd/" + strconv.Itoa(fd) + "/" + name}, func() { unix.Close(fd) }, nil
}

// listenAt makes a socket in the run directory.
func (m *monitor) listenAt(name string, control bool) (*listener, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make socket %q: %w", name, err)
	}
	address, done, err := Address(m.runDir, name)
	if err == nil {
		unix.Unlink(filepath.Join(m.runDir, name)) // what a killed monitor left
		err = unix.Bind(fd, address)
		done()
	}
	if err == nil {
		err = unix.Listen(fd, 64)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("cannot make socket %q: %w", filepath.Join(m.runDir, name), err)
	}
	return &listener{m: m, fd: fd, control: control}, nil
}

func (l *listener) ready(uint32) { l.accept() }

// accept takes one client, and says whether there was one.
func (l *listener) accept() bool {
	fd, _, err := unix.Accept4(l.fd, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return err == unix.EINTR || err == unix.ECONNABORTED
	}
	if !l.control {
		l.m.addClient(fd, encode(Hello, HelloMessage{TTY: l.m.tty()})).joined = true
		return true
	}
	r := &request{m: l.m, fd: fd}
	l.m.loop.watch(fd, unix.EPOLLIN|unix.EPOLLRDHUP, r)
	return true
}

// request is one client of the control socket.
type request struct {
	m     *monitor
	fd    int
	holds bool // the container is frozen for it: see freeze
}

func (r *request) ready(events uint32) {
	var data [4096]byte
	var oob [1024]byte
	var files []*os.File
	n, err := retry(func() (int, error) {
		n, oobn, _, _, err := unix.Recvmsg(r.fd, data[:], oob[:], unix.MSG_CMSG_CLOEXEC)
		files = received(oob[:max(oobn, 0)])
		return n, err
	})
	if err == unix.EAGAIN {
		return
	}
	defer func() {
		for _, f := range files {
			f.Close()
		}
	}()
	if n <= 0 || r.holds {
		if r.holds {
			r.thaw()
		}
		r.m.loop.close(r.fd)
		return
	}
	var asked ControlRequest
	var reply ControlReply
	err = record.Decode(data[:n], &asked)
	switch {
	case err != nil:
	case asked.Op == "health":
		if err = r.m.checkNow(r); err == nil {
			r.m.loop.watch(r.fd, 0, nil) // until there is an answer
			return
		}
	case asked.Op == "freeze":
		err = r.freeze()
	case asked.Op == "exec":
		reply.PID, err = r.m.execute(asked, files)
	default:
		err = r.m.control(asked, files)
	}
	if err != nil {
		f := failure(err)
		reply.Error, reply.Code = f.Message, f.Code
	}
	if r.holds {
		r.send(reply)
		return
	}
	r.answer(reply)
}

// answer sends the reply, and closes the connection.
func (r *request) answer(reply ControlReply) {
	r.send(reply)
	r.m.loop.close(r.fd)
	r.m.settleSoon()
}

func (r *request) send(reply ControlReply) {
	answer, _ := record.Encode(reply)
	unix.Sendto(r.fd, answer, unix.MSG_NOSIGNAL, nil)
}

// checkNow begins a health check for a client.
func (m *monitor) checkNow(r *request) error {
	switch {
	case m.health == nil && (m.ended || m.pidfd < 0):
		return errors.New("it does not run")
	case m.health == nil:
		return errors.New("it has no health check")
	case m.group.frozen():
		return errors.New("it is paused")
	}
	return m.health.begin(r)
}

// reload takes over what update and rename have changed in the configuration.
func (m *monitor) reload() error {
	was := m.cfg
	m.cfg = nil
	c, err := m.config()
	p := policy{}
	if err == nil {
		p = policy{name: c.Restart, max: c.RestartMax}
		err = p.check()
	}
	if err != nil {
		m.cfg = was
		return err
	}
	m.policy = p
	m.changeHealth(c.Health)
	if c.Connected == nil || m.lease == nil {
		return nil
	}
	m.lease.st = c.Connected
	m.updateLive(func(live *container.Live) { live.Network = c.Connected })
	return c.completeFiles(c.Connected)
}

// received are the descriptors that came with a packet.
func received(oob []byte) (files []*os.File) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for _, message := range messages {
		fds, err := unix.ParseUnixRights(&message)
		for _, fd := range fds {
			if err == nil {
				files = append(files, os.NewFile(uintptr(fd), "received"))
			}
		}
	}
	return files
}

// control does what was asked for.
func (m *monitor) control(r ControlRequest, files []*os.File) error {
	switch r.Op {
	case "ping":
		return nil
	case "announce": // live.json was lost
		if m.pid == 0 || m.ended {
			return errors.New("its process has ended")
		}
		live, err := m.describe()
		if err != nil {
			return err
		}
		live.Started, live.Initialized, live.Waiting = m.started, m.held, m.held && m.wakes
		return container.WriteLive(m.runDir, live)
	case "stop", "kill":
		m.stopped, m.wanted = true, m.wanted || r.Op == "stop"
		m.notify.stopping()
		if !m.restartAt.IsZero() { // it waits to start again: it ends here instead
			m.restartAt = time.Now()
		}
		return nil
	case "resize":
		if err := m.resize(r.Rows, r.Cols); err != nil {
			return fmt.Errorf("cannot resize terminal: %w", err)
		}
		return nil
	case "keep":
		return m.keep(r, files)
	case "start":
		return m.letGo()
	case "reopen-log":
		return m.log.reopen()
	case "reload":
		return m.reload()
	}
	return fmt.Errorf("cannot do %q: no such request", r.Op)
}
