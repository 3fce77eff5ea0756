package quadlet

import (
	"slices"
	"sort"
	"strings"
)

// installKeys are what [Install] of a file may say.
var installKeys = []string{"Alias", "WantedBy", "RequiredBy", "UpheldBy", "DefaultInstance"}

// checkSections complains of sections and keys that mean nothing.
func (m *maker) checkSections() {
	for _, s := range m.file.sections {
		switch {
		case s.name == m.section:
			m.checkKeys(s, m.file.kind.names())
		case s.name == "Quadlet":
			m.checkKeys(s, []string{"DefaultDependencies"})
			if l := m.file.last("Quadlet", "DefaultDependencies"); l.text() != "" {
				if _, ok := yes(l.text()); !ok {
					m.errorAt(l, "DefaultDependencies="+l.text()+": want true or false")
				}
			}
		case s.name == "Install":
			for _, l := range s.lines {
				m.checkInstall(l)
				if !slices.Contains(installKeys, l.Key) {
					m.warnAt(l, "[Install] "+l.Key+" has no effect in a quadlet file; these have one: "+strings.Join(installKeys, ", "))
				}
			}
		case s.name == "Service":
			m.checkService(s)
		case s.name == "Unit" || strings.HasPrefix(s.name, "X-"):
		default:
			m.checkName(s)
		}
	}
}

// checkInstall complains of names in [Install] that are none of units, and of targets
// that no user's service manager reaches.
func (m *maker) checkInstall(l *Line) {
	if !slices.Contains(installKeys, l.Key) || l.Key == "DefaultInstance" {
		return
	}
	names, _ := words(l.Value, false)
	for _, name := range names {
		switch {
		case !unitName(name):
			m.errorAt(l, l.Key+"="+name+": this is no name of a unit")
		case l.Key == "Alias" && !strings.HasSuffix(name, ".service"):
			m.errorAt(l, "Alias="+name+": want a name that ends in .service")
		case slices.Contains([]string{"multi-user.target", "graphical.target", "network-online.target", "network.target"}, name) && !slices.Contains(names, "default.target"):
			m.warnAt(l, l.Key+"="+name+" is of the system, and not started for a user; did you mean \"default.target\"?")
		}
	}
}

// checkResource complains of a name that moss would take for a flag, or not at all.
// What the service manager puts in is not known here.
func (m *maker) checkResource() {
	if m.makesContent() {
		return
	}
	key := m.file.kind.naming[0]
	l := m.file.last(m.section, key)
	if name := l.text(); strings.HasPrefix(name, "-") || strings.ContainsAny(name, " \t/\"'") {
		m.errorAt(l, key+"="+quoted(name)+": want letters, digits, _, . and -, and no - first")
	}
}

// makesContent says whether the resource is an image, or an artifact, which several may
// make.
func (m *maker) makesContent() bool {
	return m.section == "Image" || m.section == "Build" || m.section == "Artifact"
}

func (m *maker) checkKeys(s *section, names []string) {
	for _, l := range s.lines {
		if slices.Contains(names, l.Key) {
			continue
		}
		message := "[" + s.name + "] has no key " + quoted(l.Key)
		if other := sectionOf(l.Key); other != "" {
			message += "; it is one of [" + other + "]"
		} else if n := Nearest(l.Key, names); n != "" {
			message += "; did you mean " + quoted(n) + "?"
		}
		m.errorAt(l, message)
	}
}

// sectionOf is the section of systemd's that a key belongs to which is often written
// into another.
func sectionOf(key string) string {
	switch key {
	case "Restart", "RestartSec", "TimeoutStartSec", "TimeoutStopSec", "ExecStartPre", "ExecStartPost", "ExecStopPost", "Type":
		return "Service"
	case "WantedBy", "RequiredBy", "Alias":
		return "Install"
	case "After", "Before", "Requires", "Wants", "Description", "BindsTo", "PartOf":
		return "Unit"
	}
	return ""
}

func (m *maker) checkService(s *section) {
	for _, l := range s.lines {
		switch {
		case l.Key == "User" || l.Key == "Group" || l.Key == "DynamicUser":
			m.warnAt(l, "[Service] "+l.Key+" is not for a user's containers: each user's own service manager runs them")
		case l.Key == "ExecStart" && l.Value != "":
			m.errorAt(l, "[Service] ExecStart is made from ["+m.section+"]; ExecStartPre and ExecStartPost may stand here")
		case m.file.kind == &containers && slices.Contains(containers.names(), l.Key) && l.Key != "Environment" && l.Key != "EnvironmentFile" && l.Key != "User" && l.Key != "Group":
			m.warnAt(l, "[Service] "+l.Key+" is a key of [Container]")
		}
	}
}

// checkName judges a section that is none of this kind of file.
func (m *maker) checkName(s *section) {
	l := &Line{Path: s.path, Number: s.at}
	known := []string{m.section, "Unit", "Service", "Install", "Quadlet"}
	if near := Nearest(s.name, known); near != "" {
		m.errorAt(l, "unknown section ["+s.name+"]; did you mean ["+near+"]?")
		return
	}
	if slices.Contains(extensions[:], "."+strings.ToLower(s.name)) {
		m.errorAt(l, "section ["+s.name+"] is of ."+strings.ToLower(s.name)+" files; this is a "+m.file.kind.ext)
		return
	}
	m.warnAt(l, "unknown section ["+s.name+"]")
}

// warnShort warns of an image without a registry.
func (m *maker) warnShort(l *Line) {
	name := l.text()
	if name == "" || strings.HasSuffix(name, ".image") || strings.HasSuffix(name, ".build") || strings.HasPrefix(name, "sha256:") || strings.HasPrefix(name, "%") {
		return
	}
	if len(name) == 64 && strings.Trim(name, "0123456789abcdef") == "" {
		return
	}
	host, _, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(host, ".:") && host != "localhost" {
		m.warnAt(l, l.Key+"="+name+" names no registry: which image that is depends on the configuration")
	}
}

// checkNames complains of services and containers that are there twice.
func (s *Set) checkNames(units []*Unit) {
	services, names := map[string]*Unit{}, map[string]*Unit{}
	defer func() { s.checkAliases(units, services) }()
	for _, u := range units {
		m := &maker{set: s, file: u.Source, unit: u, section: u.Source.kind.section}
		if first := services[u.Name]; first != nil {
			m.errorAt(u.Source.last(m.section, "ServiceName"), "the service "+quoted(u.Name)+" is made from "+first.Source.Path+" already")
			continue
		}
		services[u.Name] = u
		if u.Resource == "" || m.makesContent() {
			continue
		}
		name := m.section + " " + u.Source.resourceFor(u.Source.Name)
		first := names[name]
		if first == nil {
			names[name] = u
			continue
		}
		if !conflict(u, first) {
			m.errorAt(u.Source.last(m.section, u.Source.kind.naming[0]), "the name "+quoted(u.Source.resourceFor(u.Source.Name))+" is used by "+first.Source.Path+" already; Conflicts= lets two share it")
		}
	}
}

// checkAliases complains of aliases that are the names of other units.
func (s *Set) checkAliases(units []*Unit, services map[string]*Unit) {
	for _, u := range units {
		if u.Socket != nil {
			services[u.Socket.Name] = u
		}
	}
	for _, u := range units {
		m := &maker{set: s, file: u.Source, unit: u, section: u.Source.kind.section}
		for _, l := range u.Source.all("Install", "Alias") {
			names, _ := words(l.Value, false)
			for _, name := range names {
				switch first := services[name]; {
				case first == nil:
					services[name] = u
				case first != u:
					m.errorAt(l, "Alias="+name+" is the name of another service, which is made from "+first.Source.Path)
				}
			}
		}
	}
}

// conflict says whether two units never run at the same time.
func conflict(a, b *Unit) bool {
	of := func(a, b *Unit) bool {
		for _, s := range a.sections {
			for _, l := range s.lines {
				if s.name == "Unit" && l.Key == "Conflicts" && slices.Contains(strings.Fields(l.Value), b.Name) {
					return true
				}
			}
		}
		return false
	}
	return of(a, b) || of(b, a)
}

// Problems are those of all units, and of the files as such, by path and line.
func Problems(s *Set, units []*Unit) (out []Problem) {
	out = append(out, s.Problems...)
	for _, u := range units {
		out = append(out, u.Problems...)
	}
	sort.SliceStable(out, func(i, j int) bool {
		if out[i].Path != out[j].Path {
			return out[i].Path < out[j].Path
		}
		return out[i].Line < out[j].Line
	})
	return slices.Compact(out)
}
