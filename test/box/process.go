package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var processPrograms = []program{
	{"hello", "say hello", hello},
	{"true", "exit 0", func([]string) int { return 0 }},
	{"false", "exit 1", func([]string) int { return 1 }},
	{"exit", "N: exit N", exit},
	{"abort", "N: kill itself with signal N", abort},
	{"echo", "TEXT…: to stdout", echo},
	{"err", "TEXT…: to stderr", echoErr},
	{"lines", "N [TEXT]: N numbered lines", lines},
	{"sleep", "SECONDS: or until SIGTERM, SIGINT (then exit 128+n)", sleep},
	{"trap", "[CODE]: say each signal; exit CODE on SIGTERM", trap},
	{"deaf", "ignore every signal, for ever", deaf},
	{"stdin", "repeat each line of stdin after `got `, then say eof", stdin},
	{"tty", "[watch]: is stdin a terminal, and its size", tty},
	{"fds", "open file descriptors, and where they lead", fds},
	{"orphan", "SECONDS: leave a grandchild that ends after SECONDS, and go on for ever", orphan},
	{"zombies", "count processes that nobody reaped", zombies},
	{"ps", "pid, parent and name of every process", ps},
}

// self is this program again, as PROGRAM ARG….
func self(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = "box"
	return cmd
}

func hello([]string) int {
	host, _ := os.Hostname()
	fmt.Printf("hello from a moss container\nhost name %s, process %d, user %d\n", host, os.Getpid(), os.Getuid())
	return 0
}

func exit(args []string) int {
	n, err := strconv.Atoi(arg(args, 0, "0"))
	if err != nil {
		return fail("exit: %v", err)
	}
	return n
}

func abort(args []string) int {
	n, err := strconv.Atoi(arg(args, 0, "9"))
	if err != nil {
		return fail("abort: %v", err)
	}
	// The first process of a PID namespace is immune to its own signals.
	child := self("sleep", "inf")
	if os.Getpid() == 1 {
		if err := child.Start(); err != nil {
			return fail("abort: %v", err)
		}
		child.Process.Signal(syscall.Signal(n))
		child.Wait()
		return 128 + n
	}
	syscall.Kill(os.Getpid(), syscall.Signal(n))
	select {}
}

func echo(args []string) int {
	fmt.Println(strings.Join(args, " "))
	return 0
}

func echoErr(args []string) int {
	fmt.Fprintln(os.Stderr, strings.Join(args, " "))
	return 0
}

func lines(args []string) int {
	n, err := strconv.Atoi(arg(args, 0, "1"))
	if err != nil {
		return fail("lines: %v", err)
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	for i := range n {
		fmt.Fprintf(out, "%s %d\n", arg(args, 1, "line"), i+1)
	}
	return 0
}

// duration reads seconds with or without a unit; "inf" is for ever.
func duration(s string) (time.Duration, error) {
	if s == "inf" || s == "infinity" {
		return 1 << 62, nil
	}
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		s += "s"
	}
	return time.ParseDuration(s)
}

func sleep(args []string) int {
	d, err := duration(arg(args, 0, "inf"))
	if err != nil {
		return fail("sleep: %v", err)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	select {
	case s := <-signals:
		return 128 + int(s.(syscall.Signal))
	case <-time.After(d):
		return 0
	}
}

var signalNames = map[syscall.Signal]string{
	syscall.SIGHUP: "HUP", syscall.SIGINT: "INT", syscall.SIGQUIT: "QUIT", syscall.SIGUSR1: "USR1",
	syscall.SIGUSR2: "USR2", syscall.SIGTERM: "TERM", syscall.SIGCONT: "CONT", syscall.SIGWINCH: "WINCH",
	syscall.Signal(37): "RTMIN+3",
}

func trap(args []string) int {
	code, err := strconv.Atoi(arg(args, 0, "0"))
	if err != nil {
		return fail("trap: %v", err)
	}
	signals := make(chan os.Signal, 16)
	for s := range signalNames {
		signal.Notify(signals, s)
	}
	fmt.Println("ready")
	for s := range signals {
		fmt.Println("signal", signalNames[s.(syscall.Signal)])
		if s == syscall.SIGTERM {
			return code
		}
	}
	return 0
}

func deaf([]string) int {
	signal.Ignore()
	fmt.Println("ready")
	for {
		time.Sleep(time.Hour)
	}
}

func stdin([]string) int {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		fmt.Println("got", in.Text())
	}
	fmt.Println("eof")
	return 0
}

func fds([]string) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fail("%v", err)
	}
	for _, e := range entries {
		to, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		// What this process opened for itself: the directory, Go's poller, and
		// the files in which Go's scheduler reads its CPU limit.
		if err != nil || strings.HasSuffix(to, "/fd") || strings.Contains(to, "anon_inode:[event") ||
			strings.HasPrefix(filepath.Base(to), "cpu.") {
			continue
		}
		fmt.Println(e.Name(), to)
	}
	return 0
}

func orphan(args []string) int {
	if len(args) > 1 && args[1] == "child" {
		if err := self("sleep", args[0]).Start(); err != nil {
			return fail("orphan: %v", err)
		}
		return 0
	}
	if err := self("orphan", arg(args, 0, "0.1"), "child").Run(); err != nil {
		return fail("orphan: %v", err)
	}
	fmt.Println("ready")
	return sleep(nil)
}

// processes returns the fields of every /proc/PID/stat: pid, name, state, parent.
func processes() [][4]string {
	var all [][4]string
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		s := string(b)
		open, end := strings.IndexByte(s, '('), strings.LastIndexByte(s, ')')
		rest := strings.Fields(s[end+1:])
		all = append(all, [4]string{strings.TrimSpace(s[:open]), s[open+1 : end], rest[0], rest[1]})
	}
	return all
}

func zombies([]string) int {
	n := 0
	for _, p := range processes() {
		if p[2] == "Z" {
			n++
		}
	}
	fmt.Println("zombies", n)
	return 0
}

func ps([]string) int {
	for _, p := range processes() {
		fmt.Println(p[0], p[3], p[1])
	}
	return 0
}
