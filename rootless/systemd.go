package rootless

import (
	"path"
	"strings"

	"moss/rootless/container"
)

// chooseSystemd says whether the program is to find what systemd needs as process 1:
// by default when it is systemd by its name, or an init that may be. Systemd then
// stops by SIGRTMIN+3; see systemd(1).
func chooseSystemd(spec *container.Spec) {
	p := &spec.Process
	switch p.SystemdMode {
	case "false":
		p.Systemd = false
	case "always":
		p.Systemd = true
	default:
		switch program := p.Args[0]; program {
		case "/sbin/init", "/usr/sbin/init", "/usr/local/sbin/init":
			p.Systemd = true
		default:
			p.Systemd = path.Base(program) == "systemd"
		}
	}
	if p.Systemd && spec.Lifecycle.StopSignal == "" {
		spec.Lifecycle.StopSignal = "SIGRTMIN+3"
	}
}

// uuid is the first half of an ID as systemd takes it for the machine's.
func uuid(id string) string {
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:32]}, "-")
}

// variable is the value of an environment variable, "" where there is none.
func variable(env []string, name string) string {
	value := ""
	for _, kv := range env {
		if n, v, ok := strings.Cut(kv, "="); ok && n == name {
			value = v
		}
	}
	return value
}
