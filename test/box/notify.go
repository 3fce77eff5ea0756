package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

var notifyPrograms = []program{
	{"notify", "TEXT…: send each, on a line of its own, to $NOTIFY_SOCKET", notify},
	{"passing", "NAME=[udp:]HOST:PORT… PROGRAM ARG…: execute it with listening sockets, as a service manager does", passing},
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

// passing is systemd-socket-activate(1) that waits for nobody. See sd_listen_fds(3).
func passing(args []string) int {
	var names []string
	for len(args) > 0 && strings.Contains(args[0], "=") {
		name, at, _ := strings.Cut(args[0], "=")
		file, err := listeningAt(at)
		if err != nil {
			return fail("passing: %v", err)
		}
		// A number far from those that are given away next.
		if err := syscall.Dup3(int(file.Fd()), 50+len(names), 0); err != nil {
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

func listeningAt(at string) (*os.File, error) {
	if udp, ok := strings.CutPrefix(at, "udp:"); ok {
		c, err := net.ListenPacket("udp", udp)
		if err != nil {
			return nil, err
		}
		return c.(*net.UDPConn).File()
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener).File()
}
