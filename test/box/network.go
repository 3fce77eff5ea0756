package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"sort"
	"strings"
	"syscall"
	"time"
)

var networkPrograms = []program{
	{"serve", "[HOST:]PORT [TEXT]: answer HTTP with the client's address", serve},
	{"get", "URL: print the answer's body", get},
	{"keep", "PORT: accept connections, and say nothing", keep},
	{"hold", "HOST:PORT: connect, and tell how that ends: closed, reset", hold},
	{"udpserve", "PORT: answer datagrams with the client's address", udpServe},
	{"udp", "HOST:PORT TEXT: send a datagram, print the answer", udp},
	{"resolve", "NAME: its addresses, sorted", resolve},
	{"reverse", "ADDRESS: its names", reverse},
	{"addresses", "interfaces and their addresses", addresses},
}

const patience = 5 * time.Second

// serve speaks just enough HTTP/1.1: net/http would triple the size of box.
func serve(args []string) int {
	at := arg(args, 0, "8080")
	if !strings.Contains(at, ":") {
		at = ":" + at
	}
	l, err := net.Listen("tcp", at)
	if err != nil {
		return fail("%v", err)
	}
	fmt.Println("serving", l.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := l.Accept()
		if err != nil {
			return fail("%v", err)
		}
		go answer(conn, arg(args, 1, ""))
	}
}

func answer(conn net.Conn, text string) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	in := bufio.NewReader(conn)
	request, err := in.ReadString('\n')
	if err != nil {
		return
	}
	for line := request; strings.TrimSpace(line) != ""; {
		if line, err = in.ReadString('\n'); err != nil {
			return
		}
	}
	client := unmapped(conn.RemoteAddr())
	host, _ := os.Hostname()
	body := fmt.Sprintf("client %s\nserver %s\n%s\n", client, host, text)
	fmt.Printf("request from %s: %s\n", client, strings.TrimSpace(request))
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// unmapped is the bare address: an IPv4 client of an IPv6 socket is an IPv4 client.
func unmapped(a net.Addr) string {
	ap, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return a.String()
	}
	return ap.Addr().Unmap().String()
}

func get(args []string) int {
	u, err := url.Parse(arg(args, 0, ""))
	if err != nil || u.Host == "" {
		return fail("get: %q is not a URL", arg(args, 0, ""))
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(u.Hostname(), port), patience)
	if err != nil {
		return fail("%v", err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(conn, "GET %s HTTP/1.0\r\nHost: %s\r\n\r\n", u.RequestURI(), u.Host)
	all, err := io.ReadAll(conn)
	if err != nil {
		return fail("%v", err)
	}
	head, body, ok := strings.Cut(string(all), "\r\n\r\n")
	if !ok || !strings.Contains(strings.SplitN(head, "\r\n", 2)[0], " 200") {
		return fail("get: %q", head)
	}
	fmt.Print(body)
	return 0
}

func keep(args []string) int {
	l, err := net.Listen("tcp", ":"+arg(args, 0, "8080"))
	if err != nil {
		return fail("%v", err)
	}
	fmt.Println("serving", l.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := l.Accept()
		if err != nil {
			return fail("%v", err)
		}
		go io.Copy(io.Discard, conn)
	}
}

func hold(args []string) int {
	conn, err := net.DialTimeout("tcp", arg(args, 0, ""), patience)
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); { // the server may be about to listen
		time.Sleep(10 * time.Millisecond)
		conn, err = net.DialTimeout("tcp", arg(args, 0, ""), patience)
	}
	if err != nil {
		return fail("%v", err)
	}
	fmt.Println("connected")
	switch _, err := io.Copy(io.Discard, conn); {
	case errors.Is(err, syscall.ECONNRESET):
		fmt.Println("reset")
	case err != nil:
		return fail("%v", err)
	default:
		fmt.Println("closed")
	}
	return 0
}

func udpServe(args []string) int {
	conn, err := net.ListenPacket("udp", ":"+arg(args, 0, "8080"))
	if err != nil {
		return fail("%v", err)
	}
	fmt.Println("serving", conn.LocalAddr().(*net.UDPAddr).Port)
	packet := make([]byte, 64*1024)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return fail("%v", err)
		}
		conn.WriteTo(fmt.Appendf(nil, "%s from %s", packet[:n], unmapped(from)), from)
	}
}

func udp(args []string) int {
	conn, err := net.Dial("udp", arg(args, 0, ""))
	if err != nil {
		return fail("%v", err)
	}
	packet := make([]byte, 64*1024)
	// A datagram may be lost: ask again.
	for range 5 {
		fmt.Fprint(conn, strings.Join(args[1:], " "))
		conn.SetReadDeadline(time.Now().Add(patience / 5))
		if n, err := conn.Read(packet); err == nil {
			fmt.Println(string(packet[:n]))
			return 0
		}
	}
	return fail("udp: no answer from %s", args[0])
}

func resolve(args []string) int {
	found, err := net.LookupHost(arg(args, 0, "localhost"))
	if err != nil {
		return fail("%v", err)
	}
	sort.Strings(found)
	fmt.Println(strings.Join(found, "\n"))
	return 0
}

func reverse(args []string) int {
	found, err := net.LookupAddr(arg(args, 0, "127.0.0.1"))
	if err != nil {
		return fail("%v", err)
	}
	fmt.Println(strings.Join(found, "\n"))
	return 0
}

func addresses([]string) int {
	interfaces, err := net.Interfaces()
	if err != nil {
		return fail("%v", err)
	}
	for _, i := range interfaces {
		list, _ := i.Addrs()
		fmt.Println(i.Name, i.HardwareAddr, i.Flags&net.FlagUp != 0, list)
	}
	return 0
}
