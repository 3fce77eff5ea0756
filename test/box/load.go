package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var loadPrograms = []program{
	{"measure", "PROGRAM ARG…: run it, then print the time and the peak memory it took", measure},
	{"alloc", "MEBIBYTES: use memory, then say so", alloc},
	{"forks", "N: start N processes, say how many could be", forks},
	{"burn", "SECONDS: use CPUs for so long, print the CPU seconds got, and their share of the time", burn},
	{"disk", "read|write FILE MEBIBYTES: past the page cache; print the seconds it took", disk},
}

// measure is small itself: the peak of a child begins with that of its parent,
// see getrusage(2).
func measure(args []string) int {
	if len(args) == 0 {
		return fail("measure: what?")
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	start := time.Now()
	err := cmd.Run()
	took := time.Since(start)
	if cmd.ProcessState == nil {
		return fail("measure: %v", err)
	}
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	fmt.Printf("measured %.2f ms %d KiB\n", float64(took.Microseconds())/1000, usage.Maxrss)
	return cmd.ProcessState.ExitCode()
}

func alloc(args []string) int {
	n, err := strconv.Atoi(arg(args, 0, "1"))
	if err != nil {
		return fail("alloc: %v", err)
	}
	memory := make([]byte, n<<20)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	fmt.Println("allocated", len(memory)>>20)
	return 0
}

func forks(args []string) int {
	n, err := strconv.Atoi(arg(args, 0, "1"))
	if err != nil {
		return fail("forks: %v", err)
	}
	started := 0
	for range n {
		child := self("sleep", "inf")
		child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if child.Start() != nil {
			break
		}
		started++
		defer child.Process.Kill()
	}
	fmt.Println("forked", started)
	return 0
}

func burn(args []string) int {
	d, err := duration(arg(args, 0, "1"))
	if err != nil {
		return fail("burn: %v", err)
	}
	start := time.Now()
	end := start.Add(d)
	for range 2 {
		go func() {
			for time.Now().Before(end) {
			}
		}()
	}
	for time.Now().Before(end) {
	}
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return fail("burn: %v", err)
	}
	got := float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
	share := got / time.Since(start).Seconds()
	if kernel := quotaShare(); kernel > 0 {
		share = kernel
	}
	fmt.Printf("cpu %.2f share %.2f\n", got, share)
	return 0
}

// quotaShare is the share of its time that the cgroup got while it had a quota, by
// the kernel's own count of periods: an emulated machine's clocks do not agree.
func quotaShare() float64 {
	limit, _ := os.ReadFile("/sys/fs/cgroup/cpu.max")
	stat, _ := os.ReadFile("/sys/fs/cgroup/cpu.stat")
	var quota, period, used, periods float64
	fmt.Sscanf(string(limit), "%f %f", &quota, &period)
	for line := range strings.Lines(string(stat)) {
		fmt.Sscanf(line, "usage_usec %f", &used)
		fmt.Sscanf(line, "nr_periods %f", &periods)
	}
	if quota == 0 || periods == 0 {
		return 0
	}
	return used / (periods * period)
}

// disk moves data between memory and a file, with O_DIRECT.
func disk(args []string) int {
	n, err := strconv.Atoi(arg(args, 2, "1"))
	if err != nil {
		return fail("disk: %v", err)
	}
	flags := os.O_RDONLY
	if args[0] == "write" {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(args[1], flags|syscall.O_DIRECT, 0o666)
	if err != nil {
		return fail("disk: %v", err)
	}
	defer f.Close()
	// A mapping begins at a page, as O_DIRECT wants.
	buf, err := syscall.Mmap(-1, 0, 1<<20, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return fail("disk: %v", err)
	}
	start := time.Now()
	for range n {
		move := f.Read
		if args[0] == "write" {
			move = f.Write
		}
		if _, err := move(buf); err != nil {
			return fail("disk: %v", err)
		}
	}
	fmt.Printf("%s in %.1f s\n", args[0], time.Since(start).Seconds())
	return 0
}

// What a container must not do. Each returns an errno, 0 when it could be done.
var attempts = []struct {
	name string
	run  func() syscall.Errno
}{
	{"af_alg", func() syscall.Errno { return socket(38, syscall.SOCK_SEQPACKET) }},
	{"af_vsock", func() syscall.Errno { return socket(40, syscall.SOCK_STREAM) }},
	{"raw_socket", func() syscall.Errno { return socket(syscall.AF_INET, syscall.SOCK_RAW) }},
	{"userns", func() syscall.Errno { return clone(syscall.CLONE_NEWUSER) }},
	{"mountns", func() syscall.Errno { return call(syscall.SYS_UNSHARE, syscall.CLONE_NEWNS, 0, 0) }},
	{"mount", func() syscall.Errno { return errno(syscall.Mount("none", "/tmp", "tmpfs", 0, "")) }},
	{"umount", func() syscall.Errno { return errno(syscall.Unmount("/proc", 0)) }},
	{"keyctl", func() syscall.Errno { return call(sysKeyctl, 0, ^uintptr(3)+1, 1) }},
	{"bpf", func() syscall.Errno { return call(sysBPF, 0, 0, 0) }},
	{"ptrace", func() syscall.Errno { return errno(syscall.PtraceAttach(1)) }},
	{"reboot", func() syscall.Errno { return errno(syscall.Reboot(syscall.LINUX_REBOOT_CMD_CAD_OFF)) }},
	{"mknod", func() syscall.Errno { return errno(syscall.Mknod("/tmp/kmem", syscall.S_IFCHR|0o600, 1<<8|2)) }},
	{"settime", func() syscall.Errno { return errno(syscall.Settimeofday(&syscall.Timeval{Sec: 1})) }},
	{"sethostname", func() syscall.Errno { return errno(syscall.Sethostname([]byte("box"))) }},
	{"sysrq", func() syscall.Errno { return openWrite("/proc/sysrq-trigger") }},
	{"kcore", func() syscall.Errno { return openRead("/proc/kcore") }},
	{"sysctl", func() syscall.Errno { return openWrite("/proc/sys/kernel/core_pattern") }},
	{"sysfs", func() syscall.Errno { return openWrite("/sys/kernel/uevent_helper") }},
}

func socket(family, kind int) syscall.Errno {
	fd, err := syscall.Socket(family, kind, 0)
	if err == nil {
		syscall.Close(fd)
	}
	return errno(err)
}

// clone is a process of its own: a program of several threads cannot unshare.
func clone(flags uintptr) syscall.Errno {
	child := self("true")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags}
	var e syscall.Errno
	if err := child.Run(); err != nil && !errors.As(err, &e) {
		return syscall.EIO
	}
	return e
}

func call(number, a, b, c uintptr) syscall.Errno {
	_, _, e := syscall.RawSyscall(number, a, b, c)
	return e
}

func openWrite(path string) syscall.Errno { return open(path, syscall.O_WRONLY) }

// openRead also reads: a masked file opens, and is empty.
func openRead(path string) syscall.Errno {
	fd, err := syscall.Open(path, syscall.O_RDONLY, 0)
	if err != nil {
		return errno(err)
	}
	defer syscall.Close(fd)
	var b [1]byte
	if n, err := syscall.Read(fd, b[:]); err != nil || n == 0 {
		return max(errno(err), syscall.EPERM)
	}
	return 0
}

func open(path string, how int) syscall.Errno {
	fd, err := syscall.Open(path, how, 0)
	if err == nil {
		syscall.Close(fd)
	}
	return errno(err)
}

func errno(err error) syscall.Errno {
	if e, ok := err.(syscall.Errno); ok {
		return e
	}
	return 0
}

// try prints for each attempt its errno, or "allowed". It fails when one was allowed.
func try(args []string) int {
	code := 0
	for _, name := range args {
		known := false
		for _, a := range attempts {
			if name == "list" {
				fmt.Println(a.name)
				known = true
			}
			if a.name != name {
				continue
			}
			known = true
			if e := a.run(); e != 0 {
				fmt.Printf("%s: %s\n", name, e)
				continue
			}
			fmt.Printf("%s: allowed\n", name)
			code = 1
		}
		if !known {
			return fail("try: no %q", name)
		}
	}
	return code
}
