package userns

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Range is Size IDs from Start on.
type Range struct{ Start, Size int }

func (r Range) end() int              { return r.Start + r.Size }
func (r Range) overlaps(o Range) bool { return r.Start < o.end() && o.Start < r.end() }
func (r Range) String() string        { return fmt.Sprintf("%d-%d", r.Start, r.end()-1) }

// maxID is one more than the largest ID: 2^32-1 means "none", see setuid(2).
const maxID = math.MaxUint32

// maxRanges is what fits a map beside the user's own ID; the kernel takes 340
// lines, user_namespaces(7).
const maxRanges = 339

// user is who asks, as the host knows him.
type user struct {
	name     string // "" when no database knows him
	home     string
	uid, gid int
	local    bool // in /etc/passwd, so that usermod(8) can change him
}

// lookupUser finds the user in /etc/passwd, and elsewhere through getent(1).
func lookupUser(uid int) user {
	u := user{uid: uid, gid: os.Getgid()}
	parse := func(text string) bool {
		for line := range strings.Lines(text) {
			f := strings.Split(strings.TrimSpace(line), ":")
			if len(f) >= 6 && f[2] == strconv.Itoa(uid) {
				u.name, u.home = f[0], f[5]
				return true
			}
		}
		return false
	}
	passwd, _ := os.ReadFile("/etc/passwd")
	if u.local = parse(string(passwd)); !u.local {
		out, _ := exec.Command("getent", "passwd", strconv.Itoa(uid)).Output()
		parse(string(out))
	}
	return u
}

// subIDs reads the subordinate IDs of one kind, "uid" or "gid", of u. They come
// from the file; if that has none for u, from getsubids(1), which asks whatever
// /etc/nsswitch.conf names (LDAP, SSSD).
func subIDs(ctx context.Context, u user, kind string) ([]Range, error) {
	file := subFile(kind)
	text, err := readSubIDs(file)
	if err != nil {
		return nil, err
	}
	ranges, err := parseSubIDs(file, text, u.owns)
	if err != nil {
		return nil, err
	}
	if len(ranges) == 0 {
		ranges = getSubIDs(ctx, u, kind)
	}
	own := u.uid
	if kind == "gid" {
		own = u.gid
	}
	return checkRanges(file, own, ranges)
}

func subFile(kind string) string { return "/etc/sub" + kind }

// owns says whether a line with that first field is about u.
func (u user) owns(owner string) bool {
	return (u.name != "" && owner == u.name) || owner == strconv.Itoa(u.uid)
}

// readSubIDs reads subuid(5) or subgid(5). A missing file is empty.
func readSubIDs(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("cannot read subordinate IDs %q: %w", path, cause(err))
	}
	return string(data), nil
}

// parseSubIDs returns the ranges of the wanted owners. Other people's mistakes
// are not ours.
func parseSubIDs(path, text string, wanted func(owner string) bool) ([]Range, error) {
	var ranges []Range
	n := 0
	for line := range strings.Lines(text) {
		n++
		f := strings.Split(strings.TrimSpace(line), ":")
		if !wanted(f[0]) {
			continue
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("cannot read subordinate IDs %q: line %d is not name:start:count: %q", path, n, strings.TrimSpace(line))
		}
		r, ok := parseRange(f[1], f[2])
		if !ok {
			return nil, fmt.Errorf("cannot read subordinate IDs %q: line %d has no valid range: %q", path, n, strings.TrimSpace(line))
		}
		if r.Size > 0 {
			ranges = append(ranges, r)
		}
	}
	return ranges, nil
}

func parseRange(start, size string) (Range, bool) {
	a, err1 := strconv.ParseUint(start, 10, 32)
	n, err2 := strconv.ParseUint(size, 10, 32)
	return Range{int(a), int(n)}, err1 == nil && err2 == nil && a+n <= maxID
}

// getSubIDs asks getsubids(1). Its failure means that there are none: it is not
// installed everywhere, and it fails for users without ranges.
func getSubIDs(ctx context.Context, u user, kind string) []Range {
	if u.name == "" {
		return nil
	}
	args := []string{u.name}
	if kind == "gid" {
		args = []string{"-g", u.name}
	}
	path, err := findProgram("getsubids")
	if err != nil {
		return nil
	}
	out, err := exec.CommandContext(ctx, path, args...).Output()
	if err != nil {
		return nil
	}
	return parseGetSubIDs(string(out))
}

// parseGetSubIDs reads lines like "0: alice 100000 65536".
func parseGetSubIDs(text string) []Range {
	var ranges []Range
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		f := strings.Fields(lines.Text())
		if len(f) != 4 {
			continue
		}
		if r, ok := parseRange(f[2], f[3]); ok && r.Size > 0 {
			ranges = append(ranges, r)
		}
	}
	return ranges
}

// checkRanges refuses ranges that the kernel would refuse as a map. The same
// range twice, by name and by number, is common and means once.
func checkRanges(file string, own int, ranges []Range) ([]Range, error) {
	var out []Range
	for _, r := range ranges {
		if slices.Contains(out, r) {
			continue
		}
		if r.overlaps(Range{own, 1}) {
			return nil, &OverlapError{File: file, A: r, B: Range{own, 1}, Own: true}
		}
		for _, o := range out {
			if r.overlaps(o) {
				return nil, &OverlapError{File: file, A: o, B: r}
			}
		}
		out = append(out, r)
	}
	return out[:min(len(out), maxRanges)], nil
}

// freeRange finds 65536 IDs that no line of subuid or subgid and no user or
// group of this machine has.
func freeRange() Range {
	var taken []Range
	for _, kind := range []string{"uid", "gid"} {
		text, _ := readSubIDs(subFile(kind))
		for line := range strings.Lines(text) {
			if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == 3 {
				if r, ok := parseRange(f[1], f[2]); ok {
					taken = append(taken, r)
				}
			}
		}
	}
	for _, file := range []string{"/etc/passwd", "/etc/group"} {
		data, _ := os.ReadFile(file)
		for line := range strings.Lines(string(data)) {
			if f := strings.Split(line, ":"); len(f) > 2 {
				if id, err := strconv.Atoi(f[2]); err == nil {
					taken = append(taken, Range{id, 1})
				}
			}
		}
	}
	return firstFree(taken)
}

// firstFree starts where login.defs(5) starts by default (SUB_UID_MIN).
func firstFree(taken []Range) Range {
	slices.SortFunc(taken, func(a, b Range) int { return a.Start - b.Start })
	free := Range{100000, 65536}
	for _, t := range taken {
		if t.overlaps(free) {
			free.Start = t.end()
		}
	}
	return free
}

// idMaps are the maps of a kept namespace.
type idMaps struct{ uid, gid []IDMap }

// wantedMaps are what the host's files say now: 0 is the user, and his ranges
// follow one another from 1 on. A user without any range gets himself alone.
func wantedMaps(ctx context.Context, u user) (idMaps, error) {
	uids, err := subIDs(ctx, u, "uid")
	if err != nil {
		return idMaps{}, err
	}
	gids, err := subIDs(ctx, u, "gid")
	if err != nil {
		return idMaps{}, err
	}
	// As root every command would run with less than it had before.
	alone := len(uids) == 0 && len(gids) == 0 && u.uid != 0
	if !alone && (len(uids) == 0 || len(gids) == 0) {
		e := &NoSubIDError{User: u.name, UID: u.uid, local: u.local}
		if len(uids) == 0 {
			e.File = subFile("uid")
		}
		if len(gids) == 0 {
			e.File = strings.TrimPrefix(e.File+" and "+subFile("gid"), " and ")
		}
		return idMaps{}, e
	}
	return idMaps{rangesMap(u.uid, uids), rangesMap(u.gid, gids)}, nil
}

func rangesMap(own int, ranges []Range) []IDMap {
	maps := []IDMap{{0, own, 1}}
	next := 1
	for _, r := range ranges {
		maps = append(maps, IDMap{next, r.Start, r.Size})
		next += r.Size
	}
	return maps
}

func (m idMaps) single() bool { return total(m.uid) == 1 }

func (m idMaps) equal(o idMaps) bool {
	return slices.Equal(normal(m.uid), normal(o.uid)) && slices.Equal(normal(m.gid), normal(o.gid))
}

func mapsOf(pid int) (idMaps, error) {
	uid, err := ReadIDMap(fmt.Sprintf("/proc/%d/uid_map", pid))
	if err != nil {
		return idMaps{}, err
	}
	gid, err := ReadIDMap(fmt.Sprintf("/proc/%d/gid_map", pid))
	return idMaps{uid, gid}, err
}
