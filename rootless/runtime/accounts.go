package runtime

import (
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// accounts adds the lines that the container's passwd and group lack: a program
// that runs as a number should find its name. It comes before the root filesystem
// is made read-only. What the user has mounted there is left alone, and so is a
// directory of the host's that is to be read-only.
func (s *stage) accounts() error {
	if len(s.doc.Passwd)+len(s.doc.Group) == 0 || s.spec.Root.Readonly && s.doc.Overlay == nil {
		return nil
	}
	for i := range s.spec.Mounts {
		if d := path.Clean(s.spec.Mounts[i].Destination); d == "/etc" || d == "/etc/passwd" || d == "/etc/group" {
			return nil
		}
	}
	if err := s.addLines("/etc/group", s.doc.Group); err != nil {
		return err
	}
	return s.addLines("/etc/passwd", s.doc.Passwd)
}

func (s *stage) addLines(name string, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	have, size, err := s.tableIn(name)
	if err != nil || size < 0 {
		return err
	}
	var add strings.Builder
	for _, e := range entries {
		line := e.Line
		if strings.Contains(line, "$GID") {
			if line, err = s.withGroup(line); err != nil {
				return &failure{126, err}
			}
		}
		f := strings.Split(line, ":")
		if have.find(0, f[0]) != nil || e.ByID && len(f) > 2 && have.find(2, f[2]) != nil {
			continue
		}
		have = append(have, f)
		add.WriteString(line + "\n")
	}
	if add.Len() == 0 {
		return nil
	}
	fd, err := openIn(s.root, name, unix.O_RDWR|unix.O_APPEND|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("cannot add to %q of the container: %w", name, err)
	}
	defer unix.Close(fd)
	text := add.String()
	var last [1]byte
	if n, err := unix.Pread(fd, last[:], size-1); err == nil && n == 1 && last[0] != '\n' {
		text = "\n" + text
	}
	if n, err := unix.Write(fd, []byte(text)); err != nil || n < len(text) {
		unix.Ftruncate(fd, size)
		return fmt.Errorf("cannot add to %q of the container: %w", name, errors.Join(err, unix.ENOSPC))
	}
	return nil
}

// tableIn reads a table of the root filesystem that is not entered yet; size is -1
// where there is none.
func (s *stage) tableIn(name string) (t table, size int64, err error) {
	fd, err := openIn(s.root, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil, -1, nil
	}
	if err != nil {
		return nil, -1, fmt.Errorf("cannot read %q of the container: %w", name, err)
	}
	defer unix.Close(fd)
	return parseTable(fd, name)
}

// withGroup puts the number of the program's group into a line.
func (s *stage) withGroup(line string) (string, error) {
	_, group, _ := strings.Cut(s.doc.User, ":")
	groups, _, err := s.tableIn("/etc/group")
	if err != nil {
		return "", err
	}
	gid, err := groups.group(group)
	return strings.ReplaceAll(line, "$GID", strconv.Itoa(gid)), err
}
