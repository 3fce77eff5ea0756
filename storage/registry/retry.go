package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// maxWait is how long a registry may ask to wait before it is asked again; what asks
// for more is told to whoever pulls, who can wait better.
const maxWait = 5 * time.Minute

// permanent marks an error that trying again cannot mend.
type permanent struct{ error }

func (p permanent) Unwrap() error { return p.error }

// retryAfter is how long an answer asks to wait, in seconds or until a date (RFC 9110, 10.2.3).
func retryAfter(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil && seconds >= 0 {
		return time.Duration(min(seconds, 1<<30)) * time.Second
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(time.Until(date), 0)
	}
	return 0
}

// retry runs try again, with growing pauses, after what may pass: a lost
// connection, 429 and 5xx.
func (c *client) retry(ctx context.Context, try func() error) error {
	pause := c.delay
	if pause == 0 {
		pause = 500 * time.Millisecond
	}
	for n := 0; ; n++ {
		err := try()
		if err == nil || !passing(err) || ctx.Err() != nil {
			return err
		}
		asked := time.Until(c.guard.notBefore()).Round(time.Second / 10)
		if asked > maxWait {
			return fmt.Errorf("%w (the registry asks to wait for %v)", err, asked.Round(time.Second))
		}
		if n >= c.retries {
			return err
		}
		if asked >= time.Second {
			c.say("The registry asks to wait for %v", asked)
		}
		if pauseFor(ctx, max(asked, pause)) != nil {
			return err
		}
		if c.delay == 0 {
			pause *= 2
		}
	}
}

// pauseFor waits for d, or until ctx ends.
func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// passing says whether an error may pass by itself.
func passing(err error) bool {
	var never permanent
	if errors.As(err, &never) {
		return false
	}
	var refused *transport.Error
	if errors.As(err, &refused) {
		return refused.StatusCode == http.StatusTooManyRequests || refused.StatusCode == http.StatusRequestTimeout || refused.StatusCode >= 500
	}
	return cut(err)
}

// cut says whether err looks like a lost connection, which trying again mends.
func cut(err error) bool {
	var netErr net.Error
	var opErr *net.OpError
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, errStalled),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF):
		return true
	case errors.As(err, &opErr) && opErr.Op == "dial":
		// Nobody listens there: say so at once. Names may resolve later.
		return !errors.Is(err, syscall.ECONNREFUSED) && opErr.Timeout()
	case errors.As(err, &netErr):
		return netErr.Timeout()
	}
	// net/http's HTTP/2 resets have no exported type.
	return strings.Contains(err.Error(), "stream error") || strings.Contains(err.Error(), "connection reset")
}
