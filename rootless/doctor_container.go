package rootless

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"
)

// doctorImage is the image that moss carries itself, made from test/box.
const doctorImage = "localhost/moss/box"

// doctorContainer needs no network, so that one that fails is told once.
func doctorContainer(d *doctor, ctx context.Context) (string, error) {
	defer d.remove(d.container)
	out, err := d.moss(ctx, "run", "--rm", "--name", d.container, "--network", "none", doctorImage, "box", "hello")
	if err != nil {
		return "", err
	}
	first, _, _ := strings.Cut(out, "\n")
	if !strings.HasPrefix(first, "hello") {
		return "", fmt.Errorf("the container said %q", first)
	}
	return first, nil
}

// doctorResolve asks the network's resolver for the container's own name, which
// works without an uplink.
func doctorResolve(d *doctor, ctx context.Context) (string, error) {
	name := d.container + "-dns"
	defer d.remove(name)
	out, err := d.moss(ctx, "run", "--rm", "--name", name, doctorImage, "box", "resolve", name)
	if err != nil {
		return "", err
	}
	fields := strings.Fields(out)
	for _, field := range fields {
		if a, err := netip.ParseAddr(field); err == nil && !a.IsLoopback() {
			return strings.Join(fields, ", "), nil
		}
	}
	return "", fmt.Errorf("the container's own name resolved to %q", out)
}

// doctorPublish runs a server and reaches it from the host.
func doctorPublish(d *doctor, ctx context.Context) (string, error) {
	name := d.container + "-port"
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer d.remove(name)

	serving := &awaited{text: "serving", found: make(chan struct{})}
	ended := make(chan error, 1)
	go func() { // ends when the container is removed, or with ctx
		_, err := d.mossTo(ctx, serving, "run", "--rm", "--name", name, "--publish", "127.0.0.1::8080", doctorImage, "box", "serve", "8080")
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			err = fmt.Errorf("the server in the container ended")
		}
		return "", err
	case <-serving.found:
	}

	out, err := d.moss(ctx, "port", name, "8080/tcp")
	if err != nil {
		return "", err
	}
	address, err := netip.ParseAddrPort(strings.TrimSpace(out))
	if err != nil {
		return "", fmt.Errorf("the published port is %q: %w", out, err)
	}
	body, err := httpGet(ctx, address.String())
	if err != nil {
		return "", fmt.Errorf("cannot reach the container's server at %s: %w", address, err)
	}
	client, _, _ := strings.Cut(strings.TrimPrefix(body, "client "), "\n")
	return fmt.Sprintf("%s; the container saw a client at %s", address, client), nil
}

// awaited is an output that tells when it has said something.
type awaited struct {
	text  string
	said  []byte
	found chan struct{} // closed then
}

func (a *awaited) Write(p []byte) (int, error) {
	before := bytes.Contains(a.said, []byte(a.text))
	a.said = append(a.said, p...)
	if !before && bytes.Contains(a.said, []byte(a.text)) {
		close(a.found)
	}
	return len(p), nil
}

// httpGet is one request of HTTP/1.0: net/http would cost every moss some of
// its start.
func httpGet(ctx context.Context, address string) (string, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 64<<10))
	if err != nil {
		return "", err
	}
	head, body, ok := strings.Cut(string(answer), "\r\n\r\n")
	if !ok || !strings.Contains(head, " 200 ") {
		return "", fmt.Errorf("the answer is %q", head)
	}
	return strings.TrimSpace(body), nil
}
