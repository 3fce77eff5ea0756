package container

import (
	"fmt"
	"path/filepath"
	"time"

	"moss/record"
)

// Health is how it is found out whether the program does its work. Until create
// has completed it, what is zero is left to the image, and then to the defaults.
type Health struct {
	// Test is CMD and words, CMD-SHELL and a line for /bin/sh, or NONE: no check,
	// not the image's either.
	Test     []string      `json:",omitempty"`
	Interval time.Duration `json:",omitempty"` // negative: by hand only
	Timeout  time.Duration `json:",omitempty"`
	// StartPeriod is how long failures do not count.
	StartPeriod time.Duration `json:",omitempty"`
	Retries     int           `json:",omitempty"` // failures in a row that make it unhealthy
	// Startup has to succeed before Test is asked at all.
	Startup *StartupCheck `json:",omitempty"`
	// OnFailure is what becomes of an unhealthy container: "" or none, kill,
	// restart, stop.
	OnFailure string `json:",omitempty"`
	// LogDestination is where results go beside the run directory: "" or local,
	// events_logger, or a directory.
	LogDestination string `json:",omitempty"`
	MaxLogCount    *int   `json:",omitempty"` // results kept; 0 is all
	MaxLogSize     *int   `json:",omitempty"` // bytes of the output of each; 0 is all
}

// StartupCheck is the check of a program that takes its time to start.
type StartupCheck struct {
	Test              []string
	Interval, Timeout time.Duration
	Retries           int // failures after which the container is started again; 0: never
	Successes         int // how often it has to succeed; 0 is 1
}

// Disabled says whether there is no check.
func (h *Health) Disabled() bool {
	return h == nil || len(h.Test) == 0 || h.Test[0] == "NONE"
}

// What is said of a container with a health check.
const (
	HealthStarting  = "starting"
	Healthy         = "healthy"
	HealthUnhealthy = "unhealthy"
)

// HealthState is what the checks have found: <run>/c/<id12>/health.json, written
// by the monitor. The names are podman's.
type HealthState struct {
	Status        string
	FailingStreak int
	Log           []HealthResult
}

// HealthResult is one check. Times are RFC 3339.
type HealthResult struct {
	Start, End string
	ExitCode   int
	Output     string
}

// HealthFile is its name.
const HealthFile = "health.json"

// ReadHealth reads the state; one that was not written yet is starting.
func ReadHealth(runDir string) (*HealthState, error) {
	state := &HealthState{Status: HealthStarting, Log: []HealthResult{}}
	if _, err := record.Read(filepath.Join(runDir, HealthFile), state); err != nil {
		return nil, fmt.Errorf("cannot read health: %w", err)
	}
	return state, nil
}
