package hub

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"moss/slirp"
)

// door holds the clients of a container that waits for them. It outlives the container's
// lease: between two runs the ports stay open, and clients are held.
//
//	parked ──lease──▶ asleep ──WakeRunning──▶ awake ──WakeIdle──▶ closing ──WakeStay──▶ awake
//	  ▲                 └──WakeFailed──▶ failed   │                  │
//	  └──────────────── the lease ends ◀──────────┴──────────────────┘
type door struct {
	mu      sync.Mutex
	state   doorState
	changed chan struct{} // closed at the next change of the state
	wake    slirp.Wake
	tell    func(byte) // tells the holder of the lease
	told    bool       // of a client, since it is asleep
	clients int
	ready   bool      // the container has accepted a client since it is awake
	run     int       // counts the times it has woken
	last    time.Time // when a client has left, or a datagram come
	timer   *time.Timer
}

type doorState int

const (
	parked doorState = iota
	asleep
	awake
	closing
	failed
)

// wakePatience is how long a client is held at most.
const wakePatience = time.Minute

// While the container's program gets ready, a client is tried again so often: there is no
// way to be told that somebody listens in another namespace.
const (
	firstTry = time.Millisecond
	lastTry  = 50 * time.Millisecond
)

var (
	errNotAwake = errors.New("the container does not run")
	errTooLong  = errors.New("the container has not got ready in time")
)

func newDoor() *door { return &door{changed: make(chan struct{})} }

// set changes the state. g.mu is held.
func (g *door) set(s doorState) {
	g.state = s
	close(g.changed)
	g.changed = make(chan struct{})
	if g.timer != nil {
		g.timer.Stop()
		g.timer = nil
	}
}

// expect has the clients of a door that is parked wait for a lease that is about to begin.
func (g *door) expect(w slirp.Wake) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wake = w
}

// begin is the beginning of a lease.
func (g *door) begin(w slirp.Wake, tell func(byte)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wake, g.tell, g.told = w, tell, false
	if g.set(asleep); w.Awake {
		g.wakened()
	}
}

// hear is what the holder of the lease says.
func (g *door) hear(said byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case said == slirp.WakeRunning && g.state == asleep:
		g.wakened()
	case said == slirp.WakeStay && g.state == closing:
		g.set(awake)
		g.last = time.Now()
		g.arm(g.wake.Idle)
	case said == slirp.WakeFailed:
		g.set(failed)
	}
}

// wakened is when the program runs. g.mu is held.
func (g *door) wakened() {
	g.set(awake)
	g.run++
	g.ready, g.last = false, time.Now()
	g.arm(g.wake.Idle)
}

// end is the end of a lease. Clients that came after a failure are not to wait for the
// next try.
func (g *door) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.tell, g.wake.Awake = nil, false
	if g.state != failed {
		g.set(parked)
	}
}

// arm has idle look after a while. g.mu is held.
func (g *door) arm(after time.Duration) {
	if g.wake.Idle == 0 || g.state != awake || g.clients > 0 {
		return
	}
	if g.timer != nil {
		g.timer.Stop()
	}
	g.timer = time.AfterFunc(after, g.idle)
}

// idle closes the door when nobody has been there for long enough.
func (g *door) idle() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state != awake || g.clients > 0 || g.tell == nil {
		return
	}
	if left := g.wake.Idle - time.Since(g.last); left > 0 {
		g.arm(left)
		return
	}
	g.set(closing)
	g.tell(slirp.WakeIdle)
}

// Active is port.Gate's.
func (g *door) Active() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = time.Now()
}

// Lead is port.Gate's.
func (g *door) Lead(ctx context.Context, hostPort uint16, dial func() (net.Conn, error)) (net.Conn, func(), error) {
	ctx, cancel := context.WithTimeoutCause(ctx, wakePatience, errTooLong)
	defer cancel()
	run, err := g.enter(ctx, hostPort)
	if err != nil {
		return nil, nil, err
	}
	for pause := firstTry; ; pause = min(2*pause, lastTry) {
		ready := g.isReady() // before it is tried: another one may be accepted meanwhile
		conn, err := dial()
		if err == nil {
			g.accepted(run)
			return conn, g.leave, nil
		}
		changed, again := g.again(run, ready, err)
		if again {
			select {
			case <-time.After(pause):
				continue
			case <-changed:
				continue
			case <-ctx.Done():
				err = context.Cause(ctx)
			}
		}
		g.leave()
		return nil, nil, err
	}
}

// enter waits until the program runs, and counts the client.
func (g *door) enter(ctx context.Context, hostPort uint16) (run int, err error) {
	for {
		g.mu.Lock()
		wakes := slices.Contains(g.wake.Ports, hostPort) || g.state == parked && g.wake.Awake
		switch {
		case g.state == awake:
			g.clients++
			run = g.run
			g.mu.Unlock()
			return run, nil
		case g.state == failed, g.state != closing && !wakes:
			g.mu.Unlock()
			return 0, errNotAwake
		case g.state == asleep && !g.told:
			g.told = true
			g.tell(slirp.WakeClient)
		}
		changed := g.changed
		g.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// isReady says whether the container has accepted a client in this run.
func (g *door) isReady() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ready
}

// again says whether a client is tried once more, in the same run of the container, which
// was ready or not when it was tried, and is closed when that may be over.
func (g *door) again(run int, ready bool, err error) (changed <-chan struct{}, again bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	refused := errors.Is(err, syscall.ECONNREFUSED) || isRefusal(err)
	return g.changed, g.state == awake && g.run == run && !ready && refused
}

// isRefusal knows a refusal by the embedded stack.
func isRefusal(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Err != nil && op.Err.Error() == "connection was refused"
}

func (g *door) accepted(run int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ready = g.ready || g.run == run
}

func (g *door) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.clients--
	g.last = time.Now()
	g.arm(g.wake.Idle)
}

// parkedPorts are the ports of a container between two leases.
type parkedPorts struct {
	door  *door
	ports []opened
	timer *time.Timer
}

// parkFor is how long ports wait for the next lease of their container: longer than
// the pause that a monitor makes after a failure.
const parkFor = 20 * time.Second

// park keeps the ports of a lease that ends, for the next one.
func (h *Hub) park(id string, g *door, ports []opened) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &parkedPorts{door: g, ports: ports}
	if h.closed {
		p.close()
		return
	}
	h.parked[id] = p
	p.timer = time.AfterFunc(parkFor, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.parked[id] == p {
			delete(h.parked, id)
			p.close()
		}
	})
}

// unpark takes them back; nil where there are none.
func (h *Hub) unpark(id string) *parkedPorts {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.parked[id]
	if p != nil {
		p.timer.Stop()
		delete(h.parked, id)
	}
	return p
}

func (p *parkedPorts) close() {
	for _, o := range p.ports {
		o.Close()
	}
}

// openDoor takes over the door of the container's last lease, or makes one.
func (l *lease) openDoor() {
	if l.request.Wake == nil {
		if p := l.hub.unpark(l.request.Container); p != nil { // it does not wait any more
			p.close()
		}
		if len(l.sockets) > 0 { // clients may have come before the container
			l.door = newDoor()
			l.door.wakened()
		}
		return
	}
	if p := l.hub.unpark(l.request.Container); p != nil {
		l.door, l.spare = p.door, p.ports
	} else {
		l.door = newDoor()
	}
	l.door.expect(*l.request.Wake) // clients may come before the lease begins
}

// adopt takes a port that is open already; nil where there is none.
func (l *lease) adopt(p slirp.Port) *opened {
	at := slices.IndexFunc(l.spare, func(o opened) bool { return o.asked == p })
	if at < 0 {
		return nil
	}
	o := l.spare[at]
	l.spare = slices.Delete(l.spare, at, at+1)
	o.answers = nil
	o.Lead(l.outlet.target)
	return &o
}

// dropSpare closes what was published before, and is no more.
func (l *lease) dropSpare() {
	for _, o := range l.spare {
		o.Close()
	}
	l.spare = nil
}

// endForGood has the ports closed with the lease.
func (l *lease) endForGood() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.forGood = true
}
