package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

var crashPrograms = []program{
	{"crash", "PROGRAM[=PIDFILE] VERB N COMMAND ARG…: run COMMAND, and kill -9 PROGRAM, or whom PIDFILE names, before PROGRAM's Nth step after `moss VERB` began; 3 if it has fewer", crash},
}

// steps are the system calls after which a kill may leave something that was not
// there before: a file, a process, a mount, a message.
var steps = append([]step{
	{syscall.SYS_OPENAT, "openat"}, {syscall.SYS_MKDIRAT, "mkdirat"}, {syscall.SYS_RENAMEAT, "renameat"}, {sysRenameat2, "renameat2"},
	{syscall.SYS_LINKAT, "linkat"}, {syscall.SYS_SYMLINKAT, "symlinkat"}, {syscall.SYS_UNLINKAT, "unlinkat"},
	{syscall.SYS_MKNODAT, "mknodat"}, {syscall.SYS_FTRUNCATE, "ftruncate"}, {syscall.SYS_WRITE, "write"}, {syscall.SYS_PWRITE64, "pwrite64"},
	{syscall.SYS_SENDMSG, "sendmsg"}, {syscall.SYS_SENDTO, "sendto"}, {syscall.SYS_BIND, "bind"}, {syscall.SYS_CONNECT, "connect"},
	{syscall.SYS_MOUNT, "mount"}, {syscall.SYS_UMOUNT2, "umount2"}, {syscall.SYS_PIVOT_ROOT, "pivot_root"}, {sysMoveMount, "move_mount"},
	{syscall.SYS_CLONE, "clone"}, {sysClone3, "clone3"}, {syscall.SYS_EXECVE, "execve"}, {sysExecveat, "execveat"},
	{syscall.SYS_UNSHARE, "unshare"}, {sysSetns, "setns"}, {syscall.SYS_KILL, "kill"}, {sysPidfdSendSignal, "pidfd_send_signal"},
	{syscall.SYS_FCHMODAT, "fchmodat"}, {syscall.SYS_FCHOWNAT, "fchownat"}, {syscall.SYS_EXIT_GROUP, "exit_group"},
}, oldSteps...)

type step struct {
	number uint64
	name   string
}

// syscallInfo is struct ptrace_syscall_info of ptrace(2), as it is at an entry.
type syscallInfo struct {
	op   uint8
	_    [3]uint8
	arch uint32
	_    [2]uint64 // instruction and stack pointers
	nr   uint64
	args [6]uint64
	_    [8]uint8
}

const (
	ptraceSeize          = 0x4206
	ptraceListen         = 0x4208
	ptraceGetSyscallInfo = 0x420e
	syscallEntry         = 1
	wnothread            = 0x20000000
	wall                 = 0x40000000
	eventExec            = 4
	eventStop            = 128
	stopAtSyscall        = syscall.SIGTRAP | 0x80
	// Long enough for a monitor to finish what it does after moss was answered.
	quietAfter = 150 * time.Millisecond
	// No command that is crashed takes so long: it hangs.
	hung = 60 * time.Second
)

// tracer follows a command and all that it starts. When it exits, the kernel lets
// go of those that still run, ptrace(2).
type tracer struct {
	victim, verb string
	other        string // a file with the PID that dies in the victim's place
	nth, seen    int
	armed        bool
	names        map[int]string // of processes
	process      map[int]int    // of threads
	killed       string         // before which step
	lastStep     time.Time
}

func crash(args []string) int {
	if len(args) < 4 {
		return fail("crash: PROGRAM VERB N COMMAND ARG…")
	}
	nth, err := strconv.Atoi(args[2])
	if err != nil || nth < 1 {
		return fail("crash: %q is not the number of a step", args[2])
	}
	path, err := exec.LookPath(args[3])
	if err != nil {
		return fail("crash: %v", err)
	}
	// All of ptrace is one thread's.
	runtime.LockOSThread()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return fail("crash: %v", err)
	}
	pid, err := syscall.ForkExec(path, args[3:], &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{null.Fd(), null.Fd(), null.Fd()}, Sys: &syscall.SysProcAttr{Ptrace: true}})
	if err != nil {
		return fail("crash: %v", err)
	}
	victim, other, _ := strings.Cut(args[0], "=")
	t := &tracer{victim: victim, other: other, verb: args[1], nth: nth, names: map[int]string{}, process: map[int]int{}}
	code, err := t.follow(pid)
	switch {
	case err != nil:
		return fail("crash: %v", err)
	case t.killed == "":
		fmt.Printf("%s has only %d steps; the command exited %d\n", args[0], t.seen, code)
		return 3
	}
	fmt.Printf("%s killed before step %d, %s\n", args[0], nth, t.killed)
	return 0
}

// follow returns the command's exit code when it and the victim have come to rest.
func (t *tracer) follow(main int) (int, error) {
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(main, &status, wall, nil); err != nil {
		return 0, err
	}
	if err := seize(main); err != nil {
		return 0, err
	}
	t.process[main] = main
	t.executed(main)
	syscall.Kill(main, syscall.SIGCONT)
	code, ended := 0, time.Time{}
	time.AfterFunc(hung, func() { os.Exit(fail("crash: the command hangs")) })
	for {
		options := wall | wnothread
		if !ended.IsZero() { // only what goes on beside is waited for, and not for ever
			options |= syscall.WNOHANG
		}
		tid, err := syscall.Wait4(-1, &status, options, nil)
		switch {
		case errors.Is(err, syscall.ECHILD):
			return code, nil
		case err != nil && !errors.Is(err, syscall.EINTR):
			return 0, err
		case tid <= 0:
			if !ended.IsZero() && time.Since(ended) > quietAfter && time.Since(t.lastStep) > quietAfter {
				return code, nil
			}
			time.Sleep(100 * time.Microsecond)
			continue
		}
		if status.Exited() || status.Signaled() {
			if tid == main {
				code, ended = status.ExitStatus(), time.Now()
			}
			delete(t.process, tid)
			continue
		}
		t.stopped(tid, status)
	}
}

// seize follows a process that has stopped before its first instruction in another way:
// what comes of one that is seized begins without a SIGSTOP, which those that are born
// when we exit would keep.
func seize(pid int) error {
	const traceAll = syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACEFORK | syscall.PTRACE_O_TRACEVFORK | syscall.PTRACE_O_TRACECLONE | syscall.PTRACE_O_TRACEEXEC
	if err := ptrace(syscall.PTRACE_DETACH, pid, uintptr(syscall.SIGSTOP)); err != nil {
		return err
	}
	return ptrace(ptraceSeize, pid, traceAll)
}

func ptrace(request, pid int, data uintptr) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, uintptr(request), uintptr(pid), 0, data, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("ptrace", errno)
	}
	return nil
}

// stopped looks at a thread that stopped, and lets it go on.
func (t *tracer) stopped(tid int, status syscall.WaitStatus) {
	if _, known := t.process[tid]; !known {
		t.process[tid] = processOf(tid)
		if _, named := t.names[t.process[tid]]; !named {
			t.names[t.process[tid]] = nameOf(tid)
		}
	}
	forward := 0
	switch signal := status.StopSignal(); {
	case signal == stopAtSyscall:
		t.entered(tid)
	case status>>16 == eventStop && signal != syscall.SIGTRAP: // it is to stay stopped
		ptrace(ptraceListen, tid, 0)
		return
	case signal == syscall.SIGTRAP && status>>16 != 0:
		if status>>16 == eventExec {
			t.process[tid] = processOf(tid)
			t.executed(tid)
		}
	default:
		forward = int(signal)
	}
	syscall.PtraceSyscall(tid, forward)
}

// executed notes which program a process has become.
func (t *tracer) executed(tid int) {
	pid := t.process[tid]
	t.names[pid] = nameOf(pid)
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	words := strings.Split(string(line), "\x00")
	if t.names[pid] == "moss" && slices.Contains(words[1:], t.verb) {
		t.armed = true
	}
}

// entered counts the victim's steps, and kills it before the Nth.
func (t *tracer) entered(tid int) {
	if !t.armed || t.killed != "" || t.names[t.process[tid]] != t.victim {
		return
	}
	t.lastStep = time.Now() // it is not at rest, also where it only reads
	var info syscallInfo
	if _, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, ptraceGetSyscallInfo, uintptr(tid), unsafe.Sizeof(info), uintptr(unsafe.Pointer(&info)), 0, 0); errno != 0 || info.op != syscallEntry {
		return
	}
	i := slices.IndexFunc(steps, func(s step) bool { return s.number == info.nr })
	if i < 0 {
		return
	}
	switch {
	case info.nr == syscall.SYS_OPENAT && info.args[2]&syscall.O_CREAT == 0:
		return
	case info.nr == syscall.SYS_WRITE && info.args[2] == 8: // Go's own eventfd
		return
	}
	if t.seen++; t.seen == t.nth {
		t.killed = steps[i].name
		pid := t.process[tid]
		if t.other != "" {
			pid = pidIn(t.other)
		}
		if pid > 1 {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}

// nameOf is readable for all processes, also those whose memory is not.
func nameOf(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return filepath.Base(strings.TrimSpace(string(text)))
}

// processOf finds the process of a thread.
func processOf(tid int) int {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	_, after, _ := strings.Cut(string(text), "\nTgid:")
	line, _, _ := strings.Cut(after, "\n")
	if pid, err := strconv.Atoi(strings.TrimSpace(line)); err == nil {
		return pid
	}
	return tid
}

// pidIn reads a file with a PID, or with a version before it, as moss's pause has.
func pidIn(path string) int {
	text, _ := os.ReadFile(path)
	fields := strings.Fields(string(text))
	if len(fields) == 0 {
		return 0
	}
	pid, _ := strconv.Atoi(fields[min(1, len(fields)-1)])
	return pid
}
