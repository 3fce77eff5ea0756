package quadlet

import (
	"encoding/csv"
	"os"
	"strconv"
	"strings"
)

// flag adds an option with its value; "" is a positional argument.
func (m *maker) flag(flag, value string) {
	if flag != "" {
		m.word(flag)
	}
	m.word(value)
}

// lines are the assignments of a key that hold; each is noted as the origin of the
// arguments that do adds.
func (m *maker) lines(key string, do func(l *Line)) {
	for _, l := range m.file.all(m.section, key) {
		m.from = l
		do(l)
	}
}

// one: the last value counts; an empty one is as none.
func one(m *maker, key, flag string) { m.prefixed(key, flag, "") }

func security(m *maker, key, prefix string) { m.prefixed(key, "--security-opt", prefix) }

func autoUpdate(m *maker, key, flag string) { m.prefixed(key, flag, "io.containers.autoupdate=") }

func (m *maker) prefixed(key, flag, prefix string) {
	if l := m.file.last(m.section, key); l.text() != "" {
		m.from = l
		m.flag(flag, prefix+l.text())
	}
}

// joined is one, written as --flag=value. Only an empty entry point means something.
func joined(m *maker, key, flag string) {
	if l := m.file.last(m.section, key); l.text() != "" || l != nil && key == "Entrypoint" {
		m.from = l
		m.word(flag + "=" + l.text())
	}
}

// each: every assignment adds a flag.
func each(m *maker, key, flag string) {
	m.lines(key, func(l *Line) { m.flag(flag, l.Value) })
}

// eachWord: every word of every assignment.
func eachWord(m *maker, key, flag string) { m.words(key, flag, m.split, itself) }

// eachArg: every word, without quotes and escapes.
func eachArg(m *maker, key, flag string) { m.words(key, flag, m.unquote, itself) }

func capability(m *maker, key, flag string) { m.words(key, flag, m.split, strings.ToLower) }

func pathArgs(m *maker, key, flag string) { m.words(key, flag, m.unquote, m.absolute) }

func pathWords(m *maker, key, flag string) { m.words(key, flag, m.split, m.absolute) }

func securityWords(m *maker, key, prefix string) {
	m.words(key, "--security-opt", m.unquote, func(w string) string { return prefix + w })
}

func itself(w string) string { return w }

// words adds a flag for each word of each assignment.
func (m *maker) words(key, flag string, of func(l *Line) []string, as func(string) string) {
	m.lines(key, func(l *Line) {
		for _, w := range of(l) {
			m.flag(flag, as(w))
		}
	})
}

// split is the words of a value, whose escapes stay.
func (m *maker) split(l *Line) []string {
	list, err := words(l.Value, false)
	if err != nil {
		m.errorAt(l, l.Key+": "+err.Error())
	}
	return list
}

// truth reads a boolean; anything else is an error.
func (m *maker) truth(key string) (is, given bool) {
	l := m.file.last(m.section, key)
	if l.text() == "" {
		return false, false
	}
	is, ok := yes(l.text())
	if !ok {
		m.errorAt(l, key+"="+l.Value+": want true or false")
	}
	return is, ok
}

func boolean(m *maker, key, flag string) {
	is, given := m.truth(key)
	if !given || flag == "" {
		return
	}
	if m.from = m.file.last(m.section, key); !is {
		flag += "=false"
	}
	m.word(flag)
}

// ifTrue: the flag, which may be two words, where the key is true.
func ifTrue(m *maker, key, flag string) {
	if is, _ := m.truth(key); is {
		m.from = m.file.last(m.section, key)
		for _, w := range strings.Fields(flag) {
			m.word(w)
		}
	}
}

func cgroups(m *maker, key, flag string) {
	if m.from = m.file.last(m.section, key); m.from.text() != "" {
		m.flag(flag, m.from.text())
		return
	}
	m.word(flag + "=split")
}

// device: one with a dash is left out where there is none.
func device(m *maker, key, flag string) {
	m.lines(key, func(l *Line) {
		for _, w := range m.split(l) {
			if name, ok := strings.CutPrefix(w, "-"); ok {
				file, _, _ := strings.Cut(name, ":")
				if _, err := os.Stat(file); os.IsNotExist(err) {
					continue
				}
				w = name
			}
			m.flag(flag, w)
		}
	})
}

func volatileTmp(m *maker, key, flag string) {
	if is, _ := m.truth(key); !is {
		return
	}
	l := m.file.last(m.section, key)
	m.warnAt(l, "VolatileTmp is deprecated; use Tmpfs=/tmp")
	if readOnly, _ := m.truth("ReadOnly"); !readOnly {
		m.from = l
		m.flag(flag, "/tmp:rw,size=512M,mode=1777")
	}
}

func user(m *maker, key, flag string) {
	name, group := m.file.value(m.section, key), m.file.value(m.section, "Group")
	m.from = m.file.last(m.section, key)
	switch {
	case name == "" && group != "":
		m.errorAt(m.file.last(m.section, "Group"), "Group needs User")
	case name != "" && group != "":
		m.flag(flag, name+":"+group)
	case name != "":
		m.flag(flag, name)
	}
}

// pairs: NAME=VALUE words; the last of a name counts.
func pairs(m *maker, key, flag string) {
	type pair struct {
		text string
		from *Line
	}
	var names []string
	last := map[string]pair{}
	for _, l := range m.file.all(m.section, key) {
		for _, w := range m.unquote(l) {
			name, _, _ := strings.Cut(w, "=")
			if name == "" {
				m.errorAt(l, key+": want NAME=VALUE, not "+quoted(w))
				continue
			}
			if _, ok := last[name]; !ok {
				names = append(names, name)
			}
			last[name] = pair{w, l}
		}
	}
	for _, name := range names {
		m.from = last[name].from
		m.flag(flag, last[name].text)
	}
}

func network(m *maker, key, flag string) {
	m.lines(key, func(l *Line) {
		value := l.Value
		name, options, more := strings.Cut(value, ":")
		switch {
		case strings.HasSuffix(name, ".network"):
			if value = m.refer(l, name); more {
				value += ":" + options
			}
		case strings.HasSuffix(name, ".container"):
			if value = "container:" + m.refer(l, name); more {
				m.errorAt(l, key+"="+l.Value+": the network of a container takes no options")
			}
		}
		m.flag(flag, value)
	})
}

// source resolves where a volume or a mount comes from.
func (m *maker) source(l *Line, source string, image bool) string {
	if strings.HasPrefix(source, ".") {
		source = m.absolute(source)
	}
	switch {
	case source == "":
		m.errorAt(l, l.Key+"="+l.Value+": the source is empty")
	case source[0] == '/':
		m.mountsFor(source)
	case strings.HasSuffix(source, ".volume"), strings.HasSuffix(source, ".artifact"), image && strings.HasSuffix(source, ".image"), image && strings.HasSuffix(source, ".build"):
		return m.refer(l, source)
	}
	return source
}

// mountsFor lets the service wait for the mount points of a path.
func (m *maker) mountsFor(path string) {
	path = oneDollar(path)
	mark := `"`
	if strings.Contains(path, mark) {
		mark = "'"
	}
	if strings.ContainsAny(path, " \t'\"") { // there are no escapes in this key
		if strings.Contains(path, mark) {
			return
		}
		path = mark + path + mark
	}
	m.add("Unit", "RequiresMountsFor", path)
}

// oneDollar is a path of a command line where there are no variables.
func oneDollar(path string) string { return strings.ReplaceAll(path, "$$", "$") }

func volume(m *maker, key, flag string) {
	m.lines(key, func(l *Line) {
		source, rest, two := strings.Cut(l.Value, ":")
		if !two || source == "" {
			m.flag(flag, strings.TrimPrefix(l.Value, ":"))
			return
		}
		m.flag(flag, m.source(l, source, false)+":"+rest)
	})
}

func mount(m *maker, key, flag string) {
	m.lines(key, func(l *Line) {
		for _, w := range m.unquote(l) {
			m.flag(flag, m.mountOf(l, w))
		}
	})
}

// mountOf resolves the source of a mount, whose fields are those of a CSV file.
func (m *maker) mountOf(l *Line, text string) string {
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		m.errorAt(l, "Mount="+text+": want fields between commas")
		return text
	}
	kind, source := "", -1
	for i, f := range fields {
		name, value, has := strings.Cut(f, "=")
		switch name {
		case "type":
			kind = value
		case "source", "src":
			if !has {
				m.errorAt(l, "Mount: "+name+" needs a value")
				return text
			}
			source = i
		}
	}
	switch kind {
	case "":
		fields, source = append([]string{"type=volume"}, fields...), source+1
		if source == 0 {
			source = -1
		}
	case "bind", "glob", "image", "artifact":
		if source < 0 {
			m.errorAt(l, "Mount: type="+kind+" needs source=")
			return text
		}
	case "volume":
	default:
		return text
	}
	if source >= 0 {
		_, value, _ := strings.Cut(fields[source], "=")
		fields[source] = "source=" + m.source(l, value, true)
	}
	var b strings.Builder
	w := csv.NewWriter(&b)
	_ = w.Write(fields) // into memory
	w.Flush()
	return strings.TrimSuffix(b.String(), "\n")
}

func autoUpdateKube(m *maker, key, flag string) {
	m.lines(key, func(l *Line) {
		for _, w := range m.split(l) {
			name := "io.containers.autoupdate"
			if container, how, ok := strings.Cut(w, "/"); ok {
				name, w = name+"/"+container, how
			}
			m.word(flag + "=" + name + "=" + w)
		}
	})
}

func expose(m *maker, key, flag string) {
	m.lines(key, func(l *Line) {
		value := strings.TrimSpace(l.Value)
		ports, protocol, _ := strings.Cut(value, "/")
		if strings.Trim(ports, "0123456789-") != "" || ports == "" || protocol != "" && protocol != "tcp" && protocol != "udp" && protocol != "sctp" {
			if !strings.Contains(value, "%") {
				m.errorAt(l, key+"="+value+": want PORT, PORT-PORT or PORT/udp")
			}
		}
		m.flag(flag, value)
	})
}

func subnet(m *maker, key, flag string) {
	subnets, gateways, ranges := m.file.all(m.section, key), m.file.all(m.section, "Gateway"), m.file.all(m.section, "IPRange")
	for _, more := range [][]*Line{gateways, ranges} {
		if n := len(subnets); len(more) > n {
			m.errorAt(more[n], more[n].Key+"="+more[n].Value+": each needs a Subnet, and there are "+strconv.Itoa(n))
		}
	}
	for i, l := range subnets {
		m.from = l
		m.flag(flag, l.text())
		if i < len(gateways) {
			m.from = gateways[i]
			m.flag("--gateway", gateways[i].text())
		}
		if i < len(ranges) {
			m.from = ranges[i]
			m.flag("--ip-range", ranges[i].text())
		}
	}
}

func copyUp(m *maker, key, flag string) {
	if is, given := m.truth(key); given && m.file.value(m.section, "Driver") != "image" {
		m.from = m.file.last(m.section, key)
		if is {
			m.flag(flag, "copy")
		} else {
			m.flag(flag, "nocopy")
		}
	}
}

// volumeOptions: of the driver image, the image; of others, what mount(8) takes.
func volumeOptions(m *maker, key, flag string) {
	value := func(key string) string {
		m.from = m.file.last(m.section, key)
		return m.from.text()
	}
	if value("Driver") == "image" {
		name := value("Image")
		if name == "" {
			m.errorAt(m.file.last(m.section, "Driver"), "Driver=image needs Image")
			return
		}
		m.flag(flag, "image="+m.imageSource(m.from, name))
		return
	}
	device := value(key)
	if device != "" {
		m.flag(flag, "device="+device)
	}
	if kind := value("Type"); kind != "" {
		if device == "" {
			m.errorAt(m.from, "Type needs Device")
		}
		if m.flag(flag, "type="+kind); kind == "bind" {
			m.mountsFor(device)
		}
	}
	var options []string
	for _, owner := range [][2]string{{"User", "uid="}, {"Group", "gid="}} {
		if id := value(owner[0]); id != "" {
			if strings.Trim(id, "0123456789") != "" {
				m.errorAt(m.from, owner[0]+"="+id+": want a number")
			}
			options = append(options, owner[1]+id)
		}
	}
	if more := value("Options"); more != "" {
		options = append(options, more)
	}
	if len(options) > 0 {
		m.flag(flag, "o="+strings.Join(options, ","))
	}
}

func image(m *maker, key, flag string) {
	if l := m.file.last(m.section, key); l.text() != "" {
		m.from = l
		if strings.HasPrefix(l.text(), "-") {
			m.errorAt(l, key+"="+quoted(l.text())+": this is no name of an image")
		}
		m.flag(flag, m.imageSource(l, l.text()))
	}
}

// imageSource is an image, or that of an .image or .build file.
func (m *maker) imageSource(l *Line, name string) string {
	if strings.HasSuffix(name, ".image") || strings.HasSuffix(name, ".build") {
		return m.refer(l, name)
	}
	return name
}

// program is the command line in the container: of the last assignment.
func program(m *maker, key, _ string) {
	if l := m.file.last(m.section, key); l != nil {
		words := len(m.args)
		m.argsOf(l)
		for i := words; i < len(m.args); i++ {
			if m.args[i].Text == `\;` { // as systemd.service(5) has it
				m.args[i].Text = ";"
			}
		}
	}
}

func pod(m *maker, key, flag string) {
	l := m.file.last(m.section, key)
	if l.text() == "" {
		return
	}
	m.from = l
	if !strings.HasSuffix(l.text(), ".pod") {
		m.errorAt(l, "Pod="+l.text()+": want the name of a .pod file")
		return
	}
	f := m.find(l, l.text())
	if f == nil {
		return
	}
	service := f.serviceFor(l.text())
	m.add("Unit", "BindsTo", service)
	m.add("Unit", "After", service)
	m.flag(flag, f.resourceFor(l.text()))
}

func exitPolicy(m *maker, key, flag string) {
	if m.from = m.file.last(m.section, key); m.from.text() != "" {
		m.flag(flag, m.from.text())
		return
	}
	m.flag(flag, "stop")
}

// podArgs: the name stands before them, so that they may change it.
func podArgs(m *maker, key, flag string) {
	name := m.file.Resource()
	m.from = m.file.last(m.section, "PodName")
	m.flag("--infra-name", name+"-infra")
	m.flag("--name", name)
	eachArg(m, key, flag)
}
