package hub

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"moss/slirp"
	"moss/slirp/relay"
)

// web leads a browser from http://NAME.localhost:PORT to container NAME: by the Host
// header, or by the name in a TLS handshake, which it does not take part in. It listens
// on the host's loopback only.
type web struct {
	at        slirp.Web
	ctx       context.Context
	cancel    context.CancelFunc
	listeners []net.Listener
}

const (
	// headTimeout is how long a client may take to say whom it wants.
	headTimeout = 10 * time.Second
	// maxHead bounds what is read for that.
	maxHead = 64 << 10
)

// Web listens where slirp.LoadWeb says.
func (h *Hub) Web() error {
	want, err := slirp.LoadWeb(h.dirs)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.web != nil && h.web.at == want {
		return nil
	}
	h.web.close()
	h.web = nil
	if want == (slirp.Web{}) {
		return nil
	}
	w := &web{at: want}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	for _, at := range []struct {
		port   uint16
		secure bool
	}{{want.Port, false}, {want.TLSPort, true}} {
		for _, host := range []string{"127.0.0.1", "::1"} {
			if at.port == 0 {
				continue
			}
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(at.port))))
			if err != nil && host == "::1" {
				continue // a host without IPv6
			}
			if err != nil {
				w.close()
				return fmt.Errorf("cannot listen for the web: %w", err)
			}
			w.listeners = append(w.listeners, l)
			go h.serveWeb(w, l, at.secure) // ends with the listener
		}
	}
	h.web = w
	return nil
}

func (w *web) close() {
	if w == nil {
		return
	}
	w.cancel()
	for _, l := range w.listeners {
		l.Close()
	}
}

func (h *Hub) serveWeb(w *web, l net.Listener, secure bool) {
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-w.ctx.Done():
				return
			}
		}
		go h.lead(w, client, secure)
	}
}

// lead connects one client with the container that it names.
func (h *Hub) lead(w *web, client net.Conn, secure bool) {
	client.SetReadDeadline(time.Now().Add(headTimeout))
	read := hostOf
	if secure {
		read = serverNameOf
	}
	var head bytes.Buffer
	host, err := read(bufio.NewReader(io.TeeReader(io.LimitReader(client, maxHead), &head)))
	if err != nil {
		refuse(client, secure, "400 Bad Request", "this is not a request that moss understands")
		return
	}
	client.SetReadDeadline(time.Time{})
	container, err := h.visit(w.ctx, host, secure)
	if err != nil {
		refuse(client, secure, "404 Not Found", err.Error())
		return
	}
	if _, err := container.Write(head.Bytes()); err != nil {
		container.Close()
		refuse(client, secure, "502 Bad Gateway", err.Error())
		return
	}
	relay.Both(w.ctx, client, container)
}

// refuse ends a connection with an answer, where one can be read.
func refuse(client net.Conn, secure bool, status, why string) {
	if secure {
		relay.Abort(client)
		return
	}
	fmt.Fprintf(client, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s\n", status, len(why)+1, why)
	client.Close()
}

// hostOf reads the Host header of a request, without its port.
func hostOf(r *bufio.Reader) (string, error) {
	for first := true; ; first = false {
		line, err := r.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		switch {
		case err != nil:
			return "", err
		case line == "" && !first:
			return "", errors.New("a request without a Host header")
		case first && !strings.Contains(line, " HTTP/1."):
			return "", errors.New("not HTTP/1")
		}
		key, value, ok := strings.Cut(line, ":")
		if ok && !first && strings.EqualFold(key, "Host") {
			value = strings.TrimSpace(value)
			if host, _, err := net.SplitHostPort(value); err == nil {
				value = host
			}
			return value, nil
		}
	}
}

// serverNameOf reads the server's name from the beginning of a TLS handshake: RFC 6066 §3.
func serverNameOf(r *bufio.Reader) (name string, err error) {
	stop := errors.New("enough is known")
	config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		name = hello.ServerName
		return nil, stop
	}}
	err = tls.Server(silent{r}, config).Handshake()
	if errors.Is(err, stop) && name != "" {
		return name, nil
	}
	return "", errors.New("no server name in the handshake")
}

// silent is a connection that is only read.
type silent struct{ io.Reader }

func (silent) Write(p []byte) (int, error)      { return len(p), nil }
func (silent) Close() error                     { return nil }
func (silent) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (silent) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (silent) SetDeadline(time.Time) error      { return nil }
func (silent) SetReadDeadline(time.Time) error  { return nil }
func (silent) SetWriteDeadline(time.Time) error { return nil }

// The ports that are tried in a container that exposes none.
var usualPorts = map[bool][]uint16{false: {80, 8080, 8000, 3000, 5000}, true: {443, 8443}}

// visit connects to the container that a host name names: the last part before .localhost.
func (h *Hub) visit(ctx context.Context, host string, secure bool) (net.Conn, error) {
	name, ok := strings.CutSuffix(strings.ToLower(strings.TrimSuffix(host, ".")), ".localhost")
	if i := strings.LastIndexByte(name, '.'); i >= 0 {
		name = name[i+1:]
	}
	h.mu.Lock()
	var l *lease
	var names []string
	for _, other := range h.leases {
		if other.done && other.outlet != nil && other.outlet.bridge != "" {
			names = append(names, other.request.Name)
			if ok && strings.EqualFold(other.request.Name, name) {
				l = other
			}
		}
	}
	var ports []uint16
	var addrs []netip.Addr
	if l != nil {
		ports, addrs = l.request.Web, slices.Clone(l.outlet.target.Addrs)
	}
	h.mu.Unlock()
	if l == nil {
		slices.Sort(names)
		return nil, fmt.Errorf("there is no container for %q here; these run: %s", host, strings.Join(names, ", "))
	}
	ports = slices.DeleteFunc(slices.Clone(ports), func(p uint16) bool { return slices.Contains(usualPorts[true], p) != secure })
	if len(ports) == 0 {
		ports = usualPorts[secure]
	}
	ctx, cancel := context.WithTimeout(ctx, headTimeout)
	defer cancel()
	var errs []error
	for _, p := range ports {
		for _, a := range addrs {
			conn, err := h.space.Thread.Dial(ctx, "tcp", netip.AddrPort{}, netip.AddrPortFrom(a, p))
			if err == nil {
				return conn, nil
			}
			errs = append(errs, err)
		}
	}
	return nil, fmt.Errorf("container %q does not answer: %w", l.request.Name, errors.Join(errs...))
}
