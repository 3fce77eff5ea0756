package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var notifyPrograms = []program{
	{"notify", "TEXT…: send each, on a line of its own, to $NOTIFY_SOCKET", notify},
	{"passed", ": how many sockets have been passed to this very process", passed},
	{"passing", "NAME=[udp:]HOST:PORT… PROGRAM ARG…: execute it with listening sockets, as a service manager does", passing},
	{"unread", "SOCKET: a notification socket that is full, and that nobody reads", unread},
	{"notified", "SOCKET: print what is sent there, until one says READY=1", notified},
}

// notify sends what sd_notify(3) sends.
func notify(args []string) int {
	c, err := net.Dial("unixgram", os.Getenv("NOTIFY_SOCKET"))
	if err != nil {
		return fail("notify: %v", err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(strings.Join(args, "\n"))); err != nil {
		return fail("notify: %v", err)
	}
	return 0
}

func unread(args []string) int {
	at := &net.UnixAddr{Name: arg(args, 0, ""), Net: "unixgram"}
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at.Name + ".new", Net: "unixgram"})
	if err != nil {
		return fail("unread: %v", err)
	}
	defer l.Close()
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: at.Name + ".new", Net: "unixgram"})
	for err == nil {
		c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = c.Write([]byte("STATUS=full"))
	}
	if err := os.Rename(at.Name+".new", at.Name); err != nil {
		return fail("unread: %v", err)
	}
	time.Sleep(time.Hour)
	return 0
}

func notified(args []string) int {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: arg(args, 0, ""), Net: "unixgram"})
	if err != nil {
		return fail("notified: %v", err)
	}
	defer c.Close()
	data := make([]byte, 4096)
	for {
		n, err := c.Read(data)
		if err != nil {
			return fail("notified: %v", err)
		}
		text := strings.TrimSpace(string(data[:n]))
		fmt.Println(text)
		if strings.Contains(text, "READY=1") {
			return 0
		}
	}
}

// passed is sd_listen_fds(3).
func passed([]string) int {
	number := "0"
	if os.Getenv("LISTEN_PID") == strconv.Itoa(os.Getpid()) {
		number = os.Getenv("LISTEN_FDS")
	}
	fmt.Println("passed", number)
	return 0
}

// passing is systemd-socket-activate(1) that waits for nobody. See sd_listen_fds(3).
func passing(args []string) int {
	var names []string
	for len(args) > 0 && strings.Contains(args[0], "=") {
		name, at, _ := strings.Cut(args[0], "=")
		fd, err := listeningAt(at)
		if err != nil {
			return fail("passing: %v", err)
		}
		// A number far from those that are given away next.
		if err := syscall.Dup3(fd, 50+len(names), 0); err != nil {
			return fail("passing: %v", err)
		}
		names, args = append(names, name), args[1:]
	}
	for i := range names {
		if err := syscall.Dup3(50+i, 3+i, 0); err != nil {
			return fail("passing: %v", err)
		}
		syscall.CloseOnExec(50 + i)
	}
	if len(args) == 0 {
		return fail("passing: to whom?")
	}
	program, err := exec.LookPath(args[0])
	if err != nil {
		return fail("passing: %v", err)
	}
	env := append(os.Environ(), fmt.Sprintf("LISTEN_PID=%d", os.Getpid()), fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return fail("passing: %v", syscall.Exec(program, args, env))
}

// listeningAt makes a socket that package net, whose own descriptors may be in the way of
// those that are passed, knows nothing of.
func listeningAt(at string) (fd int, err error) {
	kind := syscall.SOCK_STREAM
	if udp, ok := strings.CutPrefix(at, "udp:"); ok {
		kind, at = syscall.SOCK_DGRAM, udp
	}
	host, text, err := net.SplitHostPort(at)
	if err != nil {
		return -1, err
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return -1, err
	}
	var family int
	var address syscall.Sockaddr
	if ip := net.ParseIP(host); ip.To4() != nil {
		family, address = syscall.AF_INET, &syscall.SockaddrInet4{Port: port, Addr: [4]byte(ip.To4())}
	} else { // "" is every address of both families
		a := &syscall.SockaddrInet6{Port: port}
		copy(a.Addr[:], ip)
		family, address = syscall.AF_INET6, a
	}
	if fd, err = syscall.Socket(family, kind|syscall.SOCK_CLOEXEC, 0); err != nil {
		return -1, err
	}
	if kind == syscall.SOCK_STREAM {
		err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = syscall.Bind(fd, address)
	}
	if err == nil && kind == syscall.SOCK_STREAM {
		err = syscall.Listen(fd, 128)
	}
	return fd, err
}
