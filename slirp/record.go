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

	"moss/record"

	"golang.org/x/sys/unix"
)

// DefaultName is the network of a container that asks for none.
const DefaultName = "moss"

// DefaultMTU is that of every link of moss whose network does not say
// otherwise: the largest that user-mode stacks take.
const DefaultMTU = 65520

// Load reads the record of a network. The error is fs.ErrNotExist for one that
// does not exist.
func Load(d Dirs, name string) (*Network, error) {
	text, err := os.ReadFile(recordPath(d, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot load network %q: %w", name, errNoNetwork{})
	}
	if err != nil {
		return nil, fmt.Errorf("cannot load network %q: %w", name, err)
	}
	var n Network
	if err := record.Decode(text, &n); err != nil {
		return nil, fmt.Errorf("cannot load network %q: %w", name, err)
	}
	return &n, nil
}

// errNoNetwork is fs.ErrNotExist in words that the user knows.
type errNoNetwork struct{}

func (errNoNetwork) Error() string        { return "no such network" }
func (errNoNetwork) Is(target error) bool { return target == fs.ErrNotExist }

// Save writes the record of a network, new or changed.
func Save(d Dirs, n *Network) error {
	if err := save(d, n, os.Rename); err != nil {
		return fmt.Errorf("cannot save network %q: %w", n.Name, err)
	}
	return nil
}

// List reads the records of all networks, by name.
func List(d Dirs) ([]Network, error) {
	entries, err := os.ReadDir(d.Networks)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("cannot list networks: %w", err)
	}
	var all []Network
	for _, entry := range entries {
		name, isRecord := strings.CutSuffix(entry.Name(), ".json")
		if !isRecord || strings.HasPrefix(name, ".") {
			continue
		}
		n, err := Load(d, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, err
		}
		all = append(all, *n)
	}
	return all, nil
}

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

func recordPath(d Dirs, name string) string { return filepath.Join(d.Networks, name+".json") }

// save writes n beside its place and lets put move it there.
func save(d Dirs, n *Network, put func(temp, path string) error) error {
	if n.Name == "" || strings.HasPrefix(n.Name, ".") || strings.Contains(n.Name, "/") {
		return fs.ErrInvalid
	}
	text, err := record.Encode(n)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.Networks, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(d.Networks, ".new-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(append(text, '\n'))
	if err = errors.Join(err, temp.Close()); err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return put(temp.Name(), recordPath(d, n.Name))
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
	global := [16]byte{0: 0xfd} // 40 random bits follow, RFC 4193 §3.2; subnet 0
	copy(global[1:6], random)
	v6 := netip.PrefixFrom(netip.AddrFrom16(global), 64)
	return &Network{
		ID:      hex.EncodeToString(random),
		Name:    DefaultName,
		Driver:  "bridge",
		Bridge:  "moss0",
		Subnets: []Subnet{{v4, v4.Addr().Next()}, {v6, v6.Addr().Next()}},
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
