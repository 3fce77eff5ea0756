package uplink

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// What comes together is one change: a new network is some ten messages of the kernel's.
const (
	quiet    = 30 * time.Millisecond
	maxQuiet = 300 * time.Millisecond
)

// Follow calls changed after each change of the host's links, addresses and routes,
// until ctx ends: the kernel tells, see rtnetlink(7). It is called in the host's
// namespace.
func Follow(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("cannot follow the host's network: %w", err)
	}
	file := os.NewFile(uintptr(fd), "rtnetlink")
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		file.Close()
		return fmt.Errorf("cannot follow the host's network: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { file.Close() })
	go func() { // ends with ctx
		defer stop()
		for ctx.Err() == nil && await(file, time.Time{}) {
			for end := time.Now().Add(maxQuiet); ctx.Err() == nil; {
				next := time.Now().Add(quiet)
				if next.After(end) || !await(file, next) {
					break
				}
			}
			if ctx.Err() == nil {
				changed()
			}
		}
	}()
	return nil
}

// await waits for a message until a moment. What it says does not matter, nor that some
// were lost (ENOBUFS).
func await(file *os.File, until time.Time) bool {
	file.SetReadDeadline(until)
	var message [8192]byte
	_, err := file.Read(message[:])
	return err == nil || errors.Is(err, unix.ENOBUFS)
}

// crossings are the connections and attempts of a stack that go by sockets of the host.
type crossings struct {
	mu  sync.Mutex
	all map[*crossing]bool
	// network ends with the network that attempts are made in.
	network context.Context
	renew   context.CancelFunc
}

// crossing is one connection.
type crossing struct {
	local netip.Addr // the host's address that it comes from
	reset context.CancelFunc
}

func (c *crossings) init(ctx context.Context) {
	c.all = map[*crossing]bool{}
	c.network, c.renew = context.WithCancel(ctx)
}

// now is the network of this moment.
func (c *crossings) now() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.network
}

// add notes a connection; what it returns forgets it.
func (c *crossings) add(x *crossing) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all[x] = true
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.all, x)
	}
}

// HostChanged tells the stack that the host's addresses or routes may be other ones.
// Connections from an address that the host has no more are reset, as soon as it has
// another one: until then it may get the old one back. Attempts are made anew, and
// conversations without connections go on from the new address.
func (s *Stack) HostChanged() {
	c := &s.crossings
	c.mu.Lock()
	c.renew()
	c.network, c.renew = context.WithCancel(s.ctx)
	for x := range c.all {
		if lost(x.local) {
			x.reset()
		}
	}
	c.mu.Unlock()
	s.flows.hostChanged()
	s.pings.hostChanged()
}

// lost says whether the host has another address now instead of this one.
func lost(local netip.Addr) bool {
	if !local.IsValid() || local.IsLoopback() || hasAddress(local) {
		return false
	}
	return sourceAddress(local.Is6()).IsValid()
}

// hasAddress says whether an address is one of the host's: only such ones can be bound to.
func hasAddress(a netip.Addr) bool {
	family := unix.AF_INET
	var at unix.Sockaddr
	switch {
	case a.Is4():
		at = &unix.SockaddrInet4{Addr: a.As4()}
	case a.IsLinkLocalUnicast():
		return true // it would have to be asked for with its zone
	default:
		family, at = unix.AF_INET6, &unix.SockaddrInet6{Addr: a.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return true
	}
	defer unix.Close(fd)
	return unix.Bind(fd, at) != unix.EADDRNOTAVAIL
}

// Addresses are the host's own in its way to the world, IPv4's first; there are none on a host
// without such a way.
func Addresses() (list []netip.Addr) {
	for _, v6 := range []bool{false, true} {
		if a := sourceAddress(v6); a.IsValid() && !a.IsLoopback() {
			list = append(list, a)
		}
	}
	return list
}

// Replaced says whether one of these addresses of the host is one no more, and another one
// has taken its place.
func Replaced(list []netip.Addr) bool { return slices.ContainsFunc(list, lost) }
