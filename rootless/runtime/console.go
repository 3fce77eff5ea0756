package runtime

import (
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// console allocates a pseudoterminal in the container's devpts and makes its
// slave the standard streams and /dev/console; the master goes to the caller.
func (s *stage) console(p *specs.Process) error {
	// pts/ptmx, not ptmx: the latter may be a link of the image's.
	master, err := openIn(s.root, "/dev/pts/ptmx", unix.O_RDWR|unix.O_NOCTTY, unix.RESOLVE_NO_SYMLINKS)
	if err != nil {
		return fmt.Errorf("cannot allocate terminal: %w", err)
	}
	if err := mustBe(master, unix.DEVPTS_SUPER_MAGIC); err != nil {
		return fmt.Errorf("cannot allocate terminal: %w", err)
	}
	if err := unix.IoctlSetPointerInt(master, unix.TIOCSPTLCK, 0); err != nil {
		return fmt.Errorf("cannot unlock terminal: %w", err)
	}
	// By the master itself, not by a path that could be another's; see ioctl_tty(2).
	slave, err := ptyPeer(master)
	if err != nil {
		return fmt.Errorf("cannot open terminal: %w", err)
	}
	if size := p.ConsoleSize; size != nil && size.Height > 0 && size.Width > 0 {
		ws := unix.Winsize{Row: uint16(size.Height), Col: uint16(size.Width)}
		if err := unix.IoctlSetWinsize(master, unix.TIOCSWINSZ, &ws); err != nil {
			return fmt.Errorf("cannot set size of terminal: %w", err)
		}
	}
	s.who.master, s.tty = master, slave
	return nil
}

// ptyPeer opens the slave of a master.
func ptyPeer(master int) (int, error) {
	fd, _, errno := unix.RawSyscall(unix.SYS_IOCTL, uintptr(master), unix.TIOCGPTPEER,
		unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// devConsole binds the terminal on /dev/console.
func (s *stage) devConsole() error {
	tree, err := unix.OpenTree(s.tty, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot mount %q: %w", "/dev/console", err)
	}
	defer unix.Close(tree)
	fd, err := openIn(s.root, "/dev/console", unix.O_PATH|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ENOENT) {
		fd, err = s.makeTarget("/dev/console", false)
	}
	if err != nil {
		return fmt.Errorf("cannot mount %q: %w", "/dev/console", err)
	}
	defer unix.Close(fd)
	if err := attach(tree, fd); err != nil {
		return fmt.Errorf("cannot mount %q: %w", "/dev/console", err)
	}
	return nil
}

// useTerminal makes the slave the controlling terminal and the standard streams.
func (s *stage) useTerminal() error {
	if s.tty < 0 {
		return nil
	}
	if err := unix.IoctlSetInt(s.tty, unix.TIOCSCTTY, 0); err != nil {
		return fmt.Errorf("cannot control terminal: %w", err)
	}
	for fd := range 3 {
		if err := unix.Dup3(s.tty, fd, 0); err != nil {
			return fmt.Errorf("cannot use terminal: %w", err)
		}
	}
	return unix.Close(s.tty)
}

// giveStreams makes pipes and terminals the program's own, so that it can open
// /dev/stdout again under another user ID. Files and devices of the host's stay
// as they are.
func (s *stage) giveStreams() error {
	for fd := range 3 {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			continue // closed
		}
		kind := st.Mode & unix.S_IFMT
		terminal := kind == unix.S_IFCHR && unix.Major(st.Rdev) >= 136 && unix.Major(st.Rdev) <= 143
		if kind != unix.S_IFIFO && kind != unix.S_IFSOCK && !(terminal && s.who.master >= 0) || int(st.Uid) == s.who.uid {
			continue
		}
		switch err := unix.Fchown(fd, s.who.uid, -1); err {
		case nil, unix.EPERM, unix.EINVAL, unix.EROFS, unix.ENOSYS: // not ours to give
		default:
			return fmt.Errorf("cannot give stream %d to user %d: %w", fd, s.who.uid, err)
		}
	}
	return nil
}
