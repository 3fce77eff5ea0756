package monitor

import (
	"bytes"
	"fmt"
	"time"

	"moss/systemd/journal"

	"golang.org/x/sys/unix"
)

// The fields of an entry of the journal, as conmon names them. EndField is moss's
// own: the entry that has it, with the container's ID, comes after the last one of a
// container that has ended, and has no message.
const (
	MessageField  = "MESSAGE"
	PriorityField = "PRIORITY" // PriorityOut or PriorityErr
	IDField       = "CONTAINER_ID_FULL"
	PartField     = "CONTAINER_PARTIAL_MESSAGE" // "true": the line goes on
	EndField      = "MOSS_CONTAINER_END"

	PriorityOut = "6"
	PriorityErr = "3"
)

// journalPatience is how long the container may have to wait for a journal that does
// not read, before its lines are lost.
const journalPatience = time.Second

// journalLog is a log in the journal of the system.
type journalLog struct {
	fd     int
	id     string
	fields []byte // what is the same in every entry
	lost   loss
}

func openJournal(c *Config) (sink, error) {
	if err := journal.Available(journal.Socket); err != nil {
		return nil, fmt.Errorf("cannot open log: %w", err)
	}
	fd, err := journal.Open(journalPatience)
	if err != nil {
		return nil, fmt.Errorf("cannot open log: %w", err)
	}
	j := &journalLog{fd: fd, id: c.ID}
	field := func(name, value string) { j.fields = journal.AppendField(j.fields, name, []byte(value)) }
	field(IDField, c.ID)
	field("CONTAINER_ID", c.ID[:min(12, len(c.ID))])
	field("CONTAINER_NAME", c.Name)
	identifier := c.Name
	if c.Log.Tag != "" {
		field("CONTAINER_TAG", c.Log.Tag)
		identifier = c.Log.Tag
	}
	field("SYSLOG_IDENTIFIER", identifier)
	for name, value := range c.Log.Labels {
		field(name, value)
	}
	return j, nil
}

func (j *journalLog) write(kind byte, data []byte, _ time.Time) {
	for len(data) > 0 {
		line, rest, ended := bytes.Cut(data, []byte{'\n'})
		data = rest
		j.send(kind, line, ended)
	}
}

// send sends one line. While the journal does not take any, there is no waiting.
func (j *journalLog) send(kind byte, line []byte, ended bool) {
	if j.lost.lines > 0 {
		if err := journal.Send(j.fd, journal.Socket, j.entry(Stderr, j.lost.notice(), true), false); err != nil {
			j.lost.add(1, err)
			return
		}
		j.lost = loss{}
	}
	if err := journal.Send(j.fd, journal.Socket, j.entry(kind, line, ended), true); err != nil {
		j.lost.add(1, err)
	}
}

func (j *journalLog) entry(kind byte, line []byte, ended bool) []byte {
	entry := make([]byte, 0, len(j.fields)+len(line)+64)
	entry = journal.AppendField(entry, MessageField, line)
	priority := PriorityOut
	if kind == Stderr {
		priority = PriorityErr
	}
	entry = journal.AppendField(entry, PriorityField, []byte(priority))
	if !ended {
		entry = journal.AppendField(entry, PartField, []byte("true"))
	}
	return append(entry, j.fields...)
}

// end leaves a line open: who reads it sees where the run ends.
func (j *journalLog) end(byte, time.Time) {}

func (j *journalLog) reopen() error { return nil } // it is not the journal that was renamed

func (j *journalLog) close() {
	if j.fd < 0 {
		return
	}
	journal.Send(j.fd, journal.Socket, journal.AppendField(nil, EndField, []byte(j.id)), false)
	unix.Close(j.fd)
	j.fd = -1
}

func (j *journalLog) save(w *stateWriter) {
	w.text("journald")
	w.descriptor(j.fd)
	w.text(j.id)
	w.text(string(j.fields))
	w.number(j.lost.lines)
	w.text(j.lost.why)
}

func restoreJournal(r *stateReader) sink {
	return &journalLog{
		fd: r.descriptor(), id: r.text(), fields: []byte(r.text()), lost: loss{lines: r.number(), why: r.text()},
	}
}
