package container

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"moss/record"
)

// Status is derived from facts; it is never stored.
type Status string

const (
	StatusCreated Status = "created"
	// StatusInitialized is after init and before start: the container has its
	// namespaces, mounts and network, and a process that waits to become its program.
	StatusInitialized Status = "initialized"
	StatusRunning     Status = "running"
	StatusPaused      Status = "paused"
	StatusRestarting  Status = "restarting" // between two runs, under its restart policy
	StatusExited      Status = "exited"
	StatusRemoving    Status = "removing"
)

// CanStart says whether start may be asked for.
func (s Status) CanStart() bool {
	return s == StatusCreated || s == StatusInitialized || s == StatusExited
}

// CanStop says whether there is something to stop.
func (s Status) CanStop() bool {
	return s == StatusRunning || s == StatusPaused || s == StatusRestarting || s == StatusInitialized
}

// CanKill says whether there is a process to send a signal to.
func (s Status) CanKill() bool { return s == StatusRunning || s == StatusPaused }

// CanExec says whether one more process can be started in it.
func (s Status) CanExec() bool { return s == StatusRunning }

// CanAttach says whether its streams can be joined.
func (s Status) CanAttach() bool { return s == StatusRunning || s == StatusRestarting }

// CanPause says whether it can be frozen.
func (s Status) CanPause() bool { return s == StatusRunning }

// CanUnpause says whether it can be thawed.
func (s Status) CanUnpause() bool { return s == StatusPaused }

// CanRemove says whether it can be removed without being stopped first.
func (s Status) CanRemove() bool {
	return s == StatusCreated || s == StatusInitialized || s == StatusExited || s == StatusRemoving
}

// ExitUnknown is the exit code of a run that nobody saw the end of, because its
// monitor was killed or the machine went down. It is what podman shows then.
const ExitUnknown = -1

// removingName is a file in the container's directory while it is being removed.
const removingName = "removing"

// View is everything about a container at one moment: what ps and inspect show.
type View struct {
	Status Status
	// Live is set while there is a process or a monitor: also while the monitor
	// cleans up, or waits to start the program again.
	Live *Live
	Last *Last // nil when it never ran

	monitor bool
}

// Monitor says whether the container's monitor is alive. Without it a container
// can still be running (Live is set): its streams are gone, and whoever stops it
// cleans up in the monitor's place.
func (v View) Monitor() bool { return v.monitor }

// Look reads the facts of c and derives its status. It takes no lock.
//
// A record of a run that has no end, with neither process nor monitor left (or
// of another boot), is of a container that has exited: Last.ExitCode is then
// ExitUnknown, and Last.Finished stays zero. A file that cannot be read counts
// as an unknown end too: it never makes the container itself unusable.
func (c *Container) Look() View {
	var v View
	boot := BootID()
	last, err := ReadLast(c.Dir)
	if err != nil {
		last = &Last{Finished: modified(filepath.Join(c.Dir, lastName)), ExitCode: ExitUnknown, Error: err.Error()}
	}
	v.Last = last

	// The order matters: the monitor writes last.json before it removes live.json.
	if live := c.live(); live != nil {
		v.monitor = Alive(live.Monitor, live.MonitorStart)
		// A living monitor answers for its container.
		process := v.monitor && !live.Restarting || Alive(live.PID, live.PIDStart)
		switch {
		case !process && v.monitor && live.Restarting:
			v.Live, v.Status = live, StatusRestarting
		case process || v.monitor: // without a process: the monitor is cleaning up
			v.Live, v.Status = live, StatusRunning
			if live.Initialized {
				v.Status = StatusInitialized
			}
			if process && frozen(live.Cgroup) {
				v.Status = StatusPaused
			}
		}
	}
	if v.Live != nil {
		return v
	}

	// The run may have ended between the two readings.
	if again, err := ReadLast(c.Dir); err == nil {
		v.Last = again
	}
	v.Status = StatusCreated
	if v.Last != nil {
		v.Status = StatusExited
		if v.Last.Finished.IsZero() && v.Last.Error == "" {
			v.Last.unfinished(c.RunDir, boot)
		}
	}
	if c.removing() {
		v.Status = StatusRemoving
	}
	return v
}

// live reads live.json. Where there is none that can be read, but a monitor may
// still be there, the monitor is asked for it.
func (c *Container) live() *Live {
	live, err := ReadLive(c.RunDir)
	if live != nil || c.Announce == nil || unix.Access(filepath.Join(c.RunDir, controlName), unix.F_OK) != nil {
		return live
	}
	// Without live.json and without an end: the start or the end is under way.
	if last, lastErr := ReadLast(c.Dir); err == nil && (lastErr == nil && (last == nil || !last.Finished.IsZero())) {
		return nil
	}
	if c.Announce() == nil {
		live, _ = ReadLive(c.RunDir)
	}
	return live
}

// unfinished completes a record that nobody has: from exit.json, when only the
// record could not be written (the disk was full), else with what is known.
func (l *Last) unfinished(runDir, boot string) {
	var exit struct {
		Code      int
		OOMKilled bool
		At        time.Time
		Error     string
	}
	found, err := record.Read(filepath.Join(runDir, exitName), &exit)
	switch {
	case found && err == nil && !exit.At.Before(l.Started):
		l.ExitCode, l.OOMKilled, l.Finished, l.Error = exit.Code, exit.OOMKilled, exit.At, exit.Error
		return
	case l.Boot != boot:
		l.Error = "the machine was shut down while it ran"
	default:
		l.Error = "its monitor was killed"
	}
	l.ExitCode = ExitUnknown
}

// Waiting says whether the container waits for a client.
func (v View) Waiting() bool { return v.Status == StatusInitialized && v.Live != nil && v.Live.Waiting }

// MarkRemoving makes the container be seen as being removed from now on. The
// caller holds the lock and goes on to rename Dir away.
func (c *Container) MarkRemoving() error {
	f, err := os.OpenFile(filepath.Join(c.Dir, removingName), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// removing says whether a removal has begun, or is done since c was loaded.
func (c *Container) removing() bool {
	if _, err := os.Lstat(filepath.Join(c.Dir, removingName)); err == nil {
		return true
	}
	_, err := os.Lstat(c.Dir)
	return errors.Is(err, fs.ErrNotExist)
}

// frozen says whether the cgroup was asked to freeze; see the kernel's
// Documentation/admin-guide/cgroup-v2.rst, "cgroup.freeze".
func frozen(cgroup string) bool {
	if cgroup == "" {
		return false
	}
	data, err := record.ReadFile(filepath.Join(cgroup, "cgroup.freeze"))
	return err == nil && len(data) > 0 && data[0] == '1'
}

func modified(path string) time.Time {
	info, err := os.Stat(path)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}
