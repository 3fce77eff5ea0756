package userns

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"moss/record"
)

// IDMap is one line of an ID map: Size IDs from Container on are those from Host
// on in the namespace outside.
type IDMap struct{ Container, Host, Size int }

// ReadIDMap reads a file like /proc/PID/uid_map, sorted by Container and with
// adjacent lines made one.
func ReadIDMap(path string) ([]IDMap, error) {
	data, err := record.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read ID map %q: %w", path, cause(err))
	}
	var maps []IDMap
	for line := range strings.Lines(string(data)) {
		var n [3]int
		fields := strings.Fields(line)
		for i := range n {
			if len(fields) != len(n) {
				return nil, fmt.Errorf("cannot read ID map %q: line %q", path, line)
			}
			if n[i], err = strconv.Atoi(fields[i]); err != nil {
				return nil, fmt.Errorf("cannot read ID map %q: line %q", path, line)
			}
		}
		maps = append(maps, IDMap{n[0], n[1], n[2]})
	}
	return normal(maps), nil
}

// normal is the one form of maps that mean the same.
func normal(maps []IDMap) []IDMap {
	maps = slices.Clone(maps)
	slices.SortFunc(maps, func(a, b IDMap) int { return a.Container - b.Container })
	var out []IDMap
	for _, m := range maps {
		if n := len(out); n > 0 && out[n-1].Container+out[n-1].Size == m.Container && out[n-1].Host+out[n-1].Size == m.Host {
			out[n-1].Size += m.Size
		} else if m.Size > 0 {
			out = append(out, m)
		}
	}
	return out
}

// lookup translates an ID of the inside to the outside.
func lookup(maps []IDMap, id int) (int, bool) {
	for _, m := range maps {
		if id >= m.Container && id < m.Container+m.Size {
			return m.Host + id - m.Container, true
		}
	}
	return 0, false
}

// inverse translates from the outside to the inside.
func inverse(maps []IDMap) []IDMap {
	out := make([]IDMap, len(maps))
	for i, m := range maps {
		out[i] = IDMap{Container: m.Host, Host: m.Container, Size: m.Size}
	}
	return out
}

func total(maps []IDMap) int {
	n := 0
	for _, m := range maps {
		n += m.Size
	}
	return n
}

// hostUID is the user's ID outside of the kept namespace, in which he is 0.
func hostUID() int {
	uid := os.Geteuid()
	if uid != 0 {
		return uid
	}
	if maps, err := ReadIDMap("/proc/self/uid_map"); err == nil {
		if host, ok := lookup(maps, 0); ok {
			return host
		}
	}
	return uid
}
