package namespace

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Dial connects from src to dst inside the thread's namespace. src may be an
// address of somebody else (IP_TRANSPARENT, see ip(7)); an invalid one leaves
// the choice to the kernel. network is "tcp" or "udp".
func (t *Thread) Dial(ctx context.Context, network string, src, dst netip.AddrPort) (net.Conn, error) {
	var file *os.File
	err := t.Do(func() (err error) {
		file, err = connect(network, src, dst)
		return err
	})
	return finish(ctx, file, network, dst, err)
}

// DialIn is Dial inside the namespace fd.
func (t *Thread) DialIn(ctx context.Context, fd int, network string, src, dst netip.AddrPort) (net.Conn, error) {
	var file *os.File
	err := t.In(fd, func() (err error) {
		file, err = connect(network, src, dst)
		return err
	})
	return finish(ctx, file, network, dst, err)
}

// connect begins a connection; the thread does not wait for its end.
func connect(network string, src, dst netip.AddrPort) (*os.File, error) {
	domain, kind := unix.AF_INET, unix.SOCK_STREAM
	if dst.Addr().Is6() {
		domain = unix.AF_INET6
	}
	if network == "udp" {
		kind = unix.SOCK_DGRAM
	}
	fd, err := unix.Socket(domain, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), network)
	if src.IsValid() {
		err = bindTo(fd, domain, src)
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(dst))
	}
	if err != nil && err != unix.EINPROGRESS {
		file.Close()
		return nil, err
	}
	return file, nil
}

func bindTo(fd, domain int, src netip.AddrPort) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if domain == unix.AF_INET6 {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return err
	}
	// One client port may speak with several published ports.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	return unix.Bind(fd, sockaddr(src))
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

// connectTimeout bounds the wait for a container that answers nothing.
const connectTimeout = 20 * time.Second

// finish waits for the connection and makes a net.Conn of it.
func finish(ctx context.Context, file *os.File, network string, dst netip.AddrPort, err error) (net.Conn, error) {
	if err == nil {
		defer file.Close() // net.FileConn makes a copy
		err = await(ctx, file)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot connect to %s/%s: %w", dst, network, err)
	}
	return net.FileConn(file)
}

func await(ctx context.Context, file *os.File) error {
	end := time.Now().Add(connectTimeout)
	if t, ok := ctx.Deadline(); ok && t.Before(end) {
		end = t
	}
	if err := file.SetWriteDeadline(end); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { file.SetWriteDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Write(func(fd uintptr) bool {
		code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		switch {
		case err != nil:
			result = err
		case code != 0:
			result = unix.Errno(code)
		default:
			// No error yet, and no peer yet: connect(2) is under way.
			_, err := unix.Getpeername(int(fd))
			return err != unix.ENOTCONN
		}
		return true
	})
	return errors.Join(err, result)
}
