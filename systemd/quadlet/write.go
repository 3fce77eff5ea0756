package quadlet

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"moss/record"
)

// Text is the service as systemd reads it.
func (u *Unit) Text() string { return text(u.sections) }

// heading is the first line of each service.
const heading = "# moss has made this from the file in SourcePath=; change that one.\n"

func text(sections []*section) string {
	var b strings.Builder
	b.WriteString(heading)
	for _, s := range sections {
		b.WriteString("\n[" + s.name + "]\n")
		for _, l := range s.lines {
			b.WriteString(l.Key + "=" + l.Value + "\n")
		}
	}
	return b.String()
}

// Generator writes services for systemd; see systemd.generator(7).
type Generator struct {
	Out  string // the directory for what is made
	Kept string // the directory of what was made last without errors; "" keeps nothing
	Moss string // the program that the services start
	// Report is told of each problem, and of the service that it is of.
	Report func(service string, p Problem)

	names map[string]bool // of services: no alias takes the place of one
}

// Run converts the files in the directories. Of a file with an error the service that
// was made of it before is written again, or one that fails with the error. It says
// whether there was an error.
func (g *Generator) Run(dirs []string) (failed bool) {
	s := Load(dirs)
	for _, p := range s.Problems {
		g.Report("", p)
		failed = true
	}
	taken := map[string]bool{}
	kept := map[string]bool{}
	units := s.Convert(g.Moss)
	g.names = map[string]bool{}
	for _, u := range units {
		g.names[u.Name] = true
		if u.Socket != nil {
			g.names[u.Socket.Name] = true
		}
	}
	for _, u := range units {
		for _, p := range u.Problems {
			g.Report(u.Name, p)
		}
		if taken[u.Name] { // two files for one service: the first counts
			failed = true
			continue
		}
		taken[u.Name] = true
		service := u
		failed = failed || u.Failed()
		if g.Kept != "" {
			kept[keptName(u)] = true
			kept[keptName(u)+keptSocket] = u.Failed() || u.Socket != nil
		}
		if u.Failed() {
			service = g.standIn(u)
			g.names[service.Name] = true
		} else if err := g.keep(u); err != nil {
			g.Report(u.Name, Problem{Path: u.Source.Path, Message: "cannot keep the service for the case of an error: " + err.Error(), Warning: true})
		}
		err := g.write(service.Name, service.sections)
		if err == nil && service.Socket != nil {
			err = g.write(service.Socket.Name, service.Socket.sections)
		}
		if err != nil {
			g.Report(u.Name, Problem{Path: u.Source.Path, Message: "cannot write " + u.Name + ": " + err.Error()})
			failed = true
		}
	}
	g.forget(kept)
	return failed
}

// keptService begins the line that says which service the kept text is of.
const keptService = "# "

// keptSocket follows the name of what is kept: it is the socket of that service.
const keptSocket = ".socket"

// keptName is under which name the last good service of a file is kept.
func keptName(u *Unit) string {
	// FNV-1a: of a few paths of one user; who can write them can write the services.
	h := uint64(14695981039346656037)
	for i := range len(u.Source.Path) {
		h = (h ^ uint64(u.Source.Path[i])) * 1099511628211
	}
	return fmt.Sprintf("%016x", h) // not by the service: ServiceName= may be what is wrong later
}

func (g *Generator) keep(u *Unit) error {
	if g.Kept == "" {
		return nil
	}
	path := filepath.Join(g.Kept, keptName(u))
	if u.Socket != nil { // before the service, which needs it
		if err := keepAt(path+keptSocket, u.Socket); err != nil {
			return err
		}
	}
	return keepAt(path, u)
}

func keepAt(path string, u *Unit) error {
	text := keptService + u.Name + "\n" + u.Text()
	if old, err := record.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return record.Replace(path, []byte(text), 0o600, false)
}

// keptAt is what keepAt has written; nil if there is nothing of use.
func keptAt(path string) *Unit {
	var f File
	data, err := record.ReadFile(path)
	line, _, _ := strings.Cut(string(data), "\n")
	name, is := strings.CutPrefix(line, keptService)
	if err != nil || !is || len(f.parse(path, string(data))) > 0 {
		return nil
	}
	return &Unit{Name: name, sections: f.sections}
}

// forget removes what is kept of files that are gone.
func (g *Generator) forget(used map[string]bool) {
	if g.Kept == "" {
		return
	}
	entries, err := os.ReadDir(g.Kept)
	if err != nil {
		return
	}
	for _, e := range entries {
		if !used[e.Name()] {
			_ = os.Remove(filepath.Join(g.Kept, e.Name()))
		}
	}
}

// standIn is what takes the place of a service that cannot be made: that of before, with
// its socket, or one that says what is wrong, and fails.
func (g *Generator) standIn(u *Unit) *Unit {
	bad := slices.DeleteFunc(slices.Clone(u.Problems), func(p Problem) bool { return p.Warning })
	first := bad[0]
	if g.Kept != "" {
		path := filepath.Join(g.Kept, keptName(u))
		if last := keptAt(path); last != nil && (last.Name == u.Name || !g.names[last.Name]) {
			last.Socket = keptAt(path + keptSocket)
			f := File{sections: last.sections}
			s := f.open("Unit", "", 0)
			description := s.value("Description")
			for i := range s.lines {
				if s.lines[i].Key == "Description" {
					s.lines[i] = &Line{Key: "X-Description", Value: s.lines[i].Value}
				}
			}
			s.lines = append(s.lines, &Line{Key: "Description", Value: description + " (as it was before an error in " + escape(at(first)) + ")"})
			g.Report(u.Name, Problem{Path: first.Path, Line: first.Line, Message: last.Name + " stays as it was before this error", Warning: true})
			last.sections = f.sections
			return last
		}
	}
	var says strings.Builder
	for _, p := range bad[:min(len(bad), 20)] {
		says.WriteString(" " + Word(bounded(p.String())))
	}
	f := File{}
	unit, service := f.open("Unit", "", 0), f.open("Service", "", 0)
	unit.lines = []*Line{{Key: "Description", Value: escape(bounded(first.String()))}, {Key: "SourcePath", Value: escape(u.Source.Path)}}
	service.lines = []*Line{{Key: "Type", Value: "oneshot"}, {Key: "SyslogIdentifier", Value: "%N"},
		{Key: "ExecStart", Value: "/bin/sh -c " + Word(`printf '%s\n' "$@" >&2; exit 1`) + " sh" + says.String()}}
	if in := u.Source.section("Install"); in != nil {
		f.sections = append(f.sections, in)
	}
	return &Unit{Name: u.Name, Socket: u.Socket, sections: f.sections}
}

// bounded cuts a message to what fits into a line: a value may be as long as a file.
func bounded(s string) string {
	if len(s) > 1000 {
		s = strings.ToValidUTF8(s[:1000], "") + "…"
	}
	return s
}

// escape keeps systemd from finding specifiers.
func escape(s string) string { return strings.ReplaceAll(s, "%", "%%") }

func at(p Problem) string {
	if p.Line == 0 {
		return filepath.Base(p.Path)
	}
	return filepath.Base(p.Path) + ":" + strconv.Itoa(p.Line)
}

// write writes a service, and the links that [Install] asks for.
func (g *Generator) write(name string, sections []*section) error {
	path := filepath.Join(g.Out, name)
	_ = os.Remove(path) // a link would have another service written
	if err := os.WriteFile(path, []byte(text(sections)), 0o644); err != nil {
		return err
	}
	for _, link := range links(name, sections) {
		if g.names[link] {
			continue // an error that was reported
		}
		path := filepath.Join(g.Out, link)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		target := name
		if strings.Contains(link, "/") {
			target = "../" + name
		}
		_ = os.Remove(path)
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}

// links are the names, below the directory of the services, of the links that
// [Install] of a service asks for: what systemctl enable would make.
func links(name string, sections []*section) (out []string) {
	f := File{sections: sections}
	list := func(key string) (out []string) {
		for _, l := range f.all("Install", key) {
			names, _ := words(l.Value, false)
			for _, n := range names {
				if n != "" && !strings.Contains(n, "/") && n[0] != '.' {
					out = append(out, n)
				}
			}
		}
		return out
	}
	for _, alias := range list("Alias") {
		if alias != name {
			out = append(out, alias)
		}
	}
	if prefix, instance, is := template(name); is && instance == "" {
		instance = f.value("Install", "DefaultInstance")
		if instance == "" {
			return out
		}
		name = prefix + "@" + instance + ".service"
	}
	for _, w := range [][2]string{{"WantedBy", ".wants/"}, {"RequiredBy", ".requires/"}, {"UpheldBy", ".upholds/"}} {
		for _, by := range list(w[0]) {
			out = append(out, by+w[1]+name)
		}
	}
	return out
}
