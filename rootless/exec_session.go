package rootless

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/container"
	"moss/rootless/event"
	"moss/rootless/monitor"
	"moss/rootless/monitor/client"
	"moss/rootless/runtime/birth"
)

// session is one exec.
type session struct {
	e  *Engine
	c  *container.Container
	o  ExecOptions
	id string
	p  *birth.Process
}

// sessionRecord is the file of a session, <RunDir>/exec/<id>.
type sessionRecord struct {
	PID         int
	Start       uint64
	Caller      int    `json:",omitempty"` // the moss that stays with it
	CallerStart uint64 `json:",omitempty"`
	Args        []string
}

func (s *session) path() string { return filepath.Join(s.c.RunDir, monitor.ExecDir, s.id) }

// follow starts the program and stays with it.
func (s *session) follow(ctx context.Context) (int, error) {
	master, err := s.start(os.Getpid())
	if err != nil {
		return 0, err
	}
	kept := false
	defer func() {
		if !kept {
			s.remove()
		}
	}()
	if master != nil {
		console := newExecConsole(master, s.o.Streams)
		defer console.close()
		if err := console.wait(ctx); errors.Is(err, ErrDetached) {
			kept = s.keep(ctx, master) == nil
			return 0, err
		} else if err != nil {
			return 0, err
		}
	} else if s.o.Streams != nil && s.o.Streams.SigProxy {
		defer forwardSignals(s.p.PID)()
	}
	status, err := s.p.Wait()
	if err != nil {
		return 0, err
	}
	code := status.ExitStatus()
	if status.Signaled() {
		code = 128 + int(status.Signal())
	}
	s.note(event.ExecDied, withCode(code))
	return code, nil
}

// start lets a process that has been cloned run the program.
func (s *session) start(caller int) (master *os.File, err error) {
	defer func() {
		if err != nil {
			s.p.Kill()
			if caller != 0 {
				s.p.Wait()
			}
			s.remove()
		}
	}()
	if master, err = s.p.Ready(); err != nil {
		return nil, err
	}
	if !s.o.NoSession {
		if err := s.write(caller); err != nil {
			return nil, err
		}
	}
	if err := s.p.Go(); err != nil {
		return nil, err
	}
	s.note(event.Exec)
	if s.o.Started != nil {
		s.o.Started(s.id)
	}
	return master, nil
}

// write makes the session's record.
func (s *session) write(caller int) error {
	r := sessionRecord{PID: s.p.PID, Caller: caller, Args: s.o.Args}
	var err error
	if r.Start, err = container.StartTime(r.PID); err != nil {
		return nil // it has ended; Go tells how
	}
	if caller != 0 {
		if r.CallerStart, err = container.StartTime(caller); err != nil {
			return err
		}
	}
	if err := os.Mkdir(filepath.Dir(s.path()), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("cannot record exec session: %w", err)
	}
	return record.Write(s.path(), r, false)
}

func (s *session) remove() {
	if !s.o.NoSession {
		unix.Unlink(s.path())
	}
}

func (s *session) note(status string, more ...func(*event.Event)) {
	if s.o.NoSession {
		return
	}
	s.e.note(s.c, status, append(more, func(e *event.Event) {
		all := map[string]string{event.SessionAttribute: s.id}
		for k, v := range e.Attributes {
			all[k] = v
		}
		e.Attributes = all
	})...)
}

// detached has the monitor make the process, and leaves it with it.
func (s *session) detached(ctx context.Context, document []byte) error {
	wrap := func(err error) error { return fmt.Errorf("cannot exec in container %q: %w", s.c.Spec.Name, err) }
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return wrap(err)
	}
	theirs := os.NewFile(uintptr(pair[1]), "sync")
	defer theirs.Close()
	doc, err := birth.Document(document)
	if err != nil {
		unix.Close(pair[0])
		return wrap(err)
	}
	defer doc.Close()
	request := monitor.ControlRequest{Op: "exec", Runtime: Helper("moss-runtime")}
	if !s.o.NoSession {
		request.Session = s.id
	}
	files := []*os.File{doc, theirs}
	for i, f := range s.o.Preserve {
		if f != nil {
			request.Preserve = append(request.Preserve, 3+i)
			files = append(files, f)
		}
	}
	reply, err := client.Ask(ctx, s.c.RunDir, request, files...)
	if err != nil {
		unix.Close(pair[0])
		return wrap(err)
	}
	theirs.Close() // the end of the conversation is the end of the stage's copy
	s.p = birth.Waiting(reply.PID, pair[0])
	defer s.p.Close()
	master, err := s.start(0)
	if err != nil {
		return err
	}
	if master != nil {
		if err := s.keep(ctx, master); err != nil {
			return wrap(err)
		}
	}
	return nil
}

// keep gives the terminal to the monitor, where nobody else reads it any more.
func (s *session) keep(ctx context.Context, master *os.File) error {
	_, err := client.Ask(ctx, s.c.RunDir, monitor.ControlRequest{Op: "keep", Session: s.id, PID: s.p.PID}, master)
	return err
}

// Sessions are the IDs of the programs that were executed in the container and have
// not ended; what is left of others is removed.
func (e *Engine) Sessions(c *container.Container) []string {
	ids := []string{}
	eachSession(c, func(id string, _ sessionRecord) { ids = append(ids, id) })
	return ids
}

func eachSession(c *container.Container, do func(id string, r sessionRecord)) {
	dir := filepath.Join(c.RunDir, monitor.ExecDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // there never was one
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		var r sessionRecord
		if found, err := record.Read(path, &r); err != nil || !found || len(entry.Name()) != 64 {
			continue
		}
		if !container.Alive(r.PID, r.Start) {
			unix.Unlink(path)
			continue
		}
		do(entry.Name(), r)
	}
}

// wakeCallers continues each moss that was stopped while it stays with a program in
// the container: the kernel does not let the first process of a PID namespace go
// before every other has been reaped, by whoever is its parent.
func wakeCallers(c *container.Container) {
	entries, _ := os.ReadDir(filepath.Join(c.RunDir, monitor.ExecDir))
	for _, entry := range entries {
		var r sessionRecord
		found, err := record.Read(filepath.Join(c.RunDir, monitor.ExecDir, entry.Name()), &r)
		if err != nil || !found || r.Caller <= 0 {
			continue
		}
		if fd, err := container.Hold(r.Caller, r.CallerStart); err == nil {
			unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)
			unix.Close(fd)
		}
	}
}
