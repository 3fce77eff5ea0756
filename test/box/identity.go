package main

import (
	"fmt"
	"os"
	"os/signal"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

var identityPrograms = []program{
	{"env", "[NAME…]: the environment, or the values of NAME", env},
	{"id", "uid, gid and groups", id},
	{"hostname", "the host name", hostname},
	{"pwd", "the working directory", pwd},
	{"args", "its own arguments, one a line, quoted", arguments},
	{"umask", "the umask", umask},
	{"limit", "NAME: soft and hard limit, as /proc/self/limits names it", limit},
	{"status", "FIELD…: of /proc/self/status", status},
	{"caps", "capabilities by name", caps},
	{"userns", "the ID maps", userns},
}

func env(args []string) int {
	if len(args) == 0 {
		all := os.Environ()
		sort.Strings(all)
		fmt.Println(strings.Join(all, "\n"))
		return 0
	}
	for _, name := range args {
		value, ok := os.LookupEnv(name)
		if !ok {
			return fail("%s is not set", name)
		}
		fmt.Println(value)
	}
	return 0
}

func id([]string) int {
	groups, err := os.Getgroups()
	if err != nil {
		return fail("id: %v", err)
	}
	slices.Sort(groups)
	fmt.Printf("uid=%d gid=%d groups=%s\n", os.Getuid(), os.Getgid(), strings.Trim(fmt.Sprint(groups), "[]"))
	return 0
}

func hostname([]string) int {
	name, err := os.Hostname()
	if err != nil {
		return fail("%v", err)
	}
	fmt.Println(name)
	return 0
}

func pwd([]string) int {
	dir, err := os.Getwd()
	if err != nil {
		return fail("pwd: %v", err)
	}
	fmt.Println(dir)
	return 0
}

func arguments(args []string) int {
	for _, a := range args {
		fmt.Println(strconv.Quote(a))
	}
	return 0
}

func umask([]string) int {
	fmt.Printf("%04o\n", syscall.Umask(0))
	return 0
}

func limit(args []string) int {
	b, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		return fail("%v", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, strings.Join(args, " ")+" "); ok {
			f := strings.Fields(rest)
			fmt.Println(f[0], f[1])
			return 0
		}
	}
	return fail("limit: no %q", strings.Join(args, " "))
}

func statusField(name string) string {
	b, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(b)) {
		if key, value, _ := strings.Cut(line, ":"); key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func status(args []string) int {
	for _, name := range args {
		fmt.Printf("%s: %s\n", name, statusField(name))
	}
	return 0
}

// In the order of linux/capability.h.
var capNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
	LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
	SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
	AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
	BPF CHECKPOINT_RESTORE`)

func caps([]string) int {
	for _, set := range []struct{ field, name string }{
		{"CapEff", "effective"}, {"CapPrm", "permitted"}, {"CapInh", "inheritable"}, {"CapBnd", "bounding"}, {"CapAmb", "ambient"},
	} {
		bits, err := strconv.ParseUint(statusField(set.field), 16, 64)
		if err != nil {
			return fail("caps: %v", err)
		}
		var names []string
		for i, name := range capNames {
			if bits&(1<<i) != 0 {
				names = append(names, name)
			}
		}
		sort.Strings(names)
		fmt.Printf("%s: %s\n", set.name, strings.Join(names, " "))
	}
	return 0
}

func userns([]string) int {
	for _, kind := range []string{"uid", "gid"} {
		b, err := os.ReadFile("/proc/self/" + kind + "_map")
		if err != nil {
			return fail("%v", err)
		}
		for line := range strings.Lines(string(b)) {
			fmt.Println(kind, strings.Join(strings.Fields(line), " "))
		}
	}
	return 0
}

func windowSize() (rows, cols uint16, err error) {
	var size [4]uint16
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCGWINSZ, uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, 0, errno
	}
	return size[0], size[1], nil
}

func tty(args []string) int {
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGWINCH, syscall.SIGINT, syscall.SIGTERM)
	rows, cols, err := windowSize()
	if err != nil {
		fmt.Println("not a tty")
		return 1
	}
	fmt.Printf("tty %d %d\n", rows, cols)
	for arg(args, 0, "") == "watch" {
		if s := <-signals; s != syscall.SIGWINCH {
			fmt.Println("signal", signalNames[s.(syscall.Signal)])
			return 0
		}
		rows, cols, _ = windowSize()
		fmt.Printf("size %d %d\n", rows, cols)
	}
	return 0
}
