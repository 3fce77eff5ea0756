package logs

import (
	"bufio"
	"context"
	"crypto/rand"
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
	mark   string  // that ends a run too: see untilEnd
}

const (
	// settleTime is how long journald may need to write what it has been sent before
	// it is asked how far it has come, and markPatience how long until it says so.
	settleTime   = time.Second
	markPatience = 30 * time.Second
	// markField is in the entry that asks.
	markField = "MOSS_LOGS_MARK"
)

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
		gone := make(chan struct{})
		close(gone)
		if err := s.untilEnd(ctx, since, gone, keep); err != nil {
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
	watched, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := newWatch(watched, s.log.Container, "")
	if err != nil {
		return err
	}
	defer w.close()
	if w.monitor < 0 && s.ended {
		return nil
	}
	gone, done := make(chan struct{}), make(chan struct{})
	go func() { // ends with the monitor, or with the watch's context
		defer close(done)
		w.fresh = false
		if _, err := w.wait(); err == nil {
			close(gone)
		}
	}()
	if err = s.untilEnd(ctx, nil, gone, yield); err != nil {
		cancel()
	}
	<-done // the monitor is about to end, if it has not
	return err
}

// untilEnd reads on until the container has ended: when the entry after the last one of its
// output comes, or, once its monitor is gone, no more can come. A busy journald may be many
// seconds behind, and a monitor that was killed writes no such entry: so journald is sent one
// of ours, a mark, before which it has written all that it was sent before.
func (s *journald) untilEnd(ctx context.Context, args []string, gone <-chan struct{}, yield func(Entry) error) error {
	run, cancel := context.WithCancel(ctx)
	s.mark = rand.Text()
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-gone:
		case <-run.Done():
			return
		}
		if !pause(run, settleTime) {
			return
		}
		if writeMark(s.mark) == nil {
			pause(run, markPatience)
		}
		cancel()
	}()
	err := s.run(run, append(args, "--follow"), true, yield)
	if errors.Is(err, errEnd) || run.Err() != nil && ctx.Err() == nil {
		err = nil
	}
	cancel()
	<-done
	return err
}

// pause waits so long, unless ctx is done before.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

func writeMark(mark string) error {
	fd, err := journal.Open(settleTime)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return journal.Send(fd, journal.Socket, journal.AppendField(nil, markField, []byte(mark)), true)
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
	fields := []string{monitor.MessageField, monitor.PriorityField, monitor.PartField, monitor.EndField, markField}
	args = append([]string{"--quiet", "--no-pager", "--no-tail", "--output=export", "--output-fields=" + strings.Join(fields, ",")}, args...)
	if s.cursor != "" {
		args = append(args, "--after-cursor="+s.cursor)
	}
	args = append(args, monitor.IDField+"="+id, "+", monitor.EndField+"="+id)
	if s.mark != "" {
		args = append(args, "+", markField+"="+s.mark)
	}
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
		if mark, ok := fields[markField]; ok {
			if toEnd && string(mark) == s.mark {
				return errEnd
			}
			continue
		}
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
