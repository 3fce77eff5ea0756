package client

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"moss/record"
	"moss/rootless/monitor"
)

// Ahead is a monitor that was started before anybody knew for what: it waits at
// its start socket, and ends when that is closed. See userns/enter.
type Ahead struct {
	Sock int // -1: there is none
	PID  int
	Home string // the cgroup that it was born in; "" is the caller's
	// ID is of the container whose first process it has begun to make, in the
	// usual namespaces; "" for none. A container of another ID, or of another kind,
	// costs it no more than a new beginning.
	ID string
}

// NewID is the ID for a new container, once; "" when there is none.
func (a *Ahead) NewID() string {
	if a == nil || a.Sock < 0 {
		return ""
	}
	id := a.ID
	a.ID = ""
	return id
}

// Take gives it a container, as Spawn does early. It is nil when there is none, or
// when it is not one that this container could have.
func (a *Ahead) Take(cfg monitor.Config) *Conn {
	if a == nil || a.Sock < 0 {
		return nil
	}
	c := &Conn{fd: a.Sock, pid: a.PID, end: -1, tty: cfg.TTY}
	a.Sock = -1
	told, err := record.Encode(monitor.ConfigureMessage{Path: filepath.Join(cfg.RunDir, monitor.ConfigFile), Config: cfg})
	if a.Home == cfg.Home && err == nil && len(told) <= monitor.MaxConfiguration && c.Send(monitor.Configure, told) == nil {
		return c
	}
	unix.Close(c.fd)
	return nil
}

// homesFile is where the constructor of userns/enter looks for the cgroup.
const homesFile = "monitors"

// Forget takes it back, where containers have no cgroups.
func Forget(run string) { os.Remove(filepath.Join(run, homesFile)) }

// Remember writes down where monitors are born, and in which directory containers'
// cgroups are made, as scopes or not, so that the next moss can start one ahead. It is not needed
// for anything else, and may fail.
func Remember(run, home, groups string, scopes bool) {
	path, text := filepath.Join(run, homesFile), home+"\n"+groups
	if scopes {
		text += "\nscopes"
	}
	if old, err := record.ReadFile(path); err == nil && string(old) == text {
		return
	}
	record.Replace(path, []byte(text), 0o600, false)
}
