package container

import (
	"fmt"
	"time"

	"moss/slirp"
)

// Container is one record, and where it is. It has no verbs.
type Container struct {
	Spec   Spec
	Dir    string // <root>/containers/<id>
	RunDir string // <run>/c/<id12>
	// Damaged says why the record could not be read: the Spec then holds no more
	// than ID, name and time. Such a container can be seen, stopped and removed.
	Damaged error
	// Announce, if it is set, asks the container's monitor to write live.json
	// again, which was lost.
	Announce func() error
}

// Whole is an error when the record is damaged: what needs more of it than that it is there asks first.
func (c *Container) Whole() error {
	if c.Damaged == nil {
		return nil
	}
	return fmt.Errorf("its record is damaged (%w); it can only be stopped and removed", c.Damaged)
}

// Live is what is true while the container runs: <run>/c/<id12>/live.json,
// written by the monitor. PIDs carry their start time (field 22 of
// /proc/PID/stat), so that a reused PID is never taken for ours.
type Live struct {
	PID          int
	PIDStart     uint64
	Monitor      int
	MonitorStart uint64
	Started      time.Time
	Restarts     int           `json:",omitempty"`
	Network      *slirp.Status `json:",omitempty"`
	Cgroup       string        `json:",omitempty"`
	// Restarting is set while the monitor waits before it starts the program
	// again; PID is then the one that has ended.
	Restarting bool `json:",omitempty"`
	// Initialized is set while everything is made, but the program not executed.
	Initialized bool `json:",omitempty"`
	// Waiting is set beside Initialized for one that a client will wake.
	Waiting bool `json:",omitempty"`
}

// Last is how the container last ran: <root>/containers/<id>/last.json, written
// by the monitor at start (Finished zero) and at exit, atomically.
type Last struct {
	Boot      string // /proc/sys/kernel/random/boot_id
	Started   time.Time
	Finished  time.Time `json:",omitzero"`
	ExitCode  int
	OOMKilled bool   `json:",omitempty"`
	Restarts  int    `json:",omitempty"`
	Error     string `json:",omitempty"`
	// StoppedByUser is set when a stop was asked for: unless-stopped obeys it.
	StoppedByUser bool `json:",omitempty"`
	// SessionEnded is set when a service manager has ended it, with the session or by its
	// scope: it was running until then, and a boot starts it again.
	SessionEnded bool `json:",omitempty"`
}
