// Package quadlet turns the files that describe containers to systemd (.container,
// .pod, .kube, .network, .volume, .image, .build and .artifact; see
// podman-systemd.unit(5)) into services, and says with file and line what is wrong
// with them.
package quadlet

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"moss/record"
)

// Line is an assignment of a unit file: its value is what systemd makes of the
// lines that a backslash joins.
type Line struct {
	Key, Value string
	Path       string // of the file: a drop-in is another than the unit's own
	Number     int    // in that file, from 1
}

// section is one of the sections of a file, all parts of it together.
type section struct {
	name  string
	path  string
	at    int // the line of its first heading
	lines []*Line
}

// File is a quadlet file with its drop-ins.
type File struct {
	Name string // "web.container"
	Path string // where it is
	Via  string // where it was found: a link to its directory may be on the way
	at   string // where it is read
	Dir  string // the search path that it was found under
	kind *kind
	// sections in the order of their headings
	sections []*section
}

// Problem is what is wrong with a file.
type Problem struct {
	Path    string
	Line    int // 0 is the file as a whole
	Message string
	Warning bool // the unit is made all the same
}

// String is FILE:LINE: what is wrong, as compilers say it.
func (p Problem) String() string {
	at := p.Path
	if p.Line > 0 {
		at += ":" + strconv.Itoa(p.Line)
	}
	if p.Warning {
		return at + ": warning: " + p.Message
	}
	return at + ": " + p.Message
}

// maxFile bounds what is read as a unit file.
const maxFile = 1 << 20

// read parses the file at a path, which is shown as another, into f: a drop-in adds to
// what is there.
func (f *File) read(at, path string) []Problem {
	unreadable := func(why string) []Problem { return []Problem{{Path: path, Message: "cannot read: " + why}} }
	info, err := os.Stat(at)
	if err != nil {
		return unreadable(cause(err))
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return unreadable("not a regular file of at most 1 MiB")
	}
	data, err := record.ReadFile(at)
	if err != nil {
		return unreadable(cause(err))
	}
	return f.parse(path, string(data))
}

func cause(err error) string {
	if p, ok := err.(*os.PathError); ok {
		err = p.Err
	}
	return err.Error()
}

// parse follows systemd.syntax(7).
func (f *File) parse(path, text string) (bad []Problem) {
	complain := func(at int, message string) { bad = append(bad, Problem{Path: path, Line: at, Message: message}) }
	if i := strings.IndexByte(text, 0); i >= 0 {
		complain(1+strings.Count(text[:i], "\n"), "there is a NUL byte in the file")
		return bad
	}
	var current *section
	for next := 1; len(text) > 0; {
		at := next
		var line string
		if line, text, next = logicalLine(text, next); line == "" {
			continue
		}
		if !utf8.ValidString(line) {
			complain(at, "this is not UTF-8: the service manager would ignore it")
			continue
		}
		if line[0] == '[' {
			name, ok := strings.CutSuffix(line[1:], "]")
			if !ok || name == "" || strings.ContainsAny(name, "[]") {
				complain(at, "want a section such as [Container], not "+quoted(line))
				current = nil
				continue
			}
			current = f.open(name, path, at)
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		switch {
		case !ok:
			complain(at, "want KEY=VALUE, not "+quoted(line))
		case key == "" || strings.ContainsAny(key, " \t"):
			complain(at, "want KEY=VALUE; "+quoted(key)+" is no key")
		case current == nil && len(f.sections) == 0:
			complain(at, quoted(key)+" stands before the first section")
		case current != nil:
			current.lines = append(current.lines, &Line{Key: key, Value: strings.TrimSpace(value), Path: path, Number: at})
		}
	}
	return bad
}

// logicalLine takes the first line of a text, with those that continue it; "" is an empty
// one, or a comment. number is that of the line, next that of the one behind it.
func logicalLine(text string, number int) (line, rest string, next int) {
	cut := func() string {
		var l string
		l, text, _ = strings.Cut(text, "\n")
		number++
		return strings.TrimSpace(strings.TrimPrefix(l, "\ufeff"))
	}
	isComment := func(l string) bool { return l != "" && (l[0] == '#' || l[0] == ';') }
	if line = cut(); line == "" || isComment(line) {
		return "", text, number
	}
	var joined strings.Builder
	for continues(line) {
		joined.WriteString(line[:len(line)-1] + " ")
		line = cut()
		for isComment(line) { // between joined lines it is left out
			line = cut()
		}
	}
	joined.WriteString(line)
	return strings.TrimSpace(joined.String()), text, number
}

// continues says whether a line goes on in the next one: its last character is a
// backslash that no other one escapes.
func continues(line string) bool {
	return (len(line)-len(strings.TrimRight(line, `\`)))%2 == 1
}

// open is the section of a name, made where there is none yet.
func (f *File) open(name, path string, at int) *section {
	if s := f.section(name); s != nil {
		return s
	}
	s := &section{name: name, path: path, at: at}
	f.sections = append(f.sections, s)
	return s
}

func (f *File) section(name string) *section {
	for _, s := range f.sections {
		if s.name == name {
			return s
		}
	}
	return nil
}

// all are the assignments of a key that hold: an empty one takes back those before it.
func (f *File) all(name, key string) (out []*Line) {
	s := f.section(name)
	if s == nil {
		return nil
	}
	for _, l := range s.lines {
		if l.Key != key {
			continue
		}
		if l.Value == "" {
			out = nil
		} else {
			out = append(out, l)
		}
	}
	return out
}

// last is the last assignment of a key, which may be an empty one; nil if there is none.
func (f *File) last(name, key string) (out *Line) {
	if s := f.section(name); s != nil {
		for _, l := range s.lines {
			if l.Key == key {
				out = l
			}
		}
	}
	return out
}

// value is what the last assignment of a key says, without quotes around all of it.
func (f *File) value(name, key string) string {
	return f.last(name, key).text()
}

// Value is what the last assignment of a key says; "" if there is none.
func (f *File) Value(section, key string) string { return f.value(section, key) }

// Kind is the section of the kind of file: "Container".
func (f *File) Kind() string { return f.kind.section }

func (l *Line) text() string {
	if l == nil {
		return ""
	}
	v := l.Value
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = v[1 : len(v)-1]
	}
	return v
}

// yes reads a boolean as systemd does; ok is false where it is none.
func yes(value string) (is, ok bool) {
	switch strings.ToLower(value) {
	case "1", "yes", "y", "true", "t", "on":
		return true, true
	case "0", "no", "n", "false", "f", "off":
		return false, true
	}
	return false, false
}

// template takes "web@blue.container" apart.
func template(name string) (prefix, instance string, is bool) {
	return strings.Cut(strings.TrimSuffix(name, filepath.Ext(name)), "@")
}

func quoted(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:57], "") + "…"
	}
	return `"` + s + `"`
}
