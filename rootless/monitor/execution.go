package monitor

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/rootless/event"
	"moss/rootless/runtime/birth"
)

// execution is a program that was executed in the container and that nobody stays
// with: the monitor reaps it, reads its terminal, and takes back its record.
//
// "exec" (Session, Runtime, Document) has the monitor clone the process: with the
// request come a document in memory and the child's end of a sync socket, over which
// the caller leads the conversation, and what the program inherits. "keep" (Session, PID) hands over the master of a
// terminal, and the process that is behind it if that is not a child of ours.
type execution struct {
	m       *monitor
	session string
	pid     int
	pidfd   int
	child   bool
	master  int // of its terminal; -1: none
}

// ExecDir is the directory below RunDir with a record of each session.
const ExecDir = "exec"

// execute does "exec".
func (m *monitor) execute(r ControlRequest, files []*os.File) (pid int, err error) {
	if len(files) != 2+len(r.Preserve) {
		return 0, errors.New("cannot execute: a document and a socket are wanted")
	}
	if m.ended || m.pid == 0 {
		return 0, errors.New("cannot execute: the container has ended")
	}
	var extra []*os.File
	for i, n := range r.Preserve {
		for len(extra) < n-3 {
			extra = append(extra, nil)
		}
		extra = append(extra, files[2+i])
	}
	p, err := birth.Exec(birth.ExecRequest{
		Runtime: r.Runtime, File: files[0], Sync: files[1], PreserveFDs: len(extra),
	}, [3]*os.File{}, extra)
	if err != nil {
		return 0, err
	}
	defer p.Close()
	pidfd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		p.Kill()
		p.Wait()
		return 0, fmt.Errorf("cannot open process %d: %w", p.PID, err)
	}
	m.keepExecution(&execution{m: m, session: r.Session, pid: p.PID, pidfd: pidfd, child: true, master: -1})
	return p.PID, nil
}

// keep does "keep".
func (m *monitor) keep(r ControlRequest, files []*os.File) error {
	if len(files) != 1 {
		return errors.New("cannot keep terminal: there is none")
	}
	master, err := unix.FcntlInt(files[0].Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("cannot keep terminal: %w", err)
	}
	unix.SetNonblock(master, true)
	for _, e := range m.executed {
		if e.pid == r.PID && e.master < 0 {
			e.master = master
			m.loop.watch(master, unix.EPOLLIN, (*terminal)(e))
			return nil
		}
	}
	pidfd, err := unix.PidfdOpen(r.PID, 0)
	if err != nil {
		unix.Close(master)
		return fmt.Errorf("cannot open process %d: %w", r.PID, err)
	}
	m.keepExecution(&execution{m: m, session: r.Session, pid: r.PID, pidfd: pidfd, master: master})
	return nil
}

func (m *monitor) keepExecution(e *execution) {
	m.executed = append(m.executed, e)
	m.loop.watch(e.pidfd, unix.EPOLLIN, e)
	if e.master >= 0 {
		m.loop.watch(e.master, unix.EPOLLIN, (*terminal)(e))
	}
}

// ready: the program has ended.
func (e *execution) ready(uint32) {
	var status unix.WaitStatus
	if e.child {
		if pid, err := retry(func() (int, error) { return unix.Wait4(e.pid, &status, unix.WNOHANG, nil) }); err == nil && pid == 0 {
			return
		}
	}
	e.end(status)
}

// end forgets a program that has ended.
func (e *execution) end(status unix.WaitStatus) {
	m := e.m
	for i, other := range m.executed {
		if other == e {
			m.executed = append(m.executed[:i], m.executed[i+1:]...)
			break
		}
	}
	m.loop.close(e.pidfd)
	(*terminal)(e).close()
	if e.session == "" {
		return
	}
	unix.Unlink(filepath.Join(m.runDir, ExecDir, e.session))
	if !e.child {
		return // nobody knows its exit code
	}
	code := exitCode(status)
	m.note(func(ev *event.Event) {
		ev.ExitCode, ev.Attributes = &code, maps.Clone(ev.Attributes)
		if ev.Attributes == nil {
			ev.Attributes = map[string]string{}
		}
		ev.Attributes[event.SessionAttribute] = e.session
	}, event.ExecDied)
	m.settleSoon()
}

// endExecutions ends all, at the end of the container. Where that has a PID namespace
// they have ended already.
func (m *monitor) endExecutions() {
	for len(m.executed) > 0 {
		e := m.executed[0]
		var status unix.WaitStatus
		unix.PidfdSendSignal(e.pidfd, unix.SIGKILL, nil, 0)
		if e.child { // one that hangs in the kernel is left to whoever reaps it
			unix.Poll([]unix.PollFd{{Fd: int32(e.pidfd), Events: unix.POLLIN}}, int(drainLimit.Milliseconds()))
			retry(func() (int, error) { return unix.Wait4(e.pid, &status, unix.WNOHANG, nil) })
		}
		e.end(status)
	}
}

// terminal is that of an execution: what is written to it is thrown away, so that the
// program need not wait for a reader.
type terminal execution

func (t *terminal) ready(uint32) {
	buf := t.m.buffer()
	n, err := retry(func() (int, error) { return unix.Read(t.master, buf) })
	if err != unix.EAGAIN && n <= 0 {
		t.close()
	}
}

func (t *terminal) close() {
	t.m.loop.close(t.master)
	t.master = -1
}

func (m *monitor) saveExecutions(w *stateWriter) {
	w.number(int64(len(m.executed)))
	for _, e := range m.executed {
		w.text(e.session)
		w.number(int64(e.pid))
		w.descriptor(e.pidfd)
		w.flag(e.child)
		w.descriptor(e.master)
	}
}

func (m *monitor) restoreExecutions(r *stateReader) {
	for n := r.number(); n > 0 && r.err == nil; n-- {
		e := &execution{m: m, session: r.text(), pid: int(r.number()), pidfd: r.descriptor(), child: r.flag(), master: r.descriptor()}
		m.executed = append(m.executed, e)
	}
}
