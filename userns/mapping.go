package userns

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Mapping is the ID map of a container's own user namespace, below the kept one:
// Host is an ID of the kept namespace, in which the user is 0.
type Mapping struct{ UID, GID []IDMap }

// Host translates a container's owner into the kept namespace's; false if it has
// no such ID. A nil Mapping is the kept namespace itself.
func (m *Mapping) Host(uid, gid int) (hostUID, hostGID int, ok bool) {
	if m == nil {
		return uid, gid, true
	}
	hostUID, okUID := lookup(m.UID, uid)
	hostGID, okGID := lookup(m.GID, gid)
	return hostUID, hostGID, okUID && okGID
}

// Container translates an owner in the kept namespace into the container's; false
// if the container has no such ID.
func (m *Mapping) Container(uid, gid int) (containerUID, containerGID int, ok bool) {
	if m == nil {
		return uid, gid, true
	}
	containerUID, okUID := lookup(inverse(m.UID), uid)
	containerGID, okGID := lookup(inverse(m.GID), gid)
	return containerUID, containerGID, okUID && okGID
}

// Outer describes the kept namespace for Parse.
type Outer struct {
	// UID and GID are the user's IDs on the host.
	UID, GID int
	// UIDs and GIDs are how many IDs the kept namespace has: 0 to UIDs-1.
	UIDs, GIDs int
	// UIDMap and GIDMap say which IDs of the host they are.
	UIDMap, GIDMap []IDMap

	// Taken are the ranges that --userns auto has given to other containers:
	// the lines of their Mappings, which the caller has recorded.
	Taken []IDMap
	// Want is how many IDs the image needs for --userns auto; 0 if unknown.
	Want int
}

// Self describes the kept namespace; call it inside. What it says is read once.
func Self() (Outer, error) { return self() }

var self = sync.OnceValues(readSelf)

func readSelf() (Outer, error) {
	uids, err := ReadIDMap("/proc/self/uid_map")
	if err != nil {
		return Outer{}, err
	}
	gids, err := ReadIDMap("/proc/self/gid_map")
	if err != nil {
		return Outer{}, err
	}
	o := Outer{UIDs: total(uids), GIDs: total(gids), UIDMap: uids, GIDMap: gids}
	var okUID, okGID bool
	o.UID, okUID = lookup(uids, os.Getuid())
	o.GID, okGID = lookup(gids, os.Getgid())
	if !okUID || !okGID {
		return Outer{}, fmt.Errorf("cannot read the user's IDs: %d:%d is not in the ID map", os.Getuid(), os.Getgid())
	}
	return o, nil
}

// AutoSize and AutoMin are how many IDs --userns auto gives a container about
// which nothing is known, and the fewest that it gives unless asked for fewer.
const (
	AutoSize = 65536
	AutoMin  = 1024
)

// Parse turns --userns, --uidmap and --gidmap into a Mapping; nil means that the
// container runs in the kept namespace. "container:ID" is the caller's to resolve.
func Parse(mode string, uidmap, gidmap []string, self Outer) (*Mapping, error) {
	name, options, hasOptions := strings.Cut(mode, ":")
	if len(uidmap)+len(gidmap) > 0 {
		if mode != "" && mode != "map" && mode != "private" {
			return nil, fmt.Errorf("cannot use --userns %q together with --uidmap or --gidmap", mode)
		}
		return explicit(uidmap, gidmap, self)
	}

	var m *Mapping
	var err error
	switch name {
	case "", "host":
		if !hasOptions {
			return nil, nil
		}
		err = fmt.Errorf("it takes no options")
	case "keep-id":
		m, err = keepID(options, hasOptions, self)
	case "nomap":
		if hasOptions {
			err = fmt.Errorf("it takes no options")
		} else {
			m, err = nomap(self)
		}
	case "auto":
		m, err = auto(options, hasOptions, self)
	case "map", "private":
		err = fmt.Errorf("it needs --uidmap or --gidmap")
	case "container":
		err = fmt.Errorf("the container is not resolved")
	default:
		err = fmt.Errorf("the modes are host, keep-id, nomap, auto and container:ID")
	}
	if err != nil {
		return nil, fmt.Errorf("cannot use --userns %q: %w", mode, err)
	}
	return m, nil
}

// numbers reads "uid=1,gid=2" with the allowed keys only.
func numbers(options string, given bool, keys ...string) (map[string]int, error) {
	values := map[string]int{}
	if !given {
		return values, nil
	}
	for option := range strings.SplitSeq(options, ",") {
		key, text, ok := strings.Cut(option, "=")
		if !slices.Contains(keys, key) {
			return nil, fmt.Errorf("option %q is unknown; there are %s", key, strings.Join(keys, ", "))
		}
		if _, twice := values[key]; twice {
			return nil, fmt.Errorf("option %q is given twice", key)
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if !ok || err != nil || n >= maxID || (key == "size" && n == 0) {
			return nil, fmt.Errorf("option %q is not a valid number", option)
		}
		values[key] = int(n)
	}
	return values, nil
}

// keepID gives the user the same ID inside as on the host, or the given one; the
// other IDs of the kept namespace follow in order.
func keepID(options string, given bool, self Outer) (*Mapping, error) {
	values, err := numbers(options, given, "uid", "gid", "size")
	if err != nil {
		return nil, err
	}
	side := func(key string, own, size int) ([]IDMap, error) {
		if n, ok := values["size"]; ok {
			if n > size {
				return nil, fmt.Errorf("size %d is more than the %d IDs that there are", n, size)
			}
			size = n
		}
		if id, ok := values[key]; ok {
			own = id
		}
		return fill([]IDMap{{own, 0, 1}}, size), nil
	}
	uids, err := side("uid", self.UID, self.UIDs)
	if err != nil {
		return nil, err
	}
	gids, err := side("gid", self.GID, self.GIDs)
	if err != nil {
		return nil, err
	}
	return &Mapping{uids, gids}, nil
}

// fill completes a map: the IDs of the kept namespace that it leaves out, of the
// first size, go in order to the container's IDs that it leaves out.
func fill(fixed []IDMap, size int) []IDMap {
	byHost := slices.Clone(fixed)
	slices.SortFunc(byHost, func(a, b IDMap) int { return a.Host - b.Host })
	byContainer := slices.Clone(fixed)
	slices.SortFunc(byContainer, func(a, b IDMap) int { return a.Container - b.Container })

	out := slices.Clone(fixed)
	host, container := 0, 0
	for host < size {
		if len(byHost) > 0 && byHost[0].Host == host {
			host += byHost[0].Size
			byHost = byHost[1:]
			continue
		}
		if len(byContainer) > 0 && byContainer[0].Container == container {
			container += byContainer[0].Size
			byContainer = byContainer[1:]
			continue
		}
		n := size - host
		if len(byHost) > 0 {
			n = min(n, byHost[0].Host-host)
		}
		if len(byContainer) > 0 {
			n = min(n, byContainer[0].Container-container)
		}
		out = append(out, IDMap{container, host, n})
		host += n
		container += n
	}
	return normal(out)
}

// nomap leaves the user's own ID out.
func nomap(self Outer) (*Mapping, error) {
	if self.UIDs < 2 || self.GIDs < 2 {
		return nil, errNoSubordinate
	}
	return &Mapping{[]IDMap{{0, 1, self.UIDs - 1}}, []IDMap{{0, 1, self.GIDs - 1}}}, nil
}

var errNoSubordinate = fmt.Errorf("it needs subordinate IDs, and the user has none")

// auto gives the container a range that no other one has.
func auto(options string, given bool, self Outer) (*Mapping, error) {
	values, err := numbers(options, given, "size")
	if err != nil {
		return nil, err
	}
	available := min(self.UIDs, self.GIDs)
	if available < 2 {
		return nil, errNoSubordinate
	}
	gaps := freeGaps(self.Taken, available)
	largest := 0
	for _, gap := range gaps {
		largest = max(largest, gap.Size)
	}

	size, exact := values["size"]
	switch {
	case exact:
	case self.Want > 0:
		size = max(self.Want, AutoMin)
	case largest >= AutoMin:
		size = min(AutoSize, largest)
	default:
		size = AutoMin
	}
	for _, gap := range gaps {
		if gap.Size >= size {
			m := []IDMap{{0, gap.Start, size}}
			return &Mapping{UID: m, GID: slices.Clone(m)}, nil
		}
	}
	return nil, fmt.Errorf("it needs %d IDs, and the largest free range of the %d subordinate IDs has %d", size, available-1, largest)
}

// freeGaps are the parts of 1..available-1 that are not taken, in order.
func freeGaps(taken []IDMap, available int) []Range {
	taken = slices.Clone(taken)
	slices.SortFunc(taken, func(a, b IDMap) int { return a.Host - b.Host })
	var gaps []Range
	next := 1
	for _, t := range taken {
		if start := min(t.Host, available); start > next {
			gaps = append(gaps, Range{next, start - next})
		}
		next = max(next, t.Host+t.Size)
	}
	if next < available {
		gaps = append(gaps, Range{next, available - next})
	}
	return gaps
}
