package cgroup

import (
	"fmt"
	"os"
	"strings"
)

// Hint is the command that mends it.
func (e *NotDelegatedError) Hint() string {
	if !e.Offered {
		return bootUnified
	}
	return delegate(e.Top, e.Controller)
}

// DropIn says what the command changes, for those who do it in another way; "" where it
// changes something else.
func (e *NotDelegatedError) DropIn() string {
	if !e.Offered || !systemdRuns() {
		return ""
	}
	return fmt.Sprintf("%s must say, below [Service], %s; then: systemctl daemon-reload", dropIn(unitOf(e.Top)), delegation)
}

// Meanwhile says what can be done without the controller.
func (e *NotDelegatedError) Meanwhile() string {
	other := map[string]string{
		"memory": "--ulimit as=BYTES limits each process", "pids": "--ulimit nproc=NUMBER limits the processes of a user in a container",
		"cpu": "'nice moss run' lets others go first", "cpuset": "'taskset -c LIST moss run' chooses the CPUs",
	}[e.Controller]
	if other == "" {
		return "until then, leave the flag out"
	}
	return "until then, leave the flag out; " + other
}

// DelegateHint is the command that delegates every controller that moss uses, where moss
// is now: to every user, or to the system service that it runs in.
func (p *Parent) DelegateHint() string { return delegate(p.tree.path(p.Top), "") }

const delegation = "Delegate=cpu cpuset io memory pids"

func delegate(top, controller string) string {
	if !systemdRuns() {
		return fmt.Sprintf("as root, write +%s into cgroup.subtree_control of each cgroup above %q, from the topmost on", strings.TrimSpace(controller), top)
	}
	unit := unitOf(top)
	path := dropIn(unit)
	restart := unit
	if unit == "user@.service" {
		restart = "user@$(id -u).service   # the last ends your running programs; logging out and in does as well"
	}
	return "sudo mkdir -p " + path[:strings.LastIndex(path, "/")] + ` && printf '[Service]\n` + delegation + `\n' | sudo tee ` + path +
		" && sudo systemctl daemon-reload && sudo systemctl restart " + restart
}

func dropIn(unit string) string { return "/etc/systemd/system/" + unit + ".d/delegate.conf" }

// unitOf is the system's unit that must delegate more for a cgroup to have it.
func unitOf(path string) string {
	for name := range strings.SplitSeq(path, "/") {
		if strings.HasSuffix(name, ".service") && !strings.HasPrefix(name, "user@") {
			return name
		} else if strings.HasSuffix(name, ".service") {
			break
		}
	}
	return "user@.service"
}

func systemdRuns() bool {
	_, err := os.Stat("/run/systemd/system")
	return err == nil
}
