package runtime

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// identity is who the program runs as.
type identity struct {
	uid, gid int
	groups   []int
	keep     bool // the caller's supplementary groups
	home     string
	master   int // of the console; -1
}

// identify finds the user. Names are those of the container: the caller has
// entered its root filesystem. Numbers need no entry; see passwd(5), group(5).
func identify(p *specs.Process, user string, groups []string, home bool) (identity, error) {
	return identifyIn(readerIn(unix.AT_FDCWD), p, user, groups, home)
}

// UserIn finds USER[:GROUP], as identify does for a program, in the root file
// system that is open as root.
func UserIn(root *os.File, user string) (uid, gid int, err error) {
	who, err := identifyIn(readerIn(int(root.Fd())), &specs.Process{}, user, nil, false)
	return who.uid, who.gid, err
}

// readerIn reads the tables of the root file system root: AT_FDCWD is the caller's.
func readerIn(root int) func(string) (table, error) {
	return func(name string) (table, error) { return readTable(root, name) }
}

// Identify finds a user, USER[:GROUP] by name or number, and its supplementary
// groups likewise, where passwd and group hold what the files of a container do.
func Identify(passwd, group []byte, user string, groups []string) (uid, gid int, more []int, err error) {
	if user == "" {
		user = "0"
	}
	read := func(name string) (table, error) {
		if name == "/etc/passwd" {
			return tableOf(passwd), nil
		}
		return tableOf(group), nil
	}
	who, err := identifyIn(read, &specs.Process{}, user, groups, true)
	return who.uid, who.gid, who.groups, err
}

func identifyIn(read func(string) (table, error), p *specs.Process, user string, groups []string, home bool) (identity, error) {
	who := identity{uid: int(p.User.UID), gid: int(p.User.GID), home: "/"}
	for _, g := range p.User.AdditionalGids {
		who.groups = append(who.groups, int(g))
	}
	if user == "" && len(groups) == 0 && !home {
		return who, nil
	}
	passwd, err := read("/etc/passwd")
	if err != nil {
		return who, err
	}
	name, group, hasGroup := strings.Cut(user, ":")
	entry := passwd.find(0, name)
	if n, ok := parseID(name); ok && entry == nil {
		entry = passwd.find(2, strconv.Itoa(n))
		if entry == nil && name != "" {
			who.uid, who.gid = n, 0
		}
	}
	if user == "" {
		entry = passwd.find(2, strconv.Itoa(who.uid))
	}
	switch {
	case len(entry) > 5:
		who.home = entry[5]
		if user != "" {
			if who.uid, err = strconv.Atoi(entry[2]); err == nil {
				who.gid, err = strconv.Atoi(entry[3])
			}
			if err != nil {
				return who, fmt.Errorf("cannot find user %q: its line in /etc/passwd is not a passwd entry", name)
			}
		}
	case name != "":
		if _, ok := parseID(name); !ok {
			return who, fmt.Errorf("cannot find user %q in the container's /etc/passwd", name)
		}
	}

	table, err := read("/etc/group")
	if err != nil {
		return who, err
	}
	if hasGroup && group != "" {
		if who.gid, err = table.group(group); err != nil {
			return who, err
		}
	}
	// The groups that list the user, unless a group was chosen; as login(1) does.
	if user != "" && !hasGroup && entry != nil {
		for _, line := range table {
			if len(line) < 4 {
				continue
			}
			for member := range strings.SplitSeq(line[3], ",") {
				if gid, ok := parseID(line[2]); ok && member == entry[0] {
					who.groups = append(who.groups, gid)
				}
			}
		}
	}
	for _, g := range groups {
		gid, err := table.group(g)
		if err != nil {
			return who, err
		}
		who.groups = append(who.groups, gid)
	}
	return who, nil
}

// table is a file of colon-separated lines.
type table [][]string

// readTable reads /etc/passwd or /etc/group of the container; without one there
// are no names.
func readTable(root int, name string) (table, error) {
	const flags = unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY
	var fd int
	var err error
	if root == unix.AT_FDCWD {
		fd, err = unix.Open(name, flags, 0)
	} else {
		fd, err = openIn(root, name, flags, 0)
	}
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %q of the container: %w", name, err)
	}
	defer unix.Close(fd)
	t, _, err := parseTable(fd, name)
	return t, err
}

// parseTable reads an open table, and tells its size.
func parseTable(fd int, name string) (table, int64, error) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size > 64<<20 {
		return nil, -1, fmt.Errorf("cannot read %q of the container: not a regular file of that kind", name)
	}
	data, err := readAll(fd)
	if err != nil {
		return nil, -1, fmt.Errorf("cannot read %q of the container: %w", name, err)
	}
	return tableOf(data), int64(len(data)), nil
}

func tableOf(data []byte) (t table) {
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' {
			t = append(t, strings.Split(line, ":"))
		}
	}
	return t
}

// find returns the first line with that value in a column, nil if there is none.
func (t table) find(column int, value string) []string {
	if value == "" {
		return nil
	}
	for _, line := range t {
		if len(line) >= 4 && line[column] == value {
			return line
		}
	}
	return nil
}

func (t table) group(name string) (int, error) {
	if line := t.find(0, name); line != nil {
		if gid, ok := parseID(line[2]); ok {
			return gid, nil
		}
	}
	if gid, ok := parseID(name); ok {
		return gid, nil
	}
	return 0, fmt.Errorf("cannot find group %q in the container's /etc/group", name)
}

func parseID(s string) (int, bool) {
	n, err := strconv.ParseUint(s, 10, 31)
	return int(n), err == nil
}
