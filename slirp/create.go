package slirp

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Default loads the network "moss", which is made at its first use: with an
// IPv4 range that the host has no route to, and a unique local IPv6 range
// (RFC 4193). Concurrent first users get the same one.
func Default(d Dirs) (*Network, error) { return DefaultIn(d, netip.Prefix{}) }

// DefaultIn is Default, with that IPv4 range if the network is made now; an invalid
// one leaves the choice to it.
func DefaultIn(d Dirs, v4 netip.Prefix) (*Network, error) {
	n, err := Load(d, DefaultName)
	if !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	n, err = generate(d, v4)
	if err != nil {
		return nil, fmt.Errorf("cannot make network %q: %w", DefaultName, err)
	}
	// link(2) fails where another one came first; rename(2) would replace it.
	err = save(d, n, func(temp, path string) error { return errors.Join(os.Link(temp, path), os.Remove(temp)) })
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("cannot save network %q: %w", DefaultName, err)
	}
	return Load(d, DefaultName)
}

// ErrExists says that there is a network of that name.
var ErrExists = errors.New("network already exists")

// ErrOverlap says that a subnet is in use.
var ErrOverlap = errors.New("choose another one")

// Create makes the network that n describes, and completes n. Without a subnet it gets
// a free IPv4 range and, with v6, a unique local IPv6 range; without a gateway a subnet
// gets its first address; without a bridge there is a free name. It fails with
// ErrExists, and where a subnet overlaps that of another network or a route of the
// host: containers could not tell the two apart.
func Create(d Dirs, n *Network, v6 bool) error {
	if err := create(d, n, v6); err != nil {
		return fmt.Errorf("cannot create network %q: %w", n.Name, err)
	}
	return nil
}

func create(d Dirs, n *Network, v6 bool) error {
	unlock, err := lockRecords(d)
	if err != nil {
		return err
	}
	defer unlock()
	others, err := List(d)
	if err != nil {
		return err
	}
	var taken []netip.Prefix
	bridges := map[string]string{}
	for _, o := range others {
		if o.Name == n.Name {
			return ErrExists
		}
		bridges[o.Bridge] = o.Name
		for _, s := range o.Subnets {
			taken = append(taken, s.Prefix)
			for _, mine := range n.Subnets {
				if mine.Prefix.Overlaps(s.Prefix) {
					return fmt.Errorf("subnet %s overlaps %s of network %q: %w", mine.Prefix, s.Prefix, o.Name, ErrOverlap)
				}
			}
		}
	}
	routes := hostRoutes("/proc/net/route")
	for _, s := range n.Subnets {
		if i := slices.IndexFunc(routes, s.Prefix.Overlaps); i >= 0 {
			return fmt.Errorf("subnet %s overlaps %s, to which the host has a route: %w", s.Prefix, routes[i], ErrOverlap)
		}
	}
	if err := n.complete(append(taken, routes...), v6); err != nil {
		return err
	}
	for number := 1; n.Bridge == ""; number++ {
		if name := "moss" + strconv.Itoa(number); bridges[name] == "" {
			n.Bridge = name
		}
	}
	if other := bridges[n.Bridge]; other != "" {
		return fmt.Errorf("interface name %q is that of network %q", n.Bridge, other)
	}
	return save(d, n, os.Rename)
}

// complete fills in what was not asked for. taken are ranges that are in use.
func (n *Network) complete(taken []netip.Prefix, v6 bool) error {
	random := make([]byte, 32)
	if _, err := unix.Getrandom(random, 0); err != nil {
		return err
	}
	n.ID, n.Created = hex.EncodeToString(random), time.Now().UTC()
	if n.MTU == 0 {
		n.MTU = DefaultMTU
	}
	has := func(is func(netip.Addr) bool) bool {
		return slices.ContainsFunc(n.Subnets, func(s Subnet) bool { return is(s.Prefix.Addr()) })
	}
	if !has(netip.Addr.Is4) && !has(netip.Addr.Is6) {
		v4 := freeSmallRange(taken)
		if !v4.IsValid() {
			return errors.New("no private IPv4 range is free; choose one with --subnet")
		}
		n.Subnets = append(n.Subnets, Subnet{Prefix: v4})
	}
	if v6 && !has(netip.Addr.Is6) {
		n.Subnets = append(n.Subnets, Subnet{Prefix: uniqueLocal(random)})
	}
	for i := range n.Subnets {
		s := &n.Subnets[i]
		if !s.Gateway.IsValid() {
			s.Gateway = s.Prefix.Masked().Addr().Next()
		}
	}
	return nil
}

// freeSmallRange is the first /24 of the private ranges that overlaps none of taken.
func freeSmallRange(taken []netip.Prefix) netip.Prefix {
	for _, base := range [][2]int{{10<<8 | 90, 10<<8 | 255}, {172<<8 | 16, 172<<8 | 31}, {192<<8 | 168, 192<<8 | 168}} {
		for net := base[0]; net <= base[1]; net++ {
			for third := range 256 {
				p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(net >> 8), byte(net), byte(third)}), 24)
				if !slices.ContainsFunc(taken, p.Overlaps) {
					return p
				}
			}
		}
	}
	return netip.Prefix{}
}

// uniqueLocal is a range of RFC 4193 §3.2: fd, 40 random bits, subnet 0.
func uniqueLocal(random []byte) netip.Prefix {
	global := [16]byte{0: 0xfd}
	copy(global[1:6], random)
	return netip.PrefixFrom(netip.AddrFrom16(global), 64)
}

// Remove removes the record of a network. moss-net is to be told: Reload.
func Remove(d Dirs, name string) error {
	err := os.Remove(recordPath(d, name))
	if errors.Is(err, fs.ErrNotExist) {
		err = errNoNetwork{}
	}
	if err != nil {
		return fmt.Errorf("cannot remove network %q: %w", name, err)
	}
	return nil
}

// Change reads the record of a network, changes it and writes it, while nobody else does.
func Change(d Dirs, name string, change func(*Network) error) error {
	unlock, err := lockRecords(d)
	if err != nil {
		return fmt.Errorf("cannot change network %q: %w", name, err)
	}
	defer unlock()
	n, err := Load(d, name)
	if err != nil {
		return err
	}
	if err := change(n); err != nil {
		return fmt.Errorf("cannot change network %q: %w", name, err)
	}
	return Save(d, n)
}

// lockRecords keeps others from changing the records.
func lockRecords(d Dirs) (unlock func(), err error) {
	if err := os.MkdirAll(d.Networks, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(d.Networks, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return func() { f.Close() }, nil
}

// generate chooses the ranges of the default network.
func generate(d Dirs, v4 netip.Prefix) (*Network, error) {
	// Not crypto/rand: the monitor links this package, and would link all of that.
	random := make([]byte, 32)
	if _, err := unix.Getrandom(random, 0); err != nil {
		return nil, err
	}
	others, err := List(d)
	if err != nil {
		return nil, err
	}
	taken := hostRoutes("/proc/net/route")
	for _, other := range others {
		for _, s := range other.Subnets {
			taken = append(taken, s.Prefix)
		}
	}
	if !v4.IsValid() {
		v4 = freeRange(taken)
	}
	v6 := uniqueLocal(random)
	return &Network{
		ID:      hex.EncodeToString(random),
		Name:    DefaultName,
		Driver:  "bridge",
		Bridge:  "moss0",
		Subnets: []Subnet{{Prefix: v4, Gateway: v4.Addr().Next()}, {Prefix: v6, Gateway: v6.Addr().Next()}},
		DNS:     true,
		MTU:     DefaultMTU,
		Created: time.Now().UTC(),
	}, nil
}

// freeRange is the first private range that overlaps none of taken; the first
// of all when every one does: containers then hide that part of the host's
// world, and only they.
func freeRange(taken []netip.Prefix) netip.Prefix {
	free := func(p netip.Prefix) bool { return !slices.ContainsFunc(taken, p.Overlaps) }
	for second := byte(89); second < 128; second++ {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second}), 16); free(p) {
			return p
		}
	}
	for second := byte(31); second >= 16; second-- {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, second}), 16); free(p) {
			return p
		}
	}
	for third := byte(223); third >= 128; third-- {
		if p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, third}), 24); free(p) {
			return p
		}
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 89}), 16)
}

// hostRoutes reads the IPv4 routes of this network namespace except default
// ones: lines of "iface destination gateway flags … mask …", the numbers in
// hexadecimal in the order of the host's bytes; see proc_net(5).
func hostRoutes(path string) []netip.Prefix {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // then nothing is known to collide
	}
	var routes []netip.Prefix
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		destination, err1 := strconv.ParseUint(fields[1], 16, 32)
		mask, err2 := strconv.ParseUint(fields[7], 16, 32)
		if err1 != nil || err2 != nil || mask == 0 {
			continue // the head line, or a default route
		}
		bits := 0
		for ; mask != 0; mask &= mask - 1 {
			bits++
		}
		d := uint32(destination)
		addr := netip.AddrFrom4([4]byte{byte(d), byte(d >> 8), byte(d >> 16), byte(d >> 24)})
		routes = append(routes, netip.PrefixFrom(addr, bits))
	}
	return routes
}
