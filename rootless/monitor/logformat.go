package monitor

import (
	"time"
	"unicode/utf8"
)

// append formats one line, or the part of one that is there.
func (f *logFile) append(out []byte, kind byte, s *lineState, line []byte, ended bool, at time.Time) []byte {
	if f.driver != "json-file" {
		tag := tagFull
		if !ended {
			tag = tagPart
		}
		return appendLine(out, kind, line, tag, at)
	}
	// A UTF-8 sequence that the end of the piece has cut waits for the next one.
	if len(s.rest) > 0 {
		line = append(s.rest, line...)
		s.rest = nil
	}
	if cut := incomplete(line); cut > 0 && !ended {
		s.rest = append([]byte(nil), line[len(line)-cut:]...)
		line = line[:len(line)-cut]
	}
	if len(line) == 0 && !ended {
		return out
	}
	return appendJSON(out, kind, line, ended, at)
}

// The tags of a line in the CRI log format.
const (
	tagFull = "F" // the line ends here
	tagPart = "P" // it goes on
	// tagEnd closes a line that the container has left without its end: no newline
	// was written. Who knows no more than the first tag sees an empty line.
	tagEnd = "F:end"
)

// appendLine formats a line in the CRI log format, as conmon writes it.
func appendLine(out []byte, kind byte, line []byte, tag string, at time.Time) []byte {
	out = at.UTC().AppendFormat(out, "2006-01-02T15:04:05.000000000+00:00 ")
	out = append(out, streamName(kind)...)
	out = append(out, ' ')
	out = append(out, tag...)
	out = append(out, ' ')
	out = append(out, line...)
	return append(out, '\n')
}

func streamName(kind byte) string {
	if kind == Stderr {
		return "stderr"
	}
	return "stdout"
}

// appendJSON formats a line as Docker's json-file driver does. JSON holds text
// only: bytes that are not UTF-8 become U+FFFD, there as here.
func appendJSON(out []byte, kind byte, line []byte, ended bool, at time.Time) []byte {
	out = append(out, `{"log":"`...)
	out = appendText(out, line)
	if ended {
		out = append(out, `\n`...)
	}
	out = append(out, `","stream":"`...)
	out = append(out, streamName(kind)...)
	out = append(out, `","time":"`...)
	out = at.UTC().AppendFormat(out, time.RFC3339Nano)
	return append(out, "\"}\n"...)
}

// incomplete is the length of the UTF-8 sequence that the end of b cuts.
func incomplete(b []byte) int {
	for i := 1; i <= len(b) && i < utf8.UTFMax; i++ {
		if c := b[len(b)-i]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-i:]) {
				return i
			}
			return 0
		}
	}
	return 0
}

// appendText escapes text for a JSON string.
func appendText(out, text []byte) []byte {
	const hex = "0123456789abcdef"
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c == '\t':
			out = append(out, `\t`...)
		case c == '\r':
			out = append(out, `\r`...)
		case c < ' ' || c == 0x7f:
			out = append(out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		case c < utf8.RuneSelf:
			out = append(out, c)
		default:
			r, n := utf8.DecodeRune(text[i:])
			out = utf8.AppendRune(out, r) // U+FFFD for what is none
			i += n
			continue
		}
		i++
	}
	return out
}
