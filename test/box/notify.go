package main

import (
	"fmt"
	"net"
	"os"
	"strings"
)

var notifyPrograms = []program{
	{"notify", "TEXT…: send each, on a line of its own, to $NOTIFY_SOCKET", notify},
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
