package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"moss/rootless/monitor"
	"moss/systemd/journal"
)

// journald is a log in the journal, read through journalctl: it knows every version
// of the journal's files, and which of them the user may read.
type journald struct {
	log    Log
	ctx    context.Context
	there  []Entry // what next has still to give
	begun  [2]bool // a line of the stream's has begun and not ended
	cursor string  // of the last entry that was read
	ended  bool    // that is the one after the last one of a container
}

// settleTime is how long journald may need to write what it has been sent.
const settleTime = 2 * time.Second

func openJournal(ctx context.Context, l Log, o Options) (source, error) {
	s := &journald{log: l, ctx: ctx}
	var since []string
	if o.Tail < 0 && !o.Since.IsZero() {
		since = []string{"--since=@" + strconv.FormatInt(o.Since.Unix(), 10)}
	}
	keep := func(e Entry) error {
		s.there = append(s.there, e)
		if o.Tail >= 0 && len(s.there) > 4*o.Tail+1024 {
			s.there = lastLines(s.there, o.Tail)
		}
		return nil
	}
	if err := s.run(ctx, since, false, keep); err != nil {
		return nil, err
	}
	// The end of a container that has just ended may be on its way.
	last := l.Container.Look().Last
	if !o.Follow && !s.ended && last != nil && time.Since(last.Finished) < settleTime {
		soon, cancel := context.WithTimeout(ctx, settleTime)
		defer cancel()
		if err := s.run(soon, append(since, "--follow"), true, keep); err != nil && !errors.Is(err, errEnd) && ctx.Err() == nil && soon.Err() == nil {
			return nil, err
		}
	}
	if o.Tail >= 0 {
		s.there = lastLines(s.there, o.Tail)
	}
	return s, nil
}

func (s *journald) close() {}

func (s *journald) next() (Entry, bool, error) {
	if len(s.there) == 0 {
		return Entry{}, false, nil
	}
	e := s.there[0]
	s.there = s.there[1:]
	return e, true, nil
}

// errEnd ends a run of journalctl at the end of the container's output.
var errEnd = errors.New("the container has ended")

// follow ends with the entry that comes after the last one. A monitor that was killed
// writes none.
func (s *journald) follow(ctx context.Context, yield func(Entry) error) error {
	for {
		if err := s.followRun(ctx, yield); err != nil {
			return err
		}
		if again, err := restarted(ctx, s.log.Container); err != nil || !again {
			return err
		}
	}
}

func (s *journald) followRun(ctx context.Context, yield func(Entry) error) error {
	w, err := newWatch(ctx, s.log.Container, "")
	if err != nil {
		return err
	}
	defer w.close()
	if w.monitor < 0 && s.ended {
		return nil
	}
	run, cancel := context.WithCancel(ctx)
	defer cancel()
	gone := make(chan struct{})
	go func() { // ends with the monitor, or with the watch's context
		defer close(gone)
		w.fresh = false
		if _, err := w.wait(); err == nil {
			time.AfterFunc(settleTime, cancel)
		}
	}()
	err = s.run(run, []string{"--follow"}, true, yield)
	if errors.Is(err, errEnd) || run.Err() != nil && ctx.Err() == nil {
		err = nil // and the monitor is about to end
	}
	<-gone
	return err
}

// run reads what journalctl prints of the container after what was read before; toEnd,
// the error is errEnd when the container has ended.
func (s *journald) run(ctx context.Context, args []string, toEnd bool, yield func(Entry) error) error {
	program, err := exec.LookPath("journalctl")
	if err != nil {
		return fmt.Errorf("cannot read the journal: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	id := s.log.Container.Spec.ID
	fields := []string{monitor.MessageField, monitor.PriorityField, monitor.PartField, monitor.EndField}
	args = append([]string{"--quiet", "--no-pager", "--no-tail", "--output=export", "--output-fields=" + strings.Join(fields, ",")}, args...)
	if s.cursor != "" {
		args = append(args, "--after-cursor="+s.cursor)
	}
	args = append(args, monitor.IDField+"="+id, "+", monitor.EndField+"="+id)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("cannot read the journal: %w", err)
	}
	err = s.read(bufio.NewReader(out), toEnd, yield)
	if err != nil {
		cancel()
	}
	if werr := cmd.Wait(); err == nil && werr != nil {
		err = unreadable(werr, said.String())
	}
	return err
}

// unreadable says why journalctl has failed.
func unreadable(err error, said string) error {
	if strings.Contains(said, "insufficient permissions") {
		return fmt.Errorf("the journal has no file of yours: only a persistent one has (Storage= in journald.conf(5)), or else the group systemd-journal reads it: %w", fs.ErrPermission)
	}
	return fmt.Errorf("cannot read the journal: journalctl: %w: %s", err, strings.TrimSpace(said))
}

func (s *journald) read(r *bufio.Reader, toEnd bool, yield func(Entry) error) error {
	for {
		fields, err := journal.Read(r)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the journal: %w", err)
		}
		s.cursor = string(fields["__CURSOR"])
		micros, _ := strconv.ParseInt(string(fields["__REALTIME_TIMESTAMP"]), 10, 64)
		e := Entry{At: time.UnixMicro(micros), Text: fields[monitor.MessageField], Ended: string(fields[monitor.PartField]) != "true"}
		e.Stderr = string(fields[monitor.PriorityField]) == monitor.PriorityErr
		if _, s.ended = fields[monitor.EndField]; !s.ended {
			s.begun[index(e)] = !e.Ended
			if err := yield(e); err != nil {
				return err
			}
			continue
		}
		for i, begun := range s.begun {
			if !begun {
				continue
			}
			s.begun[i] = false
			if err := yield(Entry{At: e.At, Stderr: i == 1, Ended: true, Cut: true}); err != nil {
				return err
			}
		}
		if toEnd {
			return errEnd
		}
	}
}

// lastLines are the entries of the last lines of output.
func lastLines(entries []Entry, lines int) []Entry {
	t := tail{left: lines}
	for i := len(entries) - 1; i >= 0 && !t.done(); i-- {
		t.entry(entries[i], int64(i+1), 0)
	}
	var out []Entry
	for i, e := range entries {
		if at := index(e); !t.found[at] || int64(i) >= t.began[at] {
			out = append(out, e)
		}
	}
	return out
}
