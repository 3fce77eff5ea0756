package monitor

import (
	"fmt"
	"time"
)

// policy is the restart policy.
type policy struct {
	name string // "", no, on-failure, always, unless-stopped
	max  int    // on-failure: how often; 0 is no limit
}

func (p policy) check() error {
	switch p.name {
	case "", "no", "on-failure", "always", "unless-stopped":
		return nil
	}
	return fmt.Errorf("cannot set restart policy: no policy %q", p.name)
}

// wants says whether a container that ended with this code, and has been
// restarted so often, is to be started again.
func (p policy) wants(code, restarts int) bool {
	switch p.name {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return code != 0 && (p.max == 0 || restarts < p.max)
	}
	return false
}

// The pause before a restart: it doubles, and begins anew after a run that was
// long enough to have been a success. Docker's is the same.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = time.Minute
	goodRun    = 10 * time.Second
)

// backOff is the pause after a run of that length, when the one before was last.
func backOff(last, ran time.Duration) time.Duration {
	if last == 0 || ran >= goodRun {
		return firstPause
	}
	return min(2*last, maxPause)
}
