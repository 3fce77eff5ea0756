package cli

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// PreserveFlags say which descriptors of moss's caller the program inherits.
type PreserveFlags struct {
	PreserveFD  []string `name:"preserve-fd" sep:"," help:"Pass on these file descriptors, under their numbers." placeholder:"FD"`
	PreserveFDs int      `name:"preserve-fds" help:"Pass on this many file descriptors after standard error." placeholder:"N"`
}

// maxDescriptor bounds the number of one that is passed on.
const maxDescriptor = 255

// preserve returns them from 3 on; nil is one that is not passed on.
func (f *PreserveFlags) preserve(v *flagValues) (files []*os.File) {
	v.check(f.PreserveFDs > 0 && len(f.PreserveFD) > 0, "--preserve-fd cannot be combined with --preserve-fds")
	v.check(f.PreserveFDs < 0, "invalid value \"%d\" for flag --preserve-fds: it is negative", f.PreserveFDs)
	v.check(f.PreserveFDs > maxDescriptor-2, "invalid value \"%d\" for flag --preserve-fds: it is more than %d", f.PreserveFDs, maxDescriptor-2)
	if v.err != nil {
		return nil
	}
	add := func(n int) error {
		// What moss has opened itself is closed on execve; what it was given is not.
		flags, err := unix.FcntlInt(uintptr(n), unix.F_GETFD, 0)
		if err != nil || flags&unix.FD_CLOEXEC != 0 {
			return fmt.Errorf("file descriptor %d is not open", n)
		}
		for len(files) <= n-3 {
			files = append(files, nil)
		}
		files[n-3] = os.NewFile(uintptr(n), "descriptor "+strconv.Itoa(n))
		return nil
	}
	for n := 3; n < 3+f.PreserveFDs; n++ {
		v.one("preserve-fds", strconv.Itoa(f.PreserveFDs), func(string) error { return add(n) })
	}
	v.each("preserve-fd", f.PreserveFD, func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 3 || n > maxDescriptor {
			return fmt.Errorf("want numbers from 3 to %d", maxDescriptor)
		}
		return add(n)
	})
	return files
}
