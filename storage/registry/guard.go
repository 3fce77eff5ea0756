package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"
)

const (
	// maxHeader bounds the headers of an answer, and maxGreeting the body of one that is
	// read only to its end: a registry must not decide how much memory and time that takes.
	maxHeader   = 256 << 10
	maxGreeting = 1 << 20
	// maxRedirects is how often a request may be sent on.
	maxRedirects = 5
)

// guard is below everything that talks to one registry. It lets a user's name, password
// and tokens go only to that registry's host and to the others of its domain: where
// tokens are made, and where blobs are, is for the registry to say, which may lie. And
// it ends an answer that has stopped coming.
type guard struct {
	http.RoundTripper
	host   string        // the registry's, without a port
	realms []string      // hosts that the user trusts too
	stall  time.Duration // how long an answer may bring nothing
	// own finds what the user has for a host of another domain.
	own func(host string) (user, password string)

	mu       sync.Mutex
	withheld string    // the host that was not told the credentials, if any
	until    time.Time // when the registry wants to be asked again
}

// trusts says whether a host is the registry's, or of the same registrable domain.
func (g *guard) trusts(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if strings.EqualFold(host, g.host) || slices.Contains(g.realms, host) {
		return true
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return false
	}
	theirs, err := publicsuffix.EffectiveTLDPlusOne(host)
	if err != nil {
		return false
	}
	ours, err := publicsuffix.EffectiveTLDPlusOne(strings.ToLower(g.host))
	return err == nil && ours == theirs
}

// RoundTrip sends a request, without what its host must not see.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := g.reachable(req); err != nil {
		return nil, err
	}
	if host := req.URL.Hostname(); !g.trusts(host) {
		var err error
		if req, err = g.withhold(req, host); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	resp, err := g.RoundTripper.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if code := resp.StatusCode; code == http.StatusTooManyRequests || code >= 500 {
		g.mu.Lock()
		g.until = time.Now().Add(retryAfter(resp))
		g.mu.Unlock()
	}
	body := &watched{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, stall: g.stall, left: -1}
	if req.URL.Path == "/v2/" {
		body.left = maxGreeting
	}
	resp.Body = body
	return resp, nil
}

// reachable refuses addresses of this machine's link, such as those that clouds keep
// secrets at, unless the registry itself is there.
func (g *guard) reachable(req *http.Request) error {
	there, err := netip.ParseAddr(req.URL.Hostname())
	if err == nil && there.Unmap().WithZone("").IsLinkLocalUnicast() && !strings.EqualFold(req.URL.Hostname(), g.host) {
		return permanent{fmt.Errorf("the registry points to %q, an address of this machine's own link", req.URL.Host)}
	}
	return nil
}

// withhold takes the credentials for the registry out of a request to another host,
// and puts those in that the user has for that one.
func (g *guard) withhold(req *http.Request, host string) (*http.Request, error) {
	if req.Method == http.MethodPost && req.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
		// An identity token, in the body.
		return nil, permanent{fmt.Errorf("the registry wants its token sent to %q, which is not of its domain", req.URL.Host)}
	}
	basic := strings.HasPrefix(req.Header.Get("Authorization"), "Basic ")
	if req.Header.Get("Authorization") == "" {
		return req, nil
	}
	req = req.Clone(req.Context())
	req.Header.Del("Authorization")
	if !basic {
		return req, nil
	}
	if user, password := g.own(host); user != "" {
		req.SetBasicAuth(user, password)
		return req, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.withheld = host
	return req, nil
}

// notBefore is when the registry wants to be asked again, or a time that has passed.
func (g *guard) notBefore() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until
}

// explain adds to an error that credentials were not sent, if so.
func (g *guard) explain(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil || g.withheld == "" {
		return err
	}
	return fmt.Errorf("%w (your name and password for %q were not sent to %q, where it wants them: name that in trusted_realms of moss.conf if this is right)", err, g.host, g.withheld)
}

// redirects follows where blobs are said to be, a few times.
func redirects(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return permanent{fmt.Errorf("the registry sends us on more than %d times", maxRedirects)}
	}
	if s := req.URL.Scheme; s != "http" && s != "https" {
		return permanent{fmt.Errorf("the registry points to %q, which is no web address", req.URL.Redacted())}
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme == "http" {
		return permanent{fmt.Errorf("the registry points from HTTPS to plain HTTP, %q", req.URL.Host)}
	}
	return nil
}

var errStalled = errors.New("the registry has stopped sending")

// watched is the body of an answer. Whoever reads it waits for as long as the guard
// allows; between reads the time does not run.
type watched struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  time.Duration
	left   int64 // how much may still come; -1: no limit
}

func (w *watched) Read(p []byte) (int, error) {
	if w.left == 0 {
		return 0, permanent{errors.New("the registry's greeting has no end")}
	}
	if w.left > 0 {
		p = p[:min(int64(len(p)), w.left)]
	}
	timer := time.AfterFunc(w.stall, func() { w.cancel(errStalled) })
	n, err := w.ReadCloser.Read(p)
	timer.Stop()
	if w.left > 0 {
		w.left -= int64(n)
	}
	if err != nil && err != io.EOF && context.Cause(w.ctx) == errStalled {
		err = fmt.Errorf("%w: nothing came for %v", errStalled, w.stall)
	}
	return n, err
}

func (w *watched) Close() error {
	w.cancel(nil)
	return w.ReadCloser.Close()
}

// hostOf is a registry's host without its port.
func hostOf(registry string) string {
	if host, _, err := net.SplitHostPort(registry); err == nil {
		return host
	}
	return strings.Trim(registry, "[]")
}
