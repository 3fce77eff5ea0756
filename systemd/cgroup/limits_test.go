package cgroup

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// parentWith is a parent whose containers have those controllers.
func parentWith(t *testing.T, controllers string) *Parent {
	dir := t.TempDir()
	for file, content := range map[string]string{
		"cgroup.controllers": "cpu memory pids", "cgroup.subtree_control": controllers,
		"memory.swap.max": "max", "cpuset.cpus.effective": "0-3\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &Parent{Dir: dir, Top: dir, Manager: managerCgroupfs}
}

func pointer(n int64) *int64 { return &n }

// TestLimits: what is asked for becomes the files of cgroup v2.
func TestLimits(t *testing.T) {
	p := parentWith(t, "cpu cpuset io memory pids")
	for _, test := range []struct {
		name string
		r    Resources
		want map[string]string
	}{
		{"nothing", Resources{}, map[string]string{"pids.max": "2048"}},
		{"no pids limit", Resources{PidsLimit: pointer(-1)}, nil},
		{"memory", Resources{Memory: 64 << 20, PidsLimit: pointer(9)},
			map[string]string{"memory.max": "67108864", "memory.swap.max": "67108864", "pids.max": "9"}},
		{"no swap", Resources{Memory: 1 << 20, MemorySwap: 1 << 20, PidsLimit: pointer(0)},
			map[string]string{"memory.max": "1048576", "memory.swap.max": "0"}},
		{"all swap", Resources{Memory: 1 << 20, MemorySwap: -1, PidsLimit: pointer(0)},
			map[string]string{"memory.max": "1048576", "memory.swap.max": "max"}},
		{"cpu", Resources{CPUs: 1.5, CPUShares: 1024, CPUSetCPUs: "0-2,3", PidsLimit: pointer(0)},
			map[string]string{"cpu.max": "150000 100000", "cpu.weight": "100", "cpuset.cpus": "0-2,3"}},
		{"quota", Resources{CPUQuota: 20000, CPUPeriod: 50000, PidsLimit: pointer(0)}, map[string]string{"cpu.max": "20000 50000"}},
		{"quota of the usual period", Resources{CPUQuota: 20000, PidsLimit: pointer(0)}, map[string]string{"cpu.max": "20000 100000"}},
		{"no quota", Resources{CPUQuota: -1, PidsLimit: pointer(0)}, map[string]string{"cpu.max": "max 100000"}},
		{"reservation", Resources{MemoryReservation: 4096, PidsLimit: pointer(0)}, map[string]string{"memory.low": "4096"}},
	} {
		got, err := p.Limits(test.r)
		if err != nil || !maps.Equal(got, test.want) {
			t.Errorf("%s: got %v, %v; want %v", test.name, got, err, test.want)
		}
	}
}

// TestLimitsNotDelegated: a limit that was asked for and cannot be set is an
// error that says what to do; a default is left out.
func TestLimitsNotDelegated(t *testing.T) {
	p := parentWith(t, "")
	if err := os.Chmod(p.Dir+"/cgroup.subtree_control", 0o600); err != nil {
		t.Fatal(err)
	}
	// "Enabling" a controller in this tree changes nothing.
	if err := os.WriteFile(p.Dir+"/cgroup.controllers", []byte("pids"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Limits(Resources{PidsLimit: pointer(-1)}); err != nil || len(got) != 0 {
		t.Errorf("no limit: got %v, %v", got, err)
	}
	_, err := p.Limits(Resources{Memory: 1 << 20})
	var missing *NotDelegatedError
	if !errors.As(err, &missing) || missing.Controller != "memory" || missing.Hint() == "" {
		t.Fatalf("got %v", err)
	}
	missing.Offered = true
	if want := "cannot limit memory: the memory controller is not delegated to you"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	if systemdRuns() && !strings.Contains(missing.Hint(), delegation) {
		t.Errorf("hint %q", missing.Hint())
	}
}

// TestLimitsWrong: nonsense is refused before anything is made.
func TestLimitsWrong(t *testing.T) {
	p := parentWith(t, "cpu cpuset io memory pids")
	for _, r := range []Resources{
		{Memory: -1}, {MemorySwap: 5}, {Memory: 10, MemorySwap: 5}, {CPUs: -1}, {CPUs: 0.0001},
		{CPUSetCPUs: "a"}, {CPUSetCPUs: "0-9"}, {CPUSetMems: "1,"}, {PidsLimit: pointer(-2)},
		{Memory: 10, MemoryReservation: 20}, {Conf: map[string]string{"memory.nonsense": "1"}}, {IODevices: []IODevice{{Path: "/dev/null", ReadBps: 1}}},
		{IODevices: []IODevice{{Path: "/no/such", ReadBps: 1}}},
	} {
		if got, err := p.Limits(r); err == nil {
			t.Errorf("%+v: got %v, want an error", r, got)
		}
	}
}

// TestWeight: the fixed points of the scale, and its order.
func TestWeight(t *testing.T) {
	for shares, want := range map[uint64]uint64{0: 1, 2: 1, 1024: 100, 262144: 10000, 1 << 40: 10000} {
		if got := Weight(shares); got != want {
			t.Errorf("Weight(%d) = %d, want %d", shares, got, want)
		}
	}
	if Weight(512) >= Weight(1024) || Weight(2048) <= Weight(1024) {
		t.Error("more shares are not more weight")
	}
}

// TestLimitsNone: without cgroups defaults are left out, and what was asked for
// is an error that says why there are none.
func TestLimitsNone(t *testing.T) {
	p := None(&NoneError{Reason: "the moon is full", Mend: "wait"})
	if got, err := p.Limits(Resources{}); err != nil || len(got) != 0 {
		t.Errorf("defaults: got %v, %v", got, err)
	}
	_, err := p.Limits(Resources{CPUs: 1})
	var hint interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), "cannot limit CPU time") || !errors.As(err, &hint) || hint.Hint() != "wait" {
		t.Errorf("got %v", err)
	}
}

// TestDelegation: the drop-in is that of the unit which moss runs below, and each limit has an
// answer for the time until then.
func TestDelegation(t *testing.T) {
	for top, want := range map[string]string{
		"/user.slice/user-1000.slice/user@1000.service/moss.slice/moss.scope": "user@.service",
		"/system.slice/ci.service":                    "ci.service",
		"/system.slice/system-ci.slice/ci@3.service":  "ci@3.service",
		"/user.slice/user-1000.slice/session-3.scope": "user@.service",
	} {
		if got := unitOf(top); got != want {
			t.Errorf("%s is of %s: got %s", top, want, got)
		}
		e := &NotDelegatedError{Limit: "memory", Controller: "memory", Offered: true, Top: top}
		if !systemdRuns() {
			if e.DropIn() != "" || !strings.Contains(e.Hint(), "+memory") {
				t.Errorf("without systemd: %q, %q", e.DropIn(), e.Hint())
			}
			continue
		}
		if path := "/etc/systemd/system/" + want + ".d/delegate.conf"; !strings.Contains(e.DropIn(), path) || !strings.Contains(e.Hint(), "tee "+path) ||
			!strings.Contains(e.Hint(), delegation) || !strings.Contains(e.DropIn(), "systemctl daemon-reload") {
			t.Errorf("got %q, %q", e.DropIn(), e.Hint())
		}
	}
	for _, c := range wanted {
		if e := (&NotDelegatedError{Controller: c}); !strings.HasPrefix(e.Meanwhile(), "until then") {
			t.Errorf("%s: %q", c, e.Meanwhile())
		}
	}
}
