package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"moss/cmd/moss/cli/syntax"
	"moss/rootless/container"
)

// HealthFlags say how the health of a container is checked. run, create and update
// share them.
type HealthFlags struct {
	HealthCmd             string `help:"Health check: a line for /bin/sh, a JSON array of words, or none." placeholder:"COMMAND" group:"Health"`
	HealthInterval        string `help:"Time between two checks, or disable to check by hand only; 30s by default." placeholder:"DURATION" group:"Health"`
	HealthTimeout         string `help:"Time after which a check has failed; 30s by default." placeholder:"DURATION" group:"Health"`
	HealthRetries         *int   `help:"Failures in a row that make the container unhealthy; 3 by default." placeholder:"N" group:"Health"`
	HealthStartPeriod     string `help:"Time after the start in which failures do not count." placeholder:"DURATION" group:"Health"`
	HealthStartupCmd      string `help:"Check that has to succeed before the others begin." placeholder:"COMMAND" group:"Health"`
	HealthStartupInterval string `help:"Time between two startup checks; that of the others by default." placeholder:"DURATION" group:"Health"`
	HealthStartupRetries  *int   `help:"Failures of the startup check after which the container is restarted; 0 for never." placeholder:"N" group:"Health"`
	HealthStartupSuccess  *int   `help:"How often in a row the startup check has to succeed; 1 by default." placeholder:"N" group:"Health"`
	HealthStartupTimeout  string `help:"Time after which a startup check has failed." placeholder:"DURATION" group:"Health"`
	HealthOnFailure       string `words:"none kill restart stop" help:"What to do with an unhealthy container: none, kill, restart or stop." placeholder:"ACTION" group:"Health"`
	HealthLogDestination  string `help:"Where results go beside inspect: local for nowhere, events_logger, or a directory." placeholder:"DESTINATION" group:"Health"`
	HealthMaxLogCount     *int   `help:"Number of results that are kept; 5 by default, 0 for all." placeholder:"N" group:"Health"`
	HealthMaxLogSize      *int   `help:"Bytes of output that are kept of each; 500 by default, 0 for all." placeholder:"N" group:"Health"`
	NoHealthcheck         bool   `help:"Check nothing, whatever the image says." group:"Health"`
}

// given says whether any of them was.
func (f *HealthFlags) given() bool { return *f != HealthFlags{} }

// read lays the flags over what is known of the check; nil is nothing.
func (f *HealthFlags) read(v *flagValues, was *container.Health) *container.Health {
	if !f.given() {
		return was
	}
	v.check(f.NoHealthcheck && *f != HealthFlags{NoHealthcheck: true}, "--no-healthcheck cannot be combined with --health-cmd and its like")
	h := new(container.Health)
	if was != nil && !f.NoHealthcheck {
		*h = *was
	}
	test := func(out *[]string) func(string) error {
		return func(s string) (err error) {
			*out, err = syntax.HealthTest(s)
			return err
		}
	}
	v.one("health-cmd", f.HealthCmd, test(&h.Test))
	if f.NoHealthcheck {
		h.Test = []string{"NONE"}
		return h
	}
	v.one("health-interval", f.HealthInterval, interval(&h.Interval))
	v.one("health-timeout", f.HealthTimeout, atLeast(&h.Timeout, time.Second))
	v.one("health-start-period", f.HealthStartPeriod, atLeast(&h.StartPeriod, 0))
	readCount(v, "health-retries", f.HealthRetries, 1, func(n int) { h.Retries = n })
	f.readStartup(v, h, test)
	v.one("health-on-failure", f.HealthOnFailure, oneOf("none", "kill", "restart", "stop"))
	if f.HealthOnFailure != "" {
		h.OnFailure = f.HealthOnFailure
	}
	v.one("health-log-destination", f.HealthLogDestination, func(s string) error {
		h.LogDestination = s
		if s == "local" || s == "events_logger" {
			return nil
		}
		dir, err := filepath.Abs(s)
		if err != nil {
			return err
		}
		if info, err := os.Stat(dir); err != nil || !info.IsDir() {
			return fmt.Errorf("it is neither local, events_logger, nor a directory")
		}
		h.LogDestination = dir
		return nil
	})
	readCount(v, "health-max-log-count", f.HealthMaxLogCount, 0, func(n int) { h.MaxLogCount = &n })
	readCount(v, "health-max-log-size", f.HealthMaxLogSize, 0, func(n int) { h.MaxLogSize = &n })
	return h
}

// readStartup reads the flags of the startup check.
func (f *HealthFlags) readStartup(v *flagValues, h *container.Health, test func(*[]string) func(string) error) {
	s := new(container.StartupCheck)
	if h.Startup != nil {
		*s = *h.Startup
	}
	before := *s
	v.one("health-startup-cmd", f.HealthStartupCmd, test(&s.Test))
	v.one("health-startup-interval", f.HealthStartupInterval, interval(&s.Interval))
	v.one("health-startup-timeout", f.HealthStartupTimeout, atLeast(&s.Timeout, time.Second))
	readCount(v, "health-startup-retries", f.HealthStartupRetries, 0, func(n int) { s.Retries = n })
	readCount(v, "health-startup-success", f.HealthStartupSuccess, 1, func(n int) { s.Successes = n })
	switch {
	case len(s.Test) > 0 && s.Test[0] == "NONE":
		h.Startup = nil
	case len(s.Test) > 0:
		h.Startup = s
	default:
		changed := s.Interval != before.Interval || s.Timeout != before.Timeout || s.Retries != before.Retries || s.Successes != before.Successes
		v.check(changed, "--health-startup-interval and its like need --health-startup-cmd")
	}
}

// interval reads the time between two checks.
func interval(out *time.Duration) func(string) error {
	return func(s string) error {
		if s == "disable" {
			*out = -1
			return nil
		}
		return atLeast(out, 100*time.Millisecond)(s)
	}
}

// atLeast reads a duration.
func atLeast(out *time.Duration, least time.Duration) func(string) error {
	return func(s string) (err error) {
		if *out, err = time.ParseDuration(s); err != nil {
			return fmt.Errorf("it is not a duration such as 30s")
		}
		if *out < least {
			return fmt.Errorf("it is less than %v", least)
		}
		return nil
	}
}

// readCount reads a number that has a least value.
func readCount(v *flagValues, name string, n *int, least int, set func(int)) {
	if n == nil {
		return
	}
	v.one(name, strconv.Itoa(*n), func(string) error {
		if *n < least {
			return fmt.Errorf("it is less than %d", least)
		}
		set(*n)
		return nil
	})
}
