package bridge

import (
	"errors"
	"fmt"
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
	updates, stop := make(chan netlink.LinkUpdate), make(chan struct{})
	err = s.Thread.Do(func() error {
		return netlink.LinkSubscribeWithOptions(updates, stop, netlink.LinkSubscribeOptions{ListExisting: true})
	})
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
	late := time.NewTimer(settleTimeout)
	defer late.Stop()
	for {
		select {
		case u, ok := <-updates:
			if !ok {
				return errors.New("the kernel stopped telling about interfaces")
			}
			if u.Attrs().Index == index && u.Attrs().OperState == netlink.OperUp {
				return nil
			}
		case <-late.C:
			return fmt.Errorf("interface %q does not come up", link.Attrs().Name)
		}
	}
}
