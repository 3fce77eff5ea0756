package quadlet

import (
	"fmt"
	"os"
	"path/filepath"
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
	for _, u := range s.Convert(g.Moss) {
		for _, p := range u.Problems {
			g.Report(u.Name, p)
		}
		if taken[u.Name] { // two files for one service: the first counts
			failed = true
			continue
		}
		taken[u.Name] = true
		sections := u.sections
		failed = failed || u.Failed()
		if g.Kept != "" {
			kept[keptName(u)] = true
		}
		if u.Failed() {
			sections = g.standIn(u)
		} else if err := g.keep(u); err != nil {
			g.Report(u.Name, Problem{Path: u.Source.Path, Message: "cannot keep the service for the case of an error: " + err.Error(), Warning: true})
		}
		err := g.write(u.Name, sections)
		if err == nil && u.Socket != nil {
			err = g.write(u.Socket.Name, u.Socket.sections)
		}
		if err != nil {
			g.Report(u.Name, Problem{Path: u.Source.Path, Message: "cannot write " + u.Name + ": " + err.Error()})
			failed = true
		}
	}
	g.forget(kept)
	return failed
}

// keptName is under which name the last good service of a file is kept.
func keptName(u *Unit) string {
	// FNV-1a: of a few paths of one user; who can write them can write the services.
	h := uint64(14695981039346656037)
	for i := range len(u.Source.Path) {
		h = (h ^ uint64(u.Source.Path[i])) * 1099511628211
	}
	return fmt.Sprintf("%s.%016x", u.Name, h)
}

func (g *Generator) keep(u *Unit) error {
	if g.Kept == "" {
		return nil
	}
	path, text := filepath.Join(g.Kept, keptName(u)), u.Text()
	if old, err := record.ReadFile(path); err == nil && string(old) == text {
		return nil
	}
	if err := os.MkdirAll(g.Kept, 0o700); err != nil {
		return err
	}
	return record.Replace(path, []byte(text), 0o600, false)
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

// standIn is what takes the place of a service that cannot be made.
func (g *Generator) standIn(u *Unit) []*section {
	first := u.Problems[0]
	for _, p := range u.Problems {
		if !p.Warning {
			first = p
			break
		}
	}
	if g.Kept != "" {
		var f File
		path := filepath.Join(g.Kept, keptName(u))
		if data, err := record.ReadFile(path); err == nil && len(f.parse(path, string(data))) == 0 {
			s := f.open("Unit", "", 0)
			description := s.value("Description")
			for i := range s.lines {
				if s.lines[i].Key == "Description" {
					s.lines[i] = &Line{Key: "X-Description", Value: s.lines[i].Value}
				}
			}
			s.lines = append(s.lines, &Line{Key: "Description", Value: description + " (as it was before an error in " + escape(at(first)) + ")"})
			g.Report(u.Name, Problem{Path: first.Path, Line: first.Line, Message: u.Name + " stays as it was before this error", Warning: true})
			return f.sections
		}
	}
	f := File{}
	unit, service := f.open("Unit", "", 0), f.open("Service", "", 0)
	unit.lines = []*Line{{Key: "Description", Value: escape(first.String())}, {Key: "SourcePath", Value: escape(u.Source.Path)}}
	service.lines = []*Line{{Key: "Type", Value: "oneshot"}, {Key: "SyslogIdentifier", Value: "%N"},
		{Key: "ExecStart", Value: quote(g.Moss) + " unit check " + quote(escape(u.Source.Path))}}
	if in := u.Source.section("Install"); in != nil {
		f.sections = append(f.sections, in)
	}
	return f.sections
}

// escape keeps systemd from finding specifiers.
func escape(s string) string { return strings.ReplaceAll(s, "%", "%%") }

func at(p Problem) string {
	if p.Line == 0 {
		return filepath.Base(p.Path)
	}
	return filepath.Base(p.Path) + ":" + itoa(p.Line)
}

// write writes a service, and the links that [Install] asks for.
func (g *Generator) write(name string, sections []*section) error {
	if err := os.WriteFile(filepath.Join(g.Out, name), []byte(text(sections)), 0o644); err != nil {
		return err
	}
	for _, link := range links(name, sections) {
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
