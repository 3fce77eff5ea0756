package container

import (
	"bytes"
	"fmt"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"moss/record"
)

// StartTime is when a process was started, in clock ticks since boot: field 22
// of /proc/PID/stat, see proc_pid_stat(5). With it a PID names one process.
func StartTime(pid int) (uint64, error) {
	start, _, err := stat(pid)
	return start, err
}

// Alive says whether the process is there and is the one started at start. A
// zombie has ended: it is not alive.
func Alive(pid int, start uint64) bool {
	if pid <= 0 || start == 0 {
		return false
	}
	got, state, err := stat(pid)
	return err == nil && got == start && state != 'Z' && state != 'X'
}

// Hold opens a pidfd of the process started at start: ESRCH when it is gone.
func Hold(pid int, start uint64) (int, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return -1, err
	}
	if !Alive(pid, start) {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// stat reads a process's start time and state.
func stat(pid int) (start uint64, state byte, err error) {
	path := "/proc/" + strconv.Itoa(pid) + "/stat"
	data, err := record.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	return parseStat(path, data)
}

// parseStat takes a process's name into account, which may contain anything,
// spaces and parentheses too: the fields begin after the last ')'.
func parseStat(path string, data []byte) (uint64, byte, error) {
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0, 0, fmt.Errorf("cannot read %q: no process name in it", path)
	}
	fields := bytes.Fields(data[end+1:])
	const first, startField = 3, 22 // the first field after the name, and ours
	if len(fields) <= startField-first {
		return 0, 0, fmt.Errorf("cannot read %q: it has %d fields", path, len(fields)+first-1)
	}
	start, err := strconv.ParseUint(string(fields[startField-first]), 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot read %q: %w", path, err)
	}
	return start, fields[0][0], nil
}

// BootID tells one boot from another; "" when the kernel does not say.
func BootID() string { return bootID() }

var bootID = sync.OnceValue(readBootID)

func readBootID() string {
	data, err := record.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(data))
}
