package rootless

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"moss/rootless/container"
	"moss/rootless/monitor"
	"moss/rootless/oci"
	"moss/rootless/runtime"
)

// UnitLabel is the label with the unit of a service manager that a container belongs
// to, and the variable by which units say so: podman's.
const UnitLabel = "PODMAN_SYSTEMD_UNIT"

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
	n := &monitor.Notify{Socket: socket, Mode: mode}
	// sd_watchdog_enabled(3): it may be meant for another process.
	if pid := os.Getenv("WATCHDOG_PID"); pid == "" || pid == strconv.Itoa(os.Getpid()) {
		usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
		if err == nil && usec > 0 && usec < math.MaxInt64/1000 {
			n.Watchdog = time.Duration(usec) * time.Microsecond
		}
	}
	return n
}

// followed says whether a service manager is to follow the monitor, which it does only
// in the cgroup of the unit: it hears from it, or reads its PID from a file.
func (l *launch) followed() bool {
	return l.cfg.Notify != nil ||
		l.cfg.MonitorPIDFile != "" && os.Getenv("SYSTEMD_EXEC_PID") == strconv.Itoa(os.Getpid())
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
	n := l.cfg.Notify
	if n == nil || n.Mode != "container" {
		return
	}
	env := []string{"NOTIFY_SOCKET=" + insideNotify + "/" + monitor.NotifySocket}
	if n.Watchdog > 0 {
		env = append(env, "WATCHDOG_USEC="+strconv.FormatInt(n.Watchdog.Microseconds(), 10))
	}
	doc.Spec.Process.Env = override(doc.Spec.Process.Env, env)
}

// notifyMain tells the manager which process stands for the container: its monitor,
// which outlives it, and has its exit code. It is told before the program may run: one
// that ends at once takes the monitor along, and of a process that is gone the manager
// does not believe it; and who says more later has the last word. We are in the
// manager's own cgroup.
func (l *launch) notifyMain() {
	n, pid := l.cfg.Notify, l.conn.PID()
	if n == nil || pid <= 0 {
		return
	}
	state := fmt.Sprintf("MAINPID=%d\nSTATUS=%s is started", pid, l.c.Spec.Name)
	switch {
	case len(l.c.Spec.Network.Wake) > 0:
	case n.Mode == "healthy":
		state += ", and waits for its health check"
	case n.Mode == "container":
		state += ", and has not said yet that it is ready"
	}
	monitor.SendNotify(n.Socket, state)
}

// notifyStarted tells the manager that the container is ready, where nobody else does.
func (l *launch) notifyStarted() {
	n, name := l.cfg.Notify, l.c.Spec.Name
	switch {
	case n == nil:
	case len(l.c.Spec.Network.Wake) > 0: // the program runs when there is somebody for it
		monitor.SendNotify(n.Socket, "READY=1\nSTATUS="+name+" waits for a connection")
	case n.Mode == "conmon":
		monitor.SendNotify(n.Socket, "READY=1\nSTATUS="+name+" runs")
	}
}
