package hub

import (
	"bufio"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"
)

func TestHostOf(t *testing.T) {
	for _, test := range []struct{ head, want string }{
		{"GET / HTTP/1.1\r\nHost: web.localhost:8088\r\n\r\n", "web.localhost"},
		{"GET / HTTP/1.1\r\nX: y\r\nhost:web.localhost\r\n\r\n", "web.localhost"},
		{"GET http://web.localhost/ HTTP/1.0\r\nHost: web.localhost\r\n\r\n", "web.localhost"},
		{"GET / HTTP/1.1\r\n\r\n", ""},
		{"PRI * HTTP/2.0\r\n\r\n", ""},
		{"nonsense", ""},
		{strings.Repeat("x", 1000) + "\n\n", ""},
		{"", ""},
	} {
		got, err := hostOf(bufio.NewReader(strings.NewReader(test.head)))
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%.40q: %q, %v", test.head, got, err)
		}
	}
}

func TestServerNameOf(t *testing.T) {
	client, server := net.Pipe()
	defer client.Close()
	server.SetDeadline(time.Now().Add(10 * time.Second))
	go tls.Client(client, &tls.Config{ServerName: "web.localhost", InsecureSkipVerify: true}).Handshake()
	if name, err := serverNameOf(bufio.NewReader(server)); err != nil || name != "web.localhost" {
		t.Errorf("%q, %v", name, err)
	}
	server.Close()
	if name, err := serverNameOf(bufio.NewReader(strings.NewReader("GET / HTTP/1.1\r\n"))); err == nil {
		t.Errorf("no handshake has the name %q", name)
	}
}
