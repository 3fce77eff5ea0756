package uplink

import (
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// slirp4netns's IPv6 is always this network; see slirp4netns(1).
var (
	slirpAddrs    = []netip.Prefix{linkAddrs[0], netip.MustParsePrefix("fd00::100/64")}
	slirpGateways = []netip.Addr{gateways[0], netip.MustParseAddr("fd00::2")}
)

// appears waits for the interface that a program makes: the kernel tells.
func (o *Options) appears(p *process) <-chan error {
	result := make(chan error, 1)
	updates, stop := make(chan netlink.LinkUpdate), make(chan struct{})
	err := o.Do(func() error {
		return netlink.LinkSubscribeWithOptions(updates, stop, netlink.LinkSubscribeOptions{ListExisting: true})
	})
	if err != nil {
		result <- err
		return result
	}
	go func() { // ends when the interface is there or the program has ended
		defer func() {
			close(stop)
			for range updates { // the library may still be sending one
			}
		}()
		for {
			select {
			case u, ok := <-updates:
				if !ok {
					result <- errors.New("the kernel stopped telling about interfaces")
					return
				}
				if u.Attrs().Name == o.Interface {
					result <- nil
					return
				}
			case <-p.done:
				result <- errors.New("it ended at once")
				return
			}
		}
	}()
	return result
}
