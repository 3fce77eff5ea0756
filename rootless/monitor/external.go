package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/userns/slack"
)

// Files of an OCI runtime in the run directory.
const (
	consoleSocket = "console.sock"
	runtimeLog    = "runtime.log"
	runtimePID    = "runtime.pid"
)

// external is a process made by another OCI runtime, driven by the command line
// that runc has made customary: create, start, delete. The container is a child
// of the runtime's, which exits; so it becomes ours, the subreaper's.
type external struct {
	m       *monitor
	created bool
	console int // the listening socket
	pid     int
}

func (x *external) create(stdio [3]*os.File, extra []*os.File) (int, error) {
	c := x.m.cfg
	args := []string{"create", "--bundle", filepath.Join(c.RunDir, "bundle"), "--pid-file", filepath.Join(c.RunDir, runtimePID)}
	if c.TTY {
		path := filepath.Join(c.RunDir, consoleSocket)
		fd, err := listenStream(path)
		if err != nil {
			return 0, fmt.Errorf("cannot make console socket %q: %w", path, err)
		}
		x.console = fd
		args = append(args, "--console-socket", path)
	}
	if len(extra) > 0 {
		args = append(args, "--preserve-fds", strconv.Itoa(len(extra)))
	}
	if err := x.run(append(args, c.ID), stdio, extra); err != nil {
		// What could not be created may have left something all the same.
		x.run([]string{"delete", "--force", c.ID}, [3]*os.File{}, nil)
		return 0, err
	}
	x.created = true
	text, err := os.ReadFile(filepath.Join(c.RunDir, runtimePID))
	if err != nil {
		return 0, fmt.Errorf("cannot learn PID of container from OCI runtime %q: %w", c.Runtime.Path, err)
	}
	if x.pid, err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
		return 0, fmt.Errorf("cannot learn PID of container from OCI runtime %q: %w", c.Runtime.Path, err)
	}
	return x.pid, nil
}

// ready takes the terminal, which the runtime has sent before it ended.
// proceed has nothing to do: only a native birth is early.
func (x *external) proceed() error { return nil }

func (x *external) ready() (int, error) {
	if x.console < 0 {
		return -1, nil
	}
	defer x.closeConsole()
	fd, _, err := unix.Accept4(x.console, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	if err != nil {
		return -1, errors.New("cannot attach terminal: the OCI runtime has sent none")
	}
	defer unix.Close(fd)
	var data [256]byte
	var oob [64]byte
	_, n, _, _, err := unix.Recvmsg(fd, data[:], oob[:], unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("cannot attach terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, errors.New("cannot attach terminal: the OCI runtime has sent none")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, errors.New("cannot attach terminal: the OCI runtime has sent none")
	}
	return fds[0], nil
}

func (x *external) closeConsole() {
	if x.console >= 0 {
		unix.Close(x.console)
		x.console = -1
		unix.Unlink(filepath.Join(x.m.runDir, consoleSocket))
	}
}

func (x *external) start() error {
	return x.run([]string{"start", x.m.cfg.ID}, [3]*os.File{}, nil)
}

func (x *external) discard() {
	if x.created {
		x.run([]string{"delete", "--force", x.m.cfg.ID}, [3]*os.File{}, nil)
		if x.pid > 0 {
			unix.Kill(x.pid, unix.SIGKILL)
			unix.Wait4(x.pid, nil, 0, nil)
		}
		x.created = false
	}
	x.closeConsole()
}

// run runs one verb of the runtime to its end. Without stdio, what it prints is
// part of the error.
func (x *external) run(args []string, stdio [3]*os.File, extra []*os.File) error {
	c := x.m.cfg
	verb := args[0]
	logPath := filepath.Join(c.RunDir, runtimeLog)
	os.Remove(logPath)
	argv := append([]string{c.Runtime.Path}, c.Runtime.Args...)
	argv = append(append(argv, "--log", logPath, "--log-format", "json"), args...)

	memory, err := unix.MemfdCreate("output", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("cannot run OCI runtime %q: %w", c.Runtime.Path, err)
	}
	output := os.NewFile(uintptr(memory), "output")
	defer output.Close()
	null, err := os.OpenFile("/dev/null", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("cannot run OCI runtime %q: %w", c.Runtime.Path, err)
	}
	defer null.Close()
	files := []uintptr{null.Fd(), output.Fd(), output.Fd()}
	for i, f := range stdio {
		if f != nil {
			files[i] = f.Fd()
		}
	}
	for _, f := range extra {
		if f == nil { // the runtime closes none of them
			f = null
		}
		files = append(files, f.Fd())
	}
	attr := &syscall.ProcAttr{Env: runtimeEnv(), Files: files, Sys: &syscall.SysProcAttr{}}
	if verb == "create" && c.Birth.Cgroup != "" { // the container is born where the runtime is
		fd, err := unix.Open(c.Birth.Cgroup, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("cannot open cgroup %q: %w", c.Birth.Cgroup, err)
		}
		defer unix.Close(fd)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fd
	}
	var pid int
	err = slack.Exactly(func() (err error) {
		pid, err = syscall.ForkExec(c.Runtime.Path, argv, attr)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot run OCI runtime %q: %w", c.Runtime.Path, err)
	}
	var status syscall.WaitStatus
	if _, err := retry(func() (int, error) { return syscall.Wait4(pid, &status, 0, nil) }); err != nil {
		return fmt.Errorf("cannot wait for OCI runtime %q: %w", c.Runtime.Path, err)
	}
	if status.ExitStatus() == 0 {
		return nil
	}
	return x.explain(verb, logPath, memory)
}

// runtimeEnv is what a runtime is run with: runc wants PATH, both look for
// XDG_RUNTIME_DIR when they are not root.
func runtimeEnv() []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, name := range []string{"XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "HOME"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// explain finds the runtime's own words: in its log, in what it printed, or, as
// create prints to the container's stderr, there.
func (x *external) explain(verb, logPath string, memory int) error {
	said := ""
	log, _ := os.ReadFile(logPath)
	for line := range bytes.Lines(log) {
		var entry struct{ Level, Msg string }
		if record.Decode(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			said = entry.Msg
		}
	}
	var data [4096]byte
	if n, _ := unix.Pread(memory, data[:], 0); said == "" && n > 0 {
		said = string(data[:n])
	}
	if o := x.m.out[1]; said == "" && o != nil {
		if n, _ := unix.Read(o.fd, data[:]); n > 0 {
			said = string(data[:n])
		}
	}
	said = strings.TrimSpace(said)
	if said == "" {
		said = "it did not say why"
	}
	name := filepath.Base(x.m.cfg.Runtime.Path)
	return startError{fmt.Errorf("cannot %s container with OCI runtime %q: %s", verb, name, said), runtimeCode(said)}
}

// runtimeCode is the exit code that podman gives to the words of a runtime: 127
// for a program that is not there, 126 for one that cannot be executed.
func runtimeCode(said string) int {
	said = strings.ToLower(said)
	switch {
	case strings.Contains(said, "permission denied"), strings.Contains(said, "is a directory"), strings.Contains(said, "exec format error"):
		return 126
	case strings.Contains(said, "executable file not found"), strings.Contains(said, "executable file `"), strings.Contains(said, "no such file or directory"):
		return 127
	}
	return 125
}

// listenStream makes the console socket, a stream as runc wants it.
func listenStream(path string) (int, error) {
	unix.Unlink(path)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		unix.Close(fd)
		return -1, err
	}
	if err := unix.Listen(fd, 1); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}
