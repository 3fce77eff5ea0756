package slirp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"moss/record"
)

// The files of moss-net, below Dirs.Run.
const (
	socketName = "net.sock"
	lockName   = "lock"
	pidName    = "moss-net.pid"
	logName    = "moss-net.log"
	netnsName  = "netns"
)

// Socket is the path of moss-net's socket.
func (d Dirs) Socket() string { return filepath.Join(d.Run, socketName) }

// Lock is the file whose flock is held by whoever starts moss-net, and by
// moss-net while it goes.
func (d Dirs) Lock() string { return filepath.Join(d.Run, lockName) }

// PIDFile is the file in which moss-net writes its process ID.
func (d Dirs) PIDFile() string { return filepath.Join(d.Run, pidName) }

// Netns is where the shared namespace is bound.
func (d Dirs) Netns() string { return filepath.Join(d.Run, netnsName) }

// LogFile is moss-net's log.
func (d Dirs) LogFile() string { return filepath.Join(d.Run, logName) }

// errGone says that nobody answers on the socket, or that moss-net went away
// between the connection and its answer: start it and try again.
var errGone = errors.New("moss-net is not running")

// Lease is a connection that moss-net keeps up for as long as the lease is
// open. It also ends with the process that holds it.
type Lease struct {
	fd   int
	once sync.Once
}

// Fd is the lease's descriptor, to be polled: it becomes readable (EOF) when
// moss-net has died. Nothing is ever to be read from it or written to it, but by who holds
// a container that waits for clients (ConnectRequest.Wake). It
// stays the lease's and is closed by Close. The container's network still
// stands then, without uplink, names and ports; Connect with the same request
// brings them back at the same addresses.
func (l *Lease) Fd() int { return l.fd }

// Close gives the lease back: ports, names and addresses are undone. The
// interfaces go with the container's namespace. It may be called again.
func (l *Lease) Close() error {
	var err error
	l.once.Do(func() { err = unix.Close(l.fd) })
	return err
}

// Connect connects the network namespace netns as r says. It starts moss-net
// when that is not running. Connecting a container again after its lease was
// lost gives it the addresses that it had.
func Connect(ctx context.Context, d Dirs, r ConnectRequest, netns *os.File, sockets ...int) (*Lease, *Status, error) {
	return Begin(d, r, netns, sockets...).Wait(ctx)
}

// Connection is a Connect under way.
type Connection struct {
	d     Dirs
	r     ConnectRequest
	netns *os.File
	fds   []int // what travels with the request
	sock  int   // the request has been sent here; -1: it has not
}

// Begin asks moss-net without waiting for it, if it is there to be asked: it then
// works while the caller does something else. Wait must follow; netns stays the
// caller's until then, and so do sockets: listening ones, MaxSockets at most, that are used for the
// ports that Port.Takes tells.
func Begin(d Dirs, r ConnectRequest, netns *os.File, sockets ...int) *Connection {
	c := &Connection{d: d, r: r, netns: netns, fds: append([]int{int(netns.Fd())}, sockets...), sock: -1}
	packet, err := record.Encode(Call{Op: OpConnect, Connect: &r})
	if err != nil || len(packet) > MaxPacket {
		return c // Wait says so
	}
	sock, err := dial(d)
	if err != nil {
		return c
	}
	if err := unix.Sendmsg(sock, packet, unix.UnixRights(c.fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		unix.Close(sock)
		return c
	}
	c.sock = sock
	return c
}

// answer waits for the answer to what Begin has sent.
func (c *Connection) answer(ctx context.Context) (*Lease, *Reply, error) {
	lease := &Lease{fd: c.sock}
	c.sock = -1
	reply, err := lease.await(ctx)
	if err != nil {
		lease.Close()
		return nil, nil, err
	}
	return lease, reply, nil
}

// Wait returns what Connect does.
func (c *Connection) Wait(ctx context.Context) (*Lease, *Status, error) {
	r := c.r
	var lease *Lease
	var reply *Reply
	err := errGone
	if c.sock >= 0 {
		lease, reply, err = c.answer(ctx)
	}
	if errors.Is(err, errGone) { // it was not there, or is about to end
		lease, reply, err = converse(ctx, c.d, Call{Op: OpConnect, Connect: &r}, c.fds, true)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("cannot connect container %q: %w", r.Name, err)
	}
	if reply.Status == nil {
		lease.Close()
		return nil, nil, fmt.Errorf("cannot connect container %q: moss-net sent no status", r.Name)
	}
	return lease, reply.Status, nil
}

// Info asks moss-net about itself. The error is fs.ErrNotExist when it is not
// running; Info does not start it.
func Info(ctx context.Context, d Dirs) (*Information, error) {
	lease, reply, err := converse(ctx, d, Call{Op: OpInfo}, nil, false)
	if errors.Is(err, errGone) {
		err = fmt.Errorf("%w: %w", err, os.ErrNotExist)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot ask moss-net: %w", err)
	}
	lease.Close()
	if reply.Info == nil {
		return nil, errors.New("cannot ask moss-net: it sent no information")
	}
	return reply.Info, nil
}

// SetPorts has exactly these ports of a connected container published, and returns
// its status. Those that are published already stay open; where one cannot be opened,
// nothing has changed.
func SetPorts(ctx context.Context, d Dirs, r PortsRequest) (*Status, error) {
	return changed(ctx, d, Call{Op: OpPorts, Ports: &r}, nil)
}

// changed makes a call that changes a connected container, and returns its status.
func changed(ctx context.Context, d Dirs, call Call, fds []int) (*Status, error) {
	lease, reply, err := converse(ctx, d, call, fds, false)
	if err != nil {
		return nil, err
	}
	lease.Close()
	if reply.Status == nil {
		return nil, errors.New("moss-net sent no status")
	}
	return reply.Status, nil
}

// SetNetworks connects a connected container, whose network namespace is netns, to
// exactly these networks, and returns its status. If one cannot be joined, nothing has
// changed.
func SetNetworks(ctx context.Context, d Dirs, r NetworksRequest, netns *os.File) (*Status, error) {
	return changed(ctx, d, Call{Op: OpNetworks, Networks: &r}, []int{int(netns.Fd())})
}

// SetAllow holds a connected container to another allow-list, and returns its status.
func SetAllow(ctx context.Context, d Dirs, r AllowRequest) (*Status, error) {
	return changed(ctx, d, Call{Op: OpAllow, Allow: &r}, nil)
}

// Ask has a question answered as a connected container's.
func Ask(ctx context.Context, d Dirs, r DigRequest) (*Dig, error) {
	lease, reply, err := converse(ctx, d, Call{Op: OpDig, Dig: &r}, nil, false)
	if err != nil {
		return nil, err
	}
	lease.Close()
	if reply.Dig == nil {
		return nil, errors.New("moss-net sent no answer")
	}
	return reply.Dig, nil
}

// Reload tells moss-net that the record of a network has changed, or is gone. One that
// does not run need not know.
func Reload(ctx context.Context, d Dirs, network string) error {
	lease, _, err := converse(ctx, d, Call{Op: OpNetwork, Network: network}, nil, false)
	if errors.Is(err, errGone) {
		return nil
	}
	if err == nil {
		lease.Close()
	}
	return err
}

// Unpark has the ports closed that a container without a lease has left open for its next
// one. A moss-net that does not run has none.
func Unpark(ctx context.Context, d Dirs, container string) error {
	lease, _, err := converse(ctx, d, Call{Op: OpUnpark, Unpark: container}, nil, false)
	if errors.Is(err, errGone) {
		return nil
	}
	if err == nil {
		lease.Close()
	}
	return err
}

// converse makes a call and returns the connection it was made on. With start,
// moss-net is started when it is not running. One that goes idle just now is
// met at most once: Ensure returns only when a new one listens, and that one
// stays for a while.
func converse(ctx context.Context, d Dirs, call Call, fds []int, start bool) (*Lease, *Reply, error) {
	packet, err := record.Encode(call)
	if err != nil {
		return nil, nil, err
	}
	if len(packet) > MaxPacket {
		return nil, nil, fmt.Errorf("the request has %d bytes, more than %d", len(packet), MaxPacket)
	}
	for attempt := 0; ; attempt++ {
		lease, reply, err := callOnce(ctx, d, packet, fds)
		if !start || attempt == 3 || !errors.Is(err, errGone) || ctx.Err() != nil {
			return lease, reply, err
		}
		if err := Ensure(ctx, d); err != nil {
			return nil, nil, err
		}
	}
}

// callOnce sends one packet on a connection of its own and reads the answer.
func callOnce(ctx context.Context, d Dirs, packet []byte, fds []int) (_ *Lease, _ *Reply, err error) {
	sock, err := dial(d)
	if err != nil {
		return nil, nil, err
	}
	lease := &Lease{fd: sock}
	defer func() {
		if err != nil {
			lease.Close()
		}
	}()

	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(sock, packet, rights, nil, unix.MSG_NOSIGNAL); err != nil {
		return nil, nil, gone(err)
	}
	reply, err := lease.await(ctx)
	return lease, reply, err
}

// await reads the answer to a call.
func (l *Lease) await(ctx context.Context) (*Reply, error) {
	// A blocking read on this thread costs the monitor less than Go's poller;
	// shutting the socket down wakes it.
	stop := context.AfterFunc(ctx, func() { unix.Shutdown(l.fd, unix.SHUT_RDWR) })
	defer stop()
	answer, err := receive(l.fd)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, gone(err)
	}
	var reply Reply
	if err := record.Decode(answer, &reply); err != nil {
		return nil, fmt.Errorf("moss-net's answer: %w", err)
	}
	if reply.Error != "" {
		return nil, errors.New(reply.Error)
	}
	return &reply, nil
}

// dial connects to moss-net's socket.
func dial(d Dirs) (int, error) {
	sock, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for {
		err = unix.Connect(sock, &unix.SockaddrUnix{Name: d.Socket()})
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		unix.Close(sock)
		return -1, gone(err)
	}
	return sock, nil
}

// receive reads one packet. Its length is asked for first, so that the buffer
// is no larger than the answer: the caller stays in memory for long.
func receive(sock int) ([]byte, error) {
	var first [1]byte
	for {
		n, _, err := unix.Recvfrom(sock, first[:], unix.MSG_PEEK|unix.MSG_TRUNC)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return nil, io.EOF
		}
		answer := make([]byte, n)
		if n, _, err = unix.Recvfrom(sock, answer, 0); err != nil {
			return nil, err
		}
		return answer[:n], nil
	}
}

// gone maps what a dead or dying moss-net looks like to errGone.
func gone(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ECONNRESET),
		errors.Is(err, unix.EPIPE), errors.Is(err, unix.ENOTCONN), errors.Is(err, io.EOF):
		return fmt.Errorf("%w (%w)", errGone, err)
	}
	return err
}
