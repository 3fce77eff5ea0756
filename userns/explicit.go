package userns

import (
	"fmt"
	"strconv"
	"strings"
)

// explicit reads --uidmap and --gidmap. If only one is given it is both.
func explicit(uidmap, gidmap []string, self Outer) (*Mapping, error) {
	uidFlag, gidFlag := "--uidmap", "--gidmap"
	if len(uidmap) == 0 {
		uidmap, uidFlag = gidmap, gidFlag
	}
	if len(gidmap) == 0 {
		gidmap, gidFlag = uidmap, uidFlag
	}
	uids, err := parseMaps(uidFlag, uidmap, self.UIDs, self.UIDMap)
	if err != nil {
		return nil, err
	}
	gids, err := parseMaps(gidFlag, gidmap, self.GIDs, self.GIDMap)
	if err != nil {
		return nil, err
	}
	return &Mapping{uids, gids}, nil
}

// parseMaps reads maps of the form [+]CONTAINER:[@]ID[:SIZE]. ID is one of the
// kept namespace, with @ one of the host. With + in any of them, the IDs that are
// left over follow in order, as with keep-id.
func parseMaps(flag string, texts []string, count int, outer []IDMap) ([]IDMap, error) {
	var maps []IDMap
	extend := false
	for _, text := range texts {
		m, plus, err := parseMap(text, count, outer)
		if err != nil {
			return nil, fmt.Errorf("cannot use %s %q: %w", flag, text, err)
		}
		for _, o := range maps {
			if (Range{o.Container, o.Size}).overlaps(Range{m.Container, m.Size}) {
				return nil, fmt.Errorf("cannot use %s %q: another one maps the same IDs of the container", flag, text)
			}
			if (Range{o.Host, o.Size}).overlaps(Range{m.Host, m.Size}) {
				return nil, fmt.Errorf("cannot use %s %q: another one uses the same IDs outside", flag, text)
			}
		}
		maps = append(maps, m)
		extend = extend || plus
	}
	if extend {
		return fill(maps, count), nil
	}
	maps = normal(maps)
	if len(maps) > maxRanges+1 {
		return nil, fmt.Errorf("cannot use %s: the kernel takes at most %d lines", flag, maxRanges+1)
	}
	return maps, nil
}

func parseMap(text string, count int, outer []IDMap) (m IDMap, extend bool, err error) {
	fields := strings.Split(text, ":")
	if len(fields) != 2 && len(fields) != 3 {
		return m, false, fmt.Errorf("it is not CONTAINER:ID[:SIZE]")
	}
	fields[0], extend = strings.CutPrefix(fields[0], "+")
	if strings.HasPrefix(fields[0], "u") || strings.HasPrefix(fields[0], "g") {
		return m, false, fmt.Errorf("the flags u and g are not supported: give --uidmap and --gidmap")
	}
	id, host := strings.CutPrefix(fields[1], "@")
	fields[1] = id

	m.Size = 1
	for i, target := range []*int{&m.Container, &m.Host, &m.Size}[:len(fields)] {
		n, err := strconv.ParseUint(fields[i], 10, 32)
		if err != nil || n >= maxID {
			return m, false, fmt.Errorf("%q is not an ID or a size", fields[i])
		}
		*target = int(n)
	}
	if m.Size == 0 || m.Container+m.Size > maxID {
		return m, false, fmt.Errorf("%d IDs from %d on are no valid range", m.Size, m.Container)
	}
	if host {
		m.Host, err = fromHost(m.Host, m.Size, outer)
		return m, extend, err
	}
	if m.Host+m.Size > count {
		return m, false, fmt.Errorf("the user has %d IDs, 0 to %d", count, count-1)
	}
	return m, extend, nil
}

// fromHost translates a range of host IDs into the kept namespace.
func fromHost(id, size int, outer []IDMap) (int, error) {
	for _, o := range outer {
		if id >= o.Host && id+size <= o.Host+o.Size {
			return o.Container + id - o.Host, nil
		}
	}
	var have []string
	for _, o := range outer {
		have = append(have, Range{o.Host, o.Size}.String())
	}
	return 0, fmt.Errorf("host IDs %s are not the user's, who has %s", Range{id, size}, strings.Join(have, ", "))
}
