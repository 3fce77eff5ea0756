package gate

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

// The kernel answers each message of a transaction, rules whole, before sending it
// returns; all of it must fit into the socket's buffer, and the transaction into the other.
const (
	// socketBuffer is what is asked for, in bytes; the default is 208 KiB, half of which is enough.
	socketBuffer = 1 << 20
	// maxMessages bounds a transaction, or what is added to the first one.
	maxMessages = 60
	maxElements = 4000
	// messageElements is how many elements of a set one message takes: the length of an
	// attribute is a 16-bit number, and wraps in silence. It is even: an interval's
	// beginning and end stay together.
	messageElements = 1000
	// patience is for an answer that never comes.
	patience = 30 * time.Second
)

// dial opens the conversation with the kernel if there is none. mu is held.
func (g *Guard) dial() error {
	if g.conn != nil {
		return nil
	}
	if g.closed {
		return errors.New("cannot speak to nftables: moss-net is ending")
	}
	var conn *nftables.Conn
	err := g.do(func() (err error) {
		conn, err = nftables.New(nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
			c.SetReadBuffer(socketBuffer) // less is enough, too
			c.SetWriteBuffer(socketBuffer)
			g.socket = c
			return nil
		}))
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot speak to nftables: %w", err)
	}
	g.conn = conn
	return nil
}

// talk has the kernel do what f asks for, in one transaction. After an error the next
// one has a conversation of its own: the answers that are left of this one, or the
// messages that were not sent, are not its. mu is held.
func (g *Guard) talk(f func(c *nftables.Conn) error) error {
	if err := g.dial(); err != nil {
		return err
	}
	err := g.socket.SetReadDeadline(time.Now().Add(patience))
	if err == nil {
		err = f(g.conn)
	}
	if err == nil {
		err = g.conn.Flush()
	}
	if err != nil {
		g.conn.CloseLasting()
		g.conn = nil
	}
	return err
}

// step is a part of a transaction.
type step struct {
	messages, elements int
	do                 func(c *nftables.Conn) error
}

// run carries out steps in as few transactions as it takes; the first step begins the
// first one. mu is held.
func (g *Guard) run(steps []step) error {
	for len(steps) > 0 {
		messages, elements, n := 0, 0, 0
		for ; n < len(steps); n++ {
			messages, elements = messages+steps[n].messages, elements+steps[n].elements
			if n > 0 && (messages > maxMessages || elements > maxElements) {
				break
			}
		}
		err := g.talk(func(c *nftables.Conn) error {
			for _, s := range steps[:n] {
				if err := s.do(c); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		steps = steps[n:]
	}
	return nil
}

// adding are the steps that put elements into a set.
func adding(set *nftables.Set, elements []nftables.SetElement) []step {
	return changing(elements, func(c *nftables.Conn, part []nftables.SetElement) error { return c.SetAddElements(set, part) })
}

func changing(elements []nftables.SetElement, do func(*nftables.Conn, []nftables.SetElement) error) (steps []step) {
	for part := range slices.Chunk(elements, messageElements) {
		steps = append(steps, step{1, len(part), func(c *nftables.Conn) error { return do(c, part) }})
	}
	return steps
}

// sets are openings by the set that they are in.
func sets(id string, list []opening) map[*nftables.Set][]nftables.SetElement {
	type key struct {
		service
		v6 bool
	}
	of := map[key]*nftables.Set{}
	out := map[*nftables.Set][]nftables.SetElement{}
	for _, o := range list {
		k := key{o.service, o.addr.Is6()}
		if of[k] == nil {
			of[k] = o.set(id, k.v6)
		}
		out[of[k]] = append(out[of[k]], nftables.SetElement{Key: o.addr.AsSlice()})
	}
	return out
}

// add opens addresses. After an error some may be open.
func (g *Guard) add(gate *Gate, list map[opening]*lesson) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gate.gone {
		return errGone
	}
	var steps []step
	for set, elements := range sets(gate.id, slices.Collect(maps.Keys(list))) {
		steps = append(steps, adding(set, elements)...)
	}
	return g.run(steps)
}

// remove closes them. After an error some may be open.
func (g *Guard) remove(gate *Gate, list []opening) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if gate.gone {
		return errGone
	}
	var steps []step
	for set, elements := range sets(gate.id, list) {
		steps = append(steps, changing(elements, func(c *nftables.Conn, part []nftables.SetElement) error { return c.SetDeleteElements(set, part) })...)
	}
	return g.run(steps)
}

// intervals are the elements of an interval set, for ranges of one family: where each
// begins, and where it has ended. What ends with the last address has no end.
func intervals(ranges []netip.Prefix) (out []nftables.SetElement) {
	ranges = slices.SortedFunc(slices.Values(ranges), func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	for i := 0; i < len(ranges); {
		begin, end := ranges[i].Addr(), after(ranges[i])
		for i++; i < len(ranges) && (!end.IsValid() || ranges[i].Addr().Compare(end) <= 0); i++ {
			if e := after(ranges[i]); end.IsValid() && (!e.IsValid() || end.Less(e)) {
				end = e
			}
		}
		out = append(out, nftables.SetElement{Key: begin.AsSlice()})
		if end.IsValid() {
			out = append(out, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	return out
}

// after is the first address after a range; invalid after the last one there is.
func after(p netip.Prefix) netip.Addr {
	last := p.Masked().Addr().AsSlice()
	for i := p.Bits(); i < len(last)*8; i++ {
		last[i/8] |= 0x80 >> (i % 8)
	}
	a, _ := netip.AddrFromSlice(last)
	return a.Next()
}
