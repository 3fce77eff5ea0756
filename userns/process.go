package userns

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process is a living process, held so that its PID cannot become another's.
type process struct {
	pid   int
	start uint64
	fd    *os.File // pidfd
}

// openProcess opens the process with that PID and start time (0: any); nil if
// there is none. The pidfd is opened first: if the start time read after that is
// the wanted one, so is the pidfd's process, whatever happens in between.
func openProcess(pid int, start uint64) *process {
	if pid <= 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil
	}
	p := &process{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd")}
	if p.start = startTime(pid); p.start == 0 || (start != 0 && start != p.start) {
		p.close()
		return nil
	}
	return p
}

func (p *process) close() {
	if p != nil {
		p.fd.Close()
	}
}

// kill ends the process and waits until it has.
func (p *process) kill() error {
	if err := unix.PidfdSendSignal(int(p.fd.Fd()), unix.SIGKILL, nil, 0); err != nil && err != unix.ESRCH {
		return fmt.Errorf("cannot kill process %d: %w", p.pid, err)
	}
	for {
		// Killed, it takes microseconds: five seconds are for a machine in trouble.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(p.fd.Fd()), Events: unix.POLLIN}}, 5000)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("cannot wait for process %d: %w", p.pid, err)
		case n == 0:
			return fmt.Errorf("cannot kill process %d: it does not end", p.pid)
		default:
			return nil
		}
	}
}

// startTime is field 22 of /proc/PID/stat, 0 if the process has ended. The
// second field, the name, may hold blanks and parentheses: proc(5).
func startTime(pid int) uint64 {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	text := string(data)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 20 || fields[0] == "Z" || fields[0] == "X" {
		return 0
	}
	start, _ := strconv.ParseUint(fields[19], 10, 64)
	return start
}

// namespaceOf tells one user or mount namespace from another.
type namespaceOf struct{ dev, ino uint64 }

func userNamespace(pid string) (namespaceOf, bool) {
	var st unix.Stat_t
	if unix.Stat("/proc/"+pid+"/ns/user", &st) != nil {
		return namespaceOf{}, false
	}
	return namespaceOf{st.Dev, st.Ino}, true
}
