package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moss/slirp"
)

// DefaultIdle is how long moss-net stays after its last lease has ended.
const DefaultIdle = 30 * time.Second

// Server answers the calls of slirp's clients.
type Server struct {
	hub      *Hub
	listener *net.UnixListener

	mu     sync.Mutex
	active int // connections that are being served, and the start
	stay   time.Duration
	idle   *time.Timer
	ended  chan struct{} // closed when nobody has needed it for a while
	closed bool
}

// Listen makes the socket; the server ends when it is idle for a time. The caller of moss-net holds the lock of Dirs.Lock,
// so nobody else listens there: a socket that is there is a dead one's.
func Listen(h *Hub, idle time.Duration) (*Server, error) {
	path := h.dirs.Socket()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot listen on %q: %w", path, err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %q: %w", path, err)
	}
	l.SetUnlinkOnClose(false) // retire does it, under the lock
	s := &Server{hub: h, listener: l, stay: idle, ended: make(chan struct{}), active: 1}
	return s, nil
}

// Serve answers calls until nobody has needed it for a while, or ctx ends.
func (s *Server) Serve(ctx context.Context) error {
	go s.accept(ctx) // ends with the listener
	s.leave()        // the start is over: from here on it may be idle
	select {
	case <-s.ended:
	case <-ctx.Done():
		s.listener.Close()
	}
	return nil
}

func (s *Server) accept(ctx context.Context) {
	for {
		conn, err := s.listener.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.hub.log.Printf("cannot accept: %v", err)
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-ctx.Done():
				return
			}
		}
		if !s.enter() {
			conn.Close() // the client starts another moss-net
			continue
		}
		go s.serve(ctx, conn) // ends with the connection
	}
}

// enter counts a connection, unless this moss-net is ending.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.active++
	if s.idle != nil {
		s.idle.Stop()
	}
	return true
}

func (s *Server) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active--; s.active == 0 {
		s.idle = time.AfterFunc(s.stay, s.retire)
	}
}

// Drain ends the server as soon as nobody needs it: at the end of a session containers are
// connected for as long as they take to end.
func (s *Server) Drain() {
	s.mu.Lock()
	s.stay = 0
	idle := s.active == 0
	s.mu.Unlock()
	if idle {
		s.retire()
	}
}

// retireAgain is how long it is at least until the next try.
const retireAgain = 100 * time.Millisecond

// retire ends the server if it is idle. It holds the lock meanwhile: who wants
// to start another moss-net waits, and then finds no socket.
func (s *Server) retire() {
	lock, err := os.OpenFile(s.hub.dirs.Lock(), os.O_CREATE|os.O_RDWR|syscall.O_CLOEXEC, 0o600)
	if err == nil {
		defer lock.Close()
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active > 0 || s.closed {
		return
	}
	if err != nil { // somebody is about to need it
		s.idle = time.AfterFunc(max(s.stay, retireAgain), s.retire)
		return
	}
	s.closed = true
	os.Remove(s.hub.dirs.Socket())
	os.Remove(s.hub.dirs.PIDFile())
	s.listener.Close()
	if err := s.hub.Close(); err != nil {
		s.hub.log.Print(err)
	}
	close(s.ended)
}

// serve answers one connection's call; a connect's lasts until the client goes.
func (s *Server) serve(ctx context.Context, conn *net.UnixConn) {
	defer s.leave()
	defer conn.Close()
	call, netns, sockets, err := receive(conn)
	if errors.Is(err, io.EOF) {
		return // somebody who only wanted to know whether anybody listens
	}
	if err != nil {
		s.hub.log.Printf("cannot read a call: %v", err)
		return
	}
	if netns != nil {
		defer netns.Close()
	}
	defer closeAll(sockets)
	if call.Op == slirp.OpConnect && call.Connect != nil && netns != nil {
		s.connect(ctx, conn, call.Connect, netns, sockets)
		return
	}
	answer, err := s.answer(call, netns)
	if err != nil {
		answer = slirp.Reply{Error: err.Error()}
	}
	s.reply(conn, answer)
}

// answer does what a call asks for that is over with its answer.
func (s *Server) answer(call *slirp.Call, netns *os.File) (r slirp.Reply, err error) {
	switch {
	case call.Op == slirp.OpInfo:
		r.Info = s.hub.Info()
	case call.Op == slirp.OpPorts && call.Ports != nil:
		r.Status, err = s.hub.SetPorts(call.Ports)
	case call.Op == slirp.OpNetworks && call.Networks != nil && netns != nil:
		r.Status, err = s.hub.SetNetworks(call.Networks, netns)
	case call.Op == slirp.OpAllow && call.Allow != nil:
		r.Status, err = s.hub.SetAllow(call.Allow)
	case call.Op == slirp.OpDig && call.Dig != nil:
		r.Dig, err = s.hub.Dig(call.Dig)
	case call.Op == slirp.OpWeb:
		err = s.hub.Web()
	case call.Op == slirp.OpUnpark && call.Unpark != "":
		if p := s.hub.unpark(call.Unpark); p != nil {
			p.close()
		}
	case call.Op == slirp.OpNetwork && call.Network != "":
		err = s.hub.Reload(call.Network)
	default:
		err = fmt.Errorf("call %q is not known, or not whole", call.Op)
	}
	return r, err
}

// connect makes a connection, and undoes it when the client closes its end.
func (s *Server) connect(ctx context.Context, conn *net.UnixConn, r *slirp.ConnectRequest, netns *os.File, sockets []*os.File) {
	l, err := s.hub.Connect(ctx, r, netns, sockets)
	if err != nil {
		s.reply(conn, slirp.Reply{Error: err.Error()})
		return
	}
	netns.Close() // held for longer, it would keep the container's namespace
	defer func() {
		if err := l.Close(); err != nil {
			s.hub.log.Printf("container %s: %v", r.Name, err)
		}
	}()
	if !s.reply(conn, slirp.Reply{Status: l.status}) {
		return
	}
	if r.Wake != nil {
		l.door.begin(*r.Wake, func(what byte) { conn.Write([]byte{what}) })
	}
	var said [1]byte
	for { // until the lease ends
		n, err := conn.Read(said[:])
		switch {
		case n == 0 || err != nil || r.Wake == nil:
			return
		case said[0] == slirp.WakeEnd:
			l.endForGood()
		default:
			l.door.hear(said[0])
		}
	}
}

func (s *Server) reply(conn *net.UnixConn, r slirp.Reply) bool {
	packet, err := json.Marshal(r)
	if err == nil {
		_, err = conn.Write(packet)
	}
	if err != nil {
		s.hub.log.Printf("cannot answer a call: %v", err)
	}
	return err == nil
}

// receive reads a call and the descriptors beside it: a namespace's, and sockets.
func receive(conn *net.UnixConn) (_ *slirp.Call, netns *os.File, sockets []*os.File, _ error) {
	packet := packets.Get().(*[slirp.MaxPacket]byte)
	defer packets.Put(packet)
	control := make([]byte, unix.CmsgSpace(4*(1+slirp.MaxSockets)))
	n, controlled, _, _, err := conn.ReadMsgUnix(packet[:], control)
	if err != nil {
		return nil, nil, nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:controlled])
	if err == nil && len(messages) > 0 {
		fds, _ := unix.ParseUnixRights(&messages[0])
		for i, fd := range fds {
			if i == 0 {
				netns = os.NewFile(uintptr(fd), "netns")
			} else {
				sockets = append(sockets, os.NewFile(uintptr(fd), "socket"))
			}
		}
	}
	var call slirp.Call
	if err := json.Unmarshal(packet[:n], &call); err != nil {
		if netns != nil {
			netns.Close()
		}
		closeAll(sockets)
		return nil, nil, nil, err
	}
	return &call, netns, sockets, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

var packets = sync.Pool{New: func() any { return new([slirp.MaxPacket]byte) }}
