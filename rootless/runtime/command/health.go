package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/runtime"
	"moss/rootless/runtime/birth"
)

// HealthCheck is `moss-runtime health-check PID DOCUMENT TIMEOUT OUTPUT`: one health check of
// the container whose first process is PID. DOCUMENT is a runtime.ExecDocument
// without its PID, TIMEOUT is in nanoseconds, OUTPUT the number of bytes of the
// output to keep, 0 all of them. What it prints is the exit code, a newline, and
// the output; -1 stands for a check that was given up.
//
// The monitor starts it, so that it itself never waits for a container that may be
// frozen, and stays small. When the monitor closes our standard input, or ends,
// the check is killed.
func HealthCheck(args []string) int {
	if len(args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: moss-runtime health-check PID DOCUMENT TIMEOUT OUTPUT (the monitor calls it)")
		return 125
	}
	pid, err1 := strconv.Atoi(args[0])
	timeout, err2 := strconv.ParseInt(args[2], 10, 64)
	keep, err3 := strconv.Atoi(args[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		fmt.Fprintln(os.Stderr, "moss-runtime:", err)
		return 125
	}
	code, output, err := checkHealth(pid, args[1], time.Duration(timeout), keep)
	if err != nil {
		output = append(output, err.Error()...)
	}
	os.Stdout.Write(append([]byte(strconv.Itoa(code)+"\n"), output...))
	return 0
}

func checkHealth(pid int, path string, timeout time.Duration, keep int) (code int, output []byte, err error) {
	data, err := record.ReadFile(path)
	if err != nil {
		return -1, nil, err
	}
	var doc runtime.ExecDocument
	if err := record.Decode(data, &doc); err != nil {
		return -1, nil, fmt.Errorf("cannot read document %q: %w", path, err)
	}
	doc.PID = pid
	if data, err = record.Encode(&doc); err != nil {
		return -1, nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return -1, nil, err
	}

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	go func() { // ends with the program
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	r, w, err := os.Pipe()
	if err != nil {
		return -1, nil, err
	}
	defer r.Close()

	type result struct {
		code int
		err  error
	}
	begun, ended := make(chan *birth.Process, 1), make(chan result, 1)
	go func() { // ends with the process, or with the program
		p, err := birth.Exec(birth.ExecRequest{Runtime: self, Data: data}, [3]*os.File{nil, w, w}, nil)
		w.Close()
		if err != nil {
			ended <- result{126, err}
			return
		}
		begun <- p
		code, err := runCheck(p)
		ended <- result{code, err}
	}()
	read := make(chan []byte, 1)
	go func() { read <- readUpTo(r, keep) }() // ends when everybody has closed the pipe

	var done result
	select {
	case done = <-ended:
	case <-ctx.Done():
		done = result{-1, fmt.Errorf("the health check was given up after %v", timeout)}
		select {
		case p := <-begun:
			p.Kill()
		default: // it cannot even join: when it can, it finds nobody who lets it go on
		}
	}
	select {
	case output = <-read:
	case <-time.After(time.Second): // something it has left in another session holds the pipe open
		r.SetReadDeadline(time.Unix(1, 0))
		output = <-read
	}
	return done.code, output, done.err
}

// runCheck lets the process execute its program, and waits for its end.
func runCheck(p *birth.Process) (int, error) {
	_, err := p.Ready()
	if err == nil {
		err = p.Go()
	}
	var said *birth.InitError
	if errors.As(err, &said) {
		p.Wait()
		return said.Code, said
	}
	if err != nil {
		p.Kill()
		p.Wait()
		return 126, err
	}
	// Nothing of a check goes on after it. It leads a process group, whose number is
	// nobody else's until it is reaped.
	for unix.Waitid(unix.P_PID, p.PID, nil, unix.WEXITED|unix.WNOWAIT, nil) == unix.EINTR {
	}
	unix.Kill(-p.PID, unix.SIGKILL)
	status, err := p.Wait()
	if err != nil {
		return -1, err
	}
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// readUpTo reads everything and returns the first bytes; 0 is all.
func readUpTo(r io.Reader, keep int) []byte {
	if keep <= 0 {
		data, _ := io.ReadAll(r)
		return data
	}
	data, _ := io.ReadAll(io.LimitReader(r, int64(keep)))
	io.Copy(io.Discard, r)
	return data
}
