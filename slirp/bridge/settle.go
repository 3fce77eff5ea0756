package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
)

// settleTimeout bounds how long an interface may take to carry packets.
const settleTimeout = 2 * time.Second

// settle waits until an interface carries packets. Between the moment at which
// its other end came up and the moment at which the kernel's link watch has seen
// that, it drops what it is to send: and a neighbour solicitation that is lost
// is sent again a second later. From Linux 6.8 on, being asked is enough to make
// the link watch run (rtnl_getlink); before, there is a message to wait for.
func (s *Space) settle(index int) error {
	link, err := s.Handle.LinkByIndex(index)
	if err != nil || link.Attrs().OperState == netlink.OperUp {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), settleTimeout)
	defer cancel()
	err = s.follow(ctx, netlink.LinkSubscribeOptions{ListExisting: true}, func(u *netlink.LinkUpdate) (bool, error) {
		return u != nil && u.Attrs().Index == index && u.Attrs().OperState == netlink.OperUp, nil
	})
	if ctx.Err() != nil {
		return fmt.Errorf("interface %q does not come up", link.Attrs().Name)
	}
	return err
}

// AwaitGone waits until a container has no interface of Guests any more: the kernel takes
// its time over a namespace after the last process of it.
func (s *Space) AwaitGone(ctx context.Context, id string) error {
	return s.follow(ctx, netlink.LinkSubscribeOptions{}, func(*netlink.LinkUpdate) (bool, error) {
		guests, err := s.Guests()
		return !slices.ContainsFunc(guests, func(name string) bool { return IsOf(name, id) }), err
	})
}

// follow asks done at once, with nil, and at every change of an interface, until it says
// that it is so.
func (s *Space) follow(ctx context.Context, o netlink.LinkSubscribeOptions, done func(*netlink.LinkUpdate) (bool, error)) error {
	updates, stop := make(chan netlink.LinkUpdate), make(chan struct{})
	err := s.Thread.Do(func() error { return netlink.LinkSubscribeWithOptions(updates, stop, o) })
	if err != nil {
		return fmt.Errorf("cannot follow interfaces: %w", err)
	}
	defer func() {
		close(stop)
		go func() { // ends when the library has seen stop
			for range updates {
			}
		}()
	}()
	is, err := done(nil)
	for !is && err == nil {
		select {
		case u, ok := <-updates:
			if !ok {
				return errors.New("the kernel stopped telling about interfaces")
			}
			is, err = done(&u)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}
