package quadlet

import (
	"path/filepath"
	"slices"
	"strings"
)

// running is what the services of containers and of Kubernetes YAML share.
func (m *maker) running() (oneshot bool) {
	m.add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n")
	switch mode := m.file.last("Service", "KillMode"); mode.text() {
	case "", "mixed", "control-group":
		m.byDefault("Service", "KillMode", "mixed")
	default:
		m.errorAt(mode, "KillMode="+mode.text()+": want mixed or control-group; with another one processes of the container stay behind")
	}
	switch t := m.file.last("Service", "Type"); t.text() {
	case "", "notify":
		m.assign("Service", "Type", "notify")
		m.assign("Service", "NotifyAccess", "all")
	case "oneshot":
		oneshot = true
	default:
		m.errorAt(t, "Type="+t.text()+": want notify or oneshot")
	}
	m.byDefault("Service", "SyslogIdentifier", "%N")
	return oneshot
}

func (m *maker) container() {
	image, rootfs := m.file.last(m.section, "Image"), m.file.last(m.section, "Rootfs")
	switch {
	case image.text() == "" && rootfs.text() == "":
		m.errorAt(image, "[Container] needs Image or Rootfs")
	case image.text() != "" && rootfs.text() != "":
		m.errorAt(rootfs, "Image and Rootfs exclude each other")
	default:
		m.warnShort(image)
	}
	name := m.file.Resource()
	oneshot := m.running()

	m.begin("rm", "-v", "-f", "-i", name)
	m.end("ExecStop")
	m.args = slices.Clone(m.args)
	m.args[0].Text = "-" + m.args[0].Text
	m.end("ExecStopPost")
	m.reload(name)

	m.add("Service", "Delegate", "yes")
	m.begin("run", "--name", name, "--replace")
	if m.file.last(m.section, "SocketActivation").text() == "" { // else it is there while it waits; ExecStopPost removes it
		m.word("--rm")
	}
	if !oneshot {
		m.notify()
		m.word("-d")
	}
	m.flags()
	m.end("ExecStart")
}

// notify says who tells the service manager that the service is up.
func (m *maker) notify() {
	l := m.file.last(m.section, "Notify")
	m.from = l
	how := "conmon"
	if text := l.text(); strings.EqualFold(text, "healthy") {
		how = "healthy"
	} else if is, ok := yes(text); ok && is {
		how = "container"
	} else if !ok && text != "" {
		m.errorAt(l, "Notify="+text+": want true, false or healthy")
	}
	m.word("--sdnotify=" + how)
	m.from = nil
}

func (m *maker) reload(name string) {
	command, signal := m.file.last(m.section, "ReloadCmd"), m.file.last(m.section, "ReloadSignal")
	switch {
	case command.text() != "" && signal.text() != "":
		m.errorAt(signal, "ReloadCmd and ReloadSignal exclude each other")
	case command.text() != "":
		m.begin("exec", name)
		m.argsOf(command)
		m.end("ExecReload")
	case signal.text() != "":
		m.begin("kill", "--signal", signal.text(), name)
		m.end("ExecReload")
	}
}

// oneshot is the service of what is made and then there.
func (m *maker) oneshot(remain bool) {
	m.byDefault("Service", "SyslogIdentifier", "%N")
	m.byDefault("Service", "Type", "oneshot")
	if remain {
		m.byDefault("Service", "RemainAfterExit", "yes")
	}
}

func (m *maker) network() {
	if is, _ := m.truth("NetworkDeleteOnStop"); is {
		m.begin("network", "rm", m.unit.Resource)
		m.end("ExecStopPost")
	}
	m.begin("network", "create", "--ignore")
	m.flags()
	m.word(m.unit.Resource)
	m.end("ExecStart")
	m.oneshot(true)
}

func (m *maker) volume() {
	m.begin("volume", "create", "--ignore")
	m.flags()
	m.word(m.unit.Resource)
	m.end("ExecStart")
	m.oneshot(true)
}

func (m *maker) image() { m.pulled("Image", "image") }

func (m *maker) artifact() { m.pulled("Artifact", "artifact") }

func (m *maker) pulled(key, noun string) {
	l := m.file.last(m.section, key)
	if l.text() == "" {
		m.errorAt(l, "["+m.section+"] needs "+key)
	}
	m.warnShort(l)
	m.begin(noun, "pull")
	m.flags()
	m.end("ExecStart")
	m.oneshot(true)
}

func (m *maker) build() {
	if m.unit.Resource == "" {
		m.errorAt(nil, "[Build] needs ImageTag")
	}
	context := m.workingDirectory()
	m.begin("build")
	m.flags()
	file := m.file.last(m.section, "File")
	directory := m.out("Service").value("WorkingDirectory")
	m.from = m.file.last(m.section, "SetWorkingDirectory")
	switch {
	case context != "":
		m.word(context)
	case directory == "" && file.text() == "":
		m.errorAt(nil, "[Build] needs SetWorkingDirectory or File")
	case filepath.IsAbs(file.text()), strings.HasPrefix(file.text(), "%"), isURL(file.text()):
	case directory == "":
		m.errorAt(file, "File="+file.text()+": a relative path needs SetWorkingDirectory")
	default:
		m.word(strings.ReplaceAll(directory, "$", "$$"))
	}
	m.end("ExecStart")
	m.oneshot(false)
}

func isURL(s string) bool {
	return strings.HasPrefix(s, "http://") || strings.HasPrefix(s, "https://") || strings.HasPrefix(s, "git://") || strings.Contains(s, "github.com/")
}

// workingDirectory sets that of the service. What is neither a directory of a file
// nor of the unit is the context of a build.
func (m *maker) workingDirectory() (context string) {
	l := m.file.last(m.section, "SetWorkingDirectory")
	relativeTo := ""
	switch how := strings.ToLower(l.text()); {
	case how == "":
		return ""
	case how == "unit":
		relativeTo = m.file.Path
	case how == "yaml" && m.section == "Kube":
		if yaml := m.file.all(m.section, "Yaml"); len(yaml) == 1 {
			relativeTo = yaml[0].text()
		} else if len(yaml) > 1 {
			m.errorAt(l, "SetWorkingDirectory=yaml needs a single Yaml")
		}
	case how == "file" && m.section == "Build":
		if relativeTo = m.file.value(m.section, "File"); relativeTo == "" {
			m.errorAt(l, "SetWorkingDirectory=file needs File")
		}
	case m.section == "Build" && how != "yaml":
		if context = l.text(); !filepath.IsAbs(context) {
			relativeTo = m.file.Path
		}
	default:
		m.errorAt(l, "SetWorkingDirectory="+l.text()+" is not of a ["+m.section+"]")
	}
	if relativeTo == m.file.Path {
		relativeTo = filepath.Base(relativeTo) // absolute() writes the directory so that it is read as it is
	}
	if relativeTo == "" || isURL(context) {
		return context
	}
	if m.file.value("Service", "WorkingDirectory") != "" {
		return ""
	}
	m.assign("Service", "WorkingDirectory", oneDollar(filepath.Dir(m.absolute(relativeTo))))
	return context
}

func (m *maker) kube() {
	if len(m.file.all(m.section, "Yaml")) == 0 {
		m.errorAt(nil, "[Kube] needs Yaml")
	}
	m.running()
	m.begin("kube", "play", "--replace", "--service-container=true")
	m.flags()
	m.end("ExecStart")
	m.begin("kube", "down")
	boolean(m, "KubeDownForce", "--force")
	pathWords(m, "Yaml", "")
	m.end("ExecStopPost")
	m.workingDirectory()
}

func (m *maker) pod() {
	name := m.unit.Resource
	m.byDefault("Service", "SyslogIdentifier", "%N")
	m.begin("pod", "start", name)
	m.end("ExecStart")
	timeout := "10"
	if t := m.file.value(m.section, "StopTimeout"); t != "" {
		timeout = t
	}
	m.begin("pod", "stop", "--ignore", "--time="+timeout, name)
	m.end("ExecStop")
	m.begin("pod", "rm", "--ignore", "--force", name)
	m.end("ExecStopPost")
	m.begin("pod", "create", "--infra-conmon-pidfile=%t/%N.pid", "--replace")
	m.flags()
	m.end("ExecStartPre")
	m.add("Service", "Environment", "PODMAN_SYSTEMD_UNIT=%n")
	m.assign("Service", "Type", "forking")
	m.assign("Service", "PIDFile", "%t/%N.pid")
	m.byDefault("Service", "Restart", "on-failure")
}

// joinPods lets pods start with the containers that are in them.
func (s *Set) joinPods(units []*Unit) {
	for _, u := range units {
		name := u.Source.value("Container", "Pod")
		if u.Source.kind != &containers || name == "" || u.Failed() {
			continue
		}
		if start, given := yes(u.Source.value("Container", "StartWithPod")); given && !start {
			continue
		}
		if _, instance, is := template(u.Source.Name); is && instance == "" {
			continue // nothing can depend on a template
		}
		for _, p := range units {
			if p.Source.Name == name {
				m := &maker{set: s, file: p.Source, unit: p}
				m.add("Unit", "Wants", u.Name)
				m.add("Unit", "Before", u.Name)
			}
		}
	}
}

// mapping is how user IDs are mapped: by the keys that are called as the flags are, or
// by the former ones.
func mapping(m *maker, key, flag string) {
	before := len(m.args)
	one(m, key, flag)
	eachWord(m, "UIDMap", "--uidmap")
	eachWord(m, "GIDMap", "--gidmap")
	one(m, "SubUIDMap", "--subuidname")
	one(m, "SubGIDMap", "--subgidname")
	how := m.file.last(m.section, "RemapUsers")
	uids, gids := m.file.all(m.section, "RemapUid"), m.file.all(m.section, "RemapGid")
	for _, l := range append(append([]*Line{}, uids...), gids...) {
		if how.text() == "" {
			m.errorAt(l, l.Key+" needs RemapUsers")
			return
		}
	}
	if how.text() == "" {
		return
	}
	if len(m.args) > before {
		m.errorAt(how, "RemapUsers and "+key+" exclude each other")
		return
	}
	m.remap(how, uids, gids)
}

func (m *maker) remap(how *Line, uids, gids []*Line) {
	var options []string
	add := func(prefix string, lines []*Line) {
		for _, l := range lines {
			for _, w := range m.split(l) {
				options = append(options, prefix+w)
			}
		}
	}
	m.warnAt(how, "RemapUsers is deprecated; use UserNS="+how.text())
	m.from = how
	switch how.text() {
	case "manual":
		if m.section == "Kube" {
			m.errorAt(how, "RemapUsers=manual is not of a [Kube]")
		}
		eachWord(m, "RemapUid", "--uidmap")
		eachWord(m, "RemapGid", "--gidmap")
		return
	case "auto":
		add("uidmapping=", uids)
		add("gidmapping=", gids)
		if size := m.file.value(m.section, "RemapUidSize"); size != "" {
			options = append(options, "size="+size)
		}
	case "keep-id":
		if len(uids) > 1 || len(gids) > 1 {
			m.errorAt(how, "RemapUsers=keep-id takes one RemapUid and one RemapGid")
		}
		add("uid=", uids)
		add("gid=", gids)
	default:
		m.errorAt(how, "RemapUsers="+how.text()+": want manual, auto or keep-id")
		return
	}
	value := how.text()
	if len(options) > 0 {
		value += ":" + strings.Join(options, ",")
	}
	m.flag("--userns", value)
}
