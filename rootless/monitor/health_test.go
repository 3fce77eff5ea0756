package monitor

import (
	"testing"
	"time"

	"moss/rootless/container"
)

// What follows from the results of checks, one after the other: s is a success, f a
// failure.
func TestHealthResults(t *testing.T) {
	for _, c := range []struct {
		name, results, status string
		streak                int
		plan                  Health
		awake                 bool
		ran                   time.Duration
	}{
		{"first", "s", "healthy", 0, Health{Retries: 3}, true, 0},
		{"not yet", "ff", "starting", 2, Health{Retries: 3}, true, 0},
		{"unhealthy", "fff", "unhealthy", 3, Health{Retries: 3}, true, 0},
		{"healthy again", "fffs", "healthy", 0, Health{Retries: 3}, true, 0},
		{"one failure of a healthy one", "sf", "healthy", 1, Health{Retries: 3}, true, 0},
		{"start period", "fffff", "starting", 0, Health{Retries: 1, StartPeriod: time.Hour}, true, 0},
		{"after the start period", "f", "unhealthy", 1, Health{Retries: 1, StartPeriod: time.Hour}, true, 2 * time.Hour},
		{"ready within the start period", "sf", "unhealthy", 1, Health{Retries: 1, StartPeriod: time.Hour}, true, 0},
		{"startup", "fsfs", "starting", 0, Health{Retries: 1, StartupTimeout: 1, StartupSuccesses: 2}, false, 0},
		{"started", "fss", "starting", 0, Health{Retries: 1, StartupTimeout: 1, StartupSuccesses: 2}, true, 0},
		{"started and healthy", "sss", "healthy", 0, Health{Retries: 1, StartupTimeout: 1, StartupSuccesses: 2}, true, 0},
	} {
		m := &monitor{runDir: t.TempDir(), pidfd: -1, cfg: &Config{}, started: time.Now().Add(-c.ran)}
		h := &health{Health: c.plan, m: m, status: container.HealthStarting, awake: c.plan.StartupTimeout == 0}
		for _, r := range c.results {
			code := 0
			if r == 'f' {
				code = 1
			}
			h.result(code, "", time.Now(), !h.awake)
		}
		if h.status != c.status || h.streak != c.streak || h.awake != c.awake {
			t.Errorf("%s: %s, %d, %v", c.name, h.status, h.streak, h.awake)
		}
		state, err := container.ReadHealth(m.runDir)
		if err != nil || state.Status != c.status || len(state.Log) != len(c.results) {
			t.Errorf("%s: %v, %+v", c.name, err, state)
		}
	}
}

// Containers without a check have nothing to wait for.
func TestNoHealth(t *testing.T) {
	var h *health
	if !h.next().IsZero() || h.busy() {
		t.Error("there is something to do")
	}
	m := &monitor{cfg: &Config{}, pidfd: -1, oom: oomWatch{fd: -1}}
	m.watchHealth()
	if m.health != nil || !m.next().IsZero() {
		t.Error("a timer is set")
	}
}

// Of memory.events only the kills count.
func TestOOMKills(t *testing.T) {
	if n := oomKillsIn([]byte("low 0\nhigh 1\nmax 7\noom 3\noom_kill 2\noom_group_kill 0\n")); n != 2 {
		t.Error(n)
	}
}
