package logs

import (
	"bytes"
	"encoding/json"
	"time"
)

// parser reads one line of a log file; false: it is none.
type parser func(line []byte) (Entry, bool)

// parseCRI reads "2006-01-02T15:04:05.000000000+00:00 stdout F text", the CRI
// log format; P in place of F marks a part that goes on, F:end the end of the
// container in the middle of a line.
func parseCRI(line []byte) (Entry, bool) {
	at, rest, ok1 := bytes.Cut(line, []byte(" "))
	stream, rest, ok2 := bytes.Cut(rest, []byte(" "))
	tags, text, ok3 := bytes.Cut(rest, []byte(" "))
	if !ok1 || !ok2 || !ok3 {
		return Entry{}, false
	}
	t, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return Entry{}, false
	}
	// The tag may hold more, parted by colons.
	tag, more, _ := bytes.Cut(tags, []byte(":"))
	return Entry{
		At: t, Stderr: string(stream) == "stderr", Text: text,
		Ended: string(tag) != "P", Cut: string(more) == "end",
	}, true
}

// parseJSON reads {"log":"text\n","stream":"stdout","time":"…"}, Docker's
// format; a log without the newline goes on.
func parseJSON(line []byte) (Entry, bool) {
	var l struct {
		Log    string    `json:"log"`
		Stream string    `json:"stream"`
		Time   time.Time `json:"time"`
	}
	if json.Unmarshal(line, &l) != nil || l.Stream == "" {
		return Entry{}, false
	}
	text, ended := bytes.CutSuffix([]byte(l.Log), []byte("\n"))
	return Entry{At: l.Time, Stderr: l.Stream == "stderr", Text: text, Ended: ended}, true
}
