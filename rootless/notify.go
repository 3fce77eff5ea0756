package rootless

import (
	"fmt"
	"os"
	"path/filepath"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/oci"
	"moss/rootless/runtime"
)

// insideNotify is where a container finds the directory of its notification socket.
const insideNotify = "/run/notify"

// notify is how the service manager that moss runs under hears of the container;
// nil where there is none, or it is to be left alone.
func notify(spec *container.Spec) *monitor.Notify {
	socket, mode := os.Getenv("NOTIFY_SOCKET"), spec.Lifecycle.SdNotify
	if socket == "" || mode == "ignore" {
		return nil
	}
	if mode == "" {
		mode = "container"
	}
	return &monitor.Notify{Socket: socket, Mode: mode}
}

// notifyMount gives the container a socket of its own, whose messages the monitor
// hands on.
func (l *launch) notifyMount(in *oci.Input) error {
	if l.cfg.Notify == nil || l.cfg.Notify.Mode != "container" {
		return nil
	}
	dir := filepath.Join(l.c.RunDir, monitor.NotifyDir)
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return fmt.Errorf("cannot make directory of the notification socket: %w", err)
	}
	in.Mounts = append(in.Mounts, specs.Mount{Type: "bind", Source: dir, Destination: insideNotify, Options: []string{"bind", "nosuid", "nodev", "noexec", "ro"}})
	return nil
}

// notifyEnv tells the program where it is.
func (l *launch) notifyEnv(doc *runtime.Document) {
	if l.cfg.Notify != nil && l.cfg.Notify.Mode == "container" {
		doc.Spec.Process.Env = override(doc.Spec.Process.Env, []string{"NOTIFY_SOCKET=" + insideNotify + "/" + monitor.NotifySocket})
	}
}

// notifyStarted tells the manager which process stands for the container: its
// monitor, which outlives it. We are in the manager's own cgroup: it believes us.
func (l *launch) notifyStarted() {
	n := l.cfg.Notify
	if n == nil {
		return
	}
	state := ""
	if live := l.c.Look().Live; live != nil {
		state = fmt.Sprintf("MAINPID=%d\n", live.Monitor)
	}
	if n.Mode == "conmon" {
		state += "READY=1\n"
	}
	monitor.SendNotify(n.Socket, state)
}
