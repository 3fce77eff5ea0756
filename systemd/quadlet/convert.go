package quadlet

import (
	"path/filepath"
	"slices"
	"strings"
)

// Arg is a word of a command line, and the line that it was made from, if one.
type Arg struct {
	Text string
	From *Line
}

// Command is a command line of a service: "ExecStart" and its words, of which the
// first is moss.
type Command struct {
	Key  string
	Args []Arg
}

// Unit is the service that a file is turned into.
type Unit struct {
	Name     string // "web.service"
	Source   *File
	Resource string // what moss calls the container, network, volume…; specifiers are left in
	Commands []Command
	Problems []Problem
	Socket   *Unit // that starts it for a client; nil: none
	sections []*section
}

// Failed says whether an error stands among the problems.
func (u *Unit) Failed() bool {
	return slices.ContainsFunc(u.Problems, func(p Problem) bool { return !p.Warning })
}

// Links are the links that [Install] asks for, by their names below the directory of
// the services.
func (u *Unit) Links() []string { return links(u.Name, u.sections) }

// Requires are the services that the unit needs.
func (u *Unit) Requires() (out []string) {
	f := File{sections: u.sections}
	for _, key := range []string{"Requires", "BindsTo"} {
		for _, l := range f.all("Unit", key) {
			out = append(out, strings.Fields(l.Value)...)
		}
	}
	return out
}

// Made is what moss calls the resource of the unit, as far as that is known: a % that
// is left in stands for what the service manager alone can say.
func (u *Unit) Made() string { return u.Source.resourceFor(u.Source.Name) }

// Line is the last assignment of a key of a section of the service; nil if there is none.
func (u *Unit) Line(section, key string) *Line {
	f := File{sections: u.sections}
	return f.last(section, key)
}

// maker makes one unit.
type maker struct {
	set     *Set
	file    *File
	unit    *Unit
	section string // of the file's kind
	args    []Arg
	from    *Line // whose key is being turned into arguments
}

// Convert makes the services of all files, in the order of the files.
func (s *Set) Convert(moss string) []*Unit {
	s.moss = moss
	var out []*Unit
	for _, f := range s.Files {
		u := &Unit{Name: f.Service(), Source: f, Problems: slices.Clone(s.problems[f]), Resource: f.Resource()}
		m := &maker{set: s, file: f, unit: u, section: f.kind.section}
		m.convert()
		out = append(out, u)
	}
	s.joinPods(out)
	s.checkNames(out)
	return out
}

func (m *maker) errorAt(l *Line, message string) { m.complain(l, message, false) }
func (m *maker) warnAt(l *Line, message string)  { m.complain(l, message, true) }

func (m *maker) complain(l *Line, message string, warning bool) {
	p := Problem{Path: m.file.Path, Message: message, Warning: warning}
	if l != nil {
		p.Path, p.Line = l.Path, l.Number
	} else if s := m.file.section(m.section); s != nil {
		p.Path, p.Line = s.path, s.at
	}
	m.unit.Problems = append(m.unit.Problems, p)
}

// convert copies what systemd reads itself, and makes the rest.
func (m *maker) convert() {
	m.checkSections()
	m.checkResource()
	if l := m.file.last(m.section, "ServiceName"); strings.ContainsAny(l.text(), "/%") {
		m.errorAt(l, "ServiceName="+l.text()+": the name of a service has neither / nor %")
	} else if !unitName(m.unit.Name) {
		m.errorAt(l, "the service manager takes no service "+quoted(m.unit.Name)+": want letters, digits and :-_.\\ in its name, at most 255")
	}
	for _, s := range m.file.sections {
		c := &section{name: s.name, path: s.path, at: s.at, lines: slices.Clone(s.lines)}
		if s.name == m.section || s.name == "Quadlet" {
			c.name = "X-" + s.name
		}
		m.unit.sections = append(m.unit.sections, c)
	}
	m.translateDependencies()
	if m.out("Unit").value("Description") == "" {
		m.add("Unit", "Description", m.description())
	}
	m.add("Unit", "SourcePath", strings.ReplaceAll(m.file.Path, "%", "%%"))
	switch m.file.kind {
	case &containers:
		m.container()
	case &pods:
		m.pod()
	case &kubes:
		m.kube()
	case &networks:
		m.network()
	case &volumes:
		m.volume()
	case &images:
		m.image()
	case &artifacts:
		m.artifact()
	case &builds:
		m.build()
	}
}

func (m *maker) description() string {
	name := escape(m.file.Name)
	if _, instance, is := template(name); is && instance == "" {
		name += " %i"
	}
	switch m.section {
	case "Build":
		return "Build of an image: " + name
	case "Kube":
		return "Kubernetes YAML: " + name
	}
	return m.section + " of moss: " + name
}

// out is a section of the service, made where there is none.
func (m *maker) out(name string) *section {
	f := File{sections: m.unit.sections}
	s := f.open(name, "", 0)
	m.unit.sections = f.sections
	return s
}

func (m *maker) add(name, key, value string) {
	s := m.out(name)
	s.lines = append(s.lines, &Line{Key: key, Value: value})
}

// assign gives a key its only value.
func (m *maker) assign(name, key, value string) {
	s := m.out(name)
	s.lines = slices.DeleteFunc(s.lines, func(l *Line) bool { return l.Key == key })
	m.add(name, key, value)
}

// byDefault gives a key a value that the file does not give it.
func (m *maker) byDefault(name, key, value string) {
	if m.out(name).value(key) == "" {
		m.assign(name, key, value)
	}
}

func (s *section) value(key string) (out string) {
	for _, l := range s.lines {
		if l.Key == key {
			out = l.Value
		}
	}
	return out
}

// requires lets the service want another one, and start after it.
func (m *maker) requires(service string) {
	for _, key := range []string{"Requires", "After"} {
		if !slices.ContainsFunc(m.out("Unit").lines, func(l *Line) bool { return l.Key == key && l.Value == service }) {
			m.add("Unit", key, service)
		}
	}
}

// begin begins a command line of moss.
func (m *maker) begin(words ...string) {
	m.args = nil
	m.word(escape(m.set.moss)) // no variables are put into the path of a program
	for _, l := range m.file.all(m.section, "ContainersConfModule") {
		m.args = append(m.args, Arg{"--module=" + l.text(), l})
	}
	for _, l := range m.file.all(m.section, "GlobalArgs") {
		m.argsOf(l)
	}
	for _, w := range words {
		m.word(w)
	}
}

func (m *maker) word(text string) { m.args = append(m.args, Arg{text, m.from}) }

// argsOf adds the words of a value.
func (m *maker) argsOf(l *Line) {
	for _, w := range m.unquote(l) {
		m.args = append(m.args, Arg{w, l})
	}
}

// unquote is the words of a value, without quotes and escapes.
func (m *maker) unquote(l *Line) []string {
	list, err := words(l.Value, true)
	if err != nil {
		m.warnAt(l, l.Key+": "+err.Error())
	}
	return list
}

// flags adds the arguments that the keys of the file make.
func (m *maker) flags() {
	for i := range m.file.kind.keys {
		k := &m.file.kind.keys[i]
		k.rule(m, k.name, k.flag)
		m.from = nil
	}
}

// end makes the command line one of the service.
func (m *maker) end(key string) {
	m.unit.Commands = append(m.unit.Commands, Command{key, m.args})
	list := make([]string, 0, len(m.args))
	for _, a := range m.args {
		list = append(list, quote(a.Text))
	}
	m.add("Service", key, strings.Join(list, " "))
}

// dependencies are the keys of [Unit] whose values are names of units.
var dependencies = []string{"After", "Before", "BindsTo", "Conflicts", "OnFailure", "OnSuccess", "PartOf", "PropagatesReloadTo",
	"PropagatesStopTo", "ReloadPropagatedFrom", "Requires", "Requisite", "StopPropagatedFrom", "Upholds", "Wants"}

// translateDependencies writes the services of quadlet files where those stand.
func (m *maker) translateDependencies() {
	s := m.out("Unit")
	for i, l := range s.lines {
		if !slices.Contains(dependencies, l.Key) {
			continue
		}
		list, _ := words(l.Value, false)
		changed := false
		for j, name := range list {
			if !IsQuadlet(name) {
				continue
			}
			if f := m.find(l, name); f != nil {
				list[j], changed = f.serviceFor(name), true
			}
		}
		if changed {
			s.lines[i] = &Line{Key: l.Key, Value: strings.Join(list, " "), Path: l.Path, Number: l.Number}
		}
	}
}

// find is the file of a name that a line refers to; that there is none is an error.
func (m *maker) find(l *Line, name string) *File {
	if f := m.set.find(name); f != nil {
		return f
	}
	message := l.Key + "=" + name + ": there is no file " + quoted(name)
	var near []string
	for _, f := range m.set.Files {
		if filepath.Ext(f.Name) == filepath.Ext(name) && f != m.file {
			near = append(near, f.Name)
		}
	}
	if n := Nearest(name, near); n != "" {
		message += "; did you mean " + quoted(n) + "?"
	}
	m.errorAt(l, message)
	return nil
}

// refer is what moss calls the resource of a file that a line refers to; its service
// becomes a requirement.
func (m *maker) refer(l *Line, name string) string {
	f := m.find(l, name)
	if f == nil {
		return name
	}
	if _, instance, is := template(name); is && instance == "" {
		if _, _, is := template(m.file.Name); !is { // %i would be empty
			m.errorAt(l, l.Key+"="+name+": this is a template; name an instance of it, such as "+quoted(strings.Replace(name, "@.", "@1.", 1)))
			return name
		}
	}
	m.requires(f.serviceFor(name))
	resource := f.resourceFor(name)
	if resource == "" {
		m.errorAt(l, l.Key+"="+name+": "+quoted(f.Name)+" says no name that could be used")
		return name
	}
	return resource
}

// absolute makes a path that is relative to the file absolute. One that begins with a
// specifier is the service manager's to resolve.
func (m *maker) absolute(path string) string {
	if filepath.IsAbs(path) || strings.HasPrefix(path, "%") && !strings.HasPrefix(path, "%%") {
		return path
	}
	dir := strings.ReplaceAll(escape(filepath.Dir(m.file.Path)), "$", "$$") // nothing in it is a variable
	return filepath.Join(dir, path)
}

// Service is the name of the service that the file becomes.
func (f *File) Service() string {
	if name := f.value(f.kind.section, "ServiceName"); name != "" && !strings.ContainsAny(name, "/%") {
		return strings.TrimSuffix(name, ".service") + ".service"
	}
	prefix, instance, is := template(f.Name)
	if is {
		return prefix + f.kind.suffix + "@" + instance + ".service"
	}
	return prefix + f.kind.suffix + ".service"
}

// unitName says whether systemd takes a name of a unit; see systemd.unit(5).
func unitName(name string) bool {
	for i := range len(name) {
		c := name[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte(`:-_.\@`, c) < 0 {
			return false
		}
	}
	dot := strings.LastIndexByte(name, '.')
	return dot > 0 && dot < len(name)-1 && name[0] != '@' && len(name) <= 255
}

// serviceFor is the service of name, which may be an instance of the template f.
func (f *File) serviceFor(name string) string {
	service := f.Service()
	if name == f.Name {
		return service
	}
	_, instance, _ := template(name)
	return strings.Replace(service, "@.", "@"+instance+".", 1)
}

// Resource is the name of what the service makes; "" if it has none.
func (f *File) Resource() string {
	for _, key := range f.kind.naming {
		if all := f.all(f.kind.section, key); f.kind.ext == ".build" && len(all) > 0 {
			return all[0].text() // the others are further tags
		} else if name := f.value(f.kind.section, key); name != "" {
			return name
		}
	}
	prefix, instance, is := template(f.Name)
	switch f.kind.ext {
	case ".container":
		if is {
			return "systemd-%p_%i"
		}
		return "systemd-%N"
	case ".pod", ".network", ".volume":
		if is && instance == "" {
			instance = "%i"
		}
		if is {
			prefix += "-" + instance
		}
		return "systemd-" + prefix
	}
	return ""
}

// resourceFor is what others call the resource: the specifiers that mean something
// else in their services are replaced.
func (f *File) resourceFor(name string) string {
	resource := f.Resource()
	if !strings.Contains(resource, "%") {
		return resource
	}
	service := f.serviceFor(name)
	full := strings.TrimSuffix(service, ".service")
	prefix, instance, is := strings.Cut(full, "@")
	var b strings.Builder
	for i := 0; i < len(resource); i++ {
		if resource[i] != '%' || i+1 == len(resource) {
			b.WriteByte(resource[i])
			continue
		}
		i++
		switch c := resource[i]; {
		case c == 'p':
			b.WriteString(prefix)
		case c == 'i' && (instance != "" || !is):
			b.WriteString(instance)
		case c == 'N' && is && instance == "":
			b.WriteString(prefix + "@%i")
		case c == 'n' && is && instance == "":
			b.WriteString(prefix + "@%i.service")
		case c == 'N':
			b.WriteString(full)
		case c == 'n':
			b.WriteString(service)
		default:
			b.WriteString(resource[i-1 : i+1])
		}
	}
	return b.String()
}
