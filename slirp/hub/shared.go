package hub

import (
	"context"
	"log"
	"net/netip"
	"slices"
	"sync"
	"time"

	"moss/slirp"
	"moss/slirp/bridge"
	"moss/slirp/uplink"
)

// upInterface is the uplink's interface in the shared namespace.
const upInterface = "up0"

// kindVariable forces an uplink.
const kindVariable = "MOSS_UPLINK"

// shared is the uplink of the shared namespace: started with the first bridged
// container, and again whenever it ends by itself.
type shared struct {
	space  *bridge.Space
	wanted string // the kind that is forced; "": the best
	dir    string // see uplink.Options.Dir
	log    *log.Logger

	mu      sync.Mutex
	ctx     context.Context
	cancel  context.CancelFunc
	started bool
	ready   chan struct{} // closed when the first try is over
	link    *uplink.Link
	err     error
	ended   chan struct{} // closed when its keeper has ended
	// translated says that the namespace may have translation rules: ours, or
	// those of a former moss-net. Only the keeper looks at it.
	translated bool
	exempt     []uplink.Exempt // from translation; mu guards it
	again      chan chan error // the keeper translates again, and answers
	changed    chan struct{}   // the host's network has changed
}

func newShared(space *bridge.Space, kind string, logger *log.Logger, dir string) *shared {
	s := &shared{space: space, wanted: kind, dir: dir, log: logger, translated: !space.Made, again: make(chan chan error), changed: make(chan struct{}, 1)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// begin starts the uplink if it is not there.
func (s *shared) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.started {
		s.started, s.ready, s.ended = true, make(chan struct{}), make(chan struct{})
		go s.keep() // ends with close
	}
}

// wait, after begin, waits for the uplink and tells its kind. An uplink that cannot be had is
// an error for those who wait now; it is tried again for the next ones.
func (s *shared) wait(ctx context.Context) (string, error) {
	s.mu.Lock()
	ready := s.ready
	s.mu.Unlock()
	select {
	case <-ready:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return "", s.err
	}
	return s.link.Kind, nil
}

// kind tells what the uplink is, and why it is not a better one.
func (s *shared) kind() (kind, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == nil {
		return "", ""
	}
	return s.link.Kind, s.link.Why
}

// retryDelay and maxRetryDelay bound how long after a failure an uplink that some
// container had is tried again.
const (
	retryDelay    = 200 * time.Millisecond
	maxRetryDelay = 30 * time.Second
)

// keep keeps an uplink until close.
func (s *shared) keep() {
	defer close(s.ended)
	delay := time.Duration(0)
	for {
		link, err := s.start()
		s.mu.Lock()
		s.link, s.err = link, err
		s.started = err == nil || delay > 0
		close(s.ready)
		s.mu.Unlock()
		switch {
		case err == nil:
			delay = retryDelay
			s.log.Printf("uplink: %s", link.Kind)
			s.tend(link)
			if s.ctx.Err() == nil {
				s.log.Printf("uplink %s has ended; starting another", link.Kind)
			}
		case delay == 0:
			return // nobody has had one
		default:
			s.log.Print(err)
			select {
			case <-time.After(delay):
			case <-s.ctx.Done():
			}
			delay = min(2*delay, maxRetryDelay)
		}
		if s.ctx.Err() != nil {
			return
		}
		s.mu.Lock()
		s.ready = make(chan struct{})
		s.mu.Unlock()
	}
}

// start starts an uplink and leads the networks' routes to it.
func (s *shared) start() (*uplink.Link, error) {
	options := uplink.Options{
		Netns: s.space.Thread.File, Do: s.space.Thread.Do, Handle: s.space.Handle,
		Interface: upInterface, MTU: slirp.DefaultMTU, Kind: s.wanted, Routed: true, Log: s.log, Dir: s.dir,
	}
	// Interfaces of the shared namespace have no IPv6 unless they are given it.
	options.Prepare = s.space.WithIPv6
	link, err := uplink.Start(s.ctx, options)
	if err != nil {
		return nil, err
	}
	err = s.translate(link)
	if err == nil {
		err = s.space.RouteOut(upInterface, link.Gateways...)
	}
	if err != nil {
		link.Close()
		return nil, err
	}
	return link, nil
}

// translate sets up address translation for an uplink that needs it, and takes
// away what a former uplink needed.
func (s *shared) translate(link *uplink.Link) error {
	if link.Stack != nil {
		if !s.translated {
			return nil // no netfilter is needed: do not even ask for it
		}
		s.translated = false
		return s.space.Thread.Do(uplink.Untranslate)
	}
	s.translated = true
	host := hostAddresses(link) // of the host's namespace, not the thread's
	s.mu.Lock()
	exempt := s.exempt
	s.mu.Unlock()
	return s.space.Thread.Do(func() error { return uplink.Translate(upInterface, host, exempt) })
}

// setExempt takes exactly these from translation, at once if there is any.
func (s *shared) setExempt(list []uplink.Exempt) error {
	s.mu.Lock()
	same := slices.Equal(s.exempt, list)
	s.exempt = list
	ready, ended := s.ready, s.ended
	s.mu.Unlock()
	if same || ready == nil {
		return nil
	}
	answer := make(chan error, 1)
	select {
	case s.again <- answer:
		return <-answer
	case <-ended:
		return nil
	}
}

// hostAddresses are where the host gateway leads, for an uplink that does not
// do that itself.
func hostAddresses(link *uplink.Link) (addrs []netip.Addr) {
	if link.Kind != uplink.Slirp4netns {
		return nil
	}
	for _, v6 := range []bool{false, true} {
		if a, err := uplink.Primary(v6); err == nil && !a.IsLoopback() {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// hostChanged tells the uplink that the host's network has changed.
func (s *shared) hostChanged() {
	select {
	case s.changed <- struct{}{}:
	default: // it is going to look anyhow
	}
}

// tend waits for the uplink's end, and follows the host's addresses meanwhile.
func (s *shared) tend(link *uplink.Link) {
	defer link.Close()
	known, source := hostAddresses(link), uplink.Addresses()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-link.Done():
			return
		case answer := <-s.again:
			answer <- s.translate(link)
		case <-s.changed:
			if link.Stack != nil {
				link.Stack.HostChanged()
				continue
			}
			if outdated(link.Kind, source) {
				return
			}
			now := hostAddresses(link)
			if slices.Equal(now, known) {
				continue
			}
			known = now
			if err := s.translate(link); err != nil {
				s.log.Print(err)
			}
		}
	}
}

// outdated says whether a program that began when the host had these addresses must be
// started again: it would keep connections that lead nowhere any more, where a new one
// resets them; and pasta looks at the host when it starts only.
func outdated(kind string, source []netip.Addr) bool {
	return uplink.Replaced(source) || kind == uplink.Pasta && len(uplink.Addresses()) > len(source)
}

// close ends the uplink.
func (s *shared) close() error {
	s.cancel()
	s.mu.Lock()
	started, ended := s.started, s.ended
	s.mu.Unlock()
	if started {
		<-ended
	}
	return nil
}
