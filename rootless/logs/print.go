package logs

import (
	"io"
	"sync"

	"moss/rootless/container"
)

// shared is what the printers of several logs share.
type shared struct {
	Options
	lock    sync.Mutex // keeps lines whole
	several bool
}

// printer writes the entries of one log as they were asked for.
type printer struct {
	*shared
	prefix string
	color  string
	lines  [2]openLine // of stdout and stderr
}

// openLine is a line of output that has begun and not ended.
type openLine struct {
	begun bool
	cut   bool   // the container has ended within it
	held  []byte // what is to be written when it is whole: see hold
}

// colors are podman's, in its order.
var colors = [...]string{"\x1b[37m", "\x1b[31m", "\x1b[33m", "\x1b[34m", "\x1b[35m", "\x1b[36m", "\x1b[32m"}

const uncolored = "\x1b[0m"

func newPrinter(s *shared, c *container.Container, n int) *printer {
	p := &printer{shared: s}
	switch {
	case s.Names:
		p.prefix = c.Spec.Name + " "
	case s.several:
		p.prefix = c.Spec.ID[:min(12, len(c.Spec.ID))] + " "
	}
	if s.Color {
		p.color = colors[n%len(colors)]
	}
	return p
}

// writeError says that what was read could not be written.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// print writes one entry, if it is wanted. Of one log alone everything is written at
// once and as it is; of several, lines are kept whole.
func (p *printer) print(e Entry) error {
	if !p.Until.IsZero() && e.At.After(p.Until) || !p.Since.IsZero() && e.At.Before(p.Since) {
		return nil
	}
	out, line := p.Out, &p.lines[0]
	if e.Stderr {
		out, line = p.Err, &p.lines[1]
	}
	if out == nil {
		return nil
	}
	if e.Cut {
		line.cut = line.begun
		return p.emit(out, line, nil, false)
	}
	var text []byte
	if line.cut {
		text = append(text, '\n')
		*line = openLine{}
	}
	if !line.begun {
		text = p.begin(text, e)
	}
	text = append(text, e.Text...)
	if e.Ended {
		text = p.end(text)
	}
	line.begun = !e.Ended
	return p.emit(out, line, text, e.Ended)
}

// begin writes what stands before a line.
func (p *printer) begin(text []byte, e Entry) []byte {
	text = append(append(text, p.color...), p.prefix...)
	if p.Timestamps {
		text = append(e.At.UTC().AppendFormat(text, timestamp), ' ')
	}
	return text
}

// timestamp is RFC 3339 with all nine digits: columns stay columns.
const timestamp = "2006-01-02T15:04:05.000000000Z07:00"

func (p *printer) end(text []byte) []byte {
	if p.color != "" {
		text = append(text, uncolored...)
	}
	return append(text, '\n')
}

// maxHeld bounds what is held of a line.
const maxHeld = 1 << 20

// emit writes, or holds what is not yet a whole line.
func (p *printer) emit(out io.Writer, line *openLine, text []byte, ended bool) error {
	if p.several {
		line.held = append(line.held, text...)
		switch {
		case line.cut:
			line.held = p.end(line.held)
			line.begun, line.cut = false, false
		case !ended && len(line.held) < maxHeld:
			return nil
		}
		text, line.held = line.held, nil
	}
	if len(text) == 0 {
		return nil
	}
	p.lock.Lock()
	defer p.lock.Unlock()
	if _, err := out.Write(text); err != nil {
		return &writeError{err}
	}
	return nil
}

// finish writes what was held of lines without an end.
func (p *printer) finish() error {
	for i, out := range []io.Writer{p.Out, p.Err} {
		line := &p.lines[i]
		if out == nil || !line.begun {
			continue
		}
		if !p.several {
			if p.color == "" || line.cut {
				continue
			}
			if _, err := io.WriteString(out, uncolored); err != nil {
				return &writeError{err}
			}
			continue
		}
		line.cut = true
		if err := p.emit(out, line, nil, false); err != nil {
			return err
		}
	}
	return nil
}
