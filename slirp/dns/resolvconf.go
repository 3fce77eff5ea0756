package dns

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Conf is a resolv.conf(5) that is read again when it has changed.
type Conf struct {
	Path string

	mu      sync.Mutex
	stamp   stamp
	servers []netip.Addr
	search  []string
	options options
}

// options are those of resolv.conf(5) that concern the asking.
type options struct {
	timeout  time.Duration // for each server
	attempts int
	rotate   bool
}

// stamp tells one version of a file from another.
type stamp struct {
	time  time.Time
	size  int64
	inode uint64
}

// Asked are the name servers of now, and how they are to be asked.
func (c *Conf) Asked() ([]netip.Addr, options) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh()
	return c.servers, c.options
}

// Search are the search domains of now.
func (c *Conf) Search() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refresh()
	return c.search
}

// refresh reads the file if it is not the one read last. One that cannot be
// read means what resolv.conf(5) says about a missing one: ask this machine.
func (c *Conf) refresh() {
	now, err := stampOf(c.Path)
	if err == nil && now == c.stamp {
		return
	}
	text, err := os.ReadFile(c.Path)
	if err != nil {
		text = nil
	}
	c.stamp = now
	c.servers, c.search, c.options = parse(string(text))
}

func parse(text string) (servers []netip.Addr, search []string, o options) {
	o = options{attemptTimeout, rounds, false}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		switch fields[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(fields[1]); err == nil {
				servers = append(servers, a)
			}
		case "search", "domain": // the last one counts
			search = fields[1:]
		case "options":
			for _, f := range fields[1:] {
				o.read(f)
			}
		}
	}
	if len(servers) == 0 {
		servers = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	}
	return servers, search, o
}

// read reads one option. More than a few seconds, or attempts, would outlast the
// patience of the container's own resolver.
func (o *options) read(text string) {
	name, value, _ := strings.Cut(text, ":")
	n, err := strconv.Atoi(value)
	switch {
	case name == "rotate":
		o.rotate = true
	case err != nil || n < 1:
	case name == "timeout":
		o.timeout = min(time.Duration(n)*time.Second, attemptTimeout)
	case name == "attempts":
		o.attempts = min(n, 3)
	}
}

func stampOf(path string) (stamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}, fmt.Errorf("cannot look at %q: %w", path, err)
	}
	return stamp{info.ModTime(), info.Size(), inode(info)}, nil
}
