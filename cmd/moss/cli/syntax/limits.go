package syntax

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// IOWeight reads a weight as of cgroup v1.
func IOWeight(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n < 10 || n > 1000 {
		return 0, fmt.Errorf("weight %q is not a number from 10 to 1000", s)
	}
	return uint16(n), nil
}

// IODevice reads DEVICE:VALUE, and checks that the host has such a block device.
func IODevice(s string) (path, value string, err error) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || s[i+1:] == "" || !strings.HasPrefix(s, "/") {
		return "", "", fmt.Errorf("want DEVICE:VALUE")
	}
	path, value = s[:i], s[i+1:]
	info, err := os.Stat(path)
	if err != nil {
		return "", "", fmt.Errorf("device %q: %w", path, cause(err))
	}
	if info.Mode()&(os.ModeDevice|os.ModeCharDevice) != os.ModeDevice {
		return "", "", fmt.Errorf("%q is not a block device", path)
	}
	return path, value, nil
}

// IOBytes reads a number of bytes per second, more than none.
func IOBytes(s string) (uint64, error) {
	n, err := Size(s)
	if err == nil && n == 0 {
		err = fmt.Errorf("a rate of nothing")
	}
	return uint64(n), err
}

// IOCount reads a number of operations per second, more than none.
func IOCount(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a number of operations", s)
	}
	return n, nil
}

// CgroupConf reads FILE=VALUE, where FILE is one of a controller's control files;
// those of the cgroup core, such as cgroup.procs, are moss's own.
func CgroupConf(s string) (file, value string, err error) {
	file, value, err = KeyValue(s, false)
	if err != nil {
		return file, value, err
	}
	controller, rest, ok := strings.Cut(file, ".")
	switch {
	case !ok || controller == "" || rest == "" || strings.ContainsAny(file, "/ \n"):
		return file, value, fmt.Errorf("%q is not the name of a control file, such as memory.high", file)
	case controller == "cgroup":
		return file, value, fmt.Errorf("control file %q is not a controller's", file)
	}
	return file, value, nil
}
