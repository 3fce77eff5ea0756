package container

import (
	"fmt"
	"strconv"
	"strings"
)

// IDRange is one range of an ID map of a mount: Size IDs of the file system, from
// Inner on, are shown as those from Outer on. Of a Relative range Outer counts in
// the container's user namespace, else in moss's.
type IDRange struct {
	Inner, Outer, Size uint32
	Relative           bool
}

// ParseIDMapOption reads the mount option idmap[=uids=0-1-10#20-21-5;gids=…]. No
// ranges at all mean the map of the container's own user namespace.
func ParseIDMapOption(option string) (uids, gids []IDRange, err error) {
	_, value, ok := strings.Cut(option, "=")
	if !ok {
		return nil, nil, nil
	}
	for part := range strings.SplitSeq(value, ";") {
		key, list, _ := strings.Cut(part, "=")
		ranges, err := parseIDRanges(list)
		if err != nil {
			return nil, nil, fmt.Errorf("option %s: %w", option, err)
		}
		switch key {
		case "uids":
			uids = append(uids, ranges...)
		case "gids":
			gids = append(gids, ranges...)
		default:
			return nil, nil, fmt.Errorf("option %s: unknown key %q: want uids and gids", option, key)
		}
	}
	if len(uids) == 0 || len(gids) == 0 {
		return nil, nil, fmt.Errorf("option %s: want both uids and gids", option)
	}
	return uids, gids, nil
}

// parseIDRanges reads [@]INNER-OUTER-SIZE#….
func parseIDRanges(list string) (out []IDRange, err error) {
	list, relative := strings.CutPrefix(list, "@")
	for text := range strings.SplitSeq(list, "#") {
		r := IDRange{Relative: relative}
		numbers := strings.Split(text, "-")
		if len(numbers) != 3 {
			return nil, fmt.Errorf("range %q is not FILESYSTEM-HOST-SIZE", text)
		}
		for i, to := range []*uint32{&r.Inner, &r.Outer, &r.Size} {
			n, err := strconv.ParseUint(numbers[i], 10, 32)
			if err != nil || i == 2 && n == 0 {
				return nil, fmt.Errorf("range %q: %q is not a number of IDs", text, numbers[i])
			}
			*to = uint32(n)
		}
		out = append(out, r)
	}
	return out, nil
}
